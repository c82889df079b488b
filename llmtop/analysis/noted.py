"""What is said beside a verdict: what its figures rest on, what happened, and what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmtop.analysis.case import Case
from llmtop.analysis.cut import Cut
from llmtop.analysis.diagnosis import trust_notes
from llmtop.analysis.falls import restarts_of
from llmtop.analysis.readings import unseen_limits
from llmtop.analysis.segments import chapter_notes
from llmtop.analysis.soak import replicas
from llmtop.domain.kinds import KindFigures
from llmtop.domain.over_time import Drift
from llmtop.domain.profile import Question
from llmtop.meter.facts import Facts
from llmtop.wording.between import buffered, prompts_cut_by
from llmtop.wording.failures import failure_seen
from llmtop.wording.gate import gate_idle
from llmtop.wording.over_time import part
from llmtop.wording.restarts import restart_note
from llmtop.wording.sentences import sentence

TOLD_FAILURES = 3
"""Kinds of failures among the notes; `failures` has them all."""


def path_note(case: Case) -> str:
    """What the path does to the answers; empty: nothing."""
    return "" if case.arrival is None else buffered(case.whole)


def notes_of(case: Case, cut: Cut | None, kinds: Sequence[KindFigures], drifts: Sequence[Drift]) -> Iterator[str]:
    """What spoils figures comes first, then what was seen of client and server, then what failed, then when."""
    facts, meta = case.facts, case.meta
    yield from filter(None, (path_note(case),))
    if cut is not None:
        yield prompts_cut_by(cut.used, cut.sent, case.table.advice.max_model_len)
    yield from trust_notes(case.recent)
    yield from _idle(case)
    yield from (restart_note(each.text, each.t_s) for each in restarts_of(facts)[-1:])
    yield from chapter_notes(facts, meta)
    yield from replicas(facts)
    yield from _in_turn(facts)
    if case.over:
        yield from unseen_limits(facts, meta, case.whole_slo)
    yield from (sentence(each.alone) for each in kinds if each.alone)
    yield from map(failure_seen, facts.failures.groups()[:TOLD_FAILURES])
    if meta.profile.asks is Question.SOAK or any(each.significant for each in drifts):
        yield from filter(None, (part(drifts, case.now_s),))


def _idle(case: Case) -> Iterator[str]:
    """That a gate holds nothing back, where the server has no more slots than it lets through."""
    gate, slots = case.point.gate, case.limits.own_slots
    if gate is not None and slots is not None and slots <= gate:
        yield gate_idle(gate, slots)


def _in_turn(facts: Facts) -> tuple[str, ...]:
    """What was said when several servers were found to answer in turn."""
    since_s = facts.in_turn_s
    said = [] if since_s is None else [each for each in facts.events if each.kind == "server" and each.t_s >= since_s]
    return tuple(each.text for each in said if each.severity == "warning")[:1]
