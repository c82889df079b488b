"""How the app itself stands, and what that makes of a frame."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from llmtop.domain.commands import Pilot
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.frame import Frame, Offer
from llmtop.domain.shown import Wheel
from llmtop.wording.wheel import lacking

SPANS_S = (30.0, 60.0, 120.0)
"""How much of the run all charts show: the least of these that holds it all, so that a young run fills its charts."""


class Condition(Struct, frozen=True):
    """How the app itself stands: what a frame cannot say."""

    frozen: bool = False
    lost: str | None = None
    """Why the session is gone."""
    over: bool = False
    """It is not lost: somebody else has ended the run, in order."""
    draining: bool = False
    silent_s: float = 0.0
    """Seconds without a new frame."""
    note: str | None = None
    """What steers in a hand's place, and how far it has come."""
    pilot: Pilot = "search"
    """Whose `note` it is."""
    offer: Offer | None = None
    """The load that Enter takes up again; None: Enter starts none of before."""
    late: bool = False
    """Whether the simulated engine is late, for so long that times tell more of this machine than of it."""
    wheel: Wheel = Wheel()

    @property
    def lacking(self) -> str:
        """Why this screen drives nothing, though the run goes on; empty: it may."""
        return lacking(self.wheel)


LATE_MS = 10.0
"""From here on the simulated engine is said to be late; below, it tells more of the machine than of the engine."""
LATE_POLLS, LATE_OF = 3, 8
"""So many late ones of the last answers of its metrics make it late: one is a hiccup."""


class Lateness:
    """Remembers whether the simulated engine was late lately."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, bool]] = deque(maxlen=LATE_OF)

    def see(self, frame: Frame) -> bool:
        """Whether it is late now, by the last answers up to that of this frame."""
        server = frame.server
        if server is None or server.late_ms is None:
            self._seen.clear()
        elif not self._seen or self._seen[-1][0] != server.t_s:
            self._seen.append((server.t_s, server.late_ms >= LATE_MS))
        return sum(late for _, late in self._seen) >= LATE_POLLS


def is_stale(frame: Frame, condition: Condition) -> bool:
    """Whether the last values are only the last ones known."""
    gone = (EndpointState.STALE, EndpointState.DOWN, EndpointState.AUTH_FAILED)
    return condition.lost is not None or condition.silent_s > 0 or frame.endpoint.state in gone


def on_offer(frame: Frame | None, condition: Condition, declined_s: float | None) -> Offer | None:
    """The load that Enter takes up again: only of a live run that can be seen, at rest, and of a server that answers.

    Args:
        declined_s: of the offer that a hand has declined or taken up; None: of none.
    """
    if frame is None or frame.offer is None or frame.offer.t_s == declined_s or frame.replay is not None:
        return None
    unseen = condition.frozen or condition.draining or condition.note is not None or is_stale(frame, condition)
    unseen = unseen or not condition.wheel.mine
    there = frame.endpoint.state is EndpointState.UP and frame.endpoint.awaited is None
    return frame.offer if there and not unseen and not frame.target.value else None


def span_of(frame: Frame) -> float:
    """Seconds of the run that the charts show now."""
    return next((span_s for span_s in SPANS_S if frame.timeline.end_s <= span_s), SPANS_S[-1])
