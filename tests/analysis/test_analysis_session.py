"""A session from its facts: levels, curves, the assessment and what it says over time."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from virtual import VirtualSession, meta_of

from llmtop.analysis import assess
from llmtop.analysis.display import settled
from llmtop.analysis.measured import measured_curves
from llmtop.analysis.openloop import Offered, rate_levels
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.sessions import Progress, Requests
from llmtop.analysis.steps import StepFunction
from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Question
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Bound, CliffVerdict, Confidence, Kind
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset

RAMP = [(4, 12), (8, 12), (12, 12), (16, 12), (24, 20), (32, 25), (48, 30), (64, 30)]


def driven(steps: list[tuple[int, float]], **more: object) -> VirtualSession:
    session = VirtualSession(load_preset("laptop"), LoadPoint(concurrency=steps[0][0]), **more)
    until_s = 0.0
    for users, span_s in steps:
        session.command(LoadPoint(concurrency=users))
        until_s += span_s
        session.run_until(until_s)
    return session


@pytest.fixture(scope="module")
def ramp() -> VirtualSession:
    return driven(RAMP)


def test_the_demo_cliff_is_found_named_and_confirmed_three_ways(ramp):
    found = assess(ramp.facts, ramp.meta, Slo(), now_s=ramp.now_s)
    assert found.cliff.kind is Kind.CLIFF
    assert found.cliff.low <= 32 <= found.cliff.high
    assert found.cliff.cause is Bound.QUEUE
    assert found.cliff.confidence is Confidence.FIRM
    assert any("confirmed three ways" in text for text in found.cliff.evidence)
    assert found.overloaded
    assert found.slo.ok is False
    assert found.capacity.recommended == 32
    assert found.capacity.soak == 25
    assert "SLO FAIL TTFT p95" in found.headline
    assert "cliff 32" in found.headline
    assert found.curves[-1].points[0].load == 4
    msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=type(found))


def test_the_same_facts_give_the_same_answer(ramp):
    one, two = (assess(ramp.facts, ramp.meta, Slo(), now_s=ramp.now_s) for _ in range(2))
    assert one == two


def test_live_assessments_settle_and_do_not_flicker():
    session = driven([(4, 6)])
    shown, kinds = None, []
    for users in (8, 16, 24, 40, 64):
        session.command(LoadPoint(concurrency=users))
        for _ in range(10):
            session.run_until(session.now_s + 1)
            shown = assess(session.facts, session.meta, Slo(), now_s=session.now_s, previous=shown, full=False)
            kinds.append(shown.cliff.kind)
    changes = sum(a is not b for a, b in itertools.pairwise(kinds))
    assert kinds[0] is Kind.INSUFFICIENT
    assert kinds[-1] is Kind.CLIFF
    assert changes <= 3
    assert shown.cliff.at == pytest.approx(32, rel=0.1)
    session.command(LoadPoint(concurrency=8))
    session.run_until(session.now_s + 12)
    for _ in range(3):
        session.run_until(session.now_s + 1)
        shown = assess(session.facts, session.meta, Slo(), now_s=session.now_s, previous=shown, full=False)
    assert not shown.overloaded
    assert shown.cliff.kind is Kind.CLIFF, "what was learned stays"


def test_other_lengths_start_a_new_curve_and_leave_a_ghost(ramp):
    session = driven([(4, 10), (8, 10), (16, 10)])
    for users in (4, 8):
        session.command(LoadPoint(concurrency=users, prompt_tokens=400))
        session.run_until(session.now_s + 12)
    requests = finished_requests(session.facts)
    old, new = measured_curves(session.facts, session.meta, requests, session.now_s)
    assert (old.label, new.label) == ("192/64 tok", "400/64 tok")
    assert [round(level.load) for level in new.levels] == [4, 8]
    found = assess(session.facts, session.meta, Slo(), now_s=session.now_s)
    assert [curve.ghost for curve in found.curves] == [True, False]
    session.command(LoadPoint(concurrency=8))
    session.run_until(session.now_s + 5)
    back = measured_curves(session.facts, session.meta, finished_requests(session.facts), session.now_s)
    assert back[-1].label == "192/64 tok", "an earlier configuration goes on where it was"
    assert len(back[-1].levels) >= 3


@pytest.mark.parametrize(
    ("change", "curves"),
    [({}, 1), ({"max_num_seqs": 64}, 2), ({"requests_total": 0}, 2), ({"process_start_s": 99.0}, 2)],
)
def test_only_a_changed_or_restarted_server_starts_a_new_curve(change: dict[str, float], curves: int) -> None:
    session = driven([(4, 10), (8, 10)])
    facts, now_s = session.facts, session.now_s
    config = load_preset("laptop").config
    known = {
        "running": 8,
        "max_num_seqs": config.max_num_seqs,
        "num_gpu_blocks": config.num_gpu_blocks,
        "block_size": config.block_size,
        "requests_total": session.finished,
        "process_start_s": 1.0,
    }
    facts.extend(FactBatch(t_s=now_s, server=(ServerSnapshot(t_s=now_s - 0.2, **known),)))
    facts.extend(FactBatch(t_s=now_s, server=(ServerSnapshot(t_s=now_s, **{**known, **change}),)))
    found = measured_curves(facts, session.meta, finished_requests(facts), now_s)
    assert len(found) == curves
    assert (found[-1].levels == ()) is (curves == 2), "a new curve starts empty, the old one goes on"


def test_without_gauges_the_client_alone_finds_the_cliff():
    session = driven(RAMP, gauges=False, seed=1)
    found = assess(session.facts, session.meta, Slo(), now_s=session.now_s)
    assert found.cliff.at == pytest.approx(32, rel=0.1)
    assert found.cliff.cause is Bound.QUEUE
    assert "no server gauges" in " ".join(found.cliff.evidence)
    assert found.overloaded, "first tokens alone show it, against the lowest level"


def test_nothing_yet():
    found = assess(Facts(), meta_of(), Slo(), now_s=0.0)
    assert found.cliff.kind is Kind.INSUFFICIENT
    assert found.cliff.next_levels == (4, 8)
    assert found.headline


def test_a_finished_run_is_held_against_its_slo_as_a_whole(ramp):
    held = msgspec.structs.replace(ramp.meta.profile, question=Question.HOLD)
    driven = Facts.of([*ramp.batches, FactBatch(t_s=ramp.facts.t_s)])
    driven.changes = [msgspec.structs.replace(change, reason="stage") for change in driven.changes]
    ended = msgspec.structs.replace(ramp.meta, ended_s=ramp.now_s, profile=held)
    found = assess(driven, ended, parse_slo("ttft_p95<10s"), now_s=ramp.now_s)
    assert found.slo.ok is True
    assert found.slo.targets[0].n == ramp.finished
    assert found.diagnosis.bound is Bound.QUEUE


def test_steps_mean_and_bounds_are_exact():
    rng = np.random.default_rng(0)
    start_s, length_s = np.sort(rng.uniform(0, 100, 60)), rng.uniform(1, 10, 60)
    steps = StepFunction.of_intervals(start_s, start_s + length_s)
    grid = np.linspace(20, 30, 20001)
    values = steps.at(grid)
    low, high = steps.bounds(np.array([20.0]), np.array([30.0]))
    assert (low[0], high[0]) == (values.min(), values.max())
    assert steps.mean(np.array([20.0]), np.array([30.0]))[0] == pytest.approx(values.mean(), rel=1e-2)


def test_open_loop_windows_in_which_a_queue_drains_are_left_out():
    """Rate 5, then 12 against a capacity of 10, then 5 again: only the first 5 counts until the queue is gone."""
    t_s = np.arange(1, 181, dtype=float)
    rate = np.where((t_s > 60) & (t_s <= 120), 12.0, 5.0)
    backlog = np.clip(np.cumsum(rate - 10.0), -1e9, None)
    queue = np.maximum.accumulate(np.where(t_s <= 60, 0, 0)) + np.zeros_like(t_s)
    level = 0.0
    for i in range(len(t_s)):
        level = max(0.0, level + rate[i] - 10.0)
        queue[i] = level
    del backlog
    sent_s = np.concatenate([np.linspace(i, i + 1, int(r), endpoint=False) for i, r in enumerate(rate)])
    ttft_s = 0.1 + np.interp(sent_s, t_s, queue) / 10.0
    n = len(sent_s)
    requests = Requests(
        sent_s,
        sent_s + ttft_s,
        sent_s + ttft_s + 1,
        ttft_s,
        np.full(n, 0.01),
        ttft_s + 1,
        np.ones(n, dtype=bool),
        np.zeros(n, dtype=bool),
        np.full(n, 100.0),
        np.full(n, 100.0),
    )
    done = np.where(queue > 0, 10.0, rate)
    levels = rate_levels(
        requests,
        Offered(t_s, np.ones_like(t_s), rate, queue + rate),
        progress=Progress(t_s, np.ones_like(t_s), done, done * 100),
    )
    assert [level.load for level in levels] == pytest.approx([5.0, 12.0], rel=0.05)
    slow = levels[0].ttft_s > 1.0
    assert slow.mean() < 0.1
    assert levels[1].requests_per_s == pytest.approx(10.0, rel=0.05)


def verdict(kind: Kind, at: float | None = None, half: float = 2.0) -> CliffVerdict:
    if at is None:
        return CliffVerdict(kind=kind)
    return CliffVerdict(kind=kind, at=at, low=at - half, high=at + half)


def test_a_shown_verdict_changes_only_when_two_computations_agree():
    none, cliff = verdict(Kind.NONE), verdict(Kind.CLIFF, 32.0)
    assert settled(none, none, cliff) is none
    assert settled(none, cliff, cliff) is cliff
    moved, far, sharp = verdict(Kind.CLIFF, 33.0), verdict(Kind.CLIFF, 40.0), verdict(Kind.CLIFF, 33.0, half=0.9)
    assert settled(cliff, cliff, moved).at == 32.0
    assert settled(cliff, cliff, far).at == 40.0
    assert settled(cliff, cliff, sharp).at == 33.0
    assert settled(verdict(Kind.INSUFFICIENT), none, cliff) is cliff
