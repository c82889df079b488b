"""`llmtop compare RUN RUN...`: before and after, load by load."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from llmtop.analysis.comparing import compare
from llmtop.analysis.paired import METRICS
from llmtop.analysis.sides import names_of
from llmtop.analysis.thresholds import Crossing, crossings, parse_changes
from llmtop.cli import cost, step_summary
from llmtop.cli.exits import NO, NOT_KNOWN, YES
from llmtop.cli.output import complain, named, print_json, say
from llmtop.cli.slo import asked_slo, of_settings, own_slo
from llmtop.domain.compared import Compared, Delta, Verdict
from llmtop.errors import UsageError
from llmtop.host.beside import sides_at
from llmtop.host.review import comparison_of, cut_off
from llmtop.report import COMPARISON_FORMATS, check_report, write_comparison
from llmtop.report.comparison import comparison_markdown
from llmtop.wording.compared import change, difference_text, figure, metric_name, unequal_text
from llmtop.wording.figures import TEXT
from llmtop.wording.names import short_unit
from llmtop.wording.thresholds import crossing_text

_SIGNS = {Verdict.BETTER: "+", Verdict.WORSE: "!", Verdict.SAME: "=", Verdict.UNKNOWN: "?", Verdict.MIXED: "!"}
_LEGEND = "after a change: + better, ! worse, = same, ? not known; pt: points"
_WIDTH = 11
GAUGES = {metric.name for metric in METRICS if metric.kind == "gauge"}
COLUMNS = 80


def main(arguments: argparse.Namespace) -> int:
    slo = asked_slo(arguments)
    thresholds = parse_changes(arguments.fail_on) if arguments.fail_on is not None else ()
    output = named("-o", arguments.output) if arguments.output is not None else None
    if output is not None:
        check_report(output, COMPARISON_FORMATS, force=arguments.force)
    first, *others = arguments.runs
    own = own_slo(arguments)
    baseline = sides_at(first, slo, arguments.axis, own)
    if slo is None and own is not None and baseline[-1].slo is own:
        complain(of_settings(own))
    slo = slo or baseline[-1].slo  # all are judged by one
    sides = [side for run in others for side in sides_at(run, slo, arguments.axis)[-1:]]
    if not others:
        if len(baseline) == 1:
            raise UsageError(f"{first}: has one configuration alone; name another run to compare it with")
        baseline, sides = baseline[:1], list(baseline[1:])
    for run in dict.fromkeys(side.source for side in (*baseline, *sides) if side.meta is not None):
        complain(None if run is None else cut_off(run))
    all_sides = (baseline[-1], *sides)
    before, *after = (replace(side, name=name) for side, name in zip(all_sides, names_of(all_sides), strict=True))
    priced = cost.stated(arguments)
    found = [compare(before, side, priced) for side in after]
    for told in found:
        if told.unequal and not arguments.anyway:
            raise UsageError(unequal_text(told.unequal))
    crossed = [crossings(told, thresholds) for told in found]
    code = _code([each for some in crossed for each in some], unknown_ok=arguments.unknown_ok)
    step_summary.add(lambda: comparison_markdown(comparison_of([before, *after], found)))
    if output is not None:
        report = comparison_of([before, *after], found)
        if write_comparison(report, output, force=arguments.force):
            complain(f"{output}: an older report was there and is replaced")
    if arguments.json:
        print_json({"exit_code": code, "compared": found, "crossed": crossed})
        return code
    for at, (told, over) in enumerate(zip(found, crossed, strict=True)):
        say("\n".join([*([""] if at else []), *as_lines(told)]))
        for each in over:
            complain(crossing_text(each.metric, each.threshold, each.change, each.load, each.proven))
    if output is not None:
        say(f"report     {output}")
    return code


def _code(crossed: Sequence[Crossing], *, unknown_ok: bool) -> int:
    """1: a threshold was reached for certain. 5: of one that is not known."""
    if any(each.proven for each in crossed):
        return NO
    return NOT_KNOWN if crossed and not unknown_ok else YES


def as_lines(told: Compared) -> Iterator[str]:
    """For a terminal of 80 columns."""
    yield from textwrap.wrap(told.sentence, COLUMNS, break_long_words=False, break_on_hyphens=False)
    yield ""
    yield f"before     {told.before}"
    yield f"after      {told.after}"
    for at, difference in enumerate(told.differs):
        yield from _named("" if at else "differs", difference_text(difference))
    yield ""
    shown = [metric.name for metric in METRICS if any(_known(told, metric.name))]
    for names in (shown[at : at + 5] for at in range(0, len(shown), 5)):
        yield "".join([f"{'':<14}", *(f"{metric_name(name):>{_WIDTH + 2}}" for name in names)])
        for level in told.levels:
            deltas = {delta.metric: delta for delta in level.deltas}
            load = f"{TEXT.load(level.load, told.axis)} {short_unit(told.axis, level.load)}"
            mark = "~" if level.interpolated else ""
            yield f"{load + mark:<14}" + "".join(_cell(deltas.get(name)) for name in names)
        over_all = {delta.metric: delta for delta in told.over_all}
        yield f"{'over all':<14}" + "".join(_cell(over_all.get(name)) for name in names)
        yield ""
    for delta in (told.capacity, told.cliff):
        if delta.metric == "capacity" or delta.before is not None or delta.after is not None:
            was, now = (figure(delta.metric, value, told.axis) for value in (delta.before, delta.after))
            yield f"{delta.metric:<11}{was} -> {now}  {change(delta)}  {delta.verdict}"
    if told.cost.before is not None:
        was, now = (figure("cost", value, told.axis) for value in (told.cost.before, told.cost.after))
        unit = f" {told.currency}" if told.currency else ""
        yield f"cost       {was} -> {now}{unit} per 1M output tokens  {change(told.cost)}  {told.cost.verdict}"
    yield f"{'':<11}{_LEGEND}"
    for note in told.notes:
        yield from _named("note", note)


def _named(name: str, text: str) -> list[str]:
    """`note       one of the two lies ...`, its further lines below its first."""
    start = f"{name:<11}"
    return textwrap.wrap(text, COLUMNS, initial_indent=start, subsequent_indent=" " * 11, break_on_hyphens=False)


def _known(told: Compared, name: str) -> Iterator[bool]:
    return (delta.change is not None for level in told.levels for delta in level.deltas if delta.metric == name)


def _cell(delta: Delta | None) -> str:
    if delta is None or delta.change is None:
        return f"{'--':>{_WIDTH}}  "
    sign = " " if delta.metric in GAUGES else _SIGNS[delta.verdict]  # a fuller cache is neither good nor bad
    return f"{change(delta).replace('points', 'pt'):>{_WIDTH}} {sign}"
