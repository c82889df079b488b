"""`llmtop attach [RUN]`: the screen of a run that goes on."""

from __future__ import annotations

import argparse
import sys

from llmtop.cli.screen import drive
from llmtop.cli.terminal import check_terminal
from llmtop.host.attached import Attached
from llmtop.host.running import find
from llmtop.session.terminal import state_of


def main(arguments: argparse.Namespace) -> int:
    check_terminal("`llmtop ls`")
    run = find(arguments.going)
    attached = Attached.join(run, view=arguments.view, terminal=state_of(sys.stdin.fileno()))
    try:
        return drive(attached, arguments, arguments.detached_for or run.alone_s)
    finally:
        attached.close()
