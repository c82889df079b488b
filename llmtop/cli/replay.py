"""`llmtop replay RUN`: the cockpit over a recording, on the screen or as a film."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmtop.cli import baselines
from llmtop.cli.output import complain
from llmtop.cli.slo import asked_slo
from llmtop.cli.terminal import check_terminal
from llmtop.cli.wanted import app_over
from llmtop.domain.slo import Slo
from llmtop.errors import INTERRUPTED, UsageError
from llmtop.recording.shelf import run_path
from llmtop.wording.beside import shown_beside

if TYPE_CHECKING:
    from llmtop.analysis.sides import Side


def main(arguments: argparse.Namespace) -> int:
    from llmtop.host.beside import reader
    from llmtop.host.review import cut_off

    film = arguments.cast is not None
    if not film:
        if arguments.size is not None or arguments.force:
            raise UsageError(f"{'--force' if arguments.size is None else '--size'} is of a film: --cast FILE")
        check_terminal("`llmtop report RUN`, `llmtop assess RUN` or `llmtop replay RUN --cast FILE`")
    run = run_path(arguments.run)
    slo = asked_slo(arguments)
    earlier = reader(baselines.named(arguments.baseline))
    complain(cut_off(run))
    if film:
        from llmtop.cli.cast import write_cast

        return write_cast(run, arguments, slo, earlier)
    return _show(run, arguments, slo, earlier)


def _show(
    run: Path, arguments: argparse.Namespace, slo: Slo | None, earlier: Callable[[Slo], Sequence[Side]] | None
) -> int:
    from llmtop.host.host import Host
    from llmtop.host.replay import ReplayLink
    from llmtop.tui.watch import on_terminal

    replay = ReplayLink(run, arguments.speed)
    if replay.meta.baselines and not arguments.baseline:
        complain(shown_beside(replay.meta.baselines))
    with Host(replay, slo or replay.meta.profile.slo, baselines=earlier) as host, app_over(host, arguments) as app:
        asked = on_terminal(app, host)
    if host.unread is not None:
        raise host.unread
    return 0 if asked is None else INTERRUPTED
