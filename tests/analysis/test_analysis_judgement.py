"""The answer to each question, on both sides of each border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from msgspec.structs import replace
from virtual import meta_of

from llmtop.analysis.findings import AT_PEAK, NEAR_PEAK, WHOLE, Findings, question_of
from llmtop.analysis.judgement import judge_run
from llmtop.analysis.levels import Level
from llmtop.analysis.readings import finished_requests
from llmtop.domain.judgement import Judgement
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Ramp, Spike, Stage
from llmtop.domain.over_time import Drift, Recovery
from llmtop.domain.profile import Profile, Question
from llmtop.domain.request import Outcome
from llmtop.domain.run import Chapter, Ending, FactBatch, JudgedLevel, LoadChange, RunMeta, SearchEnded
from llmtop.domain.samples import ClientSample, LoadBin, ServerSnapshot
from llmtop.domain.scaling import Scaling
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Capacity, CliffVerdict, Kind
from llmtop.meter.facts import Facts

SLO = parse_slo("ttft_p95<2s,error_ratio<1%")
LENGTH_S = 100.0


def held(users: int = 8, **more: Any) -> Profile:
    plan = LoadPlan(stages=(Stage(name="hold", duration_s=LENGTH_S, shape=Hold(concurrency=users)),))
    return Profile(name="p", plan=plan, slo=SLO, **more)


def run_of(profile: Profile, ended_s: float | None = LENGTH_S, ending: Ending | None = Ending.PLAN) -> RunMeta:
    return replace(meta_of(), profile=profile, ended_s=ended_s, ending=ending if ended_s else None)


def calm(count: int = 400, *, failed: int = 0, late: int = 0, until_s: float = LENGTH_S) -> Facts:
    """So many requests at a load of 8, evenly over the run; some fail or wait 3 s, the first ones."""
    sent_s = np.linspace(0.0, until_s - 4.0, count)
    requests = [
        record(float(t), ttft_s=3.0 if i < late else 0.1, e2e_s=3.5)
        if i >= failed
        else record(float(t), outcome=Outcome.HTTP_ERROR)
        for i, t in enumerate(sent_s)
    ]
    changes = [(0.0, LoadPoint(concurrency=8))]
    facts = facts_of(requests=requests, bins=bins_of(until_s, 8), changes=changes)
    facts.changes = [replace(change, reason="stage") for change in facts.changes]
    return facts


def answer(
    facts: Facts, meta: RunMeta, *, slo: Slo = SLO, levels: Sequence[Level] = (), now_s: float = LENGTH_S, **found: Any
) -> Judgement:
    found = {"capacity": Capacity(), "cliff": CliffVerdict(kind=Kind.INSUFFICIENT), **found}
    _, judgement = judge_run(facts, meta, slo, Findings(finished_requests(facts), tuple(levels), **found), now_s)
    return judgement


# -- hold -------------------------------------------------------------------------------------------------------------


def test_a_load_that_kept_every_limit_is_a_yes_with_its_figures() -> None:
    judgement = answer(calm(), run_of(held()))
    assert (judgement.question, judgement.ok, judgement.final) == (Question.HOLD, True, True)
    assert judgement.sentence == "8 concurrent users keep the SLO: TTFT p95 100 ms of 2 s and no errors in 400 requests"


@pytest.mark.parametrize(("failed", "ok"), [(4, True), (40, False)])
def test_errors_count_in_all_of_the_run(failed: int, ok: bool) -> None:
    judgement = answer(calm(failed=failed), run_of(held()))
    assert judgement.ok is ok
    assert ("40 of 400 requests failed (10.0 % > 1 %)" in judgement.sentence) is not ok


@pytest.mark.parametrize("lost", [1, 40])
def test_what_a_load_worker_of_ours_took_along_is_no_error_of_the_server(lost: int) -> None:
    facts = calm()
    records = [replace(record(50.0, outcome=Outcome.LOST), worker=1) for _ in range(lost)]
    facts.extend(FactBatch(t_s=LENGTH_S, requests=tuple(records)))
    judgement = answer(facts, run_of(held()))
    assert judgement.ok is True
    assert "no errors in 400 requests" in judgement.sentence
    s = "" if lost == 1 else "s"
    assert judgement.left_out == (f"{lost} request{s} left out: lost with load workers that died",)


def test_latencies_count_in_all_of_the_run() -> None:
    assert answer(calm(late=30), run_of(held())).ok is False
    assert answer(calm(late=10), run_of(held())).ok is True


def test_too_few_requests_are_no_answer_and_say_what_is_missing() -> None:
    judgement = answer(calm(58), run_of(held()))
    assert judgement.ok is None
    assert judgement.sentence == (
        "Not known whether 8 concurrent users keep the SLO: TTFT p95 needs 59 requests, 58 came"
    )
    assert answer(calm(59), run_of(held())).ok is True


@pytest.mark.parametrize(("share", "ok"), [(WHOLE + 0.001, True), (WHOLE - 0.001, None)])
def test_a_plan_that_was_left_early_has_no_yes(share: float, ok: bool | None) -> None:
    judgement = answer(calm(), run_of(held(), ended_s=share * LENGTH_S), now_s=share * LENGTH_S)
    assert judgement.ok is ok
    assert ("it ended at 01:36 of 01:40" in judgement.sentence) is (ok is None)


@pytest.mark.parametrize("ending", [Ending.HAND, Ending.UNSEEN])
@pytest.mark.parametrize("late", [0, 100])
def test_an_interrupted_run_says_so_whatever_its_answer(ending: Ending, late: int) -> None:
    judgement = answer(calm(late=late), run_of(held(), ended_s=50.0, ending=ending), now_s=50.0)
    assert judgement.ok is (False if late else None)
    assert "it was interrupted at 00:50 of 01:40" in judgement.sentence
    whole = answer(calm(), run_of(held(), ending=ending))
    assert "interrupted" not in whole.sentence


def test_what_is_told_of_a_run_that_goes_on_is_not_final() -> None:
    judgement = answer(calm(), run_of(held(), ended_s=None), now_s=50.0)
    assert (judgement.ok, judgement.final) == (True, False)


@pytest.mark.parametrize(
    ("ending", "words"),
    [(Ending.RESTART, "restarted under it"), (Ending.HANG, "answers nothing"), (Ending.GONE, "has gone")],
)
def test_a_server_that_fell_away_is_no_yes(ending: Ending, words: str) -> None:
    judgement = answer(calm(), run_of(held(), ending=ending))
    assert judgement.ok is None
    assert words in judgement.sentence


def test_a_brake_is_no_yes_and_names_the_load() -> None:
    facts = calm()
    facts.changes.append(LoadChange(50.0, LoadPoint(concurrency=1), "brake"))
    judgement = answer(facts, run_of(held()))
    assert judgement.ok is None
    assert "the brake ended it at 00:50, at 8 concurrent users" in judgement.sentence


def test_requests_that_waited_in_vain_are_misses() -> None:
    """Cancelled at the end after 3 s without a token: their TTFT was longer than the limit."""
    waited = [record(90.0 + i / 100, e2e_s=3.0, outcome=Outcome.CANCELLED) for i in range(40)]
    facts = calm()
    facts.extend(replace(_batch(facts), requests=tuple(waited)))
    assert answer(facts, run_of(held())).ok is False


def _batch(facts: Facts) -> Any:
    from llmtop.domain.run import FactBatch

    return FactBatch(t_s=facts.t_s)


# -- void -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("red", "void"), [(19, False), (20, True)])
def test_from_a_fifth_of_red_seconds_on_nothing_is_known(red: int, void: bool) -> None:
    facts = calm()
    samples = [
        ClientSample(t_s=float(i + 1), lag_p99_ms=900.0 if i < red else 0.1, cpu=0.1, tpot_ms=20.0) for i in range(100)
    ]
    facts.extend(replace(_batch(facts), client=tuple(samples)))
    assert len(facts.client) == 100
    judgement = answer(facts, run_of(held()))
    assert judgement.void is void
    assert judgement.ok is (None if void else True)
    assert ("says nothing about the server" in judgement.sentence) is void


# -- peak -------------------------------------------------------------------------------------------------------------


def climbed(load: float, *, ttft_s: float = 0.1, failed: bool = False, count: int = 80) -> Facts:
    """Every request sent while the commanded load was `load`. `failed`: all but the first."""
    outcomes = [Outcome.HTTP_ERROR if failed and t else Outcome.OK for t in range(count)]
    requests = [record(t / 10, ttft_s=ttft_s, e2e_s=ttft_s + 0.5, outcome=each) for t, each in enumerate(outcomes)]
    bins = [LoadBin(t_s=(i + 1) / 4, span_s=0.25, target=load, in_flight=int(load)) for i in range(400)]
    return facts_of(requests=requests, bins=bins)


def peaked(peak: float = 100.0) -> RunMeta:
    plan = LoadPlan(stages=(Stage(name="ramp", duration_s=LENGTH_S, shape=Ramp(0, 2 * peak)),))
    return run_of(Profile(name="p", plan=plan, peak=peak, question=Question.PEAK))


@pytest.mark.parametrize(
    ("share", "ok"),
    [(NEAR_PEAK - 0.01, None), (NEAR_PEAK + 0.01, True), (AT_PEAK - 0.01, True), (AT_PEAK + 0.01, None)],
)
def test_what_was_sent_near_the_peak_speaks_for_it(share: float, ok: bool | None) -> None:
    judgement = answer(climbed(100 * share), peaked(), levels=[Level(load=50.0)])
    assert judgement.ok is ok


def test_a_peak_that_breaks_the_slo_is_a_no_and_says_by_what() -> None:
    judgement = answer(climbed(100, ttft_s=3.0), peaked())
    assert judgement.ok is False
    assert "at 100 TTFT p95 3.00 s > 2 s" in judgement.sentence


@pytest.mark.parametrize(("load", "ok"), [(99.0, False), (150.0, True)])
def test_a_level_below_the_peak_that_breaks_is_a_no_and_one_above_does_not_matter(load: float, ok: bool) -> None:
    broken = Level(load=load, ttft_s=np.full(80, 3.0), e2e_s=np.full(80, 4.0))
    assert answer(climbed(100), peaked(), levels=[broken]).ok is ok


def test_a_level_above_the_peak_that_holds_speaks_for_it_where_nothing_else_does() -> None:
    above = Level(load=120.0, ttft_s=np.full(80, 0.1), e2e_s=np.full(80, 1.0))
    judgement = answer(climbed(50), peaked(), levels=[above])
    assert judgement.ok is True
    assert "at 120" in judgement.sentence


def test_errors_up_to_the_peak_count_and_those_past_it_do_not() -> None:
    above = Level(load=120.0, ttft_s=np.full(80, 0.1), e2e_s=np.full(80, 1.0))
    assert answer(climbed(50, failed=True), peaked(), levels=[above]).ok is False
    assert answer(climbed(150, failed=True), peaked(), levels=[above]).ok is True


# -- capacity and cliff -----------------------------------------------------------------------------------------------


def searched(load: int, reason: str | None = "done", slo: Slo = SLO) -> Facts:
    facts = climbed(float(load))
    facts.tested.append(JudgedLevel(t_s=5.0, load=load, slo=str(slo), n=80, worst=(("ttft_p95", 1.2),)))
    if reason is not None:
        facts.searches.append(SearchEnded(9.0, reason))  # type: ignore[arg-type]
    return facts


def capacity_run(at_least: float | None = None) -> RunMeta:
    return run_of(Profile(name="c", question=Question.CAPACITY, at_least=at_least, plan=LoadPlan(stages=())))


@pytest.mark.parametrize(("reason", "ok"), [("done", True), ("budget", True), ("hand", None), (None, None)])
def test_a_capacity_is_known_when_its_search_came_to_an_end(reason: str | None, ok: bool | None) -> None:
    capacity = Capacity(at_slo=28.0, fails_at=30.0, sentence="supports 28 concurrent users")
    judgement = answer(searched(28, reason), capacity_run(), capacity=capacity)
    assert judgement.ok is ok
    assert "upports 28 concurrent users" in judgement.sentence


@pytest.mark.parametrize(
    ("at_slo", "fails_at", "ok"), [(32.0, 34.0, True), (31.0, 32.0, False), (30.0, 33.0, None), (30.0, None, None)]
)
def test_so_many_are_carried_or_not_or_nobody_knows(at_slo: float, fails_at: float | None, ok: bool | None) -> None:
    capacity = Capacity(at_slo=at_slo, fails_at=fails_at)
    assert answer(searched(int(at_slo)), capacity_run(32.0), capacity=capacity).ok is ok


def test_a_capacity_below_the_lowest_load_is_a_no() -> None:
    judgement = answer(searched(4), capacity_run(), capacity=Capacity(fails_at=4.0, sentence="does not meet the SLO"))
    assert judgement.ok is False


def test_the_limits_at_a_searched_load_are_those_that_the_search_saw() -> None:
    facts = searched(28)
    found = Findings(
        finished_requests(facts), (), Capacity(at_slo=28.0, fails_at=30.0), CliffVerdict(kind=Kind.INSUFFICIENT)
    )
    verdict, _ = judge_run(facts, capacity_run(), SLO, found, LENGTH_S)
    assert [(each.name, each.value) for each in verdict.targets] == [("ttft_p95", 1.2), ("error_ratio", 0.0)]


@pytest.mark.parametrize(
    ("cliff", "capacity", "ok"),
    [
        (Kind.INSUFFICIENT, Capacity(), None),
        (Kind.UNSTABLE, Capacity(), None),
        (Kind.NONE, Capacity(), True),
        (Kind.CLIFF, Capacity(), True),
        (Kind.INSUFFICIENT, Capacity(at_slo=50.0), True),
        (Kind.CLIFF, Capacity(fails_at=50.0), False),
    ],
)
def test_where_latency_bends_is_known_or_not(cliff: Kind, capacity: Capacity, ok: bool | None) -> None:
    level = Level(load=50.0, ttft_s=np.full(80, 3.0 if capacity.at_slo is None else 0.1), e2e_s=np.full(80, 4.0))
    meta = run_of(Profile(name="c", question=Question.CLIFF, plan=LoadPlan(stages=())))
    found = CliffVerdict(kind=cliff, at=32.0 if cliff is Kind.CLIFF else None, low=30.0, high=34.0)
    assert answer(climbed(50), meta, cliff=found, capacity=capacity, levels=[level]).ok is ok


def test_a_capacity_among_errors_is_none() -> None:
    level = Level(load=50.0, ttft_s=np.full(80, 0.1), e2e_s=np.full(80, 1.0))
    meta = run_of(Profile(name="c", question=Question.CLIFF, plan=LoadPlan(stages=())))
    judgement = answer(climbed(40, failed=True), meta, capacity=Capacity(at_slo=50.0), levels=[level])
    assert judgement.ok is False
    assert "79 of 80 requests failed" in judgement.sentence


# -- soak and spike ---------------------------------------------------------------------------------------------------


def crept(change: float, metric: str = "TTFT") -> Drift:
    drift = Drift(metric=metric, shape="slope", per_hour=change, change=change, visible_per_hour=0.08, until_s=LENGTH_S)
    return replace(drift, significant=change != 0, text=f"{metric} +20.0 %/h")


def test_a_soak_that_creeps_is_a_no_and_says_what_creeps() -> None:
    soak = run_of(held(question=Question.SOAK))
    judgement = answer(calm(), soak, drifts=(crept(0.2),))
    assert judgement.ok is False
    assert "keep the SLO, but something creeps: TTFT +20.0 %/h" in judgement.sentence
    assert answer(calm(), soak, drifts=(crept(0.0),)).ok is True
    assert answer(calm(), soak, drifts=(crept(-0.2),)).ok is True, "what gets better is no fault"


def test_a_soak_too_short_to_tell_is_no_yes() -> None:
    assert answer(calm(), run_of(held(question=Question.SOAK))).ok is None
    memory = crept(0.0, "server memory")
    assert answer(calm(), run_of(held(question=Question.SOAK)), drifts=(memory,)).ok is None, "latency is not told"


def spiked() -> RunMeta:
    plan = LoadPlan(stages=(Stage(name="s", duration_s=LENGTH_S, shape=Spike(8, 24, 0.4, 0.5)),))
    return run_of(Profile(name="p", plan=plan, recover_within_s=20.0))


def recovery(took_s: float | None, seen_s: float = 50.0) -> Recovery:
    return Recovery(up_s=40.0, down_s=50.0, base=8, peak=24, took_s=took_s, seen_s=seen_s, debt_s=12.0)


@pytest.mark.parametrize(("took_s", "ok"), [(19.9, True), (20.1, False), (None, False)])
def test_a_spike_is_recovered_from_in_time_or_not(took_s: float | None, ok: bool) -> None:
    judgement = answer(calm(), spiked(), recoveries=(recovery(took_s),))
    assert (judgement.question, judgement.ok) == (Question.SPIKE, ok)
    assert "SLO missed for 12 s" in judgement.sentence


@pytest.mark.parametrize(("seen_s", "ok"), [(20.1, False), (19.9, None)])
def test_a_run_that_ends_before_the_limit_does_not_know(seen_s: float, ok: bool | None) -> None:
    assert answer(calm(), spiked(), recoveries=(recovery(None, seen_s),)).ok is ok


SERVED = Scaling(
    from_s=40.0, before=1, after=3, decided_s=4.0, ready_s=9.0, serving_s=10.0, seen_s=55.0,
    debt_s=12.0, missed=30, n=100, text="replicas 1 → 3",
)  # fmt: skip


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, ""),
        ({"ready_s": None, "serving_s": None, "missing": "ready", "debt_s": 0.0}, ""),
        ({"ready_s": None, "serving_s": None, "missing": "ready"}, "more replicas were not ready after 55 s"),
        ({"missing": "created", "came": 2}, "2 replicas of 3 were created after 55 s"),
        ({"missing": "serving", "came": 1}, "more replicas had not served after 55 s"),
        ({"debt_s": 20.0}, ""),
        ({"debt_s": 20.1}, "the SLO was missed for 20 s, limit 20 s"),
        ({"debt_s": 31.0, "left_out": 50}, "the SLO was missed for at least 31 s, limit 20 s"),
        ({"debt_s": 19.0, "left_out": 50}, ""),
        ({"from_s": 0.0, "debt_s": 90.0}, ""),
    ],
)
def test_a_spike_that_scales_is_a_yes_only_if_more_replicas_came_and_the_slo_was_soon_kept(
    more: dict[str, Any], reason: str
) -> None:
    """That all was as before again is no merit of replicas that never came: the load had fallen."""
    found = replace(SERVED, **more)
    judgement = answer(calm(), spiked(), recoveries=(recovery(5.0),), scalings=(found,))
    assert judgement.ok is not bool(reason)
    assert judgement.reasons == ((reason,) if reason else ())
    assert (f"(limit 20 s), but {reason}; replicas 1 → 3" in judgement.sentence) is bool(reason)
    late = answer(calm(), spiked(), recoveries=(recovery(21.0),), scalings=(found,))
    assert late.ok is False
    assert ", but " not in late.sentence
    assert answer(calm(), spiked(), recoveries=(recovery(None, 5.0),), scalings=(found,)).ok is None


def test_errors_within_the_spike_count_and_its_latencies_do_not() -> None:
    facts = calm()
    slow = [record(45.0 + i / 100, ttft_s=3.0, e2e_s=4.0) for i in range(100)]
    facts.extend(replace(_batch(facts), requests=tuple(slow)))
    assert answer(facts, spiked(), recoveries=(recovery(5.0),)).ok is True
    failed = [record(45.0 + i / 100, outcome=Outcome.HTTP_ERROR) for i in range(100)]
    facts.extend(replace(_batch(facts), requests=tuple(failed)))
    assert answer(facts, spiked(), recoveries=(recovery(5.0),)).ok is False


def test_without_a_spike_there_is_nothing_to_recover_from() -> None:
    assert answer(calm(), spiked()).ok is None
    assert answer(calm(failed=40), spiked()).ok is False


# -- the question -----------------------------------------------------------------------------------------------------


def test_a_hand_leaves_the_question_of_the_plan() -> None:
    facts = calm()
    assert question_of(facts, held()) is Question.HOLD
    facts.changes.append(LoadChange(50.0, LoadPoint(concurrency=9), "hand"))
    assert question_of(facts, held()) is Question.CLIFF
    assert question_of(facts, capacity_run().profile) is Question.CAPACITY


# -- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "failed", "ok"), [(100, 2, None), (298, 3, None), (299, 3, False), (299, 2, True)])
def test_more_failures_than_may_be_are_never_a_yes_and_of_299_requests_a_no(
    count: int, failed: int, ok: bool | None
) -> None:
    judgement = answer(calm(count, failed=failed), run_of(held()))
    assert judgement.ok is ok
    assert ("too few to be sure" in judgement.sentence) is (ok is None)


def shown(*loads: tuple[float, float, float]) -> Facts:
    """(until, load, waiting): a scrape a second, and a request every half."""
    end_s = loads[-1][0]
    at = [next(each for each in loads if t <= each[0]) for t in np.arange(0.25, end_s + 0.01, 0.25)]
    bins = [LoadBin(t_s=(i + 1) / 4, span_s=0.25, target=each[1], in_flight=int(each[1])) for i, each in enumerate(at)]
    server = [ServerSnapshot(t_s=float(t), waiting=at[4 * t - 1][2], running=1.0) for t in range(1, int(end_s) + 1)]
    facts = facts_of(requests=[record(t / 2) for t in range(int(2 * end_s))], bins=bins, server=server)
    facts.t_s = end_s
    return facts


@pytest.mark.parametrize(("held_s", "ok"), [(4, False), (3, True)])
def test_the_queue_counts_at_the_load_where_it_is_the_longest(held_s: int, ok: bool) -> None:
    facts = shown((100.0 - held_s, 8.0, 0.0), (100.0, 24.0, 20.0))
    judgement = answer(facts, run_of(held()), slo=parse_slo("ttft_p95<2s,queue<10"))
    assert judgement.ok is ok


@pytest.mark.parametrize(("turned_s", "ok"), [(2.0, True), (4.0, None)])
def test_a_configuration_that_was_not_there_from_the_start_is_judged_by_its_own_time(
    turned_s: float, ok: bool | None
) -> None:
    facts = calm()
    facts.chapters.append(Chapter(turned_s, "max_num_seqs=8", "k"))
    judgement = answer(facts, run_of(held()))
    assert judgement.ok is ok
    assert ("was another configuration" in judgement.sentence) is (ok is None)


def test_failures_of_another_configuration_do_not_count() -> None:
    facts = calm(failed=40)
    facts.chapters.append(Chapter(20.0, "the server has restarted", "2"))
    assert answer(facts, run_of(held(), ended_s=None), now_s=50.0).ok is True


def test_of_a_server_that_fell_away_no_limit_is_told() -> None:
    facts = calm(failed=40)
    found = Findings(finished_requests(facts), (), Capacity(), CliffVerdict(kind=Kind.INSUFFICIENT))
    verdict, judgement = judge_run(facts, run_of(held(), ending=Ending.GONE), SLO, found, LENGTH_S)
    assert (verdict.ok, verdict.targets, judgement.ok) == (None, (), None)
    assert judgement.sentence == "Not known: the run was ended: the endpoint has gone"
