"""Thresholds of --fail-on: which figure, over which span, and on both sides of each border."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_analysis_parts import facts_and_plan, rate, users
from virtual import meta_of

from llmtop.analysis import assess
from llmtop.analysis.fail_on import judge_thresholds
from llmtop.analysis.findings import AT_PEAK, NEAR_PEAK, Findings
from llmtop.analysis.levels import Level
from llmtop.analysis.parts import Part
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.stats import FEWEST
from llmtop.domain.assessment import Assessment
from llmtop.domain.judgement import Judgement, ThresholdVerdict
from llmtop.domain.load import Axis, Hold, LoadPlan, LoadPoint, Ramp, Stage
from llmtop.domain.over_time import Recovery
from llmtop.domain.profile import Profile, Question
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import LOST, Chapter, Ending, Event, RunMeta
from llmtop.domain.samples import ClientSample, LoadBin, ServerSnapshot
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.thresholds import FLOORS, parse_limits
from llmtop.domain.verdicts import Capacity, CliffVerdict, Kind
from llmtop.meter.facts import Facts

LENGTH_S = 100.0
SLO = parse_slo("ttft_p95<2s,error_ratio<1%")


def sent(count: int, ttft_s: float = 0.1, *, name: str | None = None, **more: Any) -> list[RequestRecord]:
    times = np.linspace(0.01, LENGTH_S - 5.0, count)
    return [replace(record(float(t), ttft_s=ttft_s, e2e_s=4.0, **more), name=name) for t in times]


def facts_with(requests: list[RequestRecord], **more: Any) -> Facts:
    """All at 8 users, with 2 requests and 100 tokens in each second."""
    bins = bins_of(LENGTH_S, 8)
    bins = [replace(each, ok=2 * (i % 4 == 0), output_tokens=25) for i, each in enumerate(bins)]
    facts = facts_of(requests=requests, bins=bins, changes=[(0.0, LoadPoint(concurrency=8))], **more)
    facts.changes = [replace(change, reason="stage", stage="hold") for change in facts.changes]
    return facts


def run_of(question: Question | None = None, **more: Any) -> RunMeta:
    plan = LoadPlan(stages=(Stage(name="hold", duration_s=LENGTH_S, shape=Hold(concurrency=8)),))
    meta = {name: more.pop(name) for name in ("ending",) if name in more}
    profile = Profile(name="p", plan=plan, slo=SLO, question=question, **more)
    return replace(meta_of(), profile=profile, ended_s=LENGTH_S, **{"ending": Ending.PLAN, **meta})


def whole(facts: Facts, text: str, meta: RunMeta | None = None) -> Assessment:
    return assess(facts, meta or run_of(), SLO, now_s=LENGTH_S, thresholds=parse_limits(text))


def of(facts: Facts, text: str, question: Question | None = None, **found: Any) -> ThresholdVerdict:
    """One threshold, of findings that are given."""
    names = ("peak", "recover_within_s")
    meta = run_of(question, **{name: found.pop(name) for name in names if name in found})
    judgement = found.pop("judgement", Judgement())
    spoilt = found.pop("spoilt", "")
    found = {"levels": (), "capacity": Capacity(), "cliff": CliffVerdict(kind=Kind.INSUFFICIENT), **found}
    findings = Findings(finished_requests(facts), **found)
    (told,) = judge_thresholds(parse_limits(text), facts, meta, SLO, findings, LENGTH_S, judgement, spoilt)
    return told


# -- a hold -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ok", "why"),
    [
        ("ttft_p95 > 1.5s", True, "kept: TTFT p95 1.50 s of 1.5 s"),
        ("ttft_p95 > 1.4999s", False, "broken: TTFT p95 1.50 s > 1.4999 s"),
        ("ttft_mean > 1500ms", True, "kept: TTFT mean 1.50 s of 1.5 s"),
        ("e2e_p50 > 3.9s", False, "broken: E2E p50 4.00 s > 3.9 s"),
        ("error_ratio > 0.5%", True, "kept: no errors in 400 requests"),
        ("output_tokens_per_s < 100", True, "kept: 100 tok/s"),
        ("output_tokens_per_s < 100.01", False, "broken: 100 tok/s"),
        ("requests_per_s < 2", True, "kept: 2 requests/s"),
        ("requests_per_s < 2.001", False, "broken: 2 requests/s"),
        ("goodput < 2", True, "kept: 2 good requests/s"),
        ("goodput < 2.001", False, "broken: 2 good requests/s"),
        ("queue > 3", True, "kept: queue 3 of 3"),
        ("queue > 2.99", False, "broken: queue 3 > 2.99"),
        ("kv > 50%", True, "kept: KV cache 50.0 % of 50 %"),
        ("kv > 49.9%", False, "broken: KV cache 50.0 % > 49.9 %"),
    ],
)
def test_at_its_limit_a_figure_is_kept_and_past_it_broken(text: str, ok: bool, why: str) -> None:
    server = [ServerSnapshot(t_s=float(t), running=8, waiting=3, kv_usage=0.5) for t in range(1, 100)]
    told = whole(facts_with(sent(400, 1.5), server=server), text)
    assert told.judgement.ok is True, "the SLO holds"
    (threshold,) = told.judgement.thresholds
    assert (threshold.ok, told.judgement.passes) == (ok, ok)
    assert threshold.text.endswith(why)
    assert threshold.text.startswith("--fail-on ")


@pytest.mark.parametrize(("failed", "ok"), [(2, True), (3, None), (20, False)])
def test_errors_are_judged_as_a_limit_on_errors_is(failed: int, ok: bool | None) -> None:
    facts = facts_with(sent(400 - failed) + sent(failed, outcome=Outcome.HTTP_ERROR))
    assert of(facts, "error_ratio > 0.5%", Question.HOLD).ok is ok


@pytest.mark.parametrize(("stat", "fewest"), [("p99", FEWEST["p99"]), ("p95", FEWEST["p95"]), ("p50", FEWEST["p50"])])
def test_with_too_few_requests_nothing_is_known_and_that_is_no_pass(stat: str, fewest: int) -> None:
    few, enough = (whole(facts_with(sent(count)), f"ttft_{stat} > 1s").judgement for count in (fewest - 1, fewest))
    assert (few.thresholds[0].ok, enough.thresholds[0].ok) == (None, True)
    assert few.passes is None
    assert f"needs {fewest} requests, {fewest - 1} came" in few.thresholds[0].text


def test_a_figure_that_no_server_shows_is_not_known() -> None:
    told = of(facts_with(sent(400)), "queue > 5", Question.HOLD)
    assert (told.ok, told.measured) == (None, None)
    assert told.text == "--fail-on queue > 5: not known: not shown by the server"


PAGE = "http://127.0.0.1:9/metrics"


@pytest.mark.parametrize(
    ("urls", "shows", "said", "told"),
    [
        ((), {}, "", ""),
        ((PAGE,), {}, f"{PAGE}: no connection", f"queue and KV cache are not judged: {PAGE}: no connection"),
        ((PAGE,), {"waiting": 1.0}, f"{PAGE}: no connection", f"KV cache is not judged: {PAGE}: no connection"),
        ((PAGE,), {"waiting": 1.0, "kv_usage": 0.1}, f"{PAGE}: no connection", ""),
        ((PAGE,), {}, "replica pod-1 is gone: 1 left", "queue and KV cache are not judged: not shown by the server"),
    ],
)
def test_limits_on_a_page_that_was_named_and_never_came_are_said_to_be_unjudged(
    urls: tuple[str, ...], shows: dict[str, float], said: str, told: str
) -> None:
    server = tuple(ServerSnapshot(t_s=float(t), **shows) for t in range(1, 100))  # type: ignore[arg-type]
    facts = facts_with(sent(400), server=server)
    facts.events = [Event(2.0, "server", said, "warning"), Event(3.0, "load", f"{PAGE}: not of it", "warning")]
    meta = run_of(Question.HOLD)
    meta = replace(meta, endpoint=replace(meta.endpoint, metrics_urls=urls))
    notes = [note for note in assess(facts, meta, Slo(), now_s=LENGTH_S).notes if "not judged" in note]
    assert notes == ([told] if told else [])
    running = replace(meta, ended_s=None)
    assert not any("not judged" in note for note in assess(facts, running, Slo(), now_s=LENGTH_S).notes)


def test_goodput_counts_what_was_late_and_what_failed_as_no_good() -> None:
    half = facts_with(sent(200, 0.1) + sent(200, 3.0))
    assert of(half, "goodput < 1", Question.HOLD).measured == pytest.approx(1.0)
    failed = facts_with(sent(200) + sent(200, outcome=Outcome.HTTP_ERROR))
    assert of(failed, "goodput < 1", Question.HOLD).measured == pytest.approx(2.0), "rates are of what ended well"
    assert of(facts_with(sent(400, outcome=Outcome.HTTP_ERROR)), "goodput < 1").measured == 0.0


def test_what_came_before_the_last_chapter_is_another_configurations() -> None:
    bins = [replace(each, output_tokens=25 if each.t_s <= 50 else 50) for each in bins_of(LENGTH_S, 8)]
    facts = facts_of(requests=sent(400), bins=bins)
    assert of(facts, "tokens < 1", Question.HOLD).measured == pytest.approx(150.0)
    facts.chapters.append(Chapter(50.0, "max_num_seqs 32 → 48", "k"))
    assert of(facts, "tokens < 1", Question.HOLD).measured == pytest.approx(200.0)


def test_where_latency_bends_is_no_part_of_what_is_said() -> None:
    plan = LoadPlan(stages=(Stage(name="up", duration_s=LENGTH_S, shape=Ramp(0, 16)),))
    meta = replace(run_of(), profile=Profile(name="p", plan=plan, slo=SLO, question=Question.HOLD))
    facts, cliff = facts_with(sent(400)), CliffVerdict(kind=Kind.CLIFF, at=8.0, low=7.0, high=9.0)
    found = Findings(finished_requests(facts), (), Capacity(), cliff)
    (told,) = judge_thresholds(parse_limits("ttft > 1s"), facts, meta, SLO, found, LENGTH_S, Judgement(), "")
    assert told.text == "--fail-on ttft_p95 > 1 s: kept: TTFT p95 100 ms of 1 s"


def test_a_threshold_of_one_name_is_of_its_requests_alone() -> None:
    facts = facts_with(sent(100, 0.6, name="answer") + sent(2000, name="plan"))
    assert of(facts, "answer.ttft_p95 > 500ms", Question.HOLD).ok is False
    assert of(facts, "plan.ttft_p95 > 500ms", Question.HOLD).ok is True
    nobody = of(facts, "anser.ttft_p95 > 500ms", Question.HOLD)
    assert nobody.ok is None
    assert "no request is called anser: there are answer and plan" in nobody.text


def test_a_load_that_is_held_and_breaks_it_is_found_behind_many_that_keep_it() -> None:
    """Of two loads of 50 s the second is slow; of each threshold the load that breaks it decides, not the SLO's."""
    changes = [(0.0, LoadPoint(concurrency=4)), (50.0, LoadPoint(concurrency=8))]
    early = [record(t, ttft_s=0.1, e2e_s=3.0) for t in np.linspace(0.01, 45, 2000)]
    late = [record(t, ttft_s=0.4, e2e_s=0.5) for t in np.linspace(50.01, 95, 100)]
    facts = facts_of(requests=early + late, bins=bins_of(LENGTH_S, 8), changes=changes)
    facts.changes = [replace(each, reason="stage", stage=f"s{i}") for i, each in enumerate(facts.changes)]
    shapes = (Hold(concurrency=4), Hold(concurrency=8))
    stages = tuple(Stage(name=f"s{i}", duration_s=50.0, shape=shape) for i, shape in enumerate(shapes))
    meta = replace(run_of(), profile=Profile(name="p", plan=LoadPlan(stages=stages), slo=SLO, question=Question.HOLD))
    told = whole(facts, "ttft_p50 > 300ms, e2e_p95 > 2s, ttft_p95 > 500ms", meta).judgement
    assert [each.ok for each in told.thresholds] == [False, False, True]
    assert "at 8 concurrent users TTFT p50 400 ms > 300 ms" in told.thresholds[0].text
    assert "at 4 concurrent users E2E p95 3.00 s > 2 s" in told.thresholds[1].text
    assert [(part.name, part.ok) for part in told.parts] == [("4 concurrent users", True), ("8 concurrent users", True)]


# -- capacity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_slo", "fails_at", "ok"),
    [
        (40.0, 48.0, True),
        (40.0, None, True),
        (39.0, 40.0, False),
        (39.0, 41.0, None),
        (39.0, None, None),
        (None, 40.0, False),
        (None, 41.0, None),
        (None, None, None),
    ],
)
def test_a_capacity_is_proven_by_loads_that_held_and_loads_that_broke(
    at_slo: float | None, fails_at: float | None, ok: bool | None
) -> None:
    told = of(facts_with(sent(400)), "capacity < 40", capacity=Capacity(at_slo=at_slo, fails_at=fails_at))
    assert (told.ok, told.measured) == (ok, at_slo)


@pytest.mark.parametrize(("axis", "unit"), [("concurrency", "40 concurrent users"), ("rate", "40 requests/s")])
def test_a_capacity_is_told_in_what_was_driven(axis: Axis, unit: str) -> None:
    cliff = CliffVerdict(kind=Kind.NONE, axis=axis)
    told = of(facts_with(sent(400)), "capacity < 40", cliff=cliff, capacity=Capacity(at_slo=40.0, fails_at=48.0))
    assert told.text == f"--fail-on capacity < 40: kept: {unit} at the SLO (pass 40, fail 48)"


def part(axis: Axis, load: float, capacity: Capacity, **more: Any) -> Findings:
    point = LoadPoint(concurrency=1).at(axis, load)
    own = Part(replace(point, **more), low=load, top=load, spans=[(0.0, LENGTH_S)])
    cliff = CliffVerdict(kind=Kind.INSUFFICIENT, axis=axis)
    return Findings(finished_requests(facts_with(sent(400))), (), capacity, cliff, part=own)


def test_of_several_configurations_the_worst_capacity_decides() -> None:
    carries, does_not = Capacity(at_slo=48.0, fails_at=56.0), Capacity(at_slo=24.0, fails_at=32.0)
    parts = part("concurrency", 8, carries), part("concurrency", 8, does_not, prompt_tokens=900)
    told = of(facts_with(sent(400)), "capacity < 40", Question.CLIFF, parts=parts)
    assert told.ok is False
    assert "900/64 tokens: 24 concurrent users at the SLO" in told.text


def test_a_capacity_of_users_and_of_requests_is_none() -> None:
    both = Capacity(at_slo=48.0, fails_at=56.0)
    parts = part("concurrency", 8, both), part("rate", 8, both)
    told = of(facts_with(sent(400)), "capacity < 40", parts=parts)
    assert told.ok is None
    assert "which have no scale in common" in told.text


@pytest.mark.parametrize("late_first", [True, False])
@pytest.mark.parametrize("question", [Question.CLIFF, Question.CAPACITY, Question.PEAK])
def test_of_several_configurations_the_one_that_breaks_it_decides_whichever_came_last(
    question: Question, late_first: bool
) -> None:
    stages = [rate(8, 1.5), users(4)] if late_first else [users(4), rate(8, 1.5)]
    facts, plan = facts_and_plan(stages)
    profile = Profile(name="p", plan=plan, question=question, peak=4.0, slo=SLO)
    meta = replace(meta_of(), profile=profile, ended_s=120.0, ending=Ending.PLAN)
    told = assess(facts, meta, SLO, now_s=120.0, thresholds=parse_limits("ttft_p95 > 1s"))
    (threshold,) = told.judgement.thresholds
    assert threshold.ok is False
    assert "broken: open loop: " in threshold.text
    assert {part.name for part in told.judgement.parts} == {"closed loop", "open loop"}


@pytest.mark.parametrize(("limit", "ok"), [("50ms", False), ("500ms", None)])
def test_a_configuration_without_a_level_can_break_a_threshold_and_prove_none(limit: str, ok: bool | None) -> None:
    parts = part("concurrency", 8, Capacity()), part("concurrency", 8, Capacity(), prompt_tokens=900)
    assert of(facts_with(sent(400)), f"ttft_p95 > {limit}", Question.CLIFF, parts=parts).ok is ok


# -- where a capacity, a peak or a spike is asked for -----------------------------------------------------------------

LEVEL = Level(
    load=8.0,
    ttft_s=np.full(200, 0.1),
    tpot_s=np.full(200, 0.01),
    e2e_s=np.full(200, 1.0),
    waiting=3.0,
    kv_usage=0.5,
    requests_per_s=10.0,
    output_tokens_per_s=640.0,
)
ABOVE = Level(load=16.0, ttft_s=np.full(200, 9.0), requests_per_s=1.0, output_tokens_per_s=1.0)


@pytest.mark.parametrize("question", [Question.CAPACITY, Question.CLIFF])
@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ("ttft_p95 > 100ms", True),
        ("ttft_p95 > 99ms", False),
        ("queue > 3", True),
        ("queue > 2", False),
        ("kv > 50%", True),
        ("kv > 40%", False),
        ("tokens_per_s < 640", True),
        ("tokens_per_s < 640.1", False),
        ("rps < 10", True),
        ("rps < 10.1", False),
        ("goodput < 10", True),
        ("goodput < 10.1", False),
    ],
)
def test_of_a_capacity_the_level_that_it_names_is_judged(question: Question, text: str, ok: bool) -> None:
    told = of(
        facts_with(sent(400, 1.0)), text, question, levels=(LEVEL, ABOVE), capacity=Capacity(at_slo=8.0, fails_at=16.0)
    )
    assert told.ok is ok, told.text
    assert f"{'kept' if ok else 'broken'}: at 8 " in told.text


@pytest.mark.parametrize(("answer_s", "ok"), [(0.5, True), (0.6, False)])
def test_at_a_capacity_a_name_is_judged_by_its_own_requests(answer_s: float, ok: bool) -> None:
    facts = facts_with(sent(100, answer_s, name="answer") + sent(400))
    capacity = Capacity(at_slo=8.0, fails_at=16.0)
    told = of(facts, "answer.ttft_p95 > 500ms", Question.CLIFF, levels=(LEVEL,), capacity=capacity)
    assert told.ok is ok


@pytest.mark.parametrize("text", ["ttft_p95 > 1s", "tokens_per_s < 1", "goodput < 1", "queue > 1"])
def test_where_no_load_is_known_to_hold_nothing_is(text: str) -> None:
    assert of(facts_with(sent(400)), text, Question.CAPACITY).ok is None


@pytest.mark.parametrize(
    ("share", "ok"),
    [(NEAR_PEAK - 0.001, None), (NEAR_PEAK, False), (AT_PEAK, False), (AT_PEAK + 0.001, None)],
)
@pytest.mark.parametrize("text", ["ttft_p95 > 0.5s", "tokens_per_s < 101", "answer.ttft_p95 > 0.5s"])
def test_of_a_peak_what_was_driven_near_it_is_judged(share: float, ok: bool | None, text: str) -> None:
    facts = facts_with(sent(400, 0.9, name="answer"))
    facts.bins.column("target")[:] = 100.0 * share
    assert of(facts, text, Question.PEAK, peak=100.0).ok is ok


def test_of_a_spike_what_lies_outside_of_it_is_judged_and_errors_wherever_they_came() -> None:
    spike = Recovery(up_s=40.0, down_s=50.0, base=8, peak=24, took_s=5.0, seen_s=50.0)
    calm = [each for each in sent(400) if not 30e9 < each.sent_ns < 60e9]  # type: ignore[operator]
    slow = [record(45.0 + i / 100, ttft_s=3.0, e2e_s=4.0) for i in range(100)]
    refused = [record(45.0 + i / 100, outcome=Outcome.HTTP_ERROR) for i in range(100)]
    facts = facts_with(calm + slow)
    assert of(facts, "ttft_p95 > 1s", Question.SPIKE, recoveries=(spike,)).ok is True
    assert of(facts, "ttft_p95 > 1s", Question.SPIKE).ok is None, "there was no spike"
    capacity = Capacity(at_slo=8.0, fails_at=16.0)
    assert of(facts, "rps < 1", Question.SPIKE, levels=(LEVEL,), capacity=capacity).ok is None
    assert of(facts_with(calm + refused), "error_ratio > 5%", Question.SPIKE, recoveries=(spike,)).ok is False
    busy = [replace(each, output_tokens=25 * (not 40 < each.t_s <= 55)) for each in bins_of(LENGTH_S, 8)]
    told = of(facts_of(requests=calm, bins=busy), "tokens_per_s < 1", Question.SPIKE, recoveries=(spike,))
    assert told.measured == pytest.approx(100.0)


# -- what says nothing of the server ----------------------------------------------------------------------------------


def test_a_void_run_breaks_no_threshold() -> None:
    late = [ClientSample(t_s=float(i + 1), lag_p99_ms=900.0, cpu=0.1, tpot_ms=20.0) for i in range(100)]
    judgement = whole(facts_with(sent(400), client=late), "ttft_p95 > 1ms, capacity < 1e9, tokens < 1e9").judgement
    assert judgement.void
    assert judgement.client_bound == 1.0
    assert [each.ok for each in judgement.thresholds] == [None] * 3


@pytest.mark.parametrize("ending", LOST)
def test_a_server_that_fell_away_breaks_no_threshold(ending: Ending) -> None:
    judgement = whole(facts_with(sent(400)), "ttft_p95 > 1ms, capacity < 1e9", run_of(ending=ending)).judgement
    assert [each.ok for each in judgement.thresholds] == [None] * 2


@pytest.mark.parametrize(("text", "ok"), [("ttft_p95 > 1ms", None), ("goodput < 1e9", None), ("e2e_p95 > 1s", False)])
def test_what_a_path_keeps_back_is_judged_by_what_it_does_not_spoil(text: str, ok: bool | None) -> None:
    told = of(facts_with(sent(400)), text, Question.HOLD, spoilt="answers arrive whole")
    assert told.ok is ok
    assert ("answers arrive whole" in told.text) is (ok is None)


@pytest.mark.parametrize("question", Question)
def test_a_run_in_which_all_failed_breaks_what_is_said_of_errors(question: Question) -> None:
    facts, meta = facts_with(sent(400, outcome=Outcome.HTTP_ERROR)), run_of(question)
    judgement = whole(facts, "error_ratio > 50%, ttft_p95 > 1s, capacity < 4", meta).judgement
    assert [each.ok for each in judgement.thresholds] == [False, None, None]
    assert judgement.passes is False


def test_a_run_in_which_nothing_was_measured_passes_none() -> None:
    nothing = facts_of(bins=[LoadBin(t_s=1.0, span_s=0.25, target=0, in_flight=0)])
    judgement = assess(nothing, run_of(), SLO, now_s=1.0, thresholds=parse_limits("rps < 1, e2e > 1s")).judgement
    assert [each.ok for each in judgement.thresholds] == [None, None]
    assert judgement.passes is None


def test_a_run_that_goes_on_is_judged_by_no_threshold() -> None:
    meta = replace(run_of(), ended_s=None, ending=None)
    assert whole(facts_with(sent(400)), "ttft_p95 > 1ms", meta).judgement.thresholds == ()


# -- laws -------------------------------------------------------------------------------------------------------------

BOTH = facts_with(sent(390, 0.7, name="answer") + sent(10, outcome=Outcome.HTTP_ERROR))


def test_thresholds_change_no_other_opinion() -> None:
    with_them, without = (
        assess(BOTH, run_of(), SLO, now_s=LENGTH_S, thresholds=thresholds)
        for thresholds in (parse_limits("ttft_p95 > 1ms, capacity < 1000, error_ratio > 0.1%"), ())
    )
    judgement = replace(with_them.judgement, thresholds=())
    assert replace(with_them, judgement=judgement) == without
    assert with_them.judgement.passes is False


@given(st.sampled_from(["ttft_p95", "e2e_p50", "ttft_mean", "answer.ttft_p90"]), st.floats(1e-3, 10), st.floats(1, 3))
def test_a_looser_limit_is_never_broken_by_what_keeps_a_tighter(name: str, limit_s: float, looser: float) -> None:
    tight, loose = (of(BOTH, f"{name} > {each:.9f}s", Question.HOLD) for each in (limit_s, limit_s * looser))
    assert tight.measured is None or tight.measured == loose.measured
    assert not (tight.ok is True and loose.ok is not True)
    assert tight.ok is (None if tight.measured is None else tight.measured <= tight.limit)


@given(st.sampled_from([name for name in FLOORS if name != "capacity"]), st.floats(1e-3, 500), st.floats(1, 3))
def test_a_higher_floor_is_never_kept_by_what_is_below_a_lower(name: str, limit: float, higher: float) -> None:
    low, high = (of(BOTH, f"{name} < {each:.9f}", Question.HOLD) for each in (limit, limit * higher))
    assert low.measured == high.measured
    assert low.measured is not None
    assert (low.ok, high.ok) == (low.measured >= low.limit, high.measured >= high.limit)
