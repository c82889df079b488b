"""Laws of the two lines under the header: what to do is whole at every width, and what is cut says so."""

from __future__ import annotations

from itertools import product

import pytest
from msgspec.structs import replace

from llmtop.analysis.advice import _FASTER, _other_kv, _without_number, relieve_kv, slots_flag
from llmtop.analysis.headline import _action, failing_headline, headline
from llmtop.dialects import DIALECTS, DialectTable
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.failures import FailureGroup
from llmtop.domain.frame import Frame, Timeline
from llmtop.domain.judgement import Judgement
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Diagnosis, Kind, SloVerdict, TargetVerdict
from llmtop.view.condition import Condition
from llmtop.view.glyphs import ASCII, UNICODE, Glyphs
from llmtop.view.verdict import verdict
from llmtop.wording import advice as words
from llmtop.wording.between import prompts_cut
from llmtop.wording.failures import all_fail

WIDTHS = (*range(80, 132, 3), 160, 200)
SIZES = pytest.mark.parametrize("width", WIDTHS)
FAILED = SloVerdict(ok=False, targets=(TargetVerdict(name="error_ratio", limit=0.01, value=0.2, ok=False),))
STATES = (SloVerdict(ok=True), SloVerdict(), FAILED)
CAPACITIES = (Capacity(), Capacity(at_slo=1024, fails_at=1300), Capacity(fails_at=4))
CLIFFS = (
    CliffVerdict(kind=Kind.INSUFFICIENT, next_levels=(96, 192)),
    CliffVerdict(kind=Kind.CLIFF, at=1096.0, low=1030.0, high=1204.0, next_levels=(1024,)),
    CliffVerdict(kind=Kind.UNSTABLE),
)
FRAME = Frame(seq=1, t_s=60.0, endpoint=EndpointStatus(state=EndpointState.UP), target=LoadPoint(concurrency=8))


def advice_of(table: DialectTable, bound: Bound) -> list[str]:
    """All that may be advised, of the longest kind."""
    turned = words.in_step(words.turned(slots_flag(table), 1024, 12288), table.advice.slots_divide)
    return [
        _without_number(bound, "the levels are too few", table, _FASTER.get(bound, "")),
        relieve_kv(table),
        f"{turned}: about 12288 concurrent users at the SLO (~1024 now), then TPOT binds; or {_other_kv(table)}",
        words.slots_free(slots_flag(table), 1024, 12288),
        f"halve what a token takes of the KV cache with {table.advice.smaller_kv or 'an fp8 KV cache'}: more",
        words.LEAK,
    ]


def shown(assessment: Assessment | None, width: int, frame: Frame = FRAME, glyphs: Glyphs = UNICODE) -> str:
    """Both lines as one, each as wide as they may be."""
    rows = verdict(frame, assessment, Condition(), glyphs, width, 2)
    told = ["".join(text for text, _ in row) for row in rows]
    assert len(told) <= 2
    assert all(len(row) <= width for row in told)
    return " ".join(" ".join(told).split())


BOUNDS = (Bound.QUEUE, Bound.KV, Bound.TOKEN_BUDGET, Bound.COMPUTE, Bound.MEMORY)
ADVICE = sorted(
    {(bound, each) for bound, table in product(BOUNDS, DIALECTS.values()) for each in advice_of(table, bound)}
)


def test_there_is_much_to_advise() -> None:
    assert len(ADVICE) > 60


@SIZES
def test_what_to_turn_is_whole_whatever_the_verdict(width: int) -> None:
    for i, (bound, advice) in enumerate(ADVICE):
        state, capacity, cliff = STATES[i % 3], CAPACITIES[(i + width) % 3], CLIFFS[(i // 3) % 3]
        found = Diagnosis(bound=bound, advice=advice, votes=(7, 8))
        cut = prompts_cut(12048, 24096) if i % 4 == 0 else ""
        line = headline(Slo(), state, capacity, cliff, found, 64.0, Judgement(), cut=cut)
        told = shown(Assessment(headline=line, diagnosis=found), width)
        wanted = _action(found) if _action(found) in line else _action(found, 1)
        assert wanted in told
        assert cut[:12] in told
        assert told.endswith(("…", "say so")), "nothing is left out without a sign"


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_what_has_no_room_ends_in_the_sign_of_a_cut(glyphs: Glyphs) -> None:
    found = Assessment(headline=" · ".join(["SLO OK", *(f"clause {i}" for i in range(40))]))
    rows = verdict(FRAME, found, Condition(), glyphs, 80, 2)
    assert rows[-1][-1][0].endswith(glyphs.more)
    assert len(rows) == 2
    assert verdict(FRAME, found, Condition(), glyphs, 80, 1)[0][-1][0].endswith(glyphs.more)


DOWN = (
    "nothing listens on port 80: is the server up?",
    "nothing listens on port 8000: is the server up?; something listens on port 8001",
    "no connection within 5 s: check host, port and firewall",
    f"status 502 and a web page ('{'x' * 200}'): wrong port, or a base path is missing",
    f"status 503 ({'model is loading, ' * 12}): the server is not ready yet, try again in a moment",
    "no answer within 10 s: is the server hung or still loading?",
)


@SIZES
@pytest.mark.parametrize("problem", DOWN, ids=range(len(DOWN)))
def test_why_nobody_answers_keeps_what_to_do_whole(width: int, problem: str) -> None:
    status = EndpointStatus(
        state=EndpointState.DOWN,
        label="127.0.0.1:8000",
        last_error=f"http://127.0.0.1:8000: {problem}",
        retry_in_s=4.0,
    )
    told = shown(Assessment(headline="SLO -- · not enough data: try 4, then 8"), width, replace(FRAME, endpoint=status))
    assert told.startswith(f"DOWN {problem[:20]}")
    assert problem.replace(";", ":").rpartition(": ")[2] in told
    assert told.endswith("next try in 4s")
    assert "try 4, then 8" not in told
    assert "http://" not in told, "whose problem it is stands in the header"


@SIZES
def test_a_refused_key_says_how_to_give_one(width: int) -> None:
    wants = "it wants an API key; put it into an environment variable and name that with --api-key-env"
    said = f"status 401 (no reason given): {wants}"
    for error, wanted in (
        (said, "name that with --api-key-env"),
        ("HTTP 401", "start with --api-key-env NAME"),
        (None, "--api-key-env"),
    ):
        status = EndpointStatus(state=EndpointState.AUTH_FAILED, last_error=error)
        told = shown(None, width, replace(FRAME, endpoint=status))
        assert told.startswith("AUTH FAILED")
        assert wanted in told
        assert told.count("--api-key-env") == 1


@SIZES
def test_a_server_that_takes_requests_and_answers_nothing_is_said_to_hang(width: int) -> None:
    status = EndpointStatus(state=EndpointState.STALE, since_s=50.0)
    told = shown(None, width, replace(FRAME, endpoint=status, in_flight=4))
    assert told == "HUNG it takes requests and answers nothing for 20s, 4 wait: look at its log, or restart it"


@SIZES
def test_where_all_fail_the_reason_stands_and_nothing_is_to_be_tried(width: int) -> None:
    group = FailureGroup(
        outcome=Outcome.HTTP_ERROR,
        status=429,
        text="slow down, " * 30,
        count=9,
        first_s=1.0,
        last_s=2.0,
        retry_after_s=2.0,
    )
    told = shown(Assessment(headline=failing_headline(FAILED, all_fail(group), Judgement())), width)
    assert told.startswith('✖ SLO FAIL · all fail: HTTP 429 "slow down')
    assert "try " not in told


@SIZES
def test_while_requests_fail_the_verdict_says_what_the_newest_was_told_and_how_long_to_wait(width: int) -> None:
    said = "Rate limit reached for organisation x on requests per min: limit 3; used 3; " * 2
    group = FailureGroup(outcome=Outcome.HTTP_ERROR, status=429, text=said, count=3, first_s=1.0, last_s=2.0)
    found = Assessment(
        headline="SLO FAIL errors>1% · requests are refused · no user at the SLO · not enough data",
        diagnosis=Diagnosis(bound=Bound.REFUSED, votes=(8, 8)),
    )
    for retry_s, wanted in ((None, 'HTTP 429 "Rate limit reached for'), (7.0, "the server asks to wait 7s")):
        frame = replace(FRAME, failures=(replace(group, retry_after_s=retry_s),))
        told = shown(found, width, frame)
        assert told.startswith("✖ SLO FAIL errors>1% · requests are refused: HTTP 429")
        assert wanted in told
        assert "…" in told or said.strip() in told
        assert "try " not in told


@pytest.mark.parametrize(
    ("tokens", "in_flight", "failed", "said"),
    [
        (0.0, 4.0, None, True),
        (None, 4.0, None, True),
        (0.0, 0.0, None, False),
        (0.0, 4.0, 1.0, False),
        (9.0, 4.0, None, False),
    ],
)
def test_requests_without_a_token_for_ten_seconds_are_told_also_where_metrics_still_come(
    tokens: float | None, in_flight: float, failed: float | None, said: bool
) -> None:
    for silent, told in ((10, False), (11, said)):
        timeline = Timeline(
            end_s=60.0,
            in_flight=(4.0,) * 5 + (in_flight,) * silent,
            output_tokens_per_s=(80.0,) * 5 + (tokens,) * silent,
            error_ratio=(0.0,) * 5 + (failed,) * silent,
        )
        text = shown(Assessment(headline="SLO --"), 80, replace(FRAME, timeline=timeline, in_flight=4))
        assert text.startswith("NO TOKEN for 11s, 4 in flight") is told
        assert text.endswith("or the server hangs: look at its log") is told


@pytest.mark.parametrize(
    ("clause", "left"),
    [
        ("not enough data: try 4, then 8", "not enough data"),
        ("no cliff up to 64, try 99", "no cliff up to 64"),
        ("cliff 32 (30 to 35), try 29 to be sure", "cliff 32 (30 to 35)"),
        ("queue-bound: raise --max-num-seqs to about 110", "queue-bound: raise --max-num-seqs to about 110"),
    ],
)
def test_while_a_search_tries_by_itself_nobody_else_is_told_to(clause: str, left: str) -> None:
    found = Assessment(headline=f"SLO OK · {clause}")
    rows = verdict(FRAME, found, Condition(note="testing 32 in flight"), UNICODE, 120, 2)
    assert "".join(text for row in rows for text, _ in row) == f" ✔ SLO OK · {left}"
    assert shown(found, 120) == f"✔ SLO OK · {clause}"


@pytest.mark.parametrize("load", [1.0, 0.5])
def test_a_load_of_one_that_fails_leaves_no_user(load: float) -> None:
    line = headline(Slo(), FAILED, Capacity(fails_at=load), CLIFFS[2], Diagnosis(bound=Bound.NONE), None, Judgement())
    assert " · no user at the SLO (TTFT p95<2s TPOT p95<50ms) · " in line
