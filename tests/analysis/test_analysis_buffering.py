"""Answers that a path keeps back: seen in the reads, and void where they would speak of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from msgspec.structs import replace
from virtual import meta_of

from llmtop.analysis import CapacitySearch
from llmtop.analysis.assess import assess
from llmtop.analysis.buffering import FEWEST, Arrival, arrival_of
from llmtop.analysis.headline import WIDTH
from llmtop.analysis.percentiles import figures_of
from llmtop.domain.assessment import Assessment
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Stage
from llmtop.domain.profile import Profile, Question
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Chapter, Ending
from llmtop.domain.samples import ClientSample
from llmtop.domain.slo import Slo, parse_slo
from llmtop.wording.between import STREAM_THROUGH

LENGTH_S = 100.0


def answer(
    sent_s: float,
    *,
    tokens: int = 40,
    chunks: int = 1,
    at_first: int | None = None,
    ttft_s: float = 1.0,
    e2e_s: float = 1.0,
    **more: Any,
) -> RequestRecord:
    """One answer; as a path that keeps it whole hands it on, unless told otherwise."""
    at_first = tokens // chunks if at_first is None else at_first
    made = record(sent_s, ttft_s=ttft_s, e2e_s=e2e_s, tokens=tokens, **more)
    return replace(made, chunks=chunks, first_chunk_tokens=at_first)


def arrival(answers: Sequence[RequestRecord]) -> Arrival | None:
    return arrival_of(facts_of(requests=answers))


def many(count: int = 40, **more: Any) -> list[RequestRecord]:
    return [answer(2.0 * i, **more) for i in range(count)]


@pytest.mark.parametrize(
    ("what", "how", "expected"),
    [
        ("whole, in one read", {}, Arrival.WHOLE),
        ("whole, in one event with a count", {"at_first": 1}, Arrival.WHOLE),
        ("whole, in some reads at once", {"chunks": 4, "ttft_s": 0.95}, Arrival.WHOLE),
        ("lumps", {"chunks": 5, "ttft_s": 0.3}, Arrival.LUMPS),
        ("token by token", {"chunks": 40, "at_first": 1, "ttft_s": 0.1}, None),
        ("several tokens an event, one event a read", {"chunks": 10, "at_first": 1, "ttft_s": 0.1}, None),
        ("hidden tokens before a short answer", {"chunks": 4, "at_first": 1, "ttft_s": 0.95}, None),
        ("two events in the first read only", {"chunks": 39, "at_first": 2, "ttft_s": 0.1}, None),
        ("faster than a model speaks", {"tokens": 1001}, None),
        ("as fast as a model speaks", {"tokens": 1000}, Arrival.WHOLE),
        ("short answers", {"tokens": 7}, None),
        ("long enough answers", {"tokens": 8}, Arrival.WHOLE),
        ("half as many reads as tokens", {"chunks": 20, "at_first": 2, "ttft_s": 0.3}, None),
        ("less than that", {"chunks": 19, "at_first": 2, "ttft_s": 0.3}, Arrival.LUMPS),
        ("a tenth of its time at most", {"chunks": 4, "ttft_s": 0.9001}, Arrival.WHOLE),
        ("more than that", {"chunks": 4, "ttft_s": 0.8999}, Arrival.LUMPS),
        ("failures", {"outcome": Outcome.TRUNCATED}, None),
        ("our own lateness", {"client_limited": True}, None),
    ],
)
def test_reads_tell_a_path_that_keeps_answers_back(what: str, how: dict[str, Any], expected: Arrival | None) -> None:
    assert arrival(many(**how)) is expected, what


@pytest.mark.parametrize(("coalesced", "expected"), [(199, None), (200, Arrival.LUMPS)])
def test_reads_with_several_events_are_lumps_though_the_first_had_one(coalesced: int, expected: Arrival | None) -> None:
    """What tells them from a server that sends several tokens in one event."""
    seconds = [
        ClientSample(t_s=1.0, worker=0, reads=100, coalesced=20),
        ClientSample(t_s=1.0, worker=1, reads=300, coalesced=coalesced - 20),
        ClientSample(t_s=2.0),
    ]
    lumps = many(chunks=15, at_first=1, ttft_s=0.3)
    assert arrival_of(facts_of(requests=lumps, client=seconds)) is expected


@pytest.mark.parametrize(("coalesced", "expected"), [(39, None), (40, Arrival.LUMPS)])
def test_a_server_that_sends_its_tokens_in_lumps_is_no_path_that_buffers(
    coalesced: int, expected: Arrival | None
) -> None:
    """It counts along, so that the first read has eight tokens; but hardly a read holds two events."""
    seconds = [ClientSample(t_s=1.0, reads=400, coalesced=coalesced)]
    facts = facts_of(requests=many(chunks=5, at_first=8, ttft_s=0.3), client=seconds)
    assert arrival_of(facts) is expected


@pytest.mark.parametrize(
    ("how", "coalesced", "expected"),
    [
        ({"chunks": 34, "at_first": 7}, 40, Arrival.LUMPS),
        ({"chunks": 34, "at_first": 7}, 32, Arrival.LUMPS),
        ({"chunks": 34, "at_first": 7}, 31, None),
        ({"chunks": 37, "at_first": 4}, 40, Arrival.LUMPS),
        ({"chunks": 38, "at_first": 3}, 40, None),
        ({"chunks": 9, "at_first": 8}, 40, None),
    ],
)
def test_a_path_may_keep_the_beginning_alone(how: dict[str, Any], coalesced: int, expected: Arrival | None) -> None:
    """The first read of each answer has many tokens in several events, the later ones have one."""
    seconds = [ClientSample(t_s=1.0, reads=1600, coalesced=coalesced)]
    assert arrival_of(facts_of(requests=many(ttft_s=0.3, **how), client=seconds)) is expected


def test_a_search_whose_limits_a_path_makes_void_ends_and_says_why() -> None:
    facts = facts_of(requests=many(), changes=[(0.0, LoadPoint(concurrency=4))])
    for limits, ends in (("ttft_p95<2s,error_ratio<1%", True), ("e2e_p95<9s,error_ratio<1%", False)):
        search = CapacitySearch(parse_slo(limits), LoadPoint(concurrency=0))
        search.next(facts, 0.0)
        step = search.next(facts, 80.0)
        assert (step.want is None) is ends
        assert (STREAM_THROUGH in step.text) is ends
        assert search.tested == []


def test_what_a_path_makes_of_latencies_creeps_nowhere() -> None:
    creeping = [answer(t, ttft_s=0.5 + t / 600, e2e_s=0.5 + t / 600) for t in np.linspace(0.0, 590.0, 1200)]
    meta = replace(meta_of(), ended_s=600.0, ending=Ending.PLAN)
    soak = replace(meta.profile, slo=parse_slo("e2e_p95<9s"), question=Question.SOAK)
    facts = facts_of(requests=creeping, bins=bins_of(600.0, 4), changes=[(0.0, LoadPoint(concurrency=4))])
    found = assess(facts, replace(meta, profile=soak), soak.slo, now_s=600.0)
    assert not any(drift.metric in ("TTFT", "TPOT") for drift in found.drifts)
    assert found.judgement.ok is None
    assert STREAM_THROUGH in found.judgement.sentence


@pytest.mark.parametrize(("streamed", "expected"), [(8, Arrival.WHOLE), (9, None)])
def test_a_path_keeps_nearly_all_answers_back(streamed: int, expected: Arrival | None) -> None:
    calm = many(chunks=40, at_first=1, ttft_s=0.1)
    assert arrival([*calm[:streamed], *many()[streamed:]]) is expected


def test_reasoning_that_the_server_keeps_is_kept_by_no_path() -> None:
    assert arrival(many(tokens=40)) is Arrival.WHOLE
    assert arrival([replace(each, hidden_tokens=39) for each in many(tokens=40)]) is None


def test_a_few_answers_tell_nothing() -> None:
    assert arrival(many(FEWEST - 1)) is None
    assert arrival(many(FEWEST)) is Arrival.WHOLE


def test_what_came_before_the_last_chapter_was_another_path() -> None:
    facts = facts_of(requests=many())
    facts.chapters = [Chapter(40.0, "streams now", "k")]
    assert arrival_of(facts) is Arrival.WHOLE
    facts.chapters = [Chapter(75.0, "streams now", "k")]
    assert arrival_of(facts) is None


def assessed(make: Callable[[float], RequestRecord], slo: Slo) -> Assessment:
    """A hold of 8 users whose answers came as `make` says."""
    plan = LoadPlan(stages=(Stage(name="hold", duration_s=LENGTH_S, shape=Hold(concurrency=8)),))
    meta = replace(meta_of(), profile=Profile(name="p", plan=plan, slo=slo), ended_s=LENGTH_S, ending=Ending.PLAN)
    requests = [make(float(t)) for t in np.linspace(0.0, LENGTH_S - 4.0, 400)]
    facts = facts_of(requests=requests, bins=bins_of(LENGTH_S, 8), changes=[(0.0, LoadPoint(concurrency=8))])
    facts.changes = [replace(change, reason="stage") for change in facts.changes]
    return assess(facts, meta, slo, now_s=LENGTH_S)


@pytest.mark.parametrize("limits", ["ttft_p95<2s,error_ratio<1%", "ttft_p95<10ms", "tpot_p95<50ms,e2e_p95<10s"])
def test_limits_on_what_the_path_makes_are_neither_kept_nor_broken(limits: str) -> None:
    found = assessed(answer, parse_slo(limits))
    assert found.slo.ok is None
    assert found.judgement.ok is None
    assert all(
        (each.ok, each.value) == (None, None) and "void" in each.text
        for each in found.slo.targets
        if each.name.startswith(("ttft", "tpot"))
    )
    assert "answers arrive whole" in found.judgement.sentence
    assert STREAM_THROUGH in found.judgement.sentence
    assert any(STREAM_THROUGH in note for note in found.notes)
    assert found.capacity.at_slo is None
    assert found.headline.startswith("SLO -- · path buffers")
    assert len(found.headline) <= WIDTH


def test_e2e_errors_and_throughput_stay_judged() -> None:
    late = assessed(answer, parse_slo("ttft_p95<2s,e2e_p95<500ms"))
    assert late.slo.ok is late.judgement.ok is False
    assert "E2E p95 1.00 s > 500 ms" in late.judgement.sentence
    kept = assessed(answer, parse_slo("e2e_p95<2s,error_ratio<1%"))
    assert kept.slo.ok is kept.judgement.ok is True
    assert any(STREAM_THROUGH in note for note in kept.notes)
    (point,) = kept.curves[-1].points
    assert (point.ttft_p50_ms, point.tpot_p50_ms) == (None, None)
    assert point.e2e_p50_ms == 1000.0


def test_void_figures_are_in_no_table() -> None:
    facts = facts_of(
        requests=many(),
        bins=bins_of(LENGTH_S, 8, gaps=3, gap_sum_ms=30.0, gap_ms=(10.0, 10.0, 10.0), gap_counts=((40, 3),)),
    )
    run = figures_of(facts, meta_of()).run
    assert (run.ttft_ms.n, run.tpot_ms.n, run.icl_ms.n) == (0, 0, 0)
    assert run.e2e_ms.p50 == 1000.0
    streamed = figures_of(facts_of(requests=many(chunks=40, at_first=1, ttft_s=0.1)), meta_of()).run
    assert streamed.ttft_ms.p50 == 100.0


def test_a_stream_that_is_handed_on_is_judged_as_ever() -> None:
    def streamed(sent_s: float) -> RequestRecord:
        return answer(sent_s, chunks=40, at_first=1, ttft_s=0.1)

    found = assessed(streamed, parse_slo("ttft_p95<2s,error_ratio<1%"))
    assert found.judgement.ok is True
    assert not any("path" in text for text in (*found.notes, found.headline, found.judgement.sentence))
