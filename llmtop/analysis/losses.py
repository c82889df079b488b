"""Replicas that went though nobody wanted fewer: which, and when as many were ready again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from msgspec import structs

from llmtop.domain.replicas import ReplicaCounts
from llmtop.domain.run import ScaleStep
from llmtop.domain.scaling import Scaling

TOGETHER_S = 10.0
"""Those that go within so long of each other are one loss."""
UNWANTED_S = 3.0
"""What is wanted and what is ready are asked of two who may answer a look apart: fewer that are wanted so soon after
were not lost."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Fewer ready replicas than are wanted, and than there were."""

    first: ScaleStep
    last: ScaleStep
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class _Ready:
    """Who is ready after the steps of one look."""

    step: ScaleStep
    """The last of them."""
    desired: int | None
    count: int
    names: frozenset[str]


def losses_of(steps: Sequence[ScaleStep]) -> list[Loss]:
    """All losses of a deployment of which somebody tells what is wanted; a replica that another takes the place of
    within one look is none.
    """
    found: list[Loss] = []
    looks = _looks(steps)
    for was, now in pairwise(looks):
        if now.desired is None or not now.count < min(was.count, now.desired) or _soon_unwanted(now, looks):
            continue
        last = found[-1] if found else None
        if last is not None and now.step.t_s - last.last.t_s < TOGETHER_S and last.after == was.count:
            found[-1] = replace(last, last=now.step, after=now.count)
        else:
            found.append(Loss(now.step, now.step, was.count, now.count))
    return found


def named(lost: Scaling, last_s: float, steps: Sequence[ScaleStep]) -> Scaling:
    """A loss with the names of those that went, when as many were ready again, and who came if not they.

    Args:
        last_s: when the last of them went.
    """
    looks = _looks(steps)
    before = next((each.names for each in reversed(looks) if each.step.t_s < lost.from_s), frozenset())
    left = next((each.names for each in reversed(looks) if each.step.t_s <= last_s), frozenset())
    back = next((each for each in looks if each.step.t_s > last_s and each.count >= lost.before), None)
    went = before - left
    lost = structs.replace(lost, names=tuple(sorted(went)))
    if back is None:
        return lost
    others = () if went <= back.names else tuple(sorted(back.names - left - went))
    return structs.replace(lost, ready_s=back.step.t_s - lost.from_s, instead=others)


def _soon_unwanted(now: _Ready, looks: Sequence[_Ready]) -> bool:
    later = (each for each in looks if 0 < each.step.t_s - now.step.t_s <= UNWANTED_S)
    return any(each.desired is not None and each.desired <= now.count for each in later)


def _looks(steps: Sequence[ScaleStep]) -> list[_Ready]:
    counts, found = ReplicaCounts(), []
    for _, alike in groupby(steps, key=lambda step: step.t_s):
        for step in alike:
            counts.take(step)
        found.append(_Ready(step, counts.desired, counts.ready, counts.ready_names))
    return found
