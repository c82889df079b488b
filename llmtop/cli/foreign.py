"""`llmtop import FILE...`: what other tools have measured, as levels and verdicts of ours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmtop.analysis import assess_levels
from llmtop.cli.assess import as_text
from llmtop.cli.output import complain, named, print_json, say
from llmtop.cli.slo import slo_without_profile
from llmtop.domain.assessment import Assessment
from llmtop.errors import FileError
from llmtop.exchange.files import groups_in, read
from llmtop.exchange.foreign import Foreign, Group
from llmtop.exchange.levels import HEAD, levels_csv
from llmtop.exchange.told import ForeignLevel, told_of
from llmtop.files import check_target, write_whole
from llmtop.inputs import path_of
from llmtop.wording.figures import TEXT

_COLUMNS = ("load", "ok", "failed", "TTFT p50", "p95", "TPOT p50", "p95", "E2E p50", "p95", "tok/s", "req/s")


def main(arguments: argparse.Namespace) -> int:
    slo = slo_without_profile(arguments)
    paths = [path_of(text) for text in arguments.files]
    if arguments.output is not None:
        target = check_target(named("-o", arguments.output), _is_table, force=arguments.force)
    runs = [run for path in paths for run in read(path)]
    if arguments.load is not None:
        runs = [replace(run, load=arguments.load) if run.load is None else run for run in runs]
    groups = groups_in(paths[0], tuple(runs))
    assessed = [(group, assess_levels(group.levels, slo=slo, axis=group.axis, point=group.point)) for group in groups]
    if arguments.output is not None:
        _write(target, groups, force=arguments.force)
    if arguments.json:
        print_json({"sides": [told_of(group, assessment) for group, assessment in assessed]})
        return 0
    for group in groups:
        for note in group.notes:
            complain(note)
    say("\n\n".join(_text(group, assessment) for group, assessment in assessed))
    return 0


def _is_table(content: bytes) -> bool:
    return content.startswith(",".join(HEAD).encode() + b"\n")


def _write(path: Path, groups: Sequence[Group], *, force: bool) -> None:
    """Raises FileError: a table is of one configuration, and these are more; or it cannot be written."""
    if len(groups) > 1:
        names = ", ".join(group.name for group in groups)
        raise FileError(
            path, f"a table holds one configuration, these files {len(groups)} ({names}): import them apart"
        )
    write_whole(path, levels_csv(groups[0].levels).encode(), _is_table, force=force)
    complain(f"{path}: written")


def _text(group: Group, assessment: Assessment) -> str:
    told = told_of(group, assessment)
    of = " ".join(filter(None, (told.tool, told.version)))
    head = ", ".join(filter(None, (f"{group.name}: {of}", told.model, told.server, *_lengths(group.runs))))
    rows = [_COLUMNS, *(_row(level, group) for level in told.levels)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join((head, *table, "", as_text(assessment, assessment.cliff)))


def _lengths(runs: Sequence[Foreign]) -> list[str]:
    known = [run for run in runs if run.prompt_tokens is not None and run.output_tokens is not None]
    if not known:
        return []
    return [f"{known[-1].prompt_tokens:.0f}/{known[-1].output_tokens:.0f} tokens"]


def _row(level: ForeignLevel, group: Group) -> tuple[str, ...]:
    """One load; what is not known is a ?."""

    def whole(value: int | None) -> str:
        return "?" if value is None else f"{value:,}"

    times = (getattr(level, f"{metric}_{stat}_ms") for metric in ("ttft", "tpot", "e2e") for stat in ("p50", "p95"))
    rates = (level.output_tokens_per_s, level.requests_per_s)
    return (
        TEXT.load(level.load, group.axis),
        whole(level.ok),
        whole(level.failed),
        *("?" if value is None else TEXT.latency(value) for value in times),
        *("?" if value is None else f"{value:,.4g}" for value in rates),
    )
