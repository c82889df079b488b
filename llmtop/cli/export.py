"""`llmtop export RUN --format ...`: a recording as other tools write theirs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from llmtop.cli.output import complain, hand_out, named
from llmtop.errors import RunFileError, UsageError
from llmtop.exchange import aiperf, benchmark_report, guidellm_report, requests, vllm
from llmtop.exchange.foreign import Foreign
from llmtop.exchange.levels import levels_csv
from llmtop.files import check_target, write_whole
from llmtop.host.exporting import loads, measured, rows_of
from llmtop.host.review import assess_run, cut_off, lengths_before_of_run
from llmtop.recording.shelf import run_path
from llmtop.report.map import csv_text
from llmtop.wording import mapping as words

SEVERAL: dict[str, Callable[[Sequence[Foreign]], str]] = {"vllm": vllm.written, "guidellm": guidellm_report.written}
"""Formats with a place for each load."""
ONE: dict[str, Callable[[Sequence[Foreign]], str]] = {"aiperf": aiperf.written, "br": benchmark_report.written}
"""Formats of a single one."""
_OURS = re.compile(
    rb'"(?:benchmark_id|run_id|uid|platform|tool)": "(?:written by )?llmtop|^level,n,ttft_s|^\{"sent_s":|^PAR1'
    rb"|^prompt_tokens,load,axis,"
)
_LOOKED_AT = 1 << 16


def main(arguments: argparse.Namespace) -> int:
    path, form = run_path(arguments.run), arguments.format
    target = None if arguments.output is None else named("-o", arguments.output)
    if target is None and form == "parquet":
        raise UsageError("--format parquet is no text: name a file with -o")
    if target is not None:
        check_target(target, _is_ours, force=arguments.force)
    complain(cut_off(path))
    if form in ("jsonl", "parquet"):
        if arguments.load is not None:
            raise UsageError(f"--load is not of --format {form}, which has every request of the run")
        content = (requests.jsonl if form == "jsonl" else requests.parquet)(rows_of(path))
    elif form == "map":
        if arguments.load is not None:
            raise UsageError("--load is not of --format map, which has every load of the run")
        content = _map(path).encode()
    else:
        content = _of_levels(path, form, arguments.load, target).encode(errors="backslashreplace")
    if target is None:
        hand_out(content)
    else:
        write_whole(target, content, _is_ours, force=arguments.force)
        complain(f"{target}: written")
    return 0


def _map(path: Path) -> str:
    """Raises RunFileError: levels of one prompt length make no map."""
    known = assess_run(path)[0].map
    if known is None or len(known.lengths) < 2:
        raise RunFileError(path, words.no_map_text(*lengths_before_of_run(path)))
    return csv_text(known)


def _of_levels(path: Path, form: str, load: float | None, target: Path | None) -> str:
    """Raises UsageError: the format has no place for several loads."""
    found = measured(path, load)
    if found.earlier:
        complain(f"{path}: {found.earlier} earlier configurations are left out: the last one is exported")
    if form == "csv":
        return levels_csv(found.levels)
    if form in SEVERAL:
        return SEVERAL[form](found.runs)
    if len(found.runs) > 1:
        told = loads(found.levels, found.side)
        raise UsageError(f"--format {form} holds one load and the run has levels at {told}: choose with --load")
    if form == "aiperf" and target is not None and target.suffix == ".jsonl":
        return aiperf.written_records(found.runs)
    return ONE[form](found.runs)


def _is_ours(content: bytes) -> bool:
    """Whether llmtop has written it, or it is empty."""
    return not content or _OURS.search(content[:_LOOKED_AT]) is not None
