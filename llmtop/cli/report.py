"""`llmtop report RUN`: a recording written down."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from llmtop.cli import baselines, cost
from llmtop.cli.output import complain, named, say
from llmtop.cli.slo import asked_slo
from llmtop.host import beside
from llmtop.host.review import cut_off, review, write_reports
from llmtop.recording.shelf import run_path
from llmtop.report import check_report, write_report


def main(arguments: argparse.Namespace) -> int:
    run = run_path(arguments.run)
    slo = asked_slo(arguments)
    complain(cut_off(run))
    earlier = partial(beside.read, baselines.named(arguments.baseline))
    priced = cost.stated(arguments)
    if arguments.output is None:
        written = write_reports(run, slo, baselines=earlier, cost=priced, force=arguments.force)
        for path, replaced in written.items():
            _say(path, replaced)
        return 0
    path = named("-o", arguments.output)
    check_report(path, force=arguments.force)
    report = review(run, slo, earlier, priced)
    _say(path, write_report(report, path, force=arguments.force))
    return 0


def _say(path: Path, replaced: bool) -> None:
    if replaced:
        complain(f"{path}: an older report was there and is replaced")
    say(str(path))
