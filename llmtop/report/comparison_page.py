"""A comparison as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from llmtop.domain.compared import Compared, Delta, Verdict
from llmtop.report import overlay
from llmtop.report.comparison import (
    FIGURE_HEADS,
    NOTE,
    WHOLE_HEADS,
    ComparisonInput,
    delta_row,
    difference_rows,
    heading,
    load_text,
    matrix,
    shown_metrics,
    whole_deltas,
    whole_rows,
)
from llmtop.report.pieces import cell, document, prose_of, table
from llmtop.wording.compared import change, metric_name
from llmtop.wording.figures import PAGE, UNKNOWN

_HINT = "Point at a chart to read a level."
_CLOCK_HINT = "point at a chart to read a moment"
_COLOURS = {Verdict.BETTER: "good", Verdict.WORSE: "bad", Verdict.UNKNOWN: "quiet"}
_CHANGED = (Verdict.BETTER, Verdict.WORSE)


def comparison_html(report: ComparisonInput) -> str:
    """The page. Everything that comes from outside is escaped."""
    facts = {"curve": overlay.curve_columns(report), "timeline": overlay.timeline_columns(report)}
    names = " · ".join(side.name for side in report.sides)
    return document(f"{heading(report.compared[0])[0]} {names}", report.version, facts, _sections(report))


def _sections(report: ComparisonInput) -> Iterable[str]:
    first, *others = report.compared
    yield _head(report, first)
    for told in others:
        yield f"<h2>{prose_of(heading(told)[0])}</h2><p>{prose_of(heading(told)[1])}</p>{_warnings(told)}"
    yield _differs(report)
    yield _curves(report)
    for told in report.compared:
        yield _changes(told, named=len(report.compared) > 1)
    yield _timelines(report)
    yield _measurements(report)
    yield f'<section class="words"><h2>What the words mean</h2><p class="quiet">{prose_of(NOTE)}</p></section>'


def _head(report: ComparisonInput, told: Compared) -> str:
    head, rest = heading(told)
    kicker = f"{told.before} → {', '.join(each.after for each in report.compared)}"
    lead = f'<p class="lead">{prose_of(rest)}</p>' if rest else ""
    tiles = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(by if verdict in _CHANGED else verdict)}"
        f"<small>{escape(f'{was} → {now}')}</small></dd></div>"
        for name, was, now, by, _, verdict in whole_rows(told)
    )
    figures = f'<dl class="figures">{tiles}</dl>' if tiles else ""
    return (
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{prose_of(head)}</h1>{lead}{_warnings(told)}{figures}'
        "</header>"
    )


def _warnings(told: Compared) -> str:
    return "".join(f'<p class="warning">{prose_of(note)}</p>' for note in told.notes)


def _differs(report: ComparisonInput) -> str:
    found = [(told.after, row) for told in report.compared for row in difference_rows(told)]
    if not found:
        return '<h2>What differs</h2><p class="quiet">Nothing that is known but the figures.</p>'
    several = len(report.compared) > 1
    rows = [
        [cell(name, "text"), cell(was, "text wrap"), cell(now, "text wrap"), *([cell(after, "text")] * several)]
        for after, (name, was, now) in found
    ]
    return f"<h2>What differs</h2>{table(['', 'before', 'after', *(['of'] * several)], rows)}"


def _curves(report: ComparisonInput) -> str:
    charts = overlay.curve_charts(report)
    if not charts:
        return ""
    pairs = "".join(f'<div class="pair">{"".join(charts[at : at + 2])}</div>' for at in range(1, len(charts), 2))
    readout = f'<p class="readout" id="level" data-hint="{_HINT}">{_HINT}</p>'
    return f"<h2>Load and latency</h2>{overlay.legend(report)}{charts[0]}{readout}{pairs}"


def _changes(told: Compared, *, named: bool) -> str:
    """The changes load by load, and all figures, folded."""
    rows = [[cell(name, "text"), *map(_change_cell, deltas)] for name, deltas in matrix(told)]
    of = f": {told.after}" if named else ""
    figures = [
        [cell(load_text(level, told), "text"), *_figure_cells(delta_row(delta, told), delta)]
        for level in told.levels
        for delta in level.deltas
        if delta.before is not None or delta.after is not None
    ]
    whole = [_figure_cells(delta_row(delta, told), delta) for delta in whole_deltas(told)]
    return (
        f"<h2>Load by load{escape(of)}</h2>{table(['', *map(metric_name, shown_metrics(told))], rows)}"
        f"{table(WHOLE_HEADS, whole)}"
        f"<details><summary>All figures</summary>{table(FIGURE_HEADS, figures)}</details>"
    )


def _change_cell(delta: Delta | None) -> str:
    if delta is None or delta.change is None:
        return cell(UNKNOWN, "quiet")
    return (
        f'<td class="{_COLOURS.get(delta.verdict, "")}">{escape(change(delta, PAGE))}'
        f"<small>{escape(delta.verdict)}</small></td>"
    )


def _figure_cells(row: Sequence[str], delta: Delta) -> list[str]:
    name, *values, verdict = row
    return [cell(name, "text"), *map(cell, values), cell(verdict, f"text {_COLOURS.get(delta.verdict, '')}".strip())]


def _timelines(report: ComparisonInput) -> str:
    panels = overlay.timeline_charts(report)
    if not panels:
        return ""
    hint = f'<span class="quiet" id="clock" data-hint="{_CLOCK_HINT}">{_CLOCK_HINT}</span>'
    return f'<h2>Over time</h2>{overlay.legend(report)}<p>{hint}</p><div class="panels">{panels}</div>'


def _measurements(report: ComparisonInput) -> str:
    names = list(dict.fromkeys(name for side in report.sides for name, _ in side.facts))
    rows = [
        [cell(name, "text"), *(cell(dict(side.facts).get(name, UNKNOWN), "text wrap") for side in report.sides)]
        for name in names
    ]
    heads = ["", *(side.name for side in report.sides)]
    return f"<h2>What was compared</h2>{table(heads, rows)}" if rows else ""
