"""A gate that is turned makes another server: what began to wait at the one of before tells nothing of this one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from facts_by_hand import bins_of, facts_of, record
from msgspec.structs import replace
from virtual import VirtualSession, meta_of

from llmtop.analysis.gate import configured_s
from llmtop.analysis.measured import Ledger, MeasuredCurve
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.recent import overloaded_now, recent_of
from llmtop.domain.assessment import Assessment
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Chapter
from llmtop.domain.samples import LoadBin, ServerSnapshot
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Bound
from llmtop.host.judging import Judge
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset

USERS, TURNED_S = 32, 20.0
OPEN, NARROW = LoadPoint(concurrency=USERS), LoadPoint(concurrency=USERS, gate=2)


def judged(session: VirtualSession, judge: Judge, seconds: float) -> Iterator[Assessment]:
    until_s = session.now_s + seconds
    while session.now_s < until_s:
        session.run_until(session.now_s + 0.25)
        yield judge(session.facts, session.meta)


def every_curve(facts: Facts, now_s: float) -> tuple[MeasuredCurve, ...]:
    return Ledger().curves(facts, meta_of(), finished_requests(facts), now_s, every=True)


@pytest.mark.parametrize("gauges", [True, False])
def test_a_server_that_is_never_slow_without_a_gate_is_not_called_slow_once_one_is_gone(gauges: bool) -> None:
    session = VirtualSession(load_preset("laptop"), OPEN, gauges=gauges)
    judge = Judge(Slo(parse_slo("ttft_p95<2s").targets), foresees=False)
    list(judged(session, judge, 10.0))
    session.command(NARROW)
    gated = list(judged(session, judge, 6.0))
    assert gated[-1].slo.ok is False
    assert gated[-1].overloaded is gauges
    session.command(OPEN)
    for told in judged(session, judge, 12.0):
        assert told.capacity.fails_at is None, told.headline
        assert "below" not in told.headline
        assert told.diagnosis.bound is not Bound.QUEUE
        assert told.slo.ok is not False
        assert not told.overloaded
    assert told.capacity.at_slo == USERS
    gate, _ = every_curve(session.facts, session.now_s)
    assert gate.left_out["other configuration"] >= USERS - 2, "those that the gate held last"


def held_then_free(chapter: bool) -> Facts:
    """Until 20 s a gate of 2, where each waits 6 s; from then on all are answered at once. It is 22 s."""
    old = [record(i / 4, ttft_s=6.0, e2e_s=7.0) for i in range(80)]
    new = [record(TURNED_S + i / 16, ttft_s=0.1, e2e_s=0.6) for i in range(20)]
    waiting = LoadBin(t_s=22.0, span_s=0.25, target=USERS, in_flight=USERS, prefilling=8, oldest_prefill_s=7.5)
    facts = facts_of(
        requests=[each for each in [*old, *new] if each.end_ns < 22e9],
        bins=[*bins_of(21.75, USERS), waiting],
        server=[ServerSnapshot(t_s=float(t), running=2, waiting=6 if chapter and t <= 20 else 0) for t in range(1, 23)],
        changes=[(0.0, NARROW), (TURNED_S, OPEN)] if not chapter else [(0.0, OPEN)],
    )
    if chapter:
        facts.chapters.append(Chapter(TURNED_S, "max_num_seqs=64", "max_num_seqs 64"))
    return facts


@pytest.mark.parametrize("chapter", [False, True])
def test_the_last_seconds_are_those_since_the_gate_or_a_knob_was_turned_and_of_requests_that_began_since(
    chapter: bool,
) -> None:
    facts = held_then_free(chapter)
    recent = recent_of(facts, finished_requests(facts), OPEN, 22.0)
    assert recent.ended is not None
    assert set(np.round(recent.ended.ttft_s, 6)) == {0.1}
    assert recent.waiting == recent.at_gate == recent.waiting_share == 0.0
    assert not overloaded_now(facts, finished_requests(facts), 0.1, 22.0, True, 0.5)


@pytest.mark.parametrize("chapter", [False, True])
def test_who_still_waits_is_in_a_level_only_if_he_began_in_its_configuration(chapter: bool) -> None:
    facts = held_then_free(chapter)
    level = every_curve(facts, 22.0)[-1].levels[0]
    assert level.censored_s.max() < 22.0 - TURNED_S


def test_a_request_that_a_narrower_gate_saw_end_tells_ttft_of_the_wide_one_and_nothing_after_it() -> None:
    """All in flight at 20 s have had their first token, and end three times as fast behind the gate."""
    calm = [record(i / 8, ttft_s=0.1, e2e_s=3.1) for i in range(150)]
    sped = [record(18.75 + i / 32, ttft_s=0.1, e2e_s=1.5) for i in range(32)]
    facts = facts_of(requests=[*calm, *sped], bins=bins_of(25, USERS), changes=[(0.0, OPEN), (TURNED_S, NARROW)])
    (level,) = every_curve(facts, 25.0)[0].levels
    assert level.samples("e2e").min() == pytest.approx(3.1)
    assert level.n > len(level.samples("e2e")) > 0


def test_since_when_the_configuration_stands_is_told_by_gates_of_loads_and_by_chapters() -> None:
    idle = replace(OPEN, concurrency=0)
    facts = facts_of(changes=[(0.0, OPEN), (5.0, NARROW), (6.0, replace(NARROW, concurrency=8)), (9.0, idle)])
    assert [configured_s(facts, t_s) for t_s in (4.0, 5.0, 7.0, 10.0)] == [-np.inf, 5.0, 5.0, 5.0]
    facts.chapters.append(Chapter(8.0, "x", "x"))
    assert [configured_s(facts, 7.0), configured_s(facts)] == [5.0, 8.0]
    assert configured_s(facts_of()) == -np.inf
