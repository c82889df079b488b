"""Curves behind the one that is driven, of before and foreseen: which are drawn, their names, their figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.foresight import Interval
from llmtop.domain.slo import Latency, Stat
from llmtop.domain.verdicts import Curve, LevelPoint
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.runs import Runs
from llmtop.wording.beside import AS_IT_BEGAN, lacks, other_axis
from llmtop.wording.figures import TIGHT
from llmtop.wording.foresight import legend_text

LABEL_PARTS = " · "
"""Between the parts of a curve's label."""
NAME_CELLS = 20
"""Of a name in a legend that has no room for all of it."""
GAP = "   "
_STATS: tuple[Stat, ...] = ("p95", "p50")


class Ghost(Struct, frozen=True, kw_only=True):
    """A curve of before. `sign` stands at its levels, and `reason` says why it is not drawn: it has one of the two."""

    name: str
    what: str = ""
    curve: Curve
    sign: str = ""
    stat: Stat = "p95"
    """The one that is drawn: p50 where no other is known."""
    reason: str = ""


class Ghosts(Struct, frozen=True, kw_only=True):
    drawn: tuple[Ghost, ...] = ()
    """As many as there are signs."""
    apart: tuple[Ghost, ...] = ()
    """Not on the axes of what is driven."""
    hidden: int = 0
    """Those for which there is no sign left."""

    def __bool__(self) -> bool:
        return bool(self.drawn or self.apart)


class Twin(Struct, frozen=True, kw_only=True):
    """The curve that is foreseen with settings that nobody has turned yet: (load, milliseconds) of each line."""

    name: str
    line: tuple[tuple[float, float], ...]
    low: tuple[tuple[float, float], ...]
    high: tuple[tuple[float, float], ...]
    """Between which it lies."""


def twin_of(assessment: Assessment | None, metric: Latency) -> Twin | None:
    """None: nobody asks about other settings, nothing is foreseen of them, or not this latency, or over other loads."""
    foreseen = None if assessment is None else assessment.foreseen
    if assessment is None or foreseen is None or not foreseen.settings:
        return None
    own = next((curve for curve in reversed(assessment.curves) if not curve.ghost), None)
    known = [(point.load, getattr(point, f"{metric}_p95_ms", None)) for point in foreseen.points]
    told = [(load, at) for load, at in known if isinstance(at, Interval)]
    if not told or (own is not None and own.axis != foreseen.axis):
        return None
    lines = {end: tuple((load, getattr(at, end)) for load, at in told) for end in ("value", "low", "high")}
    return Twin(name=legend_text(foreseen, TIGHT), line=lines["value"], low=lines["low"], high=lines["high"])


def ghosts_of(assessment: Assessment | None, metric: Latency, glyphs: Glyphs) -> Ghosts:
    """Earlier measurements in the order in which they were asked for, then what this run drove, the newest first."""
    drawn: list[Ghost] = []
    apart: list[Ghost] = []
    hidden = 0
    for ghost in () if assessment is None else _found(assessment):
        known = {stat for stat in _STATS for point in ghost.curve.points if value_of(point, metric, stat)}
        if ghost.reason or not known:
            apart.append(replace(ghost, reason=ghost.reason or lacks(metric)))
        elif len(drawn) == len(glyphs.ghosts):
            hidden += 1
        else:
            stat = next(stat for stat in _STATS if stat in known)
            drawn.append(replace(ghost, sign=glyphs.ghosts[len(drawn)], stat=stat))
    return Ghosts(drawn=tuple(drawn), apart=tuple(apart), hidden=hidden)


def _found(assessment: Assessment) -> Iterator[Ghost]:
    for each in assessment.baselines:
        yield Ghost(name=each.curve.label, what=each.curve.what, curve=each.curve, reason=each.curve.apart)
    own = next((curve for curve in reversed(assessment.curves) if not curve.ghost), None)
    parts = () if own is None else own.label.split(LABEL_PARTS)
    for curve in reversed(assessment.curves):
        if curve.ghost:
            name = LABEL_PARTS.join(part for part in curve.label.split(LABEL_PARTS) if part not in parts)
            reason = "" if own is None or own.axis == curve.axis else other_axis(curve.axis)
            yield Ghost(name=name or AS_IT_BEGAN, curve=curve, reason=reason)


def legend(ghosts: Ghosts, glyphs: Glyphs, width: int, twin: Twin | None = None) -> Runs:
    """Which sign is which, what was set of each, what is not drawn and why, in at most `width` cells.

    What is foreseen stands first. What has no room loses what was set, then the end of its name; what is left out then
    is counted.
    """
    every = (*ghosts.drawn, *ghosts.apart)
    first: list[Runs] = [] if twin is None else [[(f"{glyphs.twin} ", "ghost"), (plain(twin.name, glyphs), "dim")]]
    for cells, with_what in ((None, True), (None, False), (NAME_CELLS, False)):
        shown = first + [_entry(ghost, glyphs, cells, with_what) for ghost in every]
        told = _with_count(shown, ghosts.hidden)
        if _cells(told) <= width:
            return told
    while shown:
        shown.pop()
        told = _with_count(shown, ghosts.hidden + len(first) + len(every) - len(shown))
        if _cells(told) <= width:
            return told
    return []


def _entry(ghost: Ghost, glyphs: Glyphs, cells: int | None, with_what: bool) -> Runs:
    name = plain(ghost.name, glyphs)
    if cells is not None and len(name) > cells:
        name = name[: cells - len(glyphs.more)] + glyphs.more
    if ghost.reason:
        return [(f"{name}: {plain(ghost.reason, glyphs)}", "ghost-name")]
    stat = "" if ghost.stat == "p95" else f" ({ghost.stat})"
    what = f" {plain(ghost.what, glyphs)}" if with_what and ghost.what else ""
    return [(f"{ghost.sign} ", "ghost"), (f"{name}{stat}", "dim"), (what, "ghost-name")]


def _with_count(shown: Sequence[Runs], hidden: int) -> Runs:
    count: list[Runs] = [[(f"+{hidden} not shown", "ghost-name")]] if hidden else []
    told: Runs = []
    for entry in (*shown, *count):
        told += [(GAP, ""), *entry] if told else entry
    return told


def _cells(runs: Runs) -> int:
    return sum(len(text) for text, _ in runs)


def readings(ghosts: Ghosts, metric: Latency, load: float | None, glyphs: Glyphs) -> list[str]:
    """`before: TTFT p95 640 ms` of each that is drawn and was driven there; between two of its levels it is about."""
    told = []
    for ghost in ghosts.drawn if load else ():
        value, exact = value_at(ghost.curve, metric, ghost.stat, load or 0.0)
        if value is not None:
            about = "" if exact else glyphs.about
            figure = f"{metric.upper()} {ghost.stat} {about}{TIGHT.latency(value)}"
            told.append(f"{plain(ghost.name, glyphs)}: {figure}")
    return told


def value_at(curve: Curve, metric: Latency, stat: Stat, load: float) -> tuple[float | None, bool]:
    """Milliseconds at a load, and whether it is a level's; None outside of what was measured.

    Between two levels both are taken as straight in logarithms, as they are drawn.
    """
    known = sorted((p.load, v) for p in curve.points if p.load > 0 and (v := value_of(p, metric, stat)))
    for at, value in known:
        if math.isclose(at, load):
            return value, True
    for (low, first), (high, second) in pairwise(known):
        if low < load < high:
            share = math.log(load / low) / math.log(high / low)
            return math.exp(math.log(first) + share * math.log(second / first)), False
    return None, False


def value_of(point: LevelPoint, metric: Latency, stat: Stat) -> float | None:
    """Milliseconds; None where it is not known, or nothing."""
    value: float | None = getattr(point, f"{metric}_{stat}_ms", None)
    return value if value is not None and value > 0 else None
