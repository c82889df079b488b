"""`llmtop replay RUN`: the cockpit over a recording."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llmtop.domain.slo import parse_slo
from llmtop.errors import UsageError


def main(arguments: argparse.Namespace) -> int:
    from llmtop.cli.report import write_reports
    from llmtop.session.assessor import Assessor
    from llmtop.session.replay import Replay
    from llmtop.tui.app import LlmtopApp

    if not sys.stdout.isatty():
        raise UsageError("a replay needs a terminal; without one use `llmtop report RUN` or `llmtop assess RUN`")
    replay = Replay(Path(arguments.run), arguments.speed)
    slo = parse_slo(arguments.slo) if arguments.slo else replay.meta.profile.slo
    LlmtopApp(
        replay,
        Assessor(lambda: replay.meta, slo),
        slo=slo,
        ascii=arguments.ascii,
        fps=arguments.fps,
        export=lambda: ", ".join(str(path) for path in write_reports(replay.path, slo)),
    ).run()
    return 0
