"""The parts of a plan that are judged each by itself: its configurations, and the loads that it holds.

Users and requests/s have no scale in common, nor have prompts of 200 and of 2 000 tokens: what a server carries of one
says nothing of the other. And many requests of a calm hour do not make up for the few of a peak that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.segments import asked_for
from llmtop.analysis.sessions import Mask
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Replay, Sine, Steps
from llmtop.domain.run import LoadChange

BORDER_S = 0.3
"""Before the end of a part: a load is commanded at its time, and told at the next tick of the session, of 0.25 s."""


@dataclass(slots=True)
class Part:
    """What was commanded in these times: loads of one configuration, or one load of it."""

    point: LoadPoint
    """The last of them."""
    low: float = np.inf
    top: float = 0.0
    """The lowest and the highest of them."""
    spans: list[tuple[float, float]] = field(default_factory=list)
    """From the first instant on, to before the second; what follows at once is another's."""

    @property
    def key(self) -> tuple[object, ...]:
        """Its configuration."""
        return asked_for(self.point)

    def during(self, t_s: Array) -> Mask:
        """Which instants lie in it."""
        inside = np.zeros(len(t_s), dtype=bool)
        for start_s, stop_s in self.spans:
            inside |= (t_s >= start_s) & (t_s < stop_s - BORDER_S)
        return inside


def configurations(changes: Sequence[LoadChange], plan: LoadPlan) -> tuple[Part, ...]:
    """One part for each configuration that a plan drove, in the order in which they came first.

    What only repeats the moves of a hand asks nothing of where it passes: the configuration that it ends in counts.
    """
    asked = {
        asked_for(change.point)
        for change in changes
        if change.reason == "stage"
        and any(stage.name == change.stage for stage in plan.stages if not isinstance(stage.shape, Replay))
    }
    parts = _grouped(changes, lambda change: asked_for(change.point))
    last = asked_for(changes[-1].point) if changes else None
    return tuple(part for part in parts if part.key in asked or (asked and part.key == last))


def held_loads(changes: Sequence[LoadChange], plan: LoadPlan) -> tuple[Part, ...]:
    """One part for each load that stages hold, and for each stage of steps or of a swing, whose loads belong together.

    Ramps, spikes and replays are none: they go through loads.
    """

    def key(change: LoadChange) -> Hashable:
        shapes = [stage.shape for stage in plan.stages if stage.name == change.stage and change.reason == "stage"]
        if any(isinstance(shape, Hold) and _holds(shape, change.point) for shape in shapes):
            return asked_for(change.point), change.point.value
        if any(isinstance(shape, Steps | Sine) for shape in shapes):
            return asked_for(change.point), change.stage
        return None

    return _grouped(changes, key)


def _grouped(changes: Sequence[LoadChange], key: Callable[[LoadChange], Hashable]) -> tuple[Part, ...]:
    """Parts by the key of their changes; without those of no load and of no key."""
    parts: dict[Hashable, Part] = {}
    stops_s = [*(change.t_s for change in changes[1:]), np.inf]
    for change, stop_s in zip(changes, stops_s, strict=bool(changes)):
        own = key(change) if change.point.value > 0 else None
        if own is None:
            continue
        part = parts.setdefault(own, Part(change.point))
        part.point = change.point
        part.low, part.top = min(part.low, change.point.value), max(part.top, change.point.value)
        if part.spans and part.spans[-1][1] == change.t_s:
            part.spans[-1] = (part.spans[-1][0], stop_s)
        else:
            part.spans.append((change.t_s, stop_s))
    return tuple(parts.values())


def _holds(shape: Hold, point: LoadPoint) -> bool:
    return point.value == (shape.concurrency if point.axis == "concurrency" else shape.rate_rps)
