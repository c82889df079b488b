"""How a deployment scaled, in a report: the steps as a table, and replicas over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from llmtop.domain.replicas import ReplicaCounts
from llmtop.domain.run import ScaleStep
from llmtop.domain.scaling import Scaling
from llmtop.report.contents import ReportInput
from llmtop.report.plot import Plot
from llmtop.wording.figures import PAGE, UNKNOWN, clock
from llmtop.wording.over_time import number
from llmtop.wording.scaled import on_axis

TITLE = "Scaling"
HEADS = ("replicas", "load moved at", "decided", "created", "ready", "serving", "gone", "SLO missed", "requests")
NOTE = "Seconds after the load moved, of the last replica."
LINES = ("desired", "ready", "serving")
STYLES = ("b", "c", "a")
APART_S, APART = 1.5, 0.15
"""Steps of one kind within so many seconds are one mark; of marks nearer than this share of the axis one is named."""


def rows(report: ReportInput) -> list[tuple[str, ...]]:
    """What was done about each move of the load."""
    return [_row(each) for each in report.assessment.scalings]


def _row(found: Scaling) -> tuple[str, ...]:
    times = (found.decided_s, found.created_s, found.ready_s, found.serving_s, found.gone_s)
    missed = UNKNOWN if found.n is None else f"{PAGE.whole(found.missed)} of {PAGE.whole(found.n)}"
    return (
        f"{found.before} → {found.after}",
        clock(found.from_s),
        *(UNKNOWN if at_s is None else f"{number(at_s)} s" for at_s in times),
        UNKNOWN if found.debt_s is None else f"{number(found.debt_s)} s",
        missed,
    )


def lines(steps: Sequence[ScaleStep], end_s: float) -> dict[str, list[tuple[float, float | None]]]:
    """(when, how many) of each of `LINES` as a stair until `end_s`; what nobody tells is not there."""
    counts = ReplicaCounts()
    told: dict[str, list[tuple[float, float | None]]] = {name: [] for name in LINES}
    for step in steps:
        before = {name: getattr(counts, name) for name in LINES}
        counts.take(step)
        for name, points in told.items():
            now = getattr(counts, name)
            if now is not None and (now != before[name] if points else step.kind == name):
                points += [(step.t_s, before[name])] if points else []
                points.append((step.t_s, now))
    return {name: [*points, (end_s, points[-1][1])] for name, points in told.items() if points}


def marks(steps: Sequence[ScaleStep]) -> list[tuple[float, str]]:
    """(when, what) of steps of the run's own, those that came together as one: `+2 desired`, `pod-3 ready`."""
    found, desired = [], next((each.replicas for each in steps if each.kind == "desired" and each.since), None)
    own = [step for step in steps if not step.since and step.kind != "created"]
    for _, members in groupby(own, key=lambda step: (step.kind, round(step.t_s / APART_S))):
        group = list(members)
        found.append((group[0].t_s, on_axis(group, desired)))
        desired = group[-1].replicas if group[-1].kind == "desired" else desired
    return found


def draw_marks(plot: Plot, steps: Sequence[ScaleStep], *, named: bool) -> None:
    """Uprights where the deployment moved; `named`: with words above, where there is room."""
    last = -1.0
    for t_s, text in marks(steps):
        plot.upright(t_s, "mark")
        place = plot.x.place(t_s)
        if named and place - last >= APART:
            plot.label(place, 0, text, "step" if place < 1 - APART else "step before")
            last = place


def columns(report: ReportInput, times: Sequence[float]) -> dict[str, list[str | None]]:
    """How many there were at each of `times`, as text, by the name of its column."""
    found = {}
    for name, points in lines(report.scaling, times[-1] if times else 0.0).items():
        at = [[count for t_s, count in points if t_s <= time_s] for time_s in times]
        found[f"replicas_{name}"] = [PAGE.whole(counts[-1]) if counts else None for counts in at]
    return found
