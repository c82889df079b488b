"""The report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from llmtop.domain.load import Axis
from llmtop.domain.slo import Latency, Stat
from llmtop.domain.verdicts import Curve, LevelPoint
from llmtop.report import charts, foreseen, percentiles, prose, replicas, scaling
from llmtop.report import map as maps
from llmtop.report.contents import ReportInput
from llmtop.report.pieces import cell, document, prose_of, rows_of, table
from llmtop.wording import cost, crew, kinds
from llmtop.wording.figures import PAGE, clock
from llmtop.wording.sentences import sentence

_HINT = "Point at a chart to read a level."
_CLOCK_HINT = "point at a chart to read a moment"


def html_text(report: ReportInput) -> str:
    """The page. Everything that comes from outside is escaped."""
    facts = {"curve": charts.curve_columns(report), "timeline": charts.timeline_columns(report)}
    return document(
        f"{prose.verdict(report)} {prose.title(report)}", report.meta.llmtop_version, facts, _sections(report)
    )


def _sections(report: ReportInput) -> Iterable[str]:
    yield _head(report)
    yield _curves(report)
    yield _reasons(report)
    yield _costs(report)
    yield _map(report)
    yield _levels(report)
    yield _timelines(report)
    yield _requests(report)
    yield _kinds(report)
    yield _happenings(report)
    yield _load_workers(report)
    yield f"<h2>How it was measured</h2>{rows_of(prose.environment(report))}"
    yield f'<section class="words"><h2>What the words mean</h2>{rows_of(prose.DEFINITIONS)}</section>'


def _head(report: ReportInput) -> str:
    kicker = f"{prose.title(report)} · {prose.started_text(report)} · {PAGE.duration(report.length_s)}"
    answer, grounds = prose.answer_and_grounds(report)
    lead = " ".join((grounds, *prose.details(report))).strip()
    warnings = "".join(f'<p class="warning">{prose_of(text)}</p>' for text in prose.warnings(report))
    tiles = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in prose.figures(report)
    )
    return (
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(answer)}</h1>'
        f'<p class="lead">{prose_of(lead)}</p>{warnings}<dl class="figures">{tiles}</dl></header>'
    )


def _curves(report: ReportInput) -> str:
    if not any(curve.points for curve in report.assessment.curves):
        return '<h2>Load and latency</h2><p class="empty">No load was held long enough to measure a level.</p>'
    ttft, tpot, output = charts.curve_charts(report)
    grey = prose.grey(report)
    note = f'<p class="quiet">{escape(grey)}</p>' if grey else ""
    return (
        f'<h2>Load and latency</h2>{ttft}<p class="readout" id="level" data-hint="{_HINT}">{_HINT}</p>'
        f'<div class="pair">{tpot}{output}</div>{note}'
    )


def _reasons(report: ReportInput) -> str:
    """The SLO limit by limit, and what binds with its evidence."""
    assessment = report.assessment
    rows = []
    for target in assessment.slo.targets:
        limit = next((each for each in report.slo.limits if each.name == target.name), None)
        if limit is None:
            continue
        colour = {True: "good", False: "bad", None: "quiet"}[target.ok]
        value = PAGE.measured(limit.metric, target.value)
        high = PAGE.measured(limit.metric, target.high)
        rows.append(
            [
                cell(PAGE.target(limit), "text"),
                cell(prose.ok_text(target.ok), f"text {colour}"),
                cell(value),
                cell(high),
                cell(PAGE.whole(target.n or None)),
            ]
        )
    parts = []
    if rows:
        parts.append(f'<h2>The SLO</h2><p class="quiet">{prose.SLO_NOTE}</p>')
        parts.append(table(["Limit", "", "Measured", "At most (95 %)", "n"], rows, "limits"))
        if assessment.slo.attainment is not None:
            parts.append(f'<p class="quiet">{escape(prose.attainment_text(assessment.slo))}</p>')
    reasons = prose.reasons(report)
    if reasons:
        parts.append(f"<h2>What binds: {escape(prose.binding(report))}</h2>")
        parts.append("<ul>" + "".join(f"<li>{prose_of(reason)}</li>" for reason in reasons) + "</ul>")
    if scaled := [list(map(cell, row)) for row in scaling.rows(report)]:
        parts.append(f'<h2>{scaling.TITLE}</h2><p class="quiet">{scaling.NOTE}</p>{table(scaling.HEADS, scaled)}')
    if carried := [[cell(name, "text"), *map(cell, rest)] for name, *rest in replicas.rows(report)]:
        parts.append(f'<h2>{replicas.TITLE}</h2><p class="quiet">{prose_of(replicas.note(report))}</p>')
        parts.append(table(replicas.HEADS, carried))
    if rows := [list(map(cell, row)) for row in prose.fewer_rows(report)]:
        parts.append(f'<h2>Fewer slots</h2><p class="quiet">{prose_of(prose.FEWER_NOTE)}</p>')
        parts.append(table(prose.FEWER_HEADS, rows, "fewer"))
    if note := foreseen.note(report):
        rows = [[cell(what, "text"), *map(cell, rest)] for what, *rest in foreseen.rows(report)]
        parts.append(f'<h2>{foreseen.TITLE}</h2><p class="quiet">{prose_of(note)}</p>')
        parts.append(table(foreseen.HEADS, rows))
    return "".join(parts)


def _costs(report: ReportInput) -> str:
    costs = report.assessment.costs
    if costs is None:
        return ""
    rows = [[cell(use, "text"), *map(cell, rest)] for use, *rest in cost.table_rows(costs, PAGE)]
    note = f'<p class="quiet">{prose_of(cost.note(costs, PAGE))}</p>' if rows else ""
    said = "".join(f"<li>{prose_of(sentence(each))}</li>" for each in cost.notes(costs, PAGE))
    return f"<h2>{cost.TITLE}</h2>{note}{table(cost.HEADS, rows) if rows else ''}{f'<ul>{said}</ul>' if said else ''}"


def _map(report: ReportInput) -> str:
    known = report.map
    if known is None:
        return ""
    heads, found = maps.rows(known)
    rows = [[*map(cell, row[:-1]), cell(row[-1], "text")] for row in found]
    note = f'<p class="quiet">{prose_of(maps.note(known))}</p>'
    return f"<h2>{maps.TITLE}</h2>{maps.figure(report)}{note}{table(heads, rows)}"


def _levels(report: ReportInput) -> str:
    curves = prose.curves(report)
    if not curves:
        return ""
    return "<h2>Level by level</h2>" + "".join(_level_table(curve, report) for curve in curves)


def _level_table(curve: Curve, report: ReportInput) -> str:
    heads = ["in flight" if curve.axis == "concurrency" else "requests/s", "n", "errors", "TTFT p50", "TTFT p95"]
    heads += ["TPOT p50", "TPOT p95", "E2E p50", "tok/s", "req/s", "queue", "KV", "in SLO"]
    ordered = sorted(curve.points, key=lambda point: point.load)
    rows = "".join(
        f"<tr{' class=faint' if point.faint else ''}>{''.join(_level_cells(point, curve.axis, report))}</tr>"
        for point in ordered
    )
    faint = '<p class="quiet">Grey rows have too few requests to lean on.</p>' if _any_faint(curve) else ""
    label = f'<p class="quiet">{escape(prose.curve_name(curve))}</p>' if curve.label else ""
    turn = '<p class="quiet turn">Turn the phone to see all columns.</p>'
    return f"{label}{turn}{table(heads, rows, 'levels')}{faint}"


def _level_cells(point: LevelPoint, axis: Axis, report: ReportInput) -> list[str]:
    def latency(value: float | None, metric: Latency, stat: Stat) -> str:
        target = report.slo.target(metric)
        missed = value is not None and target is not None and target.stat == stat and value > target.limit * 1e3
        return cell(PAGE.latency(value), "bad" if missed else "")

    attained = point.attainment
    return [
        cell(PAGE.load(point.load, axis)),
        cell(PAGE.whole(point.n)),
        cell(PAGE.whole(point.errors), "bad" if point.errors else ""),
        latency(point.ttft_p50_ms, "ttft", "p50"),
        latency(point.ttft_p95_ms, "ttft", "p95"),
        latency(point.tpot_p50_ms, "tpot", "p50"),
        latency(point.tpot_p95_ms, "tpot", "p95"),
        latency(point.e2e_p50_ms, "e2e", "p50"),
        cell(PAGE.count(point.output_tokens_per_s)),
        cell(PAGE.count(point.requests_per_s)),
        cell(PAGE.exact(point.waiting)),
        cell(PAGE.percent(point.kv_usage)),
        cell(PAGE.percent(attained), "good" if attained is not None and attained >= 0.95 else ""),
    ]


def _any_faint(curve: Curve) -> bool:
    return any(point.faint for point in curve.points)


def _timelines(report: ReportInput) -> str:
    panels = charts.timeline_charts(report)
    if not panels:
        return ""
    hint = f'<span class="quiet" id="clock" data-hint="{_CLOCK_HINT}">{_CLOCK_HINT}</span>'
    marks = "".join(
        f"<li>m{place} at {clock(mark.t_s)}: {escape(mark.text)}</li>" for place, mark in enumerate(report.marks, 1)
    )
    return f'<h2>Over time</h2><p>{hint}</p><div class="panels">{panels}</div>{f"<ul>{marks}</ul>" if marks else ""}'


def _requests(report: ReportInput) -> str:
    run = report.figures.run
    rows = [_named_row(row, 1) for row in percentiles.rows(run)]
    parts = [f"<h2>All requests</h2><p>{escape(prose.totals_text(report))}</p>"]
    if rows:
        parts.append(table(percentiles.HEADS, rows, "percentiles"))
        note = " ".join(filter(None, (prose.DISTRIBUTION_NOTE, percentiles.left_out_text(run))))
        parts.append(f'<p class="quiet">{escape(note)}</p>')
    if each := [_named_row(row, 2) for row in percentiles.part_rows(report)]:
        found = table(["", *percentiles.HEADS], each)
        parts.append(f"<details><summary>{percentiles.PARTS}</summary>{found}</details>")
    if report.assessment.failures:
        failed = [[cell(what, "text wrap"), *map(cell, rest)] for what, *rest in prose.failure_rows(report)]
        parts.append(table(["Failure", *prose.FAILURE_HEADS], failed))
    return "".join(parts)


def _kinds(report: ReportInput) -> str:
    """By name, by model and by turn, and calls; empty where all requests are of one kind."""
    parts = []
    for told in kinds.tables(report.assessment, PAGE):
        last = len(told.heads) - 1 if not told.heads[-1] else 0
        rows = [
            [cell(text, _style(text) if at in (0, last) else "") for at, text in enumerate(row)] for row in told.rows
        ]
        parts.append(f"<h3>{escape(told.title)}</h3>{table(told.heads, rows, 'kinds')}")
    visits = report.assessment.sessions
    if visits is not None:
        parts.append(f"<p>{escape(sentence(kinds.visits(visits, PAGE)))}</p>")
    return f'<h2>{prose.KINDS}</h2><p class="quiet">{escape(prose.KINDS_NOTE)}</p>{"".join(parts)}' if parts else ""


def _load_workers(report: ReportInput) -> str:
    """Each load worker at worst; empty where one process alone has sent the load."""
    if report.load_workers is None:
        return ""
    told = crew.table(report.load_workers, PAGE)
    rows = [[cell(name, "text"), cell(state, "text"), *map(cell, rest)] for name, state, *rest in told.rows]
    return f'<h2>{crew.TITLE}</h2><p class="quiet">{prose_of(crew.NOTE)}</p>{table(told.heads, rows)}'


def _style(text: str) -> str:
    return {kinds.verdict(True): "text good", kinds.verdict(False): "text bad"}.get(text, "text") if text else "text"


def _named_row(cells: Sequence[str], names: int) -> list[str]:
    """Cells of which the first `names` are text."""
    return [cell(text, "text" if place < names else "") for place, text in enumerate(cells)]


def _happenings(report: ReportInput) -> str:
    """Load changes and events, folded: they are long."""
    parts = []
    changes = charts.change_rows(report)
    if changes:
        rows = [
            [cell(clock(t_s)), cell(prose.load_text(point), "text"), cell(why, "text")]
            for t_s, point, why in changes[:500]
        ]
        found = table(["at", "load", "by"], rows)
        parts.append(f"<details><summary>{_many(len(changes), 'change')} of load</summary>{found}</details>")
    if report.events:
        rows = [
            [
                cell(clock(event.t_s)),
                cell(event.kind, "text"),
                cell(event.text, "text wrap bad" if event.severity == "error" else "text wrap"),
            ]
            for event in report.events[:500]
        ]
        opened = " open" if any(event.severity != "info" for event in report.events) else ""
        found = table(["at", "", "event"], rows)
        parts.append(f"<details{opened}><summary>{_many(len(report.events), 'event')}</summary>{found}</details>")
    return f"<h2>What happened</h2>{''.join(parts)}" if parts else ""


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
