"""`llmtop replay RUN --cast FILE`: the replay as a film that players of terminal recordings show."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmtop.cli.output import complain, hand_out, named
from llmtop.cli.wanted import USUAL_FPS
from llmtop.domain.slo import Slo
from llmtop.files import check_target, write_whole
from llmtop.wording.figures import TEXT, clock

if TYPE_CHECKING:
    from llmtop.analysis.sides import Side

SIZE = (120, 40)


def write_cast(
    run: Path, arguments: argparse.Namespace, slo: Slo | None, earlier: Callable[[Slo], Sequence[Side]] | None
) -> int:
    """Draw the whole run and write it down; returns the exit code.

    The theme is the settings' where it has colours of its own, and glyphs are Unicode's unless ASCII is asked for: the
    terminal changes nothing.
    """
    from llmtop.tui.cast import Film, asciicast, is_cast
    from llmtop.view.arrangement import Layout

    target = None if arguments.cast == "-" else named("--cast", arguments.cast)
    if target is not None:
        check_target(target, is_cast, force=arguments.force)
    complain(f"drawing {run.name} ...")
    film = Film(
        run,
        slo,
        baselines=earlier,
        size=arguments.size or SIZE,
        speed=arguments.speed,
        fps=arguments.fps or USUAL_FPS,
        ascii=bool(arguments.ascii),
        theme=arguments.settings.theme,
        layout=Layout.STAGE if arguments.stage else Layout.ALL,
        private=arguments.private,
    )
    content = asciicast(film)
    if target is None:
        hand_out(content)
    else:
        write_whole(target, content, is_cast, force=arguments.force)
        columns, rows = film.size
        complain(f"{target}: written, {clock(film.length_s)} at {columns}x{rows}, {TEXT.size(len(content))}")
    return 0
