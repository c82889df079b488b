"""What is said of a change of the configuration, and of the capacity before it and after it."""

from __future__ import annotations

from collections.abc import Mapping

from llmtop.domain.gain import Gain
from llmtop.domain.load import Axis
from llmtop.domain.verdicts import Capacity
from llmtop.wording.arrows import arrow
from llmtop.wording.figures import TEXT, Figures
from llmtop.wording.names import load_unit
from llmtop.wording.sentences import listed

LENGTHS, SHARED, GATE, TOLD, START, REPLICAS = "lengths", "shared", "gate", "told", "start", "replicas"
START_OF_USERS = "start of users"
"""Names of what tells curves apart, beside the server's own settings."""
WITHOUT = {GATE: "none", SHARED: "none", "think time": "none", START_OF_USERS: "staggered"}
"""What a run of ours was driven with that has no such trait: it says all of its load, so that this is known."""


def changed_text(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """`max_num_seqs 32 → 46 and 192/64 → 512/64 tok`, of what was and what is, each by its name."""
    parts = []
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if name == START:
            parts.append("the server restarted")
        elif name == TOLD:
            parts.append(new or "what was changed was changed back")
        elif name == SHARED:
            parts.append(f"{old or 'nothing shared'} → {new or 'nothing shared'}")
        elif name == GATE and (old is None or new is None):
            parts.append(f"{old or 'no gate'} → {new or 'no gate'}")
        elif old is None or new is None:
            parts.append(new or f"no longer {old}")
        else:
            parts.append(arrow(old, new))
    return listed(parts)


def compared_text(
    changed: str, gain: Gain, before: Capacity, after: Capacity, axis: Axis, figures: Figures = TEXT
) -> str:
    """`max_num_seqs 32 → 46: 49 → 36 concurrent users at the SLO, TPOT p95 binds now`"""
    unit = f"{load_unit(axis)} at the SLO"
    was, now = carried(before, axis, figures), carried(after, axis, figures)
    if not now:
        top = before.at_slo if before.at_slo is not None else before.fails_at
        return f"{changed}: {was} {unit} before; drive to {figures.load(top, axis)} to compare"
    wall = (after.limited_by or "").removesuffix(" SLO")
    binds = f", {wall} binds now" if wall else ""
    if gain is Gain.SAME:
        return f"{changed}: {was} → {now} {unit}, no more than runs differ by{binds}"
    if gain is Gain.OPEN:
        return f"{changed}: {was} → {now} {unit}; {to_tell(before, after, axis, figures)}"
    return f"{changed}: {was} → {now} {unit}{binds}"


def to_tell(before: Capacity, after: Capacity, axis: Axis, figures: Figures) -> str:
    """What to drive before the two can be told apart."""
    held = [each.at_slo for each in (before, after) if each.at_slo is not None]
    failed = [each.fails_at for each in (before, after) if each.fails_at is not None]
    if len(failed) < 2:
        return f"drive past {figures.load(max(held), axis)} to compare"
    top = figures.load(max(failed), axis)
    if len(held) < 2:
        return f"drive below {top} to compare"
    return f"drive between {figures.load(min(held), axis)} and {top} to compare"


def carried(capacity: Capacity, axis: Axis, figures: Figures) -> str:
    """`49`, `≥ 49` where no level failed, `below 8` where none held; empty: not known."""
    if capacity.at_slo is None:
        return "" if capacity.fails_at is None else f"below {figures.load(capacity.fails_at, axis)}"
    return f"{'' if capacity.fails_at is not None else '≥ '}{figures.load(capacity.at_slo, axis)}"
