"""What a change of the configuration did: the capacity at the SLO before it and after it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from llmtop.analysis.capacity import RUN_TO_RUN, capacity_of
from llmtop.analysis.judge import UNKNOWN
from llmtop.analysis.measured import MeasuredCurve
from llmtop.domain.gain import Change, Comparison, Gain
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Capacity, CliffVerdict, Kind
from llmtop.wording.chapters import START, TOLD, changed_text, compared_text
from llmtop.wording.restarts import RESTARTED


def comparison_of(curves: Sequence[MeasuredCurve], capacity: Capacity, slo: Slo) -> Comparison | None:
    """The current configuration against the newest before it of which something is known; None: there is none.

    One that was only started again is no other.

    Args:
        curves: from `measured_curves`, the current one last.
        capacity: of the current one.
    """
    if not curves:
        return None
    current = curves[-1]
    for earlier in reversed(curves[:-1]):
        if earlier.axis != current.axis:
            continue
        was, now = differences(earlier.parts, current.parts)
        restarted = START in {*was, *now} or now.get(TOLD) == RESTARTED
        if restarted and {*was, *now} <= {START, TOLD}:
            continue
        unseen = CliffVerdict(kind=Kind.INSUFFICIENT, axis=earlier.axis)
        before = capacity_of(earlier.levels, slo, unseen, UNKNOWN, earlier.point)
        if before.at_slo is None and before.fails_at is None:
            continue
        changed = changed_text(was, now)
        gain = gain_of(before, capacity)
        return Comparison(
            changed=changed,
            gain=gain,
            change=change_of(before, capacity, gain),
            before=before.at_slo,
            before_fails_at=before.fails_at,
            after=capacity.at_slo,
            after_fails_at=capacity.fails_at,
            text=compared_text(changed, gain, before, capacity, current.axis),
        )
    return None


def gain_of(before: Capacity, after: Capacity) -> Gain:
    """Whether a capacity is another than it was: beyond what runs differ by, and what lies between the levels."""
    if after.at_slo is None and after.fails_at is None:
        return Gain.OPEN
    low, high = _interval(before)
    after_low, after_high = _interval(after)
    if after_low > high:
        return Gain.MORE
    if after_high < low:
        return Gain.FEWER
    if math.isinf(after_high) or math.isinf(high) or before.at_slo is None or after.at_slo is None:
        return Gain.OPEN
    apart = abs(after.at_slo - before.at_slo)
    return Gain.SAME if apart <= 2 * RUN_TO_RUN * max(after.at_slo, before.at_slo) else Gain.OPEN


def change_of(before: Capacity, after: Capacity, gain: Gain) -> Change | None:
    """By how much a capacity is another than it was; None: it is not, or one of the two is not known."""
    return capacity_change(before, after) if gain in (Gain.MORE, Gain.FEWER) else None


def capacity_change(before: Capacity, after: Capacity) -> Change | None:
    """One capacity relative to another, whatever that comes to; None: one of the two is not known."""
    if not before.at_slo or not after.at_slo:
        return None
    low, high = _interval(before)
    after_low, after_high = _interval(after)
    return Change(
        share=after.at_slo / before.at_slo - 1,
        low=None if math.isinf(high) else after_low / high - 1,
        high=None if math.isinf(after_high) or low <= 0 else after_high / low - 1,
    )


def _interval(capacity: Capacity) -> tuple[float, float]:
    """Between which loads a capacity lies: from nothing where no level held, without end where none failed."""
    low = capacity.low if capacity.low is not None else capacity.at_slo or 0.0
    if capacity.high is not None:
        return low, capacity.high
    return low, math.inf if capacity.fails_at is None else capacity.fails_at


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What either has that the other has not, or has otherwise."""
    names = [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
    return (
        {name: before[name] for name in names if name in before},
        {name: after[name] for name in names if name in after},
    )
