"""The charts of the HTML report: what happens as load rises, and what happened over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from msgspec import Struct

from llmtop.domain.frame import Series
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Metric, SloTarget
from llmtop.domain.verdicts import Curve, Kind, LevelPoint
from llmtop.report import foreseen, prose, scaling
from llmtop.report.contents import ReportInput
from llmtop.report.plot import Plot
from llmtop.report.scales import Scale, latency_scale, load_scale, load_ticks, zero_scale
from llmtop.view.panels import ONE_MOVE_S, moves
from llmtop.wording.figures import PAGE, clock
from llmtop.wording.names import axis_name, knee_name
from llmtop.wording.sentences import fails_from

MOST_MOVES = 60
"""Of the load that a chart tells apart."""


HEADROOM = {"tall": 0.05, "half": 0.09, "low": 0.2}
"""Share of a chart's height that a line of text takes, by kind of chart."""


class Figure(Struct, frozen=True):
    """One figure of a level or of a step: which fields, what it is called, how its numbers are written."""

    name: str
    fields: tuple[str, ...]
    legend: tuple[str, ...]
    text: Callable[[float], str]
    tick: Callable[[float], str]
    """Round values, on the axis."""
    metric: Metric | None = None
    """Of the SLO that limits it."""
    dots: tuple[str, str] | None = None
    """A field of a timeline that is drawn as dots beside its lines, and what it is called."""

    @property
    def in_ms(self) -> bool:
        return self.text == PAGE.latency


def _tokens(value: float) -> str:
    return f"{PAGE.count(value)} tok/s"


P95_P50 = ("p95", "p50")
_MS = (PAGE.latency, PAGE.round_latency)
TTFT = Figure("TTFT", ("ttft_p95_ms", "ttft_p50_ms"), P95_P50, *_MS, "ttft", ("canary_ms", "new user"))
TPOT = Figure("TPOT", ("tpot_p95_ms", "tpot_p50_ms"), P95_P50, *_MS, "tpot")
OUTPUT = Figure("Output tokens/s", ("output_tokens_per_s",), ("",), _tokens, _tokens)

PANELS = (
    Figure("Load", ("target", "in_flight"), ("commanded", "in flight"), PAGE.exact, PAGE.exact),
    TTFT,
    TPOT,
    Figure("Server", ("waiting", "running"), ("waiting", "running"), PAGE.exact, PAGE.exact, "queue"),
    Figure("KV cache", ("kv_usage",), ("in use",), PAGE.percent, PAGE.round_percent, "kv"),
    OUTPUT,
    Figure("Errors", ("error_ratio",), ("",), PAGE.percent, PAGE.round_percent, "error_ratio"),
    Figure("Client lag", ("client_lag_ms",), ("p99",), PAGE.latency, PAGE.round_latency),
)


def curve_charts(report: ReportInput) -> tuple[str, str, str]:
    """TTFT, TPOT and output tokens/s over the load."""
    return (
        _curve_chart(report, TTFT, "tall"),
        _curve_chart(report, TPOT, "half"),
        _curve_chart(report, OUTPUT, "half"),
    )


def timeline_charts(report: ReportInput) -> str:
    """The stacked panels over time, without those for which nothing was seen."""
    panels = [panel for panel in PANELS if any(_seen(report, name) for name in panel.fields)]
    drawn = [_panel(report, panel, last=panel is panels[-1]) for panel in panels]
    return "".join((*drawn[:1], _replicas(report), *drawn[1:]) if drawn else ())


def curve_columns(report: ReportInput) -> dict[str, object]:
    """What the readout under the curves needs, level by level, as text: the script only looks it up."""
    curve = prose.current_curve(report)
    scale = load_scale(point.load for point in _all_points(report))
    return {
        "places": [round(scale.place(point.load), 4) for point in curve.points],
        "texts": [level_text(point, curve) for point in curve.points],
    }


def timeline_columns(report: ReportInput) -> dict[str, object]:
    """The columns of the timeline as text, for the readouts of the panels."""
    timeline = report.timeline
    steps = len(timeline.in_flight)
    start_s = timeline.end_s - steps * timeline.step_s
    columns: dict[str, object] = {"clock": [clock(start_s + (i + 1) * timeline.step_s) for i in range(steps)]}
    for panel in PANELS:
        for name in panel.fields:
            if _seen(report, name):
                series: Series = getattr(timeline, name)
                columns[name] = [None if value is None else panel.text(value) for value in series]
    return columns | scaling.columns(report, [start_s + (i + 1) * timeline.step_s for i in range(steps)])


def level_text(point: LevelPoint, curve: Curve) -> str:
    """One level in one line."""
    load = f"{PAGE.load(point.load, curve.axis)} {axis_name(curve.axis)}"
    parts = [
        load,
        f"TTFT p50 {PAGE.latency(point.ttft_p50_ms)}, p95 {PAGE.latency(point.ttft_p95_ms)}",
        f"TPOT p50 {PAGE.latency(point.tpot_p50_ms)}",
        f"{PAGE.count(point.output_tokens_per_s)} tok/s",
        f"n {point.n}",
    ]
    return " · ".join(parts)


def _curve_chart(report: ReportInput, figure: Figure, kind: str) -> str:
    points = _all_points(report)
    target = report.slo.target(figure.metric) if figure.metric else None
    values = [value for point in points for name in figure.fields if (value := getattr(point, name)) is not None]
    if not values and report.assessment.path:
        return f'<p class="empty">{escape(figure.name)}: void, {escape(report.assessment.path)}</p>'
    if not values:
        return f'<p class="empty">{escape(figure.name)}: no level was held long enough to measure it.</p>'
    limit_ms = target.limit * 1e3 if target else None
    shown = [*values, limit_ms] if limit_ms is not None and limit_ms < 20 * max(values) else values
    y = latency_scale(shown) if figure.metric else zero_scale(shown)
    plot = Plot(load_scale(point.load for point in points), y)
    plot.grid([(tick, figure.tick(tick)) for tick in plot.y.ticks(5) if tick > 0], HEADROOM[kind])
    if figure.metric:
        _draw_cliff(plot, report, labelled=kind == "tall")
    twin = foreseen.draw(plot, report, figure.fields[0])
    for curve in prose.drawn(report):
        _draw_curve(plot, curve, figure, limit_ms)
    if target is not None and limit_ms in shown:
        plot.level(target.limit * 1e3, "slo")
        plot.label(0.12, 1 - plot.y.place(target.limit * 1e3), f"SLO {PAGE.target(target)}", "slo")
    plot.x_axis([(tick, PAGE.load(tick, curve.axis)) for tick in load_ticks(plot.x)])
    curve = prose.current_curve(report)
    summary = f"{figure.name} over {axis_name(curve.axis)}: {prose.cliff_text(report.assessment.cliff)}"
    legend = _legend(figure, [any(getattr(point, name) is not None for point in points) for name in figure.fields])
    heading = f"<h3>{escape(figure.name)} <small>over {axis_name(curve.axis)}</small>{legend}{twin}</h3>"
    return f'<div class="chart" data-curve>{heading}{plot.html(kind, summary)}</div>'


def _draw_cliff(plot: Plot, report: ReportInput, *, labelled: bool) -> None:
    cliff = report.assessment.cliff
    if cliff.at is None or cliff.kind not in (Kind.CLIFF, Kind.GRADUAL):
        return
    if cliff.low is not None and cliff.high is not None:
        plot.band(cliff.low, cliff.high, "cliff")
    plot.upright(cliff.at, "cliff")
    if labelled:
        spread = prose.interval_text(cliff)
        text = (
            fails_from(cliff, PAGE) if cliff.fails else f"{knee_name(cliff.kind)} at {PAGE.load(cliff.at, cliff.axis)}"
        )
        text = f"{text}{spread}"
        left = plot.x.place(cliff.at if cliff.low is None else cliff.low)
        # The curve climbs at the right of a cliff, so the words stand at its left where there is room.
        plot.label(left, 0, text, "cliff" if left > 0.5 else "cliff after")


def _draw_curve(plot: Plot, curve: Curve, figure: Figure, limit_ms: float | None) -> None:
    points = sorted(curve.points, key=lambda point: point.load)
    for place, name in enumerate(figure.fields):
        series = "a" if place == len(figure.fields) - 1 else "b"
        known = [(point, value) for point in points if (value := getattr(point, name)) is not None]
        plot.line([(point.load, value) for point, value in known], "ghost" if curve.ghost else series)
        if curve.ghost:
            continue
        plot.dots([(point.load, value) for point, value in known if point.faint], f"{series} faint")
        firm = [(point.load, value) for point, value in known if not point.faint]
        limited = limit_ms is not None and name.endswith("p95_ms")
        plot.dots([dot for dot in firm if not (limited and dot[1] > (limit_ms or 0))], series)
        if limited:
            plot.dots([dot for dot in firm if dot[1] > (limit_ms or 0)], "miss")


def _panel(report: ReportInput, panel: Figure, *, last: bool) -> str:
    timeline = report.timeline
    steps = len(timeline.in_flight)
    start_s = timeline.end_s - steps * timeline.step_s
    times = [start_s + (i + 1) * timeline.step_s for i in range(steps)]
    target = report.slo.target(panel.metric) if panel.metric else None
    limit = None if target is None else target.limit * (1e3 if panel.in_ms else 1)
    columns: list[Series] = [getattr(timeline, name) for name in panel.fields]
    dots: Series = getattr(timeline, panel.dots[0]) if panel.dots and _seen(report, panel.dots[0]) else ()
    plot = Plot(Scale(start_s, max(timeline.end_s, start_s + 1)), panel_scale([*columns, dots], limit, panel))
    ticks = [tick for tick in plot.y.ticks(2) if tick > 0]
    plot.grid([(tick, panel.tick(tick) if tick == ticks[-1] else "") for tick in ticks], HEADROOM["low"])
    for t_s in moves(report.changes, max(ONE_MOVE_S, report.length_s / MOST_MOVES)):
        plot.upright(t_s, "change")
    for mark in report.marks:
        plot.upright(mark.t_s, "mark")
    scaling.draw_marks(plot, report.scaling, named=False)
    for place, column in enumerate(columns):
        style = "a" if place == len(columns) - 1 else "b"
        if len(columns) == 1:
            plot.area(zip(times, column, strict=True), style)
        plot.line(zip(times, column, strict=True), style)
    if dots:
        plot.dots([(t_s, value) for t_s, value in zip(times, dots, strict=True) if value is not None], "c")
    if limit is not None and limit <= plot.y.high:
        plot.level(limit, "slo")
    if panel.name == "Load":
        for place, mark in enumerate(report.marks, 1):
            plot.label(plot.x.place(mark.t_s), 0, f"m{place}", "mark")
    if last:
        plot.x_axis([(tick, clock(tick)) for tick in time_ticks(plot.x)])
    summary = f"{panel.name} over the {PAGE.duration(report.length_s)} of the run"
    readout = "".join(
        f'<output data-column="{name}" class="{"a" if place == len(columns) - 1 else "b"}"></output>'
        for place, name in enumerate(panel.fields)
        if _seen(report, name)
    )
    limit_text = f"<small>SLO {escape(_limit_text(target))}</small>" if target is not None else ""
    legend = _legend(panel, [_seen(report, name) for name in panel.fields])
    legend += f'<span class="key c">{panel.dots[1]}</span>' if panel.dots and dots else ""
    heading = f"<h3>{escape(panel.name)}{legend}{limit_text}<b>{readout}</b></h3>"
    return f'<div class="panel" data-timeline>{heading}{plot.html("low", summary)}</div>'


def _replicas(report: ReportInput) -> str:
    """Replicas over time, as they were wanted, ready and serving; empty where nobody tells."""
    timeline = report.timeline
    start_s = timeline.end_s - len(timeline.in_flight) * timeline.step_s
    stairs = scaling.lines(report.scaling, timeline.end_s)
    if not stairs:
        return ""
    counts = [count for points in stairs.values() for _, count in points]
    plot = Plot(
        Scale(start_s, max(timeline.end_s, start_s + 1)),
        zero_scale([*counts, 1.5 * max(count or 0.0 for count in counts)], least=2.0),
    )
    ticks = [tick for tick in plot.y.ticks(2) if tick > 0]
    plot.grid([(tick, PAGE.exact(tick) if tick == ticks[-1] else "") for tick in ticks], HEADROOM["low"])
    scaling.draw_marks(plot, report.scaling, named=True)
    styles = dict(zip(scaling.LINES, scaling.STYLES, strict=True))
    keys, readout = "", ""
    for name, points in stairs.items():
        plot.line(points, styles[name])
        keys += f'<span class="key {styles[name]}">{name}</span>'
        readout += f'<output data-column="replicas_{name}" class="{styles[name]}"></output>'
    summary = f"Replicas over the {PAGE.duration(report.length_s)} of the run"
    return f'<div class="panel" data-timeline><h3>Replicas{keys}<b>{readout}</b></h3>{plot.html("low", summary)}</div>'


def _limit_text(target: SloTarget) -> str:
    return f"{target.stat or ''} < {PAGE.limit(target.metric, target.limit)}".strip()


def panel_scale(columns: Sequence[Series], limit: float | None, panel: Figure) -> Scale:
    values = [value for column in columns for value in column if value is not None]
    if panel.metric == "kv":
        return Scale(0, 1)
    if panel.metric == "error_ratio":
        return zero_scale(values, least=0.02)
    if panel.in_ms and values and max(values) > 30 * sorted(values)[len(values) // 2] > 0:
        return latency_scale(values, log=True)
    # The limit is in the picture when the run came anywhere near it.
    near = limit is not None and values and max(values) > limit / 4
    return zero_scale([*values, limit] if near else values)


def time_ticks(scale: Scale) -> list[float]:
    span = scale.high - scale.low
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
    step = next((step for step in steps if span / step <= 7), 86400)
    return [float(step * i) for i in range(int(scale.high // step) + 1) if step * i >= scale.low]


def _legend(figure: Figure, seen: Sequence[bool]) -> str:
    """The keys of the lines that are there."""
    styles = ("b", "a") if len(figure.legend) == 2 else ("a",)
    keys = zip(styles, figure.legend, seen, strict=True)
    return "".join(f'<span class="key {style}">{name}</span>' for style, name, known in keys if name and known)


def _seen(report: ReportInput, name: str) -> bool:
    if report.assessment.path and name in (*TTFT.fields, *TPOT.fields, *(TTFT.dots or ())):
        return False
    series: Series = getattr(report.timeline, name)
    return any(value is not None for value in series)


def _all_points(report: ReportInput) -> list[LevelPoint]:
    return [point for curve in prose.drawn(report) for point in curve.points]


def change_rows(report: ReportInput) -> list[tuple[float, LoadPoint, str]]:
    """Load changes worth a line: by hand, brake, stop and search, and where a stage begins; (time, load, why)."""
    rows = []
    stage = None
    for change in report.changes:
        if change.reason != "stage" or change.stage != stage:
            why = f"stage {change.stage}" if change.reason == "stage" and change.stage else change.reason
            rows.append((change.t_s, change.point, why))
        stage = change.stage
    return rows
