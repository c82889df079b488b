"""A run at rest: nothing is driven any more, and what was found is to be read."""

from __future__ import annotations

from msgspec.structs import replace

from llmtop.domain.frame import Frame, Timeline
from llmtop.view.condition import Condition

LULL_S = 5.0
"""So long after its last request charts go on, to show the end of the load; then they hold it."""


def at_rest(frame: Frame, condition: Condition) -> bool:
    """Whether something was driven and nothing is: a search or a plan is over, the load was stopped, a replay ended."""
    if frame.totals.sent == 0 or condition.note is not None:
        return False
    if frame.replay is not None:
        return frame.finished
    return condition.lost is not None or (frame.target.value == 0 and frame.stage is None)


class HeldCharts:
    """Remembers what the charts of a run at rest show: its end is held instead of scrolled out."""

    def __init__(self) -> None:
        self._held: Timeline | None = None

    def see(self, frame: Frame, resting: bool) -> Frame:
        """The frame with the timeline to draw."""
        if not resting or frame.replay is not None or frame.in_flight:
            self._held = None
        elif self._held is None and _since_last_request_s(frame.timeline) >= LULL_S:
            self._held = frame.timeline
        return frame if self._held is None else replace(frame, timeline=self._held)


def _since_last_request_s(timeline: Timeline) -> float:
    """Without any request in the timeline 0: there is no end to hold."""
    busy = [i for i, count in enumerate(timeline.in_flight) if count]
    return (len(timeline.in_flight) - 1 - busy[-1]) * timeline.step_s if busy else 0.0
