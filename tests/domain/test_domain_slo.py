"""An SLO reads as it is written, and what cannot be meant is refused by name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.slo import LATENCIES, STATS, Slo, SloTarget, metric_of, parse_slo
from llmtop.errors import UsageError

LATENCY = st.builds(
    SloTarget,
    metric=st.sampled_from(LATENCIES),
    limit=st.integers(1, 900).map(lambda ms: ms / 1e3) | st.integers(1, 60).map(float) | st.floats(1e-6, 86_400),
    stat=st.sampled_from(STATS),
)
SHARE = st.builds(
    SloTarget,
    metric=st.sampled_from(["error_ratio", "kv"]),
    limit=st.integers(1, 100).map(lambda p: p / 100) | st.floats(1e-9, 1),
)
QUEUE = st.builds(SloTarget, metric=st.just("queue"), limit=st.integers(1, 500).map(float))


@given(st.lists(LATENCY | SHARE | QUEUE, min_size=1, max_size=6, unique_by=lambda target: target.name))
def test_text_round_trip(targets: list[SloTarget]) -> None:
    slo = parse_slo(str(Slo(tuple(targets))))
    for read, meant in zip(slo.targets, targets, strict=True):
        assert (read.metric, read.stat) == (meant.metric, meant.stat)
        assert read.limit == pytest.approx(meant.limit, rel=1e-5, abs=0)


def test_default_is_the_readmes() -> None:
    assert str(Slo()) == "ttft_p95<2s,tpot_p95<50ms,error_ratio<1%,queue<10,kv<80%"


def test_a_latency_without_a_statistic_is_its_p95() -> None:
    assert parse_slo("ttft < 2 s").targets == (SloTarget("ttft", 2.0, "p95"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no limit given"),
        ("ttft_p95", "write it like"),
        ("ttft_p95<1.2.3s", "write it like"),
        ("latency<2s", "'latency' is not known"),
        ("ttft_p42<2s", "'ttft_p42' is not known"),
        ("ttft_p95<2%", "ttft wants ms or s"),
        ("kv<80ms", "kv wants %"),
        ("queue<10%", "queue wants a bare number"),
        ("ttft_p95<0s", "must be a number from 0.000001 to 86,400"),
        ("ttft_p95<1e400s", "must be a number from"),
        ("ttft_p95<nan s", "write it like"),
        ("error_ratio<120%", r"must be a number from 0.000000001 to 1 \(1 is 100 %\)"),
        ("queue<1e9", "to 1,000,000"),
        ("ttft_p95<" + "9" * 5000 + "s", "write it like"),
        ("ttft<2s,ttft_p95<1s", "a second limit on ttft_p95; keep one"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_slo(text)


@given(st.text(max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        parse_slo(text)
    except UsageError:
        return


@pytest.mark.parametrize(
    ("text", "kind", "figure"),
    [
        ("answer.ttft_p95<2s", "answer", "ttft_p95"),
        (" my answer . e2e <= 2.5s", "my answer", "e2e_p95"),
        ("v1.2.tpot_p50<.5s", "v1.2", "tpot_p50"),
        ("ttft_p95.error_ratio<1%", "ttft_p95", "error_ratio"),
    ],
)
def test_a_limit_may_be_of_one_name_alone(text: str, kind: str, figure: str) -> None:
    slo = parse_slo(f"ttft_p95<5s,{text}")
    (target,) = slo.named
    assert (target.kind, target.name) == (kind, f"{kind}.{figure}")
    assert [each.name for each in slo.targets] == ["ttft_p95"]
    assert parse_slo(str(slo)) == slo
    assert metric_of(target.name) == target.metric


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("answer.queue<10", "queue is the server's, of all requests together: leave out the name"),
        ("answer.kv<80%", "kv is the server's"),
        ("answer.ttft_p96<2s", "'ttft_p96' is not known; did you mean ttft_p99?"),
        ("answer.ttft_p95>2s", "'>' stands where '<' must"),
        ("answer.<2s", "is not known"),
        ("answer.ttft<2s,answer.ttft_p95<3s", "a second limit on answer.ttft_p95"),
    ],
)
def test_a_limit_of_one_name_that_cannot_be_read_says_why(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        parse_slo(text)


def test_a_limit_of_its_own_takes_the_place_of_that_on_all() -> None:
    slo = parse_slo("ttft_p95<5s,error_ratio<1%,queue<10,answer.ttft_p50<1s")
    assert [each.name for each in slo.felt_by("answer")] == ["error_ratio", "answer.ttft_p50"]
    assert [each.name for each in slo.felt_by("plan")] == ["ttft_p95", "error_ratio"]
