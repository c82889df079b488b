"""Sides: one configuration as it was measured, of a run or of another tool's file. What is compared, and drawn behind.

A run has one side for each configuration of which it has levels; the last one is what its own verdicts are about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from llmtop.analysis.assess import assess_levels, shown_curve
from llmtop.analysis.capacity import capacity_of
from llmtop.analysis.judge import UNKNOWN, judge
from llmtop.analysis.levels import Level
from llmtop.analysis.measured import Ledger, MeasuredCurve
from llmtop.analysis.readings import finished_requests
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment, Capacity, CliffVerdict, Curve, Kind
from llmtop.meter.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """The levels of one configuration, and what they come to by one SLO."""

    name: str
    """What it is called beside others: a run's label, the name of its file, what was changed."""
    axis: Axis
    levels: tuple[Level, ...]
    slo: Slo
    cliff: CliffVerdict
    capacity: Capacity
    curve: Curve
    """The levels as charts show them; `ghost`."""
    point: LoadPoint | None = None
    """The requests that it was driven with, whatever their load; None: not known."""
    traits: dict[str, str] = field(default_factory=dict)
    """What else may tell it from another, by name: model, server, its flags, what was set, lengths."""
    meta: RunMeta | None = None
    """Of the run that it is of; None: another tool's file, or a table."""
    source: Path | None = None
    part: int = 0
    """Which configuration of its run it is, from 0."""
    of: int = 1
    """How many configurations its run has."""


def sides_of(name: str, facts: Facts, meta: RunMeta, slo: Slo, opinion: Assessment) -> tuple[Side, ...]:
    """The sides of one run, in the order in which they were driven; () where it has no level.

    Args:
        opinion: of the whole run by the same SLO: the last side has its cliff and its capacity.
    """
    curves = Ledger().curves(facts, meta, finished_requests(facts), facts.t_s)
    return tuple(
        _of_curve(curve, name, meta, slo, opinion if curve is curves[-1] else None, at, len(curves))
        for at, curve in enumerate(curves)
        if curve.levels
    )


def _of_curve(
    curve: MeasuredCurve, name: str, meta: RunMeta, slo: Slo, opinion: Assessment | None, at: int, of: int
) -> Side:
    if opinion is not None:
        cliff, capacity = opinion.cliff, opinion.capacity
    else:
        enough = len(curve.levels) > 1
        cliff = judge(curve.levels, axis=curve.axis) if enough else CliffVerdict(kind=Kind.INSUFFICIENT)
        capacity = capacity_of(curve.levels, slo, cliff, UNKNOWN, curve.point)
    return Side(
        name=name,
        axis=curve.axis,
        levels=curve.levels,
        slo=slo,
        cliff=cliff,
        capacity=capacity,
        curve=shown_curve(curve, slo, True, None),
        point=curve.point,
        traits={**_traits(meta), **curve.parts},
        meta=meta,
        part=at,
        of=of,
    )


def _traits(meta: RunMeta) -> dict[str, str]:
    info = meta.info
    told = {} if info is None else {"model": info.model, "server": info.server or "", **dict(info.flags)}
    return {name: text for name, text in {**told, **dict(meta.settings)}.items() if text}


def side_of_levels(
    name: str,
    levels: Sequence[Level],
    slo: Slo,
    *,
    axis: Axis = "concurrency",
    point: LoadPoint | None = None,
    traits: dict[str, str] | None = None,
) -> Side:
    """A side of levels that no run of ours has measured: a table's, or another tool's."""
    opinion = assess_levels(levels, slo=slo, axis=axis, point=point)
    return Side(
        name=name,
        axis=axis,
        levels=tuple(sorted(levels, key=lambda level: level.load)),
        slo=slo,
        cliff=opinion.cliff,
        capacity=opinion.capacity,
        curve=replace(opinion.curves[0], label=name, ghost=True),
        point=point,
        traits=traits or {},
    )
