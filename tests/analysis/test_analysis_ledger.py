"""Laws of levels: a request counts at the load that made it, and what no single load made counts nowhere."""

from __future__ import annotations

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record, requests_of
from virtual import VirtualSession

from llmtop.analysis import assess, blocks
from llmtop.analysis.levels import Level
from llmtop.analysis.measured import Ledger, MeasuredCurve, measured_curves
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.sessions import Requests, session_levels
from llmtop.analysis.slo import Sample, attainment, holds
from llmtop.analysis.steps import StepFunction
from llmtop.domain.load import LoadPoint
from llmtop.domain.request import Outcome
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo, SloTarget, parse_slo
from llmtop.host.judging import Judge
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset


def users(count: int, **more: object) -> LoadPoint:
    return LoadPoint(concurrency=count, **more)  # type: ignore[arg-type]


def drive(session: VirtualSession, *steps: tuple[int, float]) -> VirtualSession:
    for count, span_s in steps:
        session.command(users(count))
        session.run_until(session.now_s + span_s)
    return session


def laptop(count: int, **more: object) -> VirtualSession:
    return VirtualSession(load_preset("laptop"), users(count), **more)  # type: ignore[arg-type]


def curves_of(session: VirtualSession) -> tuple[MeasuredCurve, ...]:
    return measured_curves(session.facts, session.meta, finished_requests(session.facts), session.now_s)


def levels_of(session: VirtualSession) -> dict[float, Level]:
    return {level.load: level for level in curves_of(session)[-1].levels}


# -- whose latency it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_a_level_takes_to_answer_is_not_made_slower_by_the_level_after_it(seed: int) -> None:
    alone = levels_of(drive(laptop(12, seed=seed), (12, 30)))[12]
    before = levels_of(drive(laptop(12, seed=seed), (12, 30), (60, 20)))[12]
    assert np.quantile(before.samples("tpot"), 0.95) == pytest.approx(
        np.quantile(alone.samples("tpot"), 0.95), rel=0.05
    )
    assert np.quantile(before.samples("e2e"), 0.95) == pytest.approx(np.quantile(alone.samples("e2e"), 0.95), rel=0.05)
    assert len(before.samples("tpot")) < before.n == len(before.tpot_s), "the columns stay aligned"


def test_ttft_and_mean_e2e_are_told_by_requests_whose_end_is_not_of_their_level() -> None:
    """Ten of 40 requests end 3 s after a step from 4 to 8, and would make E2E of a second one of 1.75 s."""
    requests = [record(1.0 + i / 4, e2e_s=1.0) for i in range(34)]
    requests += [record(9.45 + i / 200, ttft_s=0.3, e2e_s=4.0) for i in range(10)]
    facts = facts_of(requests=requests, bins=bins_of(20, 4))
    facts.bins.column("in_flight")[facts.bins.column("t_s") > 10] = 8
    (curve,) = measured_curves(facts, laptop(1).meta, finished_requests(facts), 20.0)
    (level,) = curve.levels
    assert (level.n, len(level.samples("e2e"))) == (40, 30)
    assert level.mean("ttft") == pytest.approx(0.15)
    assert level.mean("e2e") == pytest.approx(0.15 + 0.9)


def test_an_end_that_is_not_known_leaves_a_limit_open() -> None:
    nan = np.full(100, np.nan)
    unknown = Sample(np.ones(100), nan, nan)
    assert holds(unknown, SloTarget("tpot", 0.05, "p95")) is None, "they are not answers of one token"
    assert holds(Sample(np.ones(100), nan, np.ones(100)), SloTarget("tpot", 0.05, "p95")) is True
    slo = parse_slo("ttft_p95<2s,tpot_p95<50ms")
    assert attainment(unknown, slo) is None
    half = Sample(np.ones(4), np.array([0.01, 0.09, np.nan, np.nan]), np.array([1.0, 9.0, np.nan, np.nan]), errors=4)
    assert attainment(half, slo) == 0.25, "one of two that are known; half failed"
    assert attainment(half, parse_slo("ttft_p95<2s")) == 0.5
    assert attainment(half, parse_slo("e2e_p95<2s")) == 0.25


# -- whose error it is ------------------------------------------------------------------------------------------------


def test_a_burst_that_is_refused_breaks_its_own_load_and_not_the_calm_one_before() -> None:
    session = laptop(16)
    session.refuses_above = 40
    levels = levels_of(drive(session, (16, 30), (128, 10), (16, 20)))
    assert set(levels) == {16, 128}
    assert (levels[16].errors, levels[16].broken) == (0, False)
    assert levels[128].broken
    assert levels[128].requests_per_s < 1.2 * 32 / 2.5, "of those that were let in"


def test_a_load_of_which_a_share_is_refused_is_told_by_its_users() -> None:
    """A gateway lets 20 in: 24 users are 24 users, of whom some fail, and not 20."""
    session = laptop(4)
    session.refuses_above = 20
    levels = levels_of(drive(session, (4, 12), (16, 12), (24, 12), (32, 12)))
    assert [(load, level.broken) for load, level in levels.items()] == [(4, False), (16, False), (24, True), (32, True)]


@pytest.mark.parametrize(("age_s", "errors"), [(5.0, 3), (20.0, 0)])
def test_a_request_that_was_sent_at_one_load_and_failed_at_another_breaks_neither(age_s: float, errors: int) -> None:
    requests = [record(i / 4) for i in range(110)]
    requests += [record(20.0 + i, e2e_s=age_s, outcome=Outcome.TIMEOUT) for i in range(3)]
    facts = facts_of(requests=requests, bins=bins_of(60, 4), changes=[(0.0, users(4)), (30.0, users(16))])
    for name in ("in_flight", "target"):
        facts.bins.column(name)[facts.bins.column("t_s") > 30] = 16
    (curve,) = measured_curves(facts, laptop(1).meta, finished_requests(facts), 60.0)
    assert [(level.load, level.errors) for level in curve.levels] == [(4.0, errors)]


# -- what is kept -----------------------------------------------------------------------------------------------------


FIGURES = ("load", "errors", "requests_per_s", "output_tokens_per_s", "running", "waiting", "kv_usage", "e2e_mean_s")


def alike(one: tuple[MeasuredCurve, ...], other: tuple[MeasuredCurve, ...]) -> None:
    assert [(curve.label, curve.left_out, curve.queued) for curve in one] == [
        (curve.label, curve.left_out, curve.queued) for curve in other
    ]
    for curve, again in zip(one, other, strict=True):
        for level, same in zip(curve.levels, again.levels, strict=True):
            assert [getattr(level, name) for name in FIGURES] == [getattr(same, name) for name in FIGURES]
            for name in ("ttft_s", "tpot_s", "e2e_s", "censored_s"):
                assert np.array_equal(getattr(level, name), getattr(same, name), equal_nan=True)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.faults)])
def test_levels_are_the_same_whoever_asks_and_however_often_and_never_age_out(seed: int) -> None:
    """A session by hand of 100 s; `short` keeps 800 requests of it, as a live run of days keeps its last."""
    rng = np.random.default_rng(seed)
    session = laptop(4, seed=seed, client=True)
    kept, short, aged = Ledger(), Facts(cap=800), Ledger()
    told = 0
    while session.now_s < 100:
        session.run_until(session.now_s + rng.uniform(1, 7))
        what = rng.uniform()
        if what < 0.5:
            session.command(users(int(rng.integers(1, 64))))
        elif what < 0.6:
            session.turn(max_num_seqs=int(rng.choice([16, 32])))
        elif what < 0.65:
            session.restart()
        for batch in session.batches[told:]:
            short.extend(batch)
        told = len(session.batches)
        now = kept.curves(session.facts, session.meta, finished_requests(session.facts), session.now_s)
        alike(now, aged.curves(short, session.meta, finished_requests(short), session.now_s))
    alike(now, curves_of(session))
    assert short.requests.dropped >= 200


def test_a_quick_opinion_and_a_full_one_and_that_of_a_judge_have_the_same_levels() -> None:
    session, judge = laptop(4), Judge(Slo())
    for count in (8, 16, 32, 48):
        session.command(users(count))
        session.run_until(session.now_s + 20)
        said = judge(session.facts, session.meta, full=False)
    whole = assess(session.facts, session.meta, Slo(), now_s=session.facts.t_s)
    assert said.curves == whole.curves
    assert said.capacity.at_slo == whole.capacity.at_slo


def test_other_facts_begin_another_ledger() -> None:
    ledger, first, second = Ledger(), drive(laptop(4), (4, 70)), drive(laptop(8), (8, 10))
    for session in (first, second):
        found = ledger.curves(session.facts, session.meta, finished_requests(session.facts), session.now_s)
        alike(found, curves_of(session))


def test_of_very_many_requests_the_newest_of_each_load_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ROOM", 160)
    levels = levels_of(drive(laptop(2), (2, 30), (16, 80)))
    assert 15 <= levels[2].n <= 20
    assert levels[16].n <= 20 + 30 * 9, "an eighth of the room, and what is not closed yet"


# -- borders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "known"), [(21.4, True), (23.0, False), (18.6, True), (17.0, False)])
def test_an_end_is_of_its_level_up_to_a_twelfth_and_half_a_request(after: float, known: bool) -> None:
    """At 20 in flight: 2.1 more or fewer on average from the first token, at 9.9 s, to the end."""
    requests = requests_of(np.arange(2.0, 9.0, 0.25), ttft_s=0.1, e2e_s=1.0)
    last = requests_of([9.79] * 4, ttft_s=0.1, e2e_s=6.0)
    both = Requests(*(np.concatenate([getattr(requests, name), getattr(last, name)]) for name in Requests.__slots__))
    steps = StepFunction(np.array([0.0, 9.9]), np.array([20.0, after]))
    (level,) = session_levels(both, steps)
    assert level.n == len(requests.sent_s) + 4
    assert (len(level.samples("e2e")) == level.n) is known


def test_a_failure_within_a_bin_of_a_change_belongs_to_no_load() -> None:
    asked = StepFunction(np.array([0.0, 20.0]), np.array([4.0, 16.0]))
    calm = requests_of(np.arange(2.0, 19.0, 0.25))
    for sent_s, errors in ((20.2, 0), (20.3, 4)):
        failed = requests_of([sent_s] * 4, ttft_s=np.nan, e2e_s=0.01, failed=True)
        both = Requests(*(np.concatenate([getattr(calm, name), getattr(failed, name)]) for name in Requests.__slots__))
        levels = session_levels(both, asked, asked=asked)
        assert sum(level.errors for level in levels) == errors


@pytest.mark.parametrize(
    ("queued", "waiting", "left", "explained"),
    [(2, 0.0, 99, True), (3, 0.0, 0, False), (3, 1.0, 20, True), (3, 1.0, 21, False), (3, 0.9, 0, False)],
)
def test_a_queue_is_explained_by_a_level_that_has_it_and_by_most_requests(
    queued: int, waiting: float, left: int, explained: bool
) -> None:
    levels = (Level(4.0, np.ones(10)), Level(8.0, np.ones(10), waiting=waiting))
    curve = MeasuredCurve({}, "concurrency", users(8), levels, requests_of([]), {"load moved": left}, queued)
    assert curve.explains_queue is explained


def test_only_scrapes_in_a_row_are_a_queue() -> None:
    server = [ServerSnapshot(t_s=float(t), waiting=1.0 if t % 4 in (1, 2) else 0.0) for t in range(20)]
    facts = facts_of(requests=[record(i / 4) for i in range(80)], bins=bins_of(20, 4), server=server)
    (curve,) = measured_curves(facts, laptop(1).meta, finished_requests(facts), 20.0)
    assert curve.queued == 2


@pytest.mark.parametrize("think_s", [0.0, 1.0])
def test_users_are_whole_on_a_ramp_too(think_s: float) -> None:
    session = laptop(1)
    for count in range(1, 60):
        session.command(users(count, think_time_s=think_s))
        session.run_until(session.now_s + 0.6)
    loads = [level.load for level in curves_of(session)[-1].levels]
    assert len(loads) >= 5
    assert loads == sorted({float(round(load)) for load in loads}), "each of them once"
