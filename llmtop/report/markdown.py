"""The report as Markdown, for pull requests and CI summaries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from llmtop.domain.verdicts import Curve, Kind
from llmtop.report import foreseen, percentiles, prose, replicas, scaling
from llmtop.report import map as maps
from llmtop.report.contents import ReportInput
from llmtop.report.scales import latency_scale, load_scale, load_ticks
from llmtop.wording import cost, crew, kinds
from llmtop.wording.answers import FAIL_ON
from llmtop.wording.figures import PAGE, clock
from llmtop.wording.names import axis_name, place_name
from llmtop.wording.sentences import sentence
from llmtop.wording.thresholds import limit_text, measured_text

_WIDTH, _HEIGHT = 64, 14
_SIGN = re.compile(r"[\\`*_\[\]|~]")
_TAG = re.compile(r"<(?![\s\d=])|&(?=#|\w)")
"""What a tag or a character reference begins with: `<` before a blank is one for readers and for Markdown alike."""
_START = re.compile(r"^(\d*)(>|[-+=#.)](?=\s|$|[-=#]))")
"""What has a meaning where a line begins: headings, lists, rules, quotes."""


def markdown_text(report: ReportInput) -> str:
    """The whole report as GitHub-flavoured Markdown."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: ReportInput) -> Iterable[str]:
    yield f"# {plain_of(prose.verdict(report))}"
    yield ""
    started = f"{prose.title(report)} · {prose.started_text(report)} · {PAGE.duration(report.length_s)}"
    yield plain_of(started)
    yield ""
    yield plain_of(" ".join(prose.details(report)))
    for text in prose.warnings(report):
        yield ""
        yield f"> {plain_of(text)}"
    yield ""
    yield from table(["", "", ""], prose.figures(report))
    curve = text_curve(report)
    if curve:
        yield from ("", "## Load and latency", "", "```text", *curve, "```")
    yield from _slo(report)
    if costs := report.assessment.costs:
        rows = cost.table_rows(costs, PAGE)
        yield from ("", f"## {cost.TITLE}")
        if rows:
            yield from ("", plain_of(cost.note(costs, PAGE)), "", *table(cost.HEADS, rows))
        yield from ("", *(f"- {plain_of(sentence(each))}" for each in cost.notes(costs, PAGE)))
    reasons = prose.reasons(report)
    if reasons:
        yield from ("", f"## What binds: {prose.binding(report)}", "")
        yield from (f"- {plain_of(reason)}" for reason in reasons)
    if rows := scaling.rows(report):
        yield from ("", f"## {scaling.TITLE}", "", scaling.NOTE, "")
        yield from table(scaling.HEADS, rows)
    if rows := replicas.rows(report):
        yield from ("", f"## {replicas.TITLE}", "", plain_of(replicas.note(report)), "")
        yield from table(replicas.HEADS, rows)
    if rows := prose.fewer_rows(report):
        yield from ("", "## Fewer slots", "", prose.FEWER_NOTE, "")
        yield from table(prose.FEWER_HEADS, rows)
    if note := foreseen.note(report):
        yield from ("", f"## {foreseen.TITLE}", "", note, "")
        yield from table(foreseen.HEADS, foreseen.rows(report))
    if known := report.map:
        yield from ("", f"## {maps.TITLE}", "", plain_of(maps.note(known)), "")
        yield from table(*maps.rows(known))
    yield from _levels(report)
    yield from _requests(report)
    yield from _kinds(report)
    if report.marks:
        yield from ("", "## Marks", "")
        yield from (f"- {clock(mark.t_s)} {plain_of(mark.text)}" for mark in report.marks)
    if report.load_workers is not None:
        told = crew.table(report.load_workers, PAGE)
        yield from ("", f"## {crew.TITLE}", "", crew.NOTE, "")
        yield from table(told.heads, told.rows)
    yield from ("", "## How it was measured", "")
    yield from table(["", ""], prose.environment(report))
    yield from ("", "## What the words mean", "")
    yield from (f"- **{name}**: {meaning}" for name, meaning in prose.DEFINITIONS)


def _slo(report: ReportInput) -> Iterable[str]:
    if lines := list(limits_table(report)):
        yield from ("", "## The SLO", "", prose.SLO_NOTE, "", *lines)


def limits_table(report: ReportInput) -> Iterable[str]:
    """The limits of the SLO, then the thresholds of --fail-on; nothing where none was judged."""
    limits = {target.name: target for target in report.slo.limits}
    rows = []
    for target in report.assessment.slo.targets:
        if target.name in limits:
            limit = limits[target.name]
            value = PAGE.measured(limit.metric, target.value)
            rows.append((PAGE.target(limit), value, PAGE.whole(target.n or None), prose.ok_text(target.ok)))
    for each in report.assessment.judgement.thresholds:
        value = measured_text(each.name, each.measured, PAGE)
        shown = f"{FAIL_ON} {limit_text(each.name, each.limit, PAGE)}"
        rows.append((shown, value, PAGE.whole(each.n or None), prose.ok_text(each.ok)))
    if rows:
        yield from table(["limit", "measured", "n", ""], rows)


def _levels(report: ReportInput) -> Iterable[str]:
    curves = prose.curves(report)
    if curves:
        yield from ("", "## Level by level", "")
    for curve in curves:
        if len(curves) > 1 or curve.ghost:
            yield from ("", plain_of(prose.curve_name(curve)), "")
        yield from _level_table(curve)


def _level_table(curve: Curve) -> Iterable[str]:
    heads = [
        axis_name(curve.axis),
        "n",
        "errors",
        "TTFT p50",
        "TTFT p95",
        "TPOT p50",
        "TPOT p95",
        "tok/s",
        "queue",
        "KV",
        "in SLO",
    ]
    yield from table(
        heads,
        [
            (
                PAGE.load(point.load, curve.axis) + (" (faint)" if point.faint else ""),
                PAGE.whole(point.n),
                PAGE.whole(point.errors),
                *map(PAGE.latency, (point.ttft_p50_ms, point.ttft_p95_ms, point.tpot_p50_ms, point.tpot_p95_ms)),
                PAGE.count(point.output_tokens_per_s),
                PAGE.exact(point.waiting),
                PAGE.percent(point.kv_usage),
                PAGE.percent(point.attainment),
            )
            for point in sorted(curve.points, key=lambda point: point.load)
        ],
    )


def _requests(report: ReportInput) -> Iterable[str]:
    yield from ("", "## All requests", "", prose.totals_text(report), "")
    run = report.figures.run
    if rows := percentiles.rows(run):
        yield from table(percentiles.HEADS, rows)
        yield from ("", " ".join(filter(None, (prose.DISTRIBUTION_NOTE, percentiles.left_out_text(run)))))
    if parts := percentiles.part_rows(report):
        yield from ("", f"<details><summary>{percentiles.PARTS}</summary>", "")
        yield from table(["", *percentiles.HEADS], parts)
        yield from ("", "</details>")
    yield from failures_table(report)


def failures_table(report: ReportInput) -> Iterable[str]:
    """What failed, by kind, below a blank line; nothing where nothing did."""
    if report.assessment.failures:
        yield ""
        yield from table(["failure", *prose.FAILURE_HEADS], prose.failure_rows(report))


def _kinds(report: ReportInput) -> Iterable[str]:
    """By name, by model and by turn, and calls; nothing where all requests are of one kind."""
    found, visits = kinds.tables(report.assessment, PAGE), report.assessment.sessions
    if found or visits is not None:
        yield from ("", f"## {prose.KINDS}", "", prose.KINDS_NOTE)
    for told in found:
        yield ""
        yield from table((told.title, *told.heads[1:]), told.rows)
    if visits is not None:
        yield from ("", sentence(kinds.visits(visits, PAGE)))


def text_curve(report: ReportInput) -> list[str]:
    """TTFT over the load in characters: o is p50, x is p95, | the cliff, - the limit. Empty without levels."""
    curve = prose.current_curve(report)
    points = [point for point in curve.points if point.ttft_p50_ms is not None]
    if not points:
        return []
    target = report.slo.target("ttft")
    values = [value for point in points for value in (point.ttft_p50_ms, point.ttft_p95_ms) if value is not None]
    x, y = load_scale(point.load for point in points), latency_scale(values)
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]

    def row(value_ms: float) -> int:
        return round((1 - y.place(value_ms)) * (_HEIGHT - 1))

    def column(load: float) -> int:
        return round(x.place(load) * (_WIDTH - 1))

    if target is not None and y.low <= target.limit * 1e3 <= y.high:
        grid[row(target.limit * 1e3)] = ["-"] * _WIDTH
    cliff = report.assessment.cliff
    if cliff.at is not None and cliff.kind in (Kind.CLIFF, Kind.GRADUAL):
        for line in grid:
            line[column(cliff.at)] = "|"
    for point in points:
        for value, sign in ((point.ttft_p95_ms, "x"), (point.ttft_p50_ms, "o")):
            if value is not None:
                grid[row(value)][column(point.load)] = sign
    labels = {row(tick): PAGE.round_latency(tick) for tick in y.ticks(6)}
    lines = [f"{labels.get(place, ''):>8} {''.join(line)}".rstrip() for place, line in enumerate(grid)]
    below = [" "] * (_WIDTH + 8)
    for tick in load_ticks(x, 8):
        text = PAGE.load(tick, curve.axis)
        below[column(tick) : column(tick) + len(text)] = text
    unit = axis_name(curve.axis)
    legend = (
        f"TTFT over {unit}: o p50, x p95"
        + (f", | {place_name(cliff)}" if cliff.at is not None else "")
        + (", - SLO" if target else "")
    )
    return [legend, "", *lines, " " * 9 + "".join(below).rstrip()]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + " --- |" * len(heads)
    for row in rows:
        yield "| " + " | ".join(map(cell, row)) + " |"


def plain_of(text: str) -> str:
    """Text from outside, on one line and without a meaning in Markdown or HTML, also where a line begins with it."""
    return _START.sub(r"\1\\\2", cell(text))


def cell(text: str) -> str:
    """The same inside a table, where no line begins."""
    return _SIGN.sub(r"\\\g<0>", _TAG.sub(lambda found: escape(found[0], quote=False), " ".join(text.split())))
