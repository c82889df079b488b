"""What is said of an earlier measurement beside a run: why it is not shown, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from llmtop.domain.gain import Change, Gain
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.slo import Latency
from llmtop.domain.verdicts import Capacity
from llmtop.wording.chapters import carried, to_tell
from llmtop.wording.figures import TEXT, Figures
from llmtop.wording.names import short_unit
from llmtop.wording.sentences import listed

LENGTHS_UNKNOWN = "its lengths are not known"
OTHER_ARRIVALS = "other arrivals"
BY_DEFAULT, NOT_KNOWN, NO_GATE = "default", "not known", "none"
"""What a setting is that only one of two has."""
AS_IT_BEGAN = "as it began"
"""A configuration of a run that nothing tells from the present one but that nothing was changed."""
STAGGERED = "staggered"
"""How users start where nothing else is told."""


def other_axis(axis: Axis) -> str:
    return "driven by rate" if axis == "rate" else "driven by users"


def lacks(metric: Latency) -> str:
    return f"no {metric.upper()} is known"


def other_lengths(point: LoadPoint) -> str:
    """`other lengths (512/64)`"""
    return f"other lengths ({point.prompt_tokens}/{point.output_tokens})"


def other_shared(share: float) -> str:
    return f"other prompts ({TEXT.round_percent(share) if share else 'nothing'} shared)"


def other_pause(seconds: float) -> str:
    return f"other users ({f'think {seconds:g} s' if seconds else 'no think time'})"


def other_model(model: str) -> str:
    return f"another model ({model})"


def other_requests(name: str, text: str) -> str:
    """`other prompts (sharegpt)`"""
    return f"other {name} ({text})"


def other_start(start: str) -> str:
    return f"its users started {start}"


def shown_beside(names: Sequence[str]) -> str:
    return f"the run was shown beside {listed(names)}; --baseline shows them again"


def and_more(text: str, others: int) -> str:
    """`max_num_seqs 32, block_size 16 and 3 more`"""
    return f"{text} and {others} more" if others > 0 else text


def reason_text(name: str, reason: str) -> str:
    """`` `before`: other lengths (512/64)``"""
    return f"`{name}`: {reason}"


def against_text(
    name: str,
    changed: str,
    gain: Gain,
    change: Change | None,
    before: Capacity,
    after: Capacity,
    axis: Axis,
    figures: Figures = TEXT,
) -> tuple[str, str]:
    """What the present run is beside the earlier measurement `name`, in full and where there is little room.

    `+18 % users at the SLO against `before` (max_num_seqs 32 → 46): 49 → 58 (+5 % to +31 %), TPOT p95 binds now`

    Args:
        changed: what differs; empty: nothing that is known.
        change: of the capacity, where both are known and differ.
    """
    users, called = short_unit(axis, 2), f"`{name}`"
    named = f"{called} ({changed})" if changed else called
    was, now = carried(before, axis, figures), carried(after, axis, figures)
    wall = (after.limited_by or "").removesuffix(" SLO")
    binds = f", {wall} binds now" if wall and after.fails_at is not None else ""
    if not was:
        return (f"{called}: its {users} at this SLO are not known",) * 2
    if not now:
        top = before.at_slo if before.at_slo is not None else before.fails_at
        drive = f"drive to {figures.load(top, axis)} to compare with {called}"
        return f"{drive} (it carried {was} {users} at the SLO)", drive
    if gain is Gain.SAME:
        same = f"same as {called}"
        differs = f" ({changed})" if changed else ""
        return f"{same}{differs}: {was} → {now} {users} at the SLO, no more than runs differ by{binds}", same
    if gain is Gain.OPEN:
        to_tell = _to_tell_against(called, before, after, axis, figures)
        return f"{was} → {now} {users} at the SLO against {named}; {to_tell}", to_tell
    much = _much(gain, change, before, after, users, figures)
    interval = ""
    if change is not None and change.low is not None and change.high is not None:
        interval = f" ({_whole(change.low, figures)} to {_whole(change.high, figures)})"
    return f"{much} at the SLO against {named}: {was} → {now}{interval}{binds}", f"{much} against {called}"


def apart_text(name: str, reason: str) -> str:
    """``before`: other lengths (512/64), not compared`"""
    return f"`{name}`: {reason}, not compared"


def _much(gain: Gain, change: Change | None, before: Capacity, after: Capacity, users: str, figures: Figures) -> str:
    """`+18 % users`; `at least 18 % more users` where one of the two has no end."""
    more = "more" if gain is Gain.MORE else "fewer"
    if change is None:
        return f"{more} {users}"
    if before.fails_at is not None and after.fails_at is not None:
        return f"{_whole(change.share, figures)} {users}"
    return f"at least {_whole(abs(change.share), figures).lstrip('+')} {more} {users}"


def _whole(share: float, figures: Figures) -> str:
    """`+18 %`, `-4 %`, `0 %`: a capacity is known no better."""
    percent = round(share * 100)
    return f"{'+' if percent > 0 else ''}{percent}{figures.gap}%"


def _to_tell_against(called: str, before: Capacity, after: Capacity, axis: Axis, figures: Figures) -> str:
    """What to drive before the present run can be told from one that is over."""
    driven = before.at_slo if before.fails_at is None else None
    if driven is not None and (after.fails_at is not None or (after.at_slo or 0.0) >= driven):
        return f"{called} was driven to {figures.load(driven, axis)} only, and held"
    return f"{to_tell(before, after, axis, figures)} with {called}"
