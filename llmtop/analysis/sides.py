"""Sides: one configuration as it was measured, of a run or of another tool's file. What is compared, and drawn behind.

A run has one side for each configuration of which it has levels; the last one is what its own verdicts are about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from llmtop.analysis.capacity import capacity_of
from llmtop.analysis.judge import UNKNOWN, judge
from llmtop.analysis.levels import Level
from llmtop.analysis.measured import Ledger, MeasuredCurve
from llmtop.analysis.points import shown_curve
from llmtop.analysis.readings import driven_lengths, finished_requests
from llmtop.analysis.supply import gpus_told
from llmtop.analysis.tabled import assess_levels
from llmtop.domain.assessment import Assessment
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Capacity, CliffVerdict, Curve, Kind
from llmtop.meter.facts import Facts, Table
from llmtop.wording.chapters import GATE, LENGTHS, START, START_OF_USERS
from llmtop.wording.compared import carried_text, replayed, spreads_text
from llmtop.wording.sentences import lengths


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
    """What else may tell it from another, by name: model, server, its flags, what was set, the requests."""
    prefix_hits: float | None = None
    """Share of prompt tokens that the server found in its prefix cache; None: not shown."""
    client_late: float | None = None
    """Share of its requests that count nowhere, as the client was the bottleneck."""
    gpus: int | None = None
    """That its server told; None: it did not."""
    client_bound: bool = False
    """The client was the bottleneck of its run."""
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
    curves = Ledger().curves(facts, meta, finished_requests(facts), facts.t_s, every=True)
    found = [curve for curve in curves if curve.levels]
    return tuple(
        replace(
            _of_curve(curve, name, meta, slo, opinion if curve is curves[-1] else None),
            prefix_hits=prefix_hits(facts.server, curve),
            client_late=_late(curve),
            gpus=gpus_told(facts, curve.traits or (() if meta.info is None else meta.info.traits)),
            client_bound=curve is curves[-1] and opinion.judgement.void,
            part=at,
            of=len(found),
        )
        for at, curve in enumerate(found)
    )


def prefix_hits(server: Table, curve: MeasuredCurve) -> float | None:
    """The mean of what was shown in the seconds in which requests of this configuration were sent."""
    own = np.isin(np.floor(server.column("t_s")), np.unique(np.floor(curve.requests.sent_s)))
    values = server.column("prefix_hit_ratio")[own]
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _late(curve: MeasuredCurve) -> float | None:
    late = curve.left_out.get("client", 0)
    ended = int(curve.requests.ok.sum()) + late
    return late / ended if ended else None


def _of_curve(curve: MeasuredCurve, name: str, meta: RunMeta, slo: Slo, opinion: Assessment | None) -> Side:
    if opinion is not None:
        cliff, capacity = opinion.cliff, Capacity() if opinion.capacity.lowered else opinion.capacity
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
        curve=shown_curve(curve, slo, True, None)
        if opinion is None
        else msgspec.structs.replace(opinion.curves[-1], ghost=True),
        point=curve.point,
        traits=traits_of(meta, curve.point, curve.parts, curve.traits),
        meta=meta,
    )


def traits_of(
    meta: RunMeta, point: LoadPoint, parts: Mapping[str, str], told: Sequence[tuple[str, str]] | None = None
) -> dict[str, str]:
    """What may tell a configuration of a run from that of another, by name.

    Args:
        parts: what tells it from the others of its run; that the server was started again is left out.
        told: what the server told of itself at the time; None: what it tells now.
    """
    workload = meta.profile.workload
    driven = driven_lengths(point, workload.api == "embeddings")
    if told is None:
        told = () if meta.info is None else meta.info.traits
    asked = {
        LENGTHS: lengths(driven, unit="tok"),
        "prompts": " ".join(filter(None, (workload.source, workload.file, replayed(workload)))),
        "spread of lengths": spreads_text(workload),
        "api": workload.api,
        **carried_text(workload),
        "think time": f"{point.think_time_s:g} s" if point.think_time_s else "",
        GATE: "" if point.gate is None else str(point.gate),
        START_OF_USERS: "" if meta.profile.start == "staggered" else meta.profile.start,
        "llmtop": meta.llmtop_version,
    }
    apart = {name: text.removeprefix(f"{name} ") for name, text in parts.items() if name != START}
    return {name: text for name, text in {**asked, **apart, **dict(meta.settings), **dict(told)}.items() if text}


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
        curve=msgspec.structs.replace(opinion.curves[0], label=name, ghost=True),
        point=point,
        traits=traits or {},
    )


def names_of(sides: Sequence[Side]) -> list[str]:
    """What each is called: its own name; of those that share one, that of their files; of one file, with a number."""
    files: dict[str, set[Path | None]] = {}
    for side in sides:
        files.setdefault(side.name, set()).add(side.source)
    named = [side.source.stem if side.source is not None and len(files[side.name]) > 1 else side.name for side in sides]
    return [name if named.count(name) == 1 else f"{name} {named[:at].count(name) + 1}" for at, name in enumerate(named)]
