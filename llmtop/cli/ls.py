"""`llmtop ls`: the runs that go on now."""

from __future__ import annotations

import argparse
import time

from llmtop.cli.output import print_json, say
from llmtop.domain.plain import plain
from llmtop.host.running import Running, running
from llmtop.wording.figures import TEXT, UNKNOWN
from llmtop.wording.running import NOTHING_GOES_ON, company_text

GAP = "  "


def main(arguments: argparse.Namespace) -> int:
    there = running()
    if arguments.json:
        print_json({"running": there})
        return 0
    if not there:
        say(NOTHING_GOES_ON)
    rows = [_row(run, time.time()) for run in there]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for run, row in zip(there, rows, strict=True):
        say(GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        what = ": ".join(filter(None, (plain(run.endpoint), plain(run.headline))))
        if what:
            say(f"    {what}")
    return 0


def _row(run: Running, now: float) -> tuple[str, ...]:
    """Name and label, age, load, who looks at it."""
    name = plain(run.name) + (f" ({plain(run.label)})" if run.label else "")
    age = TEXT.duration(max(0.0, round(now - run.started_at))) if run.started_at else UNKNOWN
    return name, age, plain(run.load) or UNKNOWN, company_text(run.detached, run.screens, plain(run.holder))
