"""Giving back a terminal whose screen was killed: no process can do that for itself."""

from __future__ import annotations

import contextlib
import os
import termios
from typing import cast

from llmtop.domain.terminal import RESET, TerminalState

LOCAL = 3
"""The place of the local flags among tcgetattr's."""


def state_of(descriptor: int) -> TerminalState | None:
    """The terminal as it is; None: it is none."""
    try:
        *flags, characters = termios.tcgetattr(descriptor)
        codes = tuple(each if isinstance(each, int) else each[0] for each in characters)
        return TerminalState(os.ttyname(descriptor), tuple(flags), codes)
    except (OSError, termios.error):
        return None


def give_back(state: TerminalState) -> None:
    """End a screen's modes, and its raw mode where no shell has done so; waits for nobody, and never raises."""
    with contextlib.suppress(OSError, termios.error):
        terminal = os.open(state.path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if not termios.tcgetattr(terminal)[LOCAL] & (termios.ICANON | termios.ISIG):
                characters = [bytes((code,)) for code in state.characters]
                termios.tcsetattr(terminal, termios.TCSANOW, cast(list[int | list[bytes]], [*state.flags, characters]))
            os.write(terminal, RESET.encode())
        finally:
            os.close(terminal)
