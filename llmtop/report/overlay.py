"""The charts of a comparison: curves over the load, and what happened over time, on top of each other."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from llmtop.domain.frame import Series, Timeline
from llmtop.domain.verdicts import LevelPoint
from llmtop.report.charts import HEADROOM, PANELS, Figure, panel_scale, time_ticks
from llmtop.report.comparison import Beside, ComparisonInput, load_text, shown_metrics
from llmtop.report.plot import Plot
from llmtop.report.scales import Scale, latency_scale, load_scale, load_ticks, zero_scale
from llmtop.wording.compared import change, figure, metric_name
from llmtop.wording.figures import PAGE, clock
from llmtop.wording.names import axis_name

STYLES = ("was", "a", "b", "c", "d")
"""Of the lines, the one before first; more measurements than styles begin again after it."""
_TICK = {"time": PAGE.round_latency, "output_tokens_per_s": PAGE.count}
_FIELDS = (
    ("ttft_p95", "ttft_p95_ms", "tall"),
    ("ttft_p50", "ttft_p50_ms", "half"),
    ("tpot_p95", "tpot_p95_ms", "half"),
    ("e2e_p50", "e2e_p50_ms", "half"),
    ("output_tokens_per_s", "output_tokens_per_s", "half"),
)
"""(figure, its field of a level, kind of chart)"""
_OVER_TIME = {"Load": "in_flight", "TTFT": "ttft_p95_ms", "TPOT": "tpot_p95_ms", "Server": "waiting"}
"""Of panels with several lines, the one that is laid over the others'."""
_CALLED = {"Load": "In flight", "TTFT": "TTFT p95", "TPOT": "TPOT p95", "Server": "Waiting at the server"}


def style_of(at: int) -> str:
    """CSS class of a measurement's lines by its place."""
    return STYLES[0] if at == 0 else STYLES[1 + (at - 1) % (len(STYLES) - 1)]


def legend(report: ComparisonInput) -> str:
    """The key of the lines."""
    keys = [f'<span class="key {style_of(at)}">{escape(side.name)}</span>' for at, side in enumerate(report.sides)]
    return f'<p class="keys">{"".join(keys)}</p>'


def curve_charts(report: ComparisonInput) -> list[str]:
    """One chart for each figure, the tall one first; a figure that nobody has measured is left out."""
    return [chart for name, field, kind in _FIELDS if (chart := _curve_chart(report, name, field, kind))]


def curve_columns(report: ComparisonInput) -> dict[str, object]:
    """What the readout under the curves needs, level by level: of the last comparison, the newest."""
    told = report.compared[-1]
    scale = _x(report)
    texts = []
    for level in told.levels:
        parts = [
            f"{metric_name(delta.metric)} {figure(delta.metric, delta.before, told.axis, PAGE)} → "
            f"{figure(delta.metric, delta.after, told.axis, PAGE)} ({change(delta, PAGE)})"
            for delta in level.deltas
            if delta.metric in ("ttft_p95", "tpot_p95", "output_tokens_per_s") and delta.metric in shown_metrics(told)
        ]
        texts.append(" · ".join([load_text(level, told), *parts]))
    return {"places": [round(scale.place(level.load), 4) for level in told.levels], "texts": texts}


def timeline_charts(report: ComparisonInput) -> str:
    """The stacked panels over time since the start of each run; empty where fewer than two runs have a timeline."""
    if sum(side.timeline is not None for side in report.sides) < 2:
        return ""
    panels = [panel for panel in PANELS if any(_seen(side, field_of(panel)) for side in report.sides)]
    return "".join(_panel(report, panel, last=panel is panels[-1]) for panel in panels)


def timeline_columns(report: ComparisonInput) -> dict[str, object]:
    """The columns of the timelines as text, by their names in the page, on the clock of the longest."""
    timelines = [side.timeline for side in report.sides if side.timeline is not None]
    if len(timelines) < 2:
        return {"clock": []}
    end_s, step_s = _end_s(report), max(timeline.step_s for timeline in timelines)
    times = [(at + 1) * step_s for at in range(int(end_s / step_s + 1e-9))]
    columns: dict[str, object] = {"clock": [clock(t_s) for t_s in times]}
    for at, side in enumerate(report.sides):
        for panel in PANELS:
            if _seen(side, field_of(panel)) and side.timeline is not None:
                values = [_at(side.timeline, field_of(panel), t_s) for t_s in times]
                columns[f"{at}.{field_of(panel)}"] = [None if value is None else panel.text(value) for value in values]
    return columns


def field_of(panel: Figure) -> str:
    """The column of a timeline that stands for a panel."""
    return _OVER_TIME.get(panel.name, panel.fields[0])


# -- one chart --------------------------------------------------------------------------------------------------------


def _x(report: ComparisonInput) -> Scale:
    return load_scale(point.load for side in report.sides for point in side.curve.points)


def _curve_chart(report: ComparisonInput, name: str, field: str, kind: str) -> str:
    lines = [_line(side.curve.points, field) for side in report.sides]
    values = [value for line in lines for _, value in line]
    if not values:
        return ""
    latency = field.endswith("_ms")
    target = next((each for each in report.slo.targets if each.name == name), None)
    limit = None if target is None else target.limit * 1e3
    shown = [*values, limit] if limit is not None and limit < 20 * max(values) else values
    plot = Plot(_x(report), latency_scale(shown) if latency else zero_scale(shown))
    tick = PAGE.round_latency if latency else PAGE.count
    plot.grid([(value, tick(value)) for value in plot.y.ticks(5) if value > 0], HEADROOM[kind])
    for at, (side, line) in enumerate(zip(report.sides, lines, strict=True)):
        plot.line(line, style_of(at))
        faint = {point.load for point in side.curve.points if point.faint}
        plot.dots([dot for dot in line if dot[0] in faint], f"{style_of(at)} faint")
        plot.dots([dot for dot in line if dot[0] not in faint], style_of(at))
    if target is not None and limit is not None and limit in shown:
        plot.level(limit, "slo")
        plot.label(0.12, 1 - plot.y.place(limit), f"SLO {PAGE.target(target)}", "slo")
    axis = report.sides[0].curve.axis
    plot.x_axis([(value, PAGE.load(value, axis)) for value in load_ticks(plot.x)])
    called = metric_name(name)
    title = called[:1].upper() + called[1:]
    summary = f"{title} over {axis_name(axis)} of {', '.join(side.name for side in report.sides)}"
    heading = f"<h3>{escape(title)} <small>over {axis_name(axis)}</small></h3>"
    return f'<div class="chart" data-curve>{heading}{plot.html(kind, summary)}</div>'


def _line(points: Iterable[LevelPoint], field: str) -> list[tuple[float, float]]:
    known = [(point.load, getattr(point, field)) for point in sorted(points, key=lambda point: point.load)]
    return [(load, value) for load, value in known if value is not None]


def _panel(report: ComparisonInput, panel: Figure, *, last: bool) -> str:
    field = field_of(panel)
    shown = [(at, side.timeline) for at, side in enumerate(report.sides) if side.timeline is not None]
    columns = [_series(timeline, field) for _, timeline in shown]
    plot = Plot(Scale(0, max(_end_s(report), 1)), panel_scale(columns, None, panel))
    ticks = [tick for tick in plot.y.ticks(2) if tick > 0]
    plot.grid([(tick, panel.tick(tick) if tick == ticks[-1] else "") for tick in ticks], HEADROOM["low"])
    for (at, timeline), column in zip(shown, columns, strict=True):
        start_s = timeline.end_s - len(timeline.in_flight) * timeline.step_s
        times = [start_s + (step + 1) * timeline.step_s for step in range(len(column))]
        plot.line(zip(times, column, strict=True), style_of(at))
    if last:
        plot.x_axis([(tick, clock(tick)) for tick in time_ticks(plot.x)])
    readout = "".join(
        f'<output data-column="{at}.{field}" class="{style_of(at)}"></output>'
        for at, side in enumerate(report.sides)
        if _seen(side, field)
    )
    title = _CALLED.get(panel.name, panel.name)
    heading = f"<h3>{escape(title)}<b>{readout}</b></h3>"
    return f'<div class="panel" data-timeline>{heading}{plot.html("low", f"{title} over time")}</div>'


def _end_s(report: ComparisonInput) -> float:
    return max((side.timeline.end_s for side in report.sides if side.timeline is not None), default=0.0)


def _series(timeline: Timeline, field: str) -> Series:
    series: Series = getattr(timeline, field)
    return series


def _seen(side: Beside, field: str) -> bool:
    return side.timeline is not None and any(value is not None for value in _series(side.timeline, field))


def _at(timeline: Timeline, field: str, t_s: float) -> float | None:
    """The value at a time since the start; None: beyond its end, or not known."""
    series = _series(timeline, field)
    start_s = timeline.end_s - len(series) * timeline.step_s
    step = round((t_s - start_s) / timeline.step_s) - 1
    return series[step] if 0 <= step < len(series) else None
