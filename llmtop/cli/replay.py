"""`llmtop replay RUN`: the cockpit over a recording."""

from __future__ import annotations

import argparse
import sys

from llmtop.domain.slo import parse_slo
from llmtop.errors import UsageError
from llmtop.inputs import path_of


def main(arguments: argparse.Namespace) -> int:
    from llmtop.host.host import Host
    from llmtop.host.replay import ReplayLink
    from llmtop.tui.app import LlmtopApp

    if not sys.stdout.isatty():
        raise UsageError("a replay needs a terminal; without one use `llmtop report RUN` or `llmtop assess RUN`")
    replay = ReplayLink(path_of(arguments.run), arguments.speed)
    slo = parse_slo(arguments.slo) if arguments.slo else replay.meta.profile.slo
    with Host(replay, slo) as host:
        LlmtopApp(host, ascii=arguments.ascii, fps=arguments.fps).run()
    return 0
