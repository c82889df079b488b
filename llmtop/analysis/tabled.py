"""Opinions over a table of levels, or over a predicted curve: what a run says, without a run."""

from __future__ import annotations

from collections.abc import Sequence

from llmtop.analysis.advice import advised
from llmtop.analysis.capacity import capacity_of, worth_trying
from llmtop.analysis.cost import costs_of
from llmtop.analysis.diagnosis import by_cliff
from llmtop.analysis.headline import headline
from llmtop.analysis.judge import UNKNOWN, Limits, judge
from llmtop.analysis.judgement import judge_table
from llmtop.analysis.levels import Level
from llmtop.analysis.points import point_of
from llmtop.analysis.supply import supply_of
from llmtop.domain.assessment import Assessment
from llmtop.domain.cost import UNSTATED, Cost
from llmtop.domain.endpoint import Dialect
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.slo import Latency, Slo, Stat
from llmtop.domain.verdicts import Capacity, CliffVerdict, Curve, SloVerdict


def assess_levels(
    levels: Sequence[Level],
    *,
    slo: Slo | None = None,
    axis: Axis = "concurrency",
    metric: Latency = "ttft",
    stat: Stat = "p50",
    limits: Limits = UNKNOWN,
    point: LoadPoint | None = None,
    dialect: Dialect | None = None,
    cost: Cost = UNSTATED,
) -> Assessment:
    """Judge a table of levels, or a predicted curve. `cliff` is the verdict for `metric` and `stat`.

    Args:
        levels: of a table, or made of the samples of a prediction.
        axis: what `Level.load` is, concurrency or rate.
        point: lengths and think time, for the sentence; None: not known.
    """
    ordered = tuple(sorted(levels, key=lambda level: level.load))
    main = judge(ordered, axis=axis, metric=metric, stat=stat, limits=limits)
    others: list[CliffVerdict] = []
    if all(level.has_samples or level.stated for level in ordered):
        others = [
            judge(ordered, axis=axis, metric=other, stat="p50", limits=limits)
            for other in ("ttft", "tpot", "e2e")
            if (other, "p50") != (metric, stat)
        ]
    slo = Slo() if slo is None else slo
    measured = [level for level in ordered if level.given is None]
    capacity = capacity_of(measured, slo, main, limits, point) if measured else Capacity(knee=main.at)
    main = worth_trying(main, capacity)
    sampled = [level for level in measured if level.has_samples]
    diagnosis = advised(by_cliff(main), sampled, limits, slo, main, capacity, dialect)
    judgement = judge_table(capacity, main)
    curve = Curve(label="table", axis=axis, points=tuple(point_of(level, slo) for level in ordered))
    top = max((level.load for level in ordered), default=None)
    return Assessment(
        headline=headline(slo, SloVerdict(), capacity, main, diagnosis, top, judgement),
        cliff=main,
        cliffs=(main, *others),
        diagnosis=diagnosis,
        capacity=capacity,
        curves=(curve,),
        judgement=judgement,
        judged_requests=sum(level.n for level in ordered),
        costs=costs_of(supply_of(measured, gpus=limits.gpus), cost, capacity, axis),
        notes=main.evidence,
    )
