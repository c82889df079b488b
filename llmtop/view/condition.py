"""How the app itself stands, and what that makes of a frame."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.endpoint import EndpointState
from llmtop.domain.frame import Frame

SPANS_S = (30.0, 60.0, 120.0)
"""How much of the run all charts show: the least of these that holds it all, so that a young run fills its charts."""


class Condition(Struct, frozen=True):
    """How the app itself stands: what a frame cannot say."""

    frozen: bool = False
    lost: str | None = None
    """Why the session is gone."""
    draining: bool = False
    silent_s: float = 0.0
    """Seconds without a new frame."""
    note: str | None = None
    """Progress of a search."""


def is_stale(frame: Frame, condition: Condition) -> bool:
    """Whether the last values are only the last ones known."""
    gone = (EndpointState.STALE, EndpointState.DOWN, EndpointState.AUTH_FAILED)
    return condition.lost is not None or condition.silent_s > 0 or frame.endpoint.state in gone


def span_of(frame: Frame) -> float:
    """Seconds of the run that the charts show now."""
    return next((span_s for span_s in SPANS_S if frame.t_s <= span_s), SPANS_S[-1])
