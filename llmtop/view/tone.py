"""How a figure stands against its limit."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from llmtop.domain.slo import SloTarget

BAD_WINDOWS = 3
"""So many windows in a row must be past the limit before a figure turns red: one slow request is not a fire."""


class Tone(StrEnum):
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    STALE = "stale"
    UNKNOWN = "unknown"


def judge(value: float | None, warn_at: float | None, limit: float | None, history: Sequence[float | None]) -> Tone:
    """The tone of `value` against `limit`, all in one unit.

    `history` is the figure's timeline, oldest first: red needs its last three known points past the limit too.
    """
    if value is None:
        return Tone.UNKNOWN
    if limit is None:
        return Tone.GOOD
    if value > limit:
        recent = [point for point in history[-2 * BAD_WINDOWS :] if point is not None][-BAD_WINDOWS:]
        if len(recent) == BAD_WINDOWS and min(recent) > limit:
            return Tone.BAD
        return Tone.WARN
    return Tone.WARN if warn_at is not None and value >= warn_at else Tone.GOOD


def judge_target(value: float | None, target: SloTarget | None, history: Sequence[float | None]) -> Tone:
    """The same against an SLO limit; `value` and `history` in the target's unit."""
    if target is None:
        return judge(value, None, None, history)
    return judge(value, target.warn_at, target.limit, history)
