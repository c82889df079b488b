"""A run driven by hand, as a profile that repeats it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import ceil

from msgspec import structs

from llmtop.domain.load import Caps, LoadPlan, LoadPoint, Replay, Stage
from llmtop.domain.profile import Profile
from llmtop.domain.run import Chapter, LoadChange, RunMeta
from llmtop.profiles.asking import without_time
from llmtop.wording.figures import TEXT

RECOVER_WITHIN_S = Profile(name="").recover_within_s
"""Of a profile that names none."""
TAIL_S = 10.0
"""How long the last load is held when the run was cut off and its end is not known."""
_FIGURE = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?", re.ASCII)
HOLD_S = 60.0
"""What a level needs: to settle after a move, and 59 requests of a few seconds for a p95 that is known. A hand that
held one for longer was looking at the screen."""
PAUSE_S = 10.0
"""The same of no load: the server has drained by then."""


def profile_from_run(meta: RunMeta, changes: Sequence[LoadChange], chapters: Sequence[Chapter] = ()) -> Profile:
    """The profile that drives the next configuration as this run was driven.

    A run that followed its plan to the end gives its own profile back. Any other becomes one replay stage: the
    commanded loads in their order, whether a hand, a stage or a brake commanded them, at whole seconds and none for
    longer than it needs; what its plan asked is asked no more. Knobs of the simulated engine that were turned stay so.
    """
    preset, knobs = simulated_by(meta, chapters)
    profile = structs.replace(meta.profile, preset=preset, knobs=knobs) if knobs else meta.profile
    planned_s = profile.plan.duration_s
    if planned_s and all(change.reason == "stage" or change.t_s >= planned_s for change in changes):
        seen = profile if without_time(profile) is None else structs.replace(profile, recover_within_s=RECOVER_WITHIN_S)
        return structs.replace(seen, caps=_with_room(profile.caps, profile.plan))
    points, duration_s = _held(meta, changes)
    stage = Stage(name="replay", duration_s=duration_s, shape=Replay(points))
    first = points[0][1]
    gated = all(point.gate == first.gate for _, point in points)
    plan = LoadPlan(stages=(stage,), base=first if gated else structs.replace(first, gate=None))
    label = meta.label or f"{meta.endpoint.model or profile.name} by hand"
    return structs.replace(
        profile,
        name=label,
        description=f"The loads of a run as it was driven by hand, each held for {TEXT.duration(HOLD_S)} at most.",
        plan=plan,
        question=None,
        peak=None,
        peak_from_slots=False,
        at_least=None,
        recover_within_s=RECOVER_WITHIN_S,
        caps=_with_room(profile.caps, plan),
    )


def _held(meta: RunMeta, changes: Sequence[LoadChange]) -> tuple[tuple[tuple[float, LoadPoint], ...], float]:
    """The loads that stood for a second or more, each with its beginning, and how long all of it lasts."""
    moves = [(0, meta.profile.plan.base), *((round(max(0.0, change.t_s)), change.point) for change in changes)]
    last_s = moves[-1][0]
    ended = meta.ended_s is not None and round(meta.ended_s) > last_s
    end_s = round(meta.ended_s) if ended and meta.ended_s is not None else last_s + round(TAIL_S)
    if changes and changes[-1].reason == "stop" and any(at_s < last_s for at_s, _ in moves):
        end_s = last_s  # the load's end is the profile's
    stood: list[tuple[LoadPoint, float]] = []
    for place, (began_s, point) in enumerate(moves):
        lasted_s = (moves[place + 1][0] if place + 1 < len(moves) else end_s) - began_s
        if stood and stood[-1][0] == point:
            stood[-1] = (point, stood[-1][1] + lasted_s)
        elif lasted_s > 0:
            stood.append((point, lasted_s))
    points: list[tuple[float, LoadPoint]] = []
    at_s = 0.0
    for point, held_s in stood or [(moves[-1][1], TAIL_S)]:
        points.append((at_s, point))
        at_s += min(held_s, HOLD_S if point.value else PAUSE_S)
    return tuple(points), at_s


def simulated_by(meta: RunMeta, chapters: Sequence[Chapter]) -> tuple[str | None, tuple[tuple[str, float], ...]]:
    """Preset of the simulated engine, and its knobs with a figure as they were set at the start and turned since."""
    if not meta.endpoint.simulated or meta.preset is None:
        return None, ()
    knobs = {name: float(value) for name, value in meta.settings if _FIGURE.fullmatch(value)}
    if chapters:
        from llmtop.simulator.engine import LIVE_KNOBS  # a session's process does without it

        told = dict(word.split("=", 1) for word in chapters[-1].key.split() if word.count("=") == 1)
        turned = {knob.name: told[knob.name] for knob in LIVE_KNOBS if told.get(knob.name, "").isdecimal()}
        knobs |= {name: float(value) for name, value in turned.items()}
    return meta.preset, tuple(knobs.items())


def _with_room(caps: Caps, plan: LoadPlan) -> Caps:
    """Caps that allow what was commanded: a run that was cut by its caps is repeated as it was asked for."""
    top = ceil(max(plan.users, plan.base.concurrency or 0))
    return caps if top <= caps.max_concurrency else structs.replace(caps, max_concurrency=top)
