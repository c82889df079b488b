"""Refused requests: a wall of their own with the refuser named, or a fault; never a cause of latency."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from facts_by_hand import requests_of
from test_analysis_cliff_laws import capped
from test_analysis_diagnosis import busy
from virtual import VirtualSession

from llmtop.analysis import Level, Limits, assess, judge
from llmtop.analysis.diagnosis import diagnose
from llmtop.analysis.sessions import Requests
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment, Bound, CliffVerdict, Confidence, Kind
from llmtop.host.judging import Judge
from llmtop.simulator.engine import load_preset

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
    assert "20.0 % of requests were refused at 32: HTTP 503" in found.evidence


def test_failures_without_a_status_are_a_wall_without_a_refuser() -> None:
    found = refused(32.0, 64.0, status=None)
    assert (found.kind, found.cause) == (Kind.CLIFF, Bound.NONE)
    assert "20.0 % of requests failed at 32" in found.evidence


@pytest.mark.parametrize("loads", [(8.0,), (8.0, 32.0), (2.0,), tuple(LOADS)])
def test_failures_at_scattered_loads_are_a_fault_and_no_place(loads: tuple[float, ...]) -> None:
    found = refused(*loads)
    assert found.kind is not Kind.CLIFF
    assert found.at is None
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


def test_a_server_that_fails_at_every_load_has_no_cliff() -> None:
    session, live = driven((4, 8, 16), fails=0.15)
    whole = assess(session.facts, session.end(), Slo(), now_s=session.facts.t_s)
    for said in (live, whole):
        assert said.cliff.at is None
        assert said.diagnosis.bound is Bound.REFUSED
        assert any("HTTP 500" in text for text in said.diagnosis.evidence)
