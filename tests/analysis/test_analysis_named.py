"""Limits on the requests of one name alone: kept, broken or not known, on both sides of each border."""

from __future__ import annotations

import dataclasses
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from msgspec.structs import replace
from virtual import meta_of

from llmtop.analysis import assess
from llmtop.analysis.findings import AT_PEAK, NEAR_PEAK, Findings
from llmtop.analysis.judgement import judge_run
from llmtop.analysis.kinds import by_kind
from llmtop.analysis.levels import Level
from llmtop.analysis.named import capacity_by_name, judge_kinds
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.stats import FEWEST
from llmtop.domain.assessment import Assessment
from llmtop.domain.judgement import Judgement
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Stage
from llmtop.domain.profile import Profile, Question, Workload
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Ending, RunMeta
from llmtop.domain.samples import LoadBin
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Capacity, CliffVerdict, Kind, SloVerdict
from llmtop.exchange.junit import junit
from llmtop.meter.facts import Facts

LENGTH_S = 100.0
PLAIN = "ttft_p95<2s,error_ratio<1%"


def run_of(slo: Slo, question: Question | None = None, **more: Any) -> RunMeta:
    plan = LoadPlan(stages=(Stage(name="hold", duration_s=LENGTH_S, shape=Hold(concurrency=8)),))
    profile = Profile(name="p", plan=plan, slo=slo, question=question, **more)
    return replace(meta_of(), profile=profile, ended_s=LENGTH_S, ending=Ending.PLAN)


def sent(name: str | None, count: int, ttft_s: float = 0.1, outcome: Outcome = Outcome.OK) -> list[RequestRecord]:
    times = np.linspace(0.0, LENGTH_S - 5.0, count)
    return [replace(record(float(t), ttft_s=ttft_s, e2e_s=4.0, outcome=outcome), name=name) for t in times]


def facts_with(requests: list[RequestRecord]) -> Facts:
    facts = facts_of(requests=requests, bins=bins_of(LENGTH_S, 8), changes=[(0.0, LoadPoint(concurrency=8))])
    facts.changes = [replace(change, reason="stage") for change in facts.changes]
    return facts


def judged(
    facts: Facts, slo: str, question: Question | None = None, levels: tuple[Level, ...] = (), **found: Any
) -> tuple[SloVerdict, Judgement]:
    limits = parse_slo(slo)
    more = {"peak": found.pop("peak")} if "peak" in found else {}
    found = {"capacity": Capacity(), "cliff": CliffVerdict(kind=Kind.INSUFFICIENT), **found}
    return judge_run(
        facts, run_of(limits, question, **more), limits, Findings(finished_requests(facts), levels, **found), LENGTH_S
    )


def test_a_limit_of_one_name_is_kept_by_its_own_requests() -> None:
    facts = facts_with(sent("answer", 100) + sent("plan", 100, 1.5))
    verdict, judgement = judged(facts, f"{PLAIN},answer.ttft_p95<500ms")
    assert (verdict.ok, judgement.ok) == (True, True)
    assert "TTFT p95 of answer 100 ms of 500 ms" in judgement.sentence
    assert [target.name for target in verdict.targets] == ["ttft_p95", "error_ratio", "answer.ttft_p95"]


def test_a_name_that_breaks_its_own_limit_is_a_no_although_the_whole_keeps_it() -> None:
    facts = facts_with(sent("answer", 60, 0.6) + sent("plan", 2000))
    verdict, judgement = judged(facts, f"{PLAIN},answer.ttft_p95<500ms")
    assert (verdict.ok, judgement.ok) == (False, False)
    assert judgement.sentence == "8 concurrent users do not keep the SLO: TTFT p95 of answer 600 ms > 500 ms"
    assert judged(facts, PLAIN)[1].ok is True


@pytest.mark.parametrize(("count", "ok"), [(FEWEST["p95"] - 1, None), (FEWEST["p95"], True)])
def test_a_name_needs_as_many_requests_as_the_whole_does(count: int, ok: bool | None) -> None:
    facts = facts_with(sent("answer", count) + sent("plan", 500))
    assert judged(facts, f"{PLAIN},answer.ttft_p95<500ms")[1].ok is ok


def test_a_name_that_nobody_used_is_not_known_and_said() -> None:
    facts = facts_with(sent("answer", 100) + sent("plan", 100))
    verdict, judgement = judged(facts, f"{PLAIN},anser.ttft_p95<500ms,anser.error_ratio<1%")
    assert (verdict.ok, judgement.ok) == (None, None)
    assert judgement.sentence == (
        "Not known whether 8 concurrent users keep the SLO: no request is called anser: there are answer and plan"
    )
    none = judged(facts_with(sent(None, 100)), f"{PLAIN},answer.error_ratio<1%")[1]
    assert none.ok is None
    assert "no request is called answer: none has a name" in none.sentence


def test_a_few_of_many_names_are_told_where_one_is_not_among_them() -> None:
    facts = facts_with([each for place in range(9) for each in sent(f"n{place}", 70)])
    _, judgement = judged(facts, f"{PLAIN},x.ttft_p95<1s")
    assert judgement.sentence.endswith("no request is called x: there are n0, n1, n2, n3, n4 and n5")


def test_limits_of_one_name_alone_are_an_slo() -> None:
    facts = facts_with(sent("answer", 100) + sent("plan", 100, 3.0))
    assert judged(facts, "answer.ttft_p95<500ms")[1].ok is True
    assert judged(facts, "plan.ttft_p95<500ms")[1].ok is False
    assert judged(facts, "other.ttft_p95<500ms")[1].ok is None


@pytest.mark.parametrize(("failed", "ok"), [(1, True), (20, False)])
def test_errors_of_one_name_are_counted_of_its_own_requests(failed: int, ok: bool) -> None:
    facts = facts_with(
        sent("answer", 199) + sent("answer", failed, outcome=Outcome.HTTP_ERROR) + sent("plan", 20_000 // 4)
    )
    _, judgement = judged(facts, "ttft_p95<2s,answer.error_ratio<1%")
    assert judgement.ok is ok
    if not ok:
        assert "20 of 219 requests of answer failed (9.13 % > 1 %)" in judgement.sentence


def test_requests_of_a_name_that_waited_in_vain_are_misses_of_that_name_alone() -> None:
    waited = [replace(record(90.0 + i / 100, e2e_s=3.0, outcome=Outcome.CANCELLED), name="answer") for i in range(20)]
    facts = facts_with(sent("answer", 100) + sent("plan", 900) + waited)
    slo = "ttft_p95<2s,answer.ttft_p95<2s,plan.ttft_p95<2s"
    assert {each.name: each.ok for each in judged(facts, slo)[0].targets} == {
        "ttft_p95": True,
        "answer.ttft_p95": False,
        "plan.ttft_p95": True,
    }


# -- the other questions ----------------------------------------------------------------------------------------------


def ramped(answer_s: float, load: float) -> Facts:
    """200 requests of each name at this load, and none else; 8 are commanded before."""
    requests = [each for name, ttft_s in (("answer", answer_s), ("plan", 0.1)) for each in sent(name, 200, ttft_s)]
    facts = facts_with(requests)
    facts.bins.column("target")[:] = load
    return facts


LEVEL = Level(load=8.0, ttft_s=np.full(200, 0.1), tpot_s=np.full(200, 0.01), e2e_s=np.full(200, 1.0))
HELD = Capacity(at_slo=8.0, sentence="supports 8 concurrent users")


@pytest.mark.parametrize(("question", "answer_s", "ok"), [
    (Question.CAPACITY, 0.1, True),
    (Question.CAPACITY, 0.9, False),
    (Question.CLIFF, 0.1, True),
    (Question.CLIFF, 0.9, False),
])  # fmt: skip
def test_a_capacity_must_keep_the_limits_of_each_name_there(question: Question, answer_s: float, ok: bool) -> None:
    slo = f"{PLAIN},answer.ttft_p95<500ms"
    _, judgement = judged(ramped(answer_s, 8.0), slo, question, (LEVEL,), capacity=HELD)
    assert judgement.ok is ok
    told = "8 concurrent users keep the limits on all requests together, but not those on one name alone"
    assert (told in judgement.sentence) is not ok


@pytest.mark.parametrize("question", [Question.CAPACITY, Question.CLIFF])
def test_a_capacity_at_which_nobody_used_the_name_is_not_known(question: Question) -> None:
    _, judgement = judged(ramped(0.1, 8.0), f"{PLAIN},other.ttft_p95<1s", question, (LEVEL,), capacity=HELD)
    assert judgement.ok is None
    assert "no request is called other" in judgement.sentence


@pytest.mark.parametrize(
    ("load", "ok"),
    [
        (NEAR_PEAK * 100 + 0.01, False),
        (NEAR_PEAK * 100 - 0.01, None),
        (AT_PEAK * 100 - 0.01, False),
        (AT_PEAK * 100 + 0.01, None),
    ],
)
def test_at_the_peak_counts_what_was_sent_near_it(load: float, ok: bool | None) -> None:
    facts = ramped(0.9, load)
    verdict, _ = judged(facts, f"{PLAIN},answer.ttft_p95<500ms", Question.PEAK, (LEVEL,), peak=100)
    assert verdict.targets[-1].ok is ok


# -- who breaks the limits of all -------------------------------------------------------------------------------------


def whole(requests: list[RequestRecord], slo: str = PLAIN, **fields: Any) -> Assessment:
    limits = parse_slo(slo)
    return assess(facts_with(requests), replace(run_of(limits), **fields), limits, now_s=LENGTH_S)


def test_a_name_that_breaks_what_the_whole_keeps_is_told_in_one_sentence() -> None:
    told = whole(sent("answer", 60, 3.0) + sent("plan", 3000))
    answer, plan = told.by_name
    assert (answer.ok, plan.ok, told.judgement.ok) == (False, True, True)
    assert answer.breaks == ("TTFT p95 3.00 s > 2 s",)
    said = "Requests of answer alone break a limit that all together keep: TTFT p95 3.00 s > 2 s"
    assert [note for note in told.notes if "alone" in note] == [said]


def test_a_name_that_breaks_what_the_whole_breaks_is_no_news() -> None:
    told = whole(sent("answer", 600, 3.0) + sent("plan", 600))
    assert (told.by_name[0].ok, told.judgement.ok) == (False, False)
    assert not [note for note in told.notes if "alone" in note]


def test_a_limit_of_its_own_stands_in_the_place_of_that_on_all() -> None:
    told = whole(sent("summary", 60, 3.0) + sent("plan", 3000), f"{PLAIN},summary.ttft_p95<10s")
    assert [each.ok for each in told.by_name] == [True, True]
    assert not [note for note in told.notes if "alone" in note]


def test_a_name_with_too_few_requests_has_no_verdict() -> None:
    told = whole(sent("answer", 20) + sent("plan", 3000))
    assert [each.ok for each in told.by_name] == [None, True]


@pytest.mark.parametrize(("unjudged", "ok"), [("", True), ("TTFT p95 is not judged", None)])
def test_a_name_is_no_yes_where_limits_of_the_whole_cannot_be_judged(unjudged: str, ok: bool | None) -> None:
    facts, slo = facts_with(sent("answer", 100) + sent("plan", 100, 9.0)), parse_slo(PLAIN)
    cliff = CliffVerdict(kind=Kind.INSUFFICIENT)
    found = Findings(finished_requests(facts), (), Capacity(), cliff, unjudged=unjudged)
    kinds = judge_kinds(facts, run_of(slo, Question.HOLD), slo, found, LENGTH_S, "name", by_kind(facts, "name"))
    assert {each.name: each.ok for each in kinds} == {"answer": ok, "plan": False}


def test_models_are_judged_as_names_are() -> None:
    slow = [replace(each, model="lora", name=None) for each in sent(None, 60, 3.0)]
    told = whole(slow + sent(None, 3000))
    assert [each.ok for each in told.by_model] == [False, True]
    assert told.by_name == ()


def test_the_limit_of_a_name_is_in_the_live_verdict_too() -> None:
    limits = parse_slo(f"{PLAIN},answer.ttft_p95<500ms")
    meta = replace(run_of(limits), ended_s=None, ending=None)
    broken = assess(facts_with(sent("answer", 400, 0.9) + sent("plan", 400)), meta, limits, now_s=LENGTH_S)
    assert broken.headline.startswith("SLO FAIL TTFT p95 of answer>500ms")
    missing = assess(facts_with(sent("plan", 400)), meta, limits, now_s=LENGTH_S)
    assert missing.headline.startswith("SLO --")


def test_junit_has_a_case_for_the_promise_of_a_name() -> None:
    told = whole(sent("answer", 60, 3.0) + sent("plan", 3000), f"{PLAIN},answer.ttft_p95<2s")
    text = junit("p", told).decode()
    (case,) = ElementTree.fromstring(text).iterfind(".//testcase[@name='answer.ttft_p95']")
    assert case[0].tag == "failure"
    assert case[0].get("message", "").startswith("TTFT p95 of answer 3.00 s of 2 s")


# -- how many users keep the limits of each name ----------------------------------------------------------------------

LOADS = (4.0, 8.0, 16.0, 32.0)


def stepped(late_from: float, count: int = 80) -> Facts:
    """25 s at each load, with requests of two names; those of answer take 0.9 s to a token from a load on."""
    requests, bins = [], []
    for place, load in enumerate(LOADS):
        start_s = 25.0 * place
        bins += [LoadBin(t_s=start_s + (i + 1) / 4, span_s=0.25, target=load, in_flight=int(load)) for i in range(100)]
        for name, ttft_s in (("answer", 0.9 if load >= late_from else 0.1), ("plan", 0.1)):
            times = np.linspace(start_s + 1.0, start_s + 20.0, count)
            requests += [replace(record(float(t), ttft_s=ttft_s, e2e_s=2.0), name=name) for t in times]
    return facts_of(requests=requests, bins=bins)


def carried(facts: Facts, slo: str, at_slo: float = 32.0) -> Capacity:
    limits, levels = parse_slo(slo), tuple(dataclasses.replace(LEVEL, load=load) for load in LOADS)
    known = Capacity(at_slo=at_slo, recommended=at_slo, soak=at_slo, low=at_slo, sentence="supports them")
    found = Findings(finished_requests(facts), levels, known, CliffVerdict(kind=Kind.INSUFFICIENT))
    return capacity_by_name(facts, run_of(limits, Question.CAPACITY), limits, found, LENGTH_S)


@pytest.mark.parametrize(("late_from", "at_slo", "fails_at"), [(32.0, 16.0, 32.0), (16.0, 8.0, 16.0), (4.0, None, 4.0)])
def test_a_capacity_is_where_each_name_keeps_its_own_limit(late_from: float, at_slo: float, fails_at: float) -> None:
    told = carried(stepped(late_from), f"{PLAIN},answer.ttft_p95<500ms")
    assert (told.at_slo, told.fails_at) == (at_slo, fails_at)
    assert f"at {fails_at:g} TTFT p95 of answer 900 ms > 500 ms" in told.sentence
    assert "those on all requests together are kept up to 32" in told.sentence
    assert (told.recommended is None) is (at_slo is None)
    assert told.lowered, "it is compared with no other"
    if at_slo is not None:
        assert told.low is not None
        assert told.low <= at_slo < fails_at
        assert told.recommended == at_slo


@pytest.mark.parametrize(
    ("facts", "slo"),
    [
        (stepped(16.0), PLAIN),
        (stepped(99.0), f"{PLAIN},answer.ttft_p95<500ms"),
        (stepped(16.0), f"{PLAIN},other.ttft_p95<500ms"),
        (stepped(16.0, count=1), f"{PLAIN},answer.ttft_p95<500ms"),
    ],
)
def test_only_a_limit_that_is_broken_lowers_a_capacity(facts: Facts, slo: str) -> None:
    assert carried(facts, slo).sentence == "supports them"


def test_a_capacity_below_the_load_where_a_name_breaks_stands() -> None:
    assert carried(stepped(32.0), f"{PLAIN},answer.ttft_p95<500ms", at_slo=16.0).sentence == "supports them"


@pytest.mark.parametrize(("source", "told"), [("synthetic", "/64 tokens"), ("python", "/20 tokens")])
def test_answers_whose_lengths_the_requests_say_are_told_as_long_as_they_were(source: str, told: str) -> None:
    facts = facts_with([replace(each, output_tokens=20) for each in sent("answer", 100)])
    meta = run_of(parse_slo(PLAIN), Question.HOLD, workload=Workload(source=source))
    assert told in assess(facts, meta, parse_slo(PLAIN), now_s=LENGTH_S).judgement.sentence
