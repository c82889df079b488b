"""`llmtop replay RUN`: the cockpit over a recording."""

from __future__ import annotations

import argparse

from llmtop.cli import baselines
from llmtop.cli.output import complain
from llmtop.cli.terminal import ascii_only, check_terminal
from llmtop.domain.slo import parse_slo
from llmtop.errors import INTERRUPTED
from llmtop.recording.shelf import run_path
from llmtop.wording.beside import shown_beside


def main(arguments: argparse.Namespace) -> int:
    from llmtop.host import beside
    from llmtop.host.host import Host
    from llmtop.host.replay import ReplayLink
    from llmtop.host.review import cut_off
    from llmtop.tui.app import LlmtopApp
    from llmtop.tui.watch import on_terminal

    check_terminal("`llmtop report RUN` or `llmtop assess RUN`")
    run = run_path(arguments.run)
    complain(cut_off(run))
    replay = ReplayLink(run, arguments.speed)
    slo = parse_slo(arguments.slo) if arguments.slo is not None else replay.meta.profile.slo
    if replay.meta.baselines and not arguments.baseline:
        complain(shown_beside(replay.meta.baselines))
    earlier = beside.reader(baselines.named(arguments.baseline))
    with Host(replay, slo, baselines=earlier) as host:
        asked = on_terminal(LlmtopApp(host, ascii=arguments.ascii or ascii_only(), fps=arguments.fps), host)
    if host.unread is not None:
        raise host.unread
    return 0 if asked is None else INTERRUPTED
