"""A run in which nothing ended well says why, and names no cliff, no cause, no capacity and nothing to turn."""

from __future__ import annotations

from dataclasses import replace as replace_of

import pytest
from facts_by_hand import facts_of, record
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.analysis import assess
from llmtop.analysis.levels import Level
from llmtop.analysis.slo import Sample, attainment
from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Stage
from llmtop.domain.profile import Profile, Question
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Ending, FactBatch, RunMeta
from llmtop.domain.samples import LoadBin, ServerSnapshot
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Capacity, Kind
from llmtop.host.judging import Judge
from llmtop.meter.facts import Facts
from llmtop.wording.failures import all_fail, all_failed

END_S = 40.0
FAILURES = st.tuples(
    st.sampled_from([outcome for outcome in Outcome if outcome.is_error]),
    st.sampled_from([None, 401, 404, 429, 500, 503]),
    st.sampled_from([None, "slow down please", "request 12 failed", "no such model"]),
)


def run(question: Question, ending: Ending | None) -> RunMeta:
    plan = LoadPlan(stages=(Stage(name="hold", duration_s=END_S, shape=Hold(concurrency=8)),))
    return RunMeta(
        llmtop_version="0",
        started_at=0.0,
        endpoint=Endpoint(base_url="http://127.0.0.1:8000"),
        profile=Profile(name="p", question=question, plan=plan, peak=8.0),
        ended_s=None if ending is None else END_S,
        ending=ending,
    )


def facts(records: list[RequestRecord]) -> Facts:
    loads = [(index * END_S / 4, LoadPoint(concurrency=2**index)) for index in range(1, 5)]
    bins = [LoadBin(t_s=t / 4, span_s=0.25, target=8, in_flight=8) for t in range(1, round(END_S * 4) + 1)]
    busy = [ServerSnapshot(t_s=float(t), running=8, waiting=30, kv_usage=0.99) for t in range(1, round(END_S) + 1)]
    found = facts_of(requests=records, bins=bins, server=busy, changes=loads)
    found.changes = [replace(change, reason="stage") for change in found.changes]
    return found


def judged(records: list[RequestRecord], question: Question, ending: Ending | None = Ending.PLAN) -> Assessment:
    return assess(facts(records), run(question, ending), Slo(), now_s=END_S)


def failed(t_s: float, outcome: Outcome, status: int | None, error: str | None) -> RequestRecord:
    return replace(record(t_s, e2e_s=0.2, outcome=outcome), status=status, error=error)


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(FAILURES, min_size=1, max_size=4),
    count=st.integers(1, 60),
    question=st.sampled_from(list(Question)),
    ending=st.sampled_from([None, Ending.PLAN, Ending.HAND]),
)
def test_where_all_requests_failed_the_failure_is_named_and_nothing_else(
    kinds: list[tuple[Outcome, int | None, str | None]], count: int, question: Question, ending: Ending | None
) -> None:
    records = [failed(index * 0.3, *kinds[index % len(kinds)]) for index in range(count)]
    found = judged(records, question, ending)
    assert (found.cliff.kind, found.cliff.at, found.cliff.next_levels) == (Kind.INSUFFICIENT, None, ())
    assert found.cliffs == ()
    assert found.diagnosis.bound is Bound.NONE
    assert not found.diagnosis.advice
    assert found.capacity == Capacity()
    assert found.judgement.ok is not True
    told = all_failed(found.failures)
    assert all_fail(found.failures[0]) in found.headline
    assert told in found.judgement.sentence
    assert sum(group.count for group in found.failures) == count


@pytest.mark.parametrize("question", [Question.HOLD, Question.CLIFF])
def test_a_run_that_gets_a_429_for_each_request_does_not_meet_its_slo_and_says_who_refuses(question: Question) -> None:
    found = judged([failed(t * 0.3, Outcome.HTTP_ERROR, 429, "slow down please") for t in range(100)], question)
    assert found.judgement.ok is False
    assert found.judgement.sentence.endswith('all 100 requests failed: HTTP 429 "slow down please"')
    assert found.headline == 'SLO FAIL · all fail: HTTP 429 "slow down please"'


def test_where_a_limit_on_errors_is_missed_the_sentence_says_what_they_mostly_are() -> None:
    good = [record(t * 0.3, e2e_s=0.2) for t in range(100)]
    bad = [failed(t * 0.9, Outcome.HTTP_ERROR, 429, "slow down please") for t in range(30)]
    odd = [failed(5.0, Outcome.TIMEOUT, None, "no token")]
    found = judged([*good, *bad, *odd], Question.HOLD)
    assert found.judgement.ok is False
    assert 'requests failed (23.7 % > 1 %), mostly HTTP 429 "slow down please"' in found.judgement.sentence
    found = judged([*good, *bad, *odd], Question.CLIFF)
    assert found.judgement.ok is False
    assert found.judgement.sentence.endswith('mostly HTTP 429 "slow down please"')
    varied = [failed(t * 0.9, Outcome.HTTP_ERROR, 400 + t, "no") for t in range(30)]
    assert "mostly" not in judged([*good, *varied], Question.HOLD).judgement.sentence


def test_that_all_fail_is_said_at_once_and_no_longer_than_it_is_so() -> None:
    judge, meta, so_far = Judge(Slo()), run(Question.HOLD, None), facts([])
    waiting = judge(so_far, meta, full=None)
    assert "all fail" not in waiting.headline
    so_far.extend(FactBatch(t_s=END_S + 0.5, requests=(failed(30.0, Outcome.HTTP_ERROR, 429, "slow down"),)))
    assert 'all fail: HTTP 429 "slow down"' in judge(so_far, meta, full=None).headline
    so_far.extend(FactBatch(t_s=END_S + 1.0, requests=(record(30.5, e2e_s=0.2),)))
    assert "all fail" not in judge(so_far, meta, full=None).headline


@pytest.mark.parametrize("errors", [0, 3])
def test_answers_without_text_are_no_failures_and_are_said(errors: int) -> None:
    said = "3 tokens, none with text: special tokens"
    records = [failed(t / 2, Outcome.TEXTLESS, 200, said) for t in range(1, 60)]
    records += [failed(t / 2 + 0.1, Outcome.HTTP_ERROR, 500, "boom") for t in range(1, errors + 1)]
    found = judged(records, Question.HOLD)
    (ratio,) = (each for each in found.slo.targets if each.name == "error_ratio")
    assert (ratio.value, ratio.n) == (errors / len(records), len(records)), "they ended well"
    sentence = "" if found.judgement is None else found.judgement.sentence
    if errors:
        assert f"3 of {len(records)} requests failed" in sentence
        assert 'mostly HTTP 500 "boom"' in sentence
        assert not any("100 %" in text for text in found.diagnosis.evidence), "nor did all of any load fail"
    else:
        assert "failed" not in sentence
        assert f"no answer had text: {said}" in sentence


def test_of_a_level_without_text_it_is_not_known_how_many_met_the_slo() -> None:
    level = Level(load=2.0, errors=3, textless=57)
    assert level.error_ratio == 3 / 60
    assert Sample.of_level(level).ended == 60
    assert attainment(Sample.of_level(level), Slo()) is None
    assert attainment(Sample.of_level(replace_of(level, textless=0)), Slo()) == 0.0
