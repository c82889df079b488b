"""`llmtop assess RUN|FILE`: the verdicts alone."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from llmtop.analysis import assess_levels
from llmtop.cli import baselines, summary
from llmtop.cli import cost as costs
from llmtop.cli.exits import exit_code
from llmtop.cli.output import complain, print_json, say, verdicts_json
from llmtop.cli.slo import asked_slo, slo_without_profile
from llmtop.domain.assessment import Assessment
from llmtop.domain.cost import Cost
from llmtop.domain.load import Axis
from llmtop.domain.profile import OF_CAPACITY
from llmtop.domain.slo import Latency, Slo, Stat
from llmtop.domain.verdicts import CliffVerdict
from llmtop.errors import FileError, UsageError
from llmtop.exchange.files import groups_in, read
from llmtop.exchange.heads import looks_foreign
from llmtop.exchange.levels import shortfall
from llmtop.host import beside
from llmtop.host.beside import is_table, levels_at
from llmtop.host.review import assess_run, cut_off
from llmtop.inputs import path_of
from llmtop.recording.shelf import remember, run_path
from llmtop.wording.cost import lines as lines_of
from llmtop.wording.failures import failure_seen
from llmtop.wording.figures import TEXT
from llmtop.wording.sentences import fails_from


def main(arguments: argparse.Namespace) -> int:
    table = is_table(arguments.file)
    path = path_of(arguments.file) if table else run_path(arguments.file)
    foreign = not table and looks_foreign(path)
    if arguments.baseline and (table or foreign):
        raise UsageError("--baseline stands beside a recording; two files: `llmtop compare BEFORE AFTER`")
    priced = costs.stated(arguments)
    figures = crew = None
    slo = slo_without_profile(arguments) if table or foreign else asked_slo(arguments)
    if table:
        assessment = of_table(path, slo, arguments.axis, arguments.metric, arguments.stat, priced)
        cliff = assessment.cliff
    elif foreign:
        assessment = of_file(path, slo, arguments.metric, arguments.stat, priced)
        cliff = assessment.cliff
    else:
        complain(cut_off(path))
        earlier = baselines.named(arguments.baseline)
        assessment, figures, crew = assess_run(path, slo, partial(beside.read, earlier), priced)
        if slo is None:
            remember(path, assessment.judgement.sentence)
        cliff = _asked(assessment, arguments.metric, arguments.stat)
    code = exit_code(assessment.judgement, unknown_ok=arguments.unknown_ok)
    if arguments.json:
        fields = {name: getattr(cliff, name) for name in cliff.__struct_fields__}
        beside_it = {"figures": figures, "load_workers": crew}
        print_json({"exit_code": code, **fields, **beside_it, **verdicts_json(assessment)})
    else:
        say(as_text(assessment, cliff))
    return code


def of_table(path: Path, slo: Slo | None, axis: Axis, metric: Latency, stat: Stat, cost: Cost) -> Assessment:
    """A table of levels. Raises FileError naming the line or the column."""
    levels = levels_at(path)
    complain(shortfall(levels))
    return assess_levels(levels, slo=slo, axis=axis, metric=metric, stat=stat, cost=cost)


def of_file(path: Path, slo: Slo | None, metric: Latency, stat: Stat, cost: Cost) -> Assessment:
    """Another tool's file. Raises FileError: it holds several configurations, too."""
    groups = groups_in(path, read(path))
    if len(groups) > 1:
        raise FileError(path, f"holds {len(groups)} configurations: `llmtop import` judges each")
    (group,) = groups
    for note in group.notes:
        complain(note)
    return assess_levels(group.levels, slo=slo, axis=group.axis, metric=metric, stat=stat, point=group.point, cost=cost)


def _asked(assessment: Assessment, metric: Latency, stat: Stat) -> CliffVerdict:
    """The verdict for this metric and statistic; the one that matters if there is none of its own."""
    found = (cliff for cliff in assessment.cliffs if (cliff.metric, cliff.stat) == (metric, stat))
    return next(found, assessment.cliff)


def as_text(assessment: Assessment, cliff: CliffVerdict) -> str:

    def load(value: float | None) -> str:
        return TEXT.load(value, cliff.axis)

    where = "" if cliff.at is None else f" at {load(cliff.at)} ({load(cliff.low)} to {load(cliff.high)})"
    lines = [
        assessment.judgement.sentence,
        assessment.headline,
        "",
        f"cliff      {fails_from(cliff)}"
        if cliff.fails
        else f"cliff      {cliff.metric} {cliff.stat}: {cliff.kind}{where}, {cliff.confidence}, cause {cliff.cause}",
        *(f"           {line}" for line in cliff.evidence),
    ]
    if assessment.capacity.sentence and assessment.judgement.question not in OF_CAPACITY:
        lines.append(f"capacity   {assessment.capacity.sentence}")
    lines += [f"cost       {each}" for each in lines_of(assessment.costs)]
    lines += [f"slots      {each.text}" for each in assessment.what_if if each.text]
    lines += [f"twin       {assessment.foreseen.text}"] if assessment.foreseen is not None else []
    lines += [f"compared   {each.text}" for each in assessment.comparisons]
    lines += [f"slo        {target.text}" for target in assessment.slo.targets if target.text]
    lines += [f"failures   {failure_seen(group)}" for group in assessment.failures]
    diagnosis = assessment.diagnosis
    lines += [f"diagnosis  {line}" for line in (diagnosis.bound, *diagnosis.evidence, diagnosis.advice) if line]
    lines += [f"drift      {drift.text}" for drift in assessment.drifts]
    lines += [f"spike      {recovery.text}" for recovery in assessment.recoveries]
    lines += [f"scaling    {each.text}" for each in assessment.scalings]
    lines += [f"note       {note}" for note in assessment.notes if note not in cliff.evidence]
    return "\n".join((*lines, *summary.kind_lines(assessment)[:-1]))
