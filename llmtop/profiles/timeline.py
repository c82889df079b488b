"""A run driven by hand, as a profile that repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from msgspec import structs

from llmtop.domain.load import Caps, LoadPlan, Replay, Stage
from llmtop.domain.profile import Profile
from llmtop.domain.run import LoadChange, RunMeta
from llmtop.profiles.asking import without_time
from llmtop.wording.figures import TEXT

RECOVER_WITHIN_S = Profile(name="").recover_within_s
"""Of a profile that names none."""
TAIL_S = 10.0
"""How long the last load is held when the run was cut off and its end is not known."""


def profile_from_run(meta: RunMeta, changes: Sequence[LoadChange]) -> Profile:
    """The profile that drives the next configuration as this run was driven.

    A run that followed its plan to the end gives its own profile back. Any other becomes one replay stage: the
    commanded load over time, whether a hand, a stage or a brake commanded it; what its plan asked is asked no more.
    """
    profile = meta.profile
    planned_s = profile.plan.duration_s
    if planned_s and all(change.reason == "stage" or change.t_s >= planned_s for change in changes):
        seen = profile if without_time(profile) is None else structs.replace(profile, recover_within_s=RECOVER_WITHIN_S)
        return structs.replace(seen, caps=_with_room(profile.caps, profile.plan))
    points = [(0.0, profile.plan.base), *((max(0.0, change.t_s), change.point) for change in changes)]
    held = [point for place, point in enumerate(points) if place + 1 == len(points) or points[place + 1][0] > point[0]]
    last_s = held[-1][0]
    duration_s = meta.ended_s if meta.ended_s is not None and meta.ended_s > last_s else last_s + TAIL_S
    stage = Stage(name="replay", duration_s=duration_s, shape=Replay(tuple(held)))
    plan = LoadPlan(stages=(stage,), base=held[0][1])
    label = meta.label or f"{meta.endpoint.model or profile.name} by hand"
    return structs.replace(
        profile,
        name=label,
        description=f"The load of a run of {TEXT.duration(round(duration_s))}, as it was driven by hand.",
        plan=plan,
        question=None,
        peak=None,
        peak_from_slots=False,
        at_least=None,
        recover_within_s=RECOVER_WITHIN_S,
        caps=_with_room(profile.caps, plan),
    )


def _with_room(caps: Caps, plan: LoadPlan) -> Caps:
    """Caps that allow what was commanded: a run that was cut by its caps is repeated as it was asked for."""
    top = ceil(max(plan.users, plan.base.concurrency or 0))
    return caps if top <= caps.max_concurrency else structs.replace(caps, max_concurrency=top)
