"""What a deployment did about the load: when more replicas were decided, created, ready and serving, what was missed
until then, and what would have been enough.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from msgspec.structs import replace

from llmtop.analysis import headroom
from llmtop.analysis.debt import Debt, debt_of, sent_left_out_s
from llmtop.analysis.headroom import Fleet
from llmtop.analysis.losses import losses_of, named
from llmtop.analysis.saturated import fleet_of, queue_for_each, reaction_s
from llmtop.analysis.sessions import Requests
from llmtop.analysis.spikes import BACK, JUMP
from llmtop.domain.over_time import Recovery
from llmtop.domain.run import LoadChange, ScaleKind, ScaleStep
from llmtop.domain.scaling import ReplicaStep, Scaling
from llmtop.domain.slo import Slo
from llmtop.meter.facts import Facts
from llmtop.wording import scaled as words
from llmtop.wording.over_time import LEFT_OUT

ONE_MOVE_S = 10.0
"""Smaller moves of the load in one direction that follow each other sooner are one: a ramp."""
_FORESEEN = ("queue", "threshold", "keep", "advice")
_CAME: tuple[ReplicaStep, ...] = get_args(ReplicaStep)


@dataclass(frozen=True, slots=True)
class Move:
    """The load rose or fell: from when on, between what, and until it moved again so much."""

    at_s: float
    base: float
    to: float
    until_s: float = math.inf
    back_s: float = math.inf
    """Of a rise: when the load was again where it had been."""

    @property
    def up(self) -> bool:
        return self.to > self.base


def moves_of(changes: Sequence[LoadChange], spikes: Sequence[float] = ()) -> tuple[Move, ...]:
    """Rises by half, and falls to as much less, of the commanded load; a ramp of small steps is one.

    Args:
        spikes: when spikes of the load began, which are rises however small.
    """
    found: list[Move] = []
    value, axis, last_s = 0.0, "", -math.inf
    for change in changes:
        before = value if change.point.axis == axis else 0.0
        value, axis = change.point.value, change.point.axis
        if value == before:
            continue
        jumps = max(value, before) >= JUMP * min(value, before) or change.t_s in spikes
        soon = change.t_s - last_s < ONE_MOVE_S and not jumps
        runs_on = soon and bool(found) and found[-1].up == (value > before)
        if runs_on:
            found[-1] = Move(found[-1].at_s, found[-1].base, value)
        else:
            found.append(Move(change.t_s, before, value))
        last_s = change.t_s
    kept = [each for each in found if max(each.base, each.to) >= JUMP * min(each.base, each.to) or each.at_s in spikes]
    ends = [*(each.at_s for each in kept[1:]), math.inf]
    return tuple(_followed(each, ends[i], changes) for i, each in enumerate(kept))


def _followed(move: Move, until_s: float, changes: Sequence[LoadChange]) -> Move:
    most = (1 + BACK) * move.base
    back = (each.t_s for each in changes if each.t_s > move.at_s and each.point.value <= most)
    return Move(move.at_s, move.base, move.to, until_s, next(back, math.inf) if move.up else math.inf)


@dataclass(slots=True)
class _Group:
    """Decisions in one direction about one move of the load."""

    move: Move | None
    before: int
    after: int
    steps: list[ScaleStep] = field(default_factory=list)
    until_s: float = math.inf
    """When something else was decided; of replicas that were lost, or the load moved."""
    lost: bool = False

    @property
    def from_s(self) -> float:
        return self.steps[0].t_s if self.move is None else self.move.at_s


def scalings_of(
    facts: Facts,
    slo: Slo,
    requests: Requests,
    recoveries: Sequence[Recovery],
    now_s: float,
    previous: Sequence[Scaling] = (),
) -> tuple[Scaling, ...]:
    """What the deployment did so far; () where none of its steps is known.

    Args:
        requests: from `finished_requests`.
        recoveries: from the spikes of the same run, whose SLO debt is that of what was done about them.
        previous: what was said of the same run before: of what has not changed since nothing is foreseen anew.
    """
    steps = tuple(facts.scaling)
    spikes = {each.up_s: each for each in recoveries}
    moves = moves_of(tuple(facts.changes), tuple(spikes))
    found = []
    groups = [*_groups(steps, moves), *_lost(steps, moves)]
    for group in sorted(groups, key=lambda group: group.from_s):
        if group.after > group.before and group.move is None:
            continue
        told = _told(group, steps, now_s)
        spike = spikes.get(told.from_s) if told.up else None
        until_s = _until_s(told, group, spike, now_s)
        debt = _debt(told, spike, facts, requests, slo, until_s)
        if debt is not None:
            told = replace(told, debt_s=debt.seconds, missed=debt.missed, n=debt.n, left_out=debt.left_out)
        known = next((each for each in previous if _same(each, told)), None)
        if known is not None:
            told = replace(told, **{name: getattr(known, name) for name in _FORESEEN})
        else:
            told = _advised(told, group, facts, slo, requests, until_s)
        found.append(words.scaled(told))
    return tuple(found)


def _same(before: Scaling, now: Scaling) -> bool:
    """Whether nothing has come of a scaling since it was told: no step, and no request."""
    later = (*_FORESEEN, "seen_s", "text")
    return all(getattr(before, name) == getattr(now, name) for name in now.__struct_fields__ if name not in later)


def _groups(steps: Sequence[ScaleStep], moves: Sequence[Move]) -> list[_Group]:
    """Decisions in one direction about one move are one; where nobody tells what is wanted, what is ready is.

    Those that go then though the load did not fall last are lost, and what comes in their place is no decision.
    """
    wanted: ScaleKind = "desired" if any(each.kind == "desired" for each in steps) else "ready"
    if not any(each.kind == wanted for each in steps):
        wanted = "serving"
    kinds = (wanted,) if wanted == "desired" else (wanted, "gone")
    groups: list[_Group] = []
    count: int | None = None
    for step in steps:
        if step.kind not in kinds:
            continue
        before, count = count, step.replicas
        if step.since or before == count:
            continue
        before = _before(step, steps) if before is None else before
        up = count > before
        earlier = [each for each in moves if each.at_s <= step.t_s]
        move = next((each for each in reversed(earlier) if each.up == up), None)
        lost = wanted != "desired" and not up and (not earlier or earlier[-1].up)
        group = _Group(None if lost else move, before, count, [step], lost=lost)
        last = groups[-1] if groups else None
        if last is not None and _goes_on(last, group):
            last.after = count
            last.steps.append(step)
            continue
        if last is not None:
            last.until_s = min(last.until_s, step.t_s)
            if last.lost and up and count <= last.before and (move is None or move.at_s < last.from_s):
                continue
        if lost:
            group.until_s = next((each.at_s for each in moves if each.at_s > step.t_s), math.inf)
        groups.append(group)
    return groups


def _lost(steps: Sequence[ScaleStep], moves: Sequence[Move]) -> list[_Group]:
    """Losses where somebody tells what is wanted; each is about itself until the load moves."""
    found = []
    for loss in losses_of(steps):
        until_s = next((each.at_s for each in moves if each.at_s > loss.first.t_s), math.inf)
        found.append(_Group(None, loss.before, loss.after, [loss.first, loss.last], until_s, lost=True))
    return found


def _goes_on(last: _Group, group: _Group) -> bool:
    """Whether a decision is one more of a group."""
    alike = (last.move, last.lost, last.after > last.before) == (group.move, group.lost, group.after > group.before)
    soon = not group.lost or group.from_s - last.steps[-1].t_s < ONE_MOVE_S
    return alike and soon and group.before == last.after


def _before(step: ScaleStep, steps: Sequence[ScaleStep]) -> int:
    """How many there were before the first step that is known of: those that were ready, else one fewer."""
    ready = [each.replicas for each in steps if each.kind in ("ready", "serving") and each.t_s < step.t_s]
    return ready[-1] if ready else max(0, step.replicas - 1) if step.kind != "gone" else step.replicas + 1


def _reached_s(steps: Sequence[ScaleStep], kind: ScaleKind, count: int, from_s: float, until_s: float) -> float | None:
    """When so many were created, ready or serving."""
    return next((s.t_s for s in steps if s.kind == kind and s.replicas >= count and from_s <= s.t_s <= until_s), None)


def _told(group: _Group, steps: Sequence[ScaleStep], now_s: float) -> Scaling:
    """The times of its steps, of the last replica."""
    from_s, until_s = group.from_s, min(group.until_s, now_s)

    def after(at_s: float | None) -> float | None:
        return None if at_s is None else at_s - from_s

    decided = group.steps[0]
    told = Scaling(
        from_s=from_s,
        before=group.before,
        after=group.after,
        decided_s=after(decided.t_s) if decided.kind == "desired" else None,
        seen_s=until_s - from_s,
        lost=group.lost,
    )
    if told.up:
        created_s, ready_s, serving_s = (
            after(_reached_s(steps, kind, group.after, decided.t_s, until_s)) for kind in _CAME
        )
        told = _with_missing(replace(told, created_s=created_s, ready_s=ready_s, serving_s=serving_s), steps)
    else:
        fewer = (s.t_s for s in steps if s.kind == "gone" and s.replicas <= group.after and s.t_s >= decided.t_s)
        told = replace(told, gone_s=after(next(fewer, None)))
        told = named(told, group.steps[-1].t_s, steps) if group.lost else told
    back_s = math.inf if group.move is None else group.move.back_s
    came_s = told.serving_s if told.serving_s is not None else told.ready_s
    if told.up and came_s is not None and from_s + came_s > back_s:
        told = replace(told, late_s=from_s + came_s - back_s)
    return told


def _until_s(told: Scaling, group: _Group, spike: Recovery | None, now_s: float) -> float:
    """To when the SLO debt is counted: until all was as before a spike, or as many were ready as before a loss, else
    until the load or the deployment moved.
    """
    if spike is not None:
        return now_s if spike.end_s is None else spike.end_s
    rise_s = math.inf if group.move is None else group.move.until_s
    if told.lost and told.ready_s is not None:
        rise_s = told.from_s + told.ready_s
    return min(now_s, rise_s if group.after > group.before else min(rise_s, group.until_s))


def _debt(
    told: Scaling, spike: Recovery | None, facts: Facts, requests: Requests, slo: Slo, until_s: float
) -> Debt | None:
    if spike is not None:
        return None if spike.debt_s is None else Debt(spike.debt_s, spike.missed or 0, spike.n or 0, spike.left_out)
    begun_s = told.from_s if told.up else told.from_s + (told.decided_s or 0.0)
    return debt_of(requests, slo, begun_s, until_s, sent_left_out_s(facts))


def _with_missing(told: Scaling, steps: Sequence[ScaleStep]) -> Scaling:
    """With what did not come. What nobody tells of any replica is not missing."""
    for kind in _CAME:
        counts = [each.replicas for each in steps if each.kind == kind and each.t_s <= told.from_s + told.seen_s]
        later = (getattr(told, f"{each}_s") for each in _CAME[_CAME.index(kind) :])
        if counts and all(at_s is None for at_s in later):
            return replace(told, missing=kind, came=counts[-1])
    return told


def _advised(told: Scaling, group: _Group, facts: Facts, slo: Slo, requests: Requests, until_s: float) -> Scaling:
    """With the queue at the decision and with what the twin says would have been enough."""
    if not told.up:
        return told
    decided_s = None if told.decided_s is None else told.from_s + told.decided_s
    queue = None if decided_s is None else queue_for_each(facts, decided_s, told.before)
    told = replace(told, queue=queue)
    if not told.debt_s:
        return told
    if told.left_out > LEFT_OUT * (told.n or 0):
        return replace(told, advice=words.not_foreseen(words.DEBT_OPEN))
    serve_s = _serve_s(told, group, facts.scaling)
    fleet = fleet_of(facts, slo, requests, told, serve_s, until_s)
    if isinstance(fleet, str):
        return replace(told, advice=words.not_foreseen(fleet))
    fleet, foreseen_s = _as_measured(fleet, group.steps[0].t_s - told.from_s, told, requests)
    if not headroom.reproduces(foreseen_s, told.debt_s):
        return replace(told, advice=words.not_foreseen(words.not_reproduced(foreseen_s, told.debt_s)))
    threshold, delay_s = None, 0.0
    if queue is not None and decided_s is not None and serve_s:
        delay_s = reaction_s(facts, told, queue)
        threshold = headroom.highest_threshold(fleet, queue, delay_s)
    told = replace(told, threshold=threshold, keep=headroom.fewest_kept(fleet, queue, delay_s))
    return replace(told, advice=words.enough(told, serve_s[-1] if serve_s and queue is not None else None))


def _as_measured(fleet: Fleet, decided_s: float, told: Scaling, requests: Requests) -> tuple[Fleet, float]:
    """The twin with its queues as they must be, and the debt that it foresees of what was done.

    Requests that had not ended are in no debt: the comparison goes as far as the last that had.
    """
    sent_s = requests.sent_s[requests.sent_s < told.from_s + fleet.until_s]
    until_s = min(fleet.until_s, float(sent_s.max(initial=told.from_s)) - told.from_s + headroom.STEP_S)
    both = (fleet, dataclasses.replace(fleet, shared=False))
    debts_s = [dataclasses.replace(each, until_s=until_s).missed_s(decided_s=decided_s) for each in both]
    nearest = min((0, 1), key=lambda i: abs(debts_s[i] - (told.debt_s or 0.0)))
    return both[nearest], debts_s[nearest]


def _serve_s(told: Scaling, group: _Group, steps: Sequence[ScaleStep]) -> tuple[float, ...]:
    """After the first decision, when each further replica served; where nobody tells of serving, was ready."""
    kind: ScaleKind = "serving" if any(each.kind == "serving" for each in steps) else "ready"
    begun_s, until_s = group.steps[0].t_s, told.from_s + told.seen_s
    counts = range(told.before + 1, told.after + 1)
    at_s = [_reached_s(steps, kind, count, begun_s, until_s) for count in counts]
    return tuple(each - begun_s for each in at_s if each is not None)
