"""A recording read back and judged as a whole: what a report, a verdict and a comparison start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from llmtop import __version__
from llmtop.analysis.grounds import Grounds, grounds_of
from llmtop.analysis.mapping import lengths_before
from llmtop.analysis.measured import Ledger
from llmtop.analysis.percentiles import figures_of
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.sides import Side, sides_of
from llmtop.domain.assessment import Assessment
from llmtop.domain.client import CrewFigures
from llmtop.domain.compared import Compared
from llmtop.domain.cost import UNSTATED, Cost
from llmtop.domain.figures import RunFigures
from llmtop.domain.frame import Timeline
from llmtop.domain.plainly import plainly
from llmtop.domain.request import RequestRecord
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.domain.slo import Slo
from llmtop.errors import RunFileError
from llmtop.host.judging import Judge
from llmtop.meter.facts import Facts
from llmtop.meter.frames import whole_run_timeline
from llmtop.recording.reader import RunReader
from llmtop.report import Beside, ComparisonInput, ReportInput, check_report, report_input, write_report
from llmtop.report.prose import moment_text

Baselines = Callable[[Slo], Sequence[Side]]
"""Reads earlier measurements and judges them by an SLO. May raise LlmtopError."""


def none(_: Slo) -> Sequence[Side]:
    """No earlier measurement."""
    return ()


def cut_off(run: Path) -> str | None:
    """What is to be said of a recording that is not whole; None: it is. Raises RunFileError."""
    with RunReader(run) as reader:
        return reader.cut_off and f"{run}: {reader.cut_off}"


class Assessed(NamedTuple):
    """A recording judged, with what is told beside the opinions."""

    assessment: Assessment
    figures: RunFigures
    load_workers: CrewFigures | None
    """Each at worst; None: one process alone has sent the load."""


def assess_run(run: Path, slo: Slo | None = None, baselines: Baselines = none, cost: Cost = UNSTATED) -> Assessed:
    """All opinions over a recording, by `slo` or by its own profile's, and its figures. Raises RunFileError.

    Args:
        cost: what is stated in place of what its profile says.
    """
    with RunReader(run) as reader:
        facts, meta = Facts.of(reader.batches()), _over(reader, cost)
        slo = slo or meta.profile.slo
        opinion = Judge(slo, baselines(slo))(facts, meta, full=True)
        return Assessed(opinion, figures_of(facts, meta), facts.crew.whole())


def sides_of_run(run: Path, slo: Slo | None = None) -> tuple[Side, ...]:
    """What a recording measured, a side for each configuration, by `slo` or by its own profile's. () without levels.

    Raises RunFileError.
    """
    with RunReader(run) as reader:
        facts, meta = Facts.of(reader.batches()), _over(reader)
        slo = slo or meta.profile.slo
        opinion = Judge(slo, foresees=False)(facts, meta, full=True)
    sides = sides_of(meta.label or run.stem, facts, meta, slo, opinion)
    return tuple(dataclasses.replace(side, source=run) for side in sides)


def grounds_of_run(run: Path, part: int | None = None) -> tuple[Grounds, Slo]:
    """What the twin of a recording's server rests on, and the SLO of its profile.

    Args:
        part: which of its configurations with levels is meant, from 1; None: the last.

    Raises:
        RunFileError: it cannot be read, or has no such configuration.
    """
    with RunReader(run) as reader:
        facts, meta = Facts.of(reader.batches()), _over(reader)
    curves = Ledger().curves(facts, meta, finished_requests(facts), facts.t_s, every=True)
    with_levels = [at for at, curve in enumerate(curves) if curve.levels]
    if part is not None and not 1 <= part <= len(with_levels):
        raise RunFileError(run, no_such_part(part, len(with_levels)))
    at = -1 if part is None else with_levels[part - 1]
    return grounds_of(facts, meta, curves, at), meta.profile.slo


def lengths_before_of_run(run: Path) -> tuple[tuple[int, ...], str]:
    """Prompt lengths of an earlier configuration and what was changed since: `lengths_before`. Raises RunFileError."""
    with RunReader(run) as reader:
        facts, meta = Facts.of(reader.batches()), _over(reader)
    return lengths_before(Ledger().curves(facts, meta, finished_requests(facts), facts.t_s, every=True))


def no_such_part(part: int, of: int) -> str:
    there = "none" if not of else "1 alone" if of == 1 else f"1 to {of}"
    return f"has no configuration {part} with levels; it has {there}"


def timeline_of_run(run: Path) -> Timeline:
    """What happened in a recording from its start to its end. Raises RunFileError."""
    with RunReader(run) as reader:
        return whole_run_timeline(reader.batches(), reader.length_s)


def _over(reader: RunReader, cost: Cost = UNSTATED) -> RunMeta:
    """The meta of a run that is over, also where it was cut off before it could say so; `cost` goes before its own."""
    profile = reader.meta.profile
    priced = replace(profile, cost=cost.over(profile.cost))
    return replace(reader.meta, ended_s=reader.length_s, profile=priced)


def review(run: Path, slo: Slo | None = None, baselines: Baselines = none, cost: Cost = UNSTATED) -> ReportInput:
    """A recording judged and summed up, as of `assess_run`. Raises RunFileError."""
    with RunReader(run) as reader:
        facts, gpus = Facts(cap=None), set[str]()

        def told() -> Iterator[FactBatch]:
            for batch in reader.batches():
                facts.extend(batch)
                gpus.update(gpu.name for gpu in batch.gpu)
                yield batch

        timeline = whole_run_timeline(told(), reader.length_s)
        meta = _over(reader, cost)
        slo = slo or meta.profile.slo
        judge = Judge(slo, baselines(slo))
        return report_input(
            meta,
            facts,
            judge(facts, meta, full=True),
            timeline,
            slo=slo,
            length_s=reader.length_s,
            complete=reader.complete,
            records=_records(reader),
            gpus=sorted(gpus),
            foreseen=judge.around(),
        )


def _records(reader: RunReader) -> Iterator[RequestRecord]:
    for batch in reader.batches():
        yield from batch.requests


def write_reports(
    run: Path,
    slo: Slo | None = None,
    *,
    baselines: Baselines = none,
    cost: Cost = UNSTATED,
    force: bool = False,
) -> dict[Path, bool]:
    """HTML and Markdown beside the run file: each path, and whether another report was there before.

    Nothing is written unless both can be. Raises FileError.
    """
    paths = tuple(run.with_suffix(suffix) for suffix in (".html", ".md"))
    for path in paths:
        check_report(path, force=force)
    report = review(run, slo, baselines, cost)
    return {path: write_report(report, path, force=force) for path in paths}


def comparison_of(sides: Sequence[Side], compared: Sequence[Compared]) -> ComparisonInput:
    """What a report of a comparison is made of.

    Args:
        sides: the one before, then each of the others.
        compared: each of the others beside the first.

    Raises RunFileError.
    """
    beside = [
        Beside(name=side.name, curve=side.curve, facts=_told_of(side), timeline=_timeline_of(side)) for side in sides
    ]
    return plainly(
        ComparisonInput(version=__version__, slo=sides[0].slo, sides=tuple(beside), compared=tuple(compared))
    )


def _timeline_of(side: Side) -> Timeline | None:
    """None: it is no run of ours, or not all of one."""
    whole = side.meta is not None and side.of == 1
    return timeline_of_run(side.source) if whole and side.source is not None else None


def _told_of(side: Side) -> tuple[tuple[str, str], ...]:
    meta = side.meta
    driven = () if meta is None else (("driven", moment_text(meta.started_at)), ("profile", meta.profile.name))
    file = () if side.source is None else (("file", side.source.name),)
    return (*file, *driven, *side.traits.items())
