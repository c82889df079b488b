"""Refused requests: a wall of their own with the refuser named, or a fault; never a cause of latency."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from capacities import noted_search
from facts_by_hand import requests_of
from test_analysis_cliff_laws import capped
from test_analysis_diagnosis import busy
from virtual import VirtualSession

from llmtop.analysis import Level, Limits, assess, judge
from llmtop.analysis.capacity import capacity_of
from llmtop.analysis.diagnosis import diagnose
from llmtop.analysis.sessions import Requests
from llmtop.analysis.votes import lasting
from llmtop.domain.assessment import Assessment
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo, SloTarget
from llmtop.domain.verdicts import Bound, CliffVerdict, Confidence, Kind
from llmtop.host.judging import Judge
from llmtop.meter.facts import Facts
from llmtop.report.prose import cliff_text
from llmtop.simulator.engine import load_preset
from llmtop.wording.sentences import CONTRADICTION, SCATTERED, fails_from

LOADS = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]


def refused(*loads: float, cap: float = 1000.0, status: int | None = 503) -> CliffVerdict:
    """Six levels of which those at `loads` have 10 failures beside 40 answers."""
    levels: list[Level] = [
        dataclasses.replace(each, errors=10, status=status) if each.load in loads else each
        for each in capped(cap, LOADS)
    ]
    return judge(levels, replicates=0)


def test_a_limit_that_refuses_from_a_load_on_is_a_wall_with_its_refuser() -> None:
    found = refused(32.0, 64.0)
    assert (found.kind, found.low, found.high, found.cause) == (Kind.CLIFF, 16.0, 32.0, Bound.REFUSED)
    assert found.at == pytest.approx(np.sqrt(16 * 32))
    assert found.confidence is Confidence.PROVISIONAL
    assert found.fails
    assert fails_from(found) == "HTTP 503 from 32 on"
    assert "20.0 % of requests were refused at 32: HTTP 503" in found.evidence


def test_failures_without_a_status_are_a_wall_without_a_refuser() -> None:
    found = refused(32.0, 64.0, status=None)
    assert (found.kind, found.cause, found.status) == (Kind.CLIFF, Bound.FAILED, None)
    assert fails_from(found) == "requests fail from 32 on"
    assert "20.0 % of requests failed at 32" in found.evidence


@pytest.mark.parametrize("loads", [(8.0,), (8.0, 32.0), (2.0,), tuple(LOADS)])
def test_failures_at_scattered_loads_are_a_fault_and_no_place(loads: tuple[float, ...]) -> None:
    found = refused(*loads)
    assert found.kind is not Kind.CLIFF
    assert found.at is None
    assert not found.fails
    assert any(f"refused at {loads[0]:.0f}: HTTP 503" in text for text in found.evidence)


def test_a_cliff_of_latency_below_the_refusals_keeps_its_cause_and_tells_them() -> None:
    found = refused(64.0, cap=12.0)
    assert found.at == pytest.approx(12, rel=0.1)
    assert found.cause is Bound.QUEUE
    assert "20.0 % of requests were refused at 64: HTTP 503" in found.evidence


def ended(failed: int, *, n: int = 100, status: float = 503.0) -> Requests:
    whole = requests_of(np.arange(float(n)), tpot_s=0.06)
    error = np.arange(n) < failed
    return dataclasses.replace(whole, ok=~error, error=error, status=np.where(error, status, 200.0))


def test_no_cause_of_latency_is_taken_from_what_refusals_leave() -> None:
    def bound(failed: int, **more: float) -> Bound:
        return diagnose(busy(ended=ended(failed, **more)), Limits(max_num_seqs=64), (), None).bound  # type: ignore[arg-type]

    assert bound(6) is Bound.REFUSED
    assert bound(5) is Bound.QUEUE, "one in twenty"
    assert bound(1, n=10) is Bound.QUEUE, "a single slip"
    assert bound(2, n=10) is Bound.REFUSED
    assert bound(50, status=np.nan) is Bound.QUEUE, "nobody refused"
    found = diagnose(busy(ended=ended(12)), Limits(), (), None)
    assert (found.evidence, found.advice) == (("12.0 % of requests were refused: HTTP 503",), None)


def test_the_status_of_most_failures_is_the_refusers() -> None:
    mixed = ended(10)
    mixed.status[:4] = 429.0
    assert mixed.refusal == 503
    mixed.status[4:10] = np.nan
    assert mixed.refusal is None, "most had none"
    assert ended(0).refusal is None


def driven(loads: tuple[int, ...], **faults: object) -> tuple[VirtualSession, Assessment]:
    """The laptop preset with 8 s at each load, judged as it goes."""
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=loads[0], output_tokens=64), seed=1)
    for name, value in faults.items():
        setattr(session, name, value)
    judge_ = Judge(Slo())
    for i, load in enumerate(loads):
        session.command(LoadPoint(concurrency=load, output_tokens=64))
        for second in range(8):
            session.run_until(8.0 * i + second + 1)
            said = judge_(session.facts, session.meta)
    return session, said


def test_a_proxy_that_takes_twelve_is_the_wall_and_not_the_batch() -> None:
    session, live = driven((4, 8, 16, 24), refuses_above=12)
    whole = assess(session.facts, session.end(), Slo(), now_s=session.facts.t_s)
    for said in (live, whole):
        assert (said.cliff.cause, said.diagnosis.bound, said.diagnosis.advice) == (Bound.REFUSED, Bound.REFUSED, None)
        assert said.cliff.low is not None
        assert 8 <= said.cliff.low <= 12
        assert "requests are refused" in said.headline
        assert fails_from(said.cliff) in ("HTTP 503 from 16 on", "HTTP 503 from 24 on")
        assert said.capacity.knee is None, "latency does not bend there"
        assert "cliff" not in cliff_text(said.cliff)


def test_a_server_that_fails_at_every_load_has_no_cliff() -> None:
    session, live = driven((4, 8, 16), fails=0.15)
    whole = assess(session.facts, session.end(), Slo(), now_s=session.facts.t_s)
    for said in (live, whole):
        assert said.cliff.at is None
        assert said.diagnosis.bound is Bound.FAILED, "a 500 refuses nobody"
        assert any("HTTP 500" in text for text in said.diagnosis.evidence)


@pytest.mark.parametrize(("status", "bound"), [(429, Bound.REFUSED), (503, Bound.REFUSED), (500, Bound.FAILED)])
def test_only_a_server_that_turns_away_refuses(status: int, bound: Bound) -> None:
    assert refused(32.0, 64.0, status=status).cause is bound
    assert diagnose(busy(ended=ended(12, status=status)), Limits(), (), None).bound is bound


def test_failures_below_levels_that_held_are_a_fault_and_contradict_nothing() -> None:
    levels = [dataclasses.replace(each, errors=20 * (each.load == 4.0)) for each in capped(12.0, LOADS)]
    slo = Slo((SloTarget("ttft", 10.0, "p50"), SloTarget("error_ratio", 0.01)))
    said = capacity_of(levels, slo, judge(levels, replicates=0), Limits(), None).sentence
    assert SCATTERED in said
    assert CONTRADICTION not in said


def test_a_capacity_names_the_status_of_the_level_that_failed() -> None:
    levels = [dataclasses.replace(each, errors=20 * (each.load > 16), status=503) for each in capped(1000.0, LOADS)]
    slo = Slo((SloTarget("ttft", 10.0, "p50"), SloTarget("error_ratio", 0.01)))
    found = capacity_of(levels, slo, judge(levels, replicates=0), Limits(), None)
    assert (found.at_slo, found.fails_at, found.knee) == (16, 32, None)
    assert "then requests fail (HTTP 503)" in found.sentence


@pytest.mark.parametrize("all_the_while", [False, True])
def test_a_late_burst_of_failures_at_a_held_load_is_no_bound_of_a_finished_run(all_the_while: bool) -> None:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=16), seed=2)
    session.fails = 0.3 if all_the_while else 0.0
    session.run_until(34)
    session.fails = 0.3
    session.run_until(40)
    found = assess(session.facts, session.end(), Slo(), now_s=session.facts.t_s)
    assert (found.diagnosis.bound is Bound.FAILED) is all_the_while


@pytest.mark.parametrize(("failed", "lasts"), [(1, False), (2, True)])
def test_failures_last_where_both_halves_of_the_load_have_more_than_slips(failed: int, lasts: bool) -> None:
    """100 requests a half: ten fail in the second, `failed` in the first."""
    whole = requests_of(np.linspace(0.1, 20.0, 200))
    error = np.isin(np.arange(200), [*range(20, 20 + failed), *range(150, 160)])
    assert lasting(Facts(), dataclasses.replace(whole, ok=~error, error=error), 20.0) is lasts


def searched(session: VirtualSession) -> tuple[float | None, str]:
    found = noted_search(session, Slo(), LoadPoint(concurrency=0, output_tokens=64)).capacity
    return found.at_slo, found.sentence


def test_a_search_behind_a_proxy_finds_what_it_takes_and_names_its_answer() -> None:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=0, output_tokens=64), seed=3, reason="search")
    session.refuses_above = 24
    at_slo, said = searched(session)
    assert at_slo == pytest.approx(24, abs=1)
    assert "then requests fail (HTTP 503)" in said
    assert "no failure yet" not in said


def test_a_fault_that_passes_is_no_capacity_of_a_search() -> None:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=0, output_tokens=64), seed=3, reason="search")
    session.hooks = [(20.0, lambda: setattr(session, "fails", 0.3)), (25.0, lambda: setattr(session, "fails", 0.0))]
    at_slo, said = searched(session)
    assert at_slo is not None
    assert at_slo > 40
    assert "requests fail" not in said


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_load_that_is_refused_as_a_whole_is_told_as_such() -> None:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=8), seed=2)
    session.run_until(10)
    session.refuses_above = 0
    session.command(LoadPoint(concurrency=16))
    session.run_until(20)
    found = assess(session.facts, session.end(), Slo(), now_s=session.facts.t_s)
    assert fails_from(found.cliff) == "HTTP 503 from 16 on"
