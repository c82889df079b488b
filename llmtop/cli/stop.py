"""`llmtop stop [RUN]`: end a run that goes on, in order, and wait until it is over."""

from __future__ import annotations

import argparse

from llmtop.cli.output import complain, say
from llmtop.domain.plain import plain
from llmtop.errors import SessionLost, UsageError
from llmtop.host.running import Running, find, running, stop
from llmtop.wording.running import NOTHING_GOES_ON


def main(arguments: argparse.Namespace) -> int:
    code = 0
    for run in _meant(arguments):
        try:
            stop(run, complain)
        except SessionLost as error:  # the others are to end, too
            complain(str(error))
            code = error.exit_code
        else:
            kept = "not recorded" if run.run_file is None else plain(run.run_file)
            say(f"ended {plain(run.name)}: {kept}")
    return code


def _meant(arguments: argparse.Namespace) -> tuple[Running, ...]:
    if not arguments.all:
        return (find(arguments.going),)
    if arguments.going is not None:
        raise UsageError("--all ends every run that goes on: name none beside it")
    there = running()
    if not there:
        raise UsageError(NOTHING_GOES_ON)
    return there
