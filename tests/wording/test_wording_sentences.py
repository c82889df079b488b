"""Names and sentences: each promise in one form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import llmtop
from llmtop.domain.client import ClientCause, ClientReason
from llmtop.domain.frame import NewUser
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import METRICS, STATS, Slo, SloTarget, parse_slo
from llmtop.domain.verdicts import Bound
from llmtop.wording import names, sentences
from llmtop.wording.canary import felt_text
from llmtop.wording.figures import TEXT
from llmtop.wording.mapping import unknown_text

PACKAGE = Path(llmtop.__file__).parent
POINT = LoadPoint(concurrency=8, prompt_tokens=512, output_tokens=128, think_time_s=2.0)


@pytest.mark.parametrize("bound", [bound for bound in Bound if bound is not Bound.NONE])
def test_every_bound_has_a_name_of_its_own(bound: Bound) -> None:
    others = [other for other in Bound if other is not bound]
    assert names.bound_name(bound) not in map(names.bound_name, others)
    assert names.bound_adjective(bound) not in map(names.bound_adjective, others)


def test_what_does_not_bind_has_no_name() -> None:
    assert names.bound_name(Bound.NONE) is None
    assert names.bound_adjective(Bound.NONE) == ""


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("stat", [None, *STATS])
def test_every_target_has_a_name(metric: str, stat: str | None) -> None:
    if stat is None or metric in METRICS[:3]:
        assert "_" not in names.target_name(SloTarget(metric, 1.0, stat).name)


def test_a_promise_without_a_failure_is_a_lower_bound() -> None:
    assert sentences.supports(28, 36, "concurrency") == "supports 28 concurrent users at the SLO"
    assert sentences.supports(1024, None, "concurrency") == "supports at least 1 024 concurrent users at the SLO"
    assert sentences.breaks(0.5, "rate") == "does not meet the SLO even at 0.500 requests/s"
    assert sentences.pass_and_fail(28, 36, "concurrency") == "pass 28, fail 36"
    assert sentences.pass_and_fail(28, None, "concurrency") == "pass 28, no failure yet"
    assert sentences.pass_and_fail(None, 4, "concurrency") == "fail 4"
    assert sentences.pass_and_fail(None, None, "concurrency") == ""


def test_how_the_load_was_driven_is_told_with_the_promise() -> None:
    how = sentences.driven("concurrency", POINT)
    assert how == "closed loop, think time 2 s, 512/128 tokens"
    assert f"users ({how}) at" in sentences.supports(4, 8, "concurrency", how=how)
    assert sentences.driven("rate", POINT) == "open loop, 512/128 tokens"
    assert sentences.driven("rate", None) == "open loop"
    assert sentences.driven("concurrency", LoadPoint(concurrency=4, prompt_tokens=9, output_tokens=2)) == "9/2 tokens"
    assert sentences.driven("concurrency", None) == ""


def test_the_limits_that_users_feel_are_latencies_and_errors() -> None:
    assert sentences.felt(Slo()) == "TTFT p95 < 2 s, TPOT p95 < 50 ms and errors < 1 %"
    assert sentences.felt(parse_slo("kv<80%")) == "no latency limit"


@pytest.mark.parametrize(("text", "said"), [("raise it", "Raise it"), ("max_num_seqs 4", "max_num_seqs 4"), ("", "")])
def test_a_sentence_begins_with_a_capital_unless_a_flag_or_a_figure_does(text: str, said: str) -> None:
    assert sentences.sentence(text) == said


@pytest.mark.parametrize(
    "pattern",
    [
        r"supports \{",
        r"says nothing about the server",
        r"contradict each other",
        r"1e3:\.\dg?\} ?ms",
        r"// 60\b.*% 60",
    ],
)
def test_what_is_worded_once_is_worded_nowhere_else(pattern: str) -> None:
    found = [path for path in PACKAGE.rglob("*.py") if re.search(pattern, path.read_text())]
    assert [path for path in found if path.parent.name != "wording"] == []


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (ClientReason(cause=ClientCause.LAG, value=3.0), "receive lag 3.00 ms"),
        (
            ClientReason(cause=ClientCause.LAG, value=9.0, of=10.0, worker=1),
            "load worker 1: receive lag 9.00 ms, over half of TPOT (10.0 ms)",
        ),
        (
            ClientReason(cause=ClientCause.COALESCED, value=400, of=1000, worker=0),
            "load worker 0: 400 of 1 000 reads held several tokens: the client reads too late",
        ),
        (
            ClientReason(cause=ClientCause.CPU, value=0.92),
            "load process at 92.0 % of its core; more workers would help",
        ),
        (ClientReason(cause=ClientCause.LOOP, value=30.0), "event loop 30.0 ms late"),
        (ClientReason(cause=ClientCause.TOLD, text="too late"), "too late"),
    ],
)
def test_why_the_client_was_too_slow_is_told_with_its_figures(reason: ClientReason, text: str) -> None:
    assert sentences.client_reason(reason) == text


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ((64, 0, None, None, 600.0), "testing 64 in flight: waiting until it is steady · at most 10 min left"),
        ((64, 23, 32, None, 45.2), "testing 64 in flight: 23 requests judged · at most 45 s left · 32 held"),
        ((48, 9, 32, 64, -1.0), "testing 48 in flight: 9 requests judged · at most 0 s left · 32 held, 64 did not"),
    ],
)
def test_a_search_says_what_it_does_and_by_when_it_ends(
    known: tuple[int, int, int | None, int | None, float], text: str
) -> None:
    assert sentences.searching(*known) == text


def test_what_a_capacity_holds_for_is_named_as_far_as_it_is_known() -> None:
    point = LoadPoint(concurrency=1, prompt_tokens=192, output_tokens=64)
    assert sentences.configuration("vLLM 0.33", 36, 1, point) == "vLLM 0.33, 36 slots, 1 GPU, 192/64 tokens"
    assert sentences.configuration("SGLang", 1, 4, None) == "SGLang, 1 slot, 4 GPUs"
    assert sentences.configuration("vLLM", 36, 1, None, gate=16) == "vLLM, 36 slots, gate 16, 1 GPU"
    assert sentences.configuration(None, None, None, None) == ""


def test_an_advised_load_below_the_capacity_has_its_reason() -> None:
    assert sentences.advised(31, 24, "concurrency") == "run it at 31, soak it at 24"
    told = sentences.advised(31, 24, "concurrency", why="the knee", share=0.8)
    assert told == "run it at 31 (the knee), soak it at 24 (80 % of that)"
    assert sentences.binds_then(("TTFT p95", "TPOT p95")) == ", then TTFT and TPOT bind"
    assert sentences.binds_then(("TPOT p95",)) == ", then TPOT binds"
    assert sentences.binds_then(()) == ""
    assert sentences.binds_then(("errors",), (503,)) == ", then requests fail (HTTP 503)"
    assert sentences.binds_then(("TPOT p95", "errors")) == ", then TPOT binds and requests fail"
    assert sentences.binds_then(("errors",)) == ", then requests fail"
    assert sentences.binds_then(("TPOT p95", "errors")) == ", then TPOT binds and requests fail"


def test_one_user_is_no_users() -> None:
    assert sentences.supports(1, None, "concurrency") == "supports at least 1 concurrent user at the SLO"
    assert sentences.breaks(1, "concurrency") == "does not meet the SLO even at 1 concurrent user"
    assert sentences.rest_waits(7.92, "concurrency") == "8 are served at once, the rest waits"


@pytest.mark.parametrize(
    ("felt", "says"),
    [
        (NewUser(n=1, p50_ms=42.0, max_ms=42.0), "a new user felt 42.0 ms (p50), at most 42.0 ms: 1 canary"),
        (NewUser(n=9, failed=2, p50_ms=1.0, max_ms=2e4),
         "a new user felt 1.00 ms (p50), at most 20.0 s: 9 canaries, 2 without a token"),
        (NewUser(n=3, failed=3), "a new user got no token: 3 canaries"),
    ],
)  # fmt: skip
def test_what_canaries_felt(felt: NewUser, says: str) -> None:
    assert felt_text(felt, TEXT) == says


def test_a_place_of_the_map_that_is_not_known_says_what_is_to_be_driven_there() -> None:
    """Of a length that was driven already only the load is wanting."""
    assert unknown_text(24, 192, "concurrency", driven=True) == "-- 24 users x 192 tokens: hold 24 users for 10 s"
    assert unknown_text(24, 192, "concurrency", driven=False).endswith(": drag prompt to 192 for 10 s")
