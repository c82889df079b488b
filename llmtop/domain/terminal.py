"""What a terminal was before a screen took it, and what ends a screen's modes."""

from __future__ import annotations

from msgspec import Struct

RESET = (
    "\x1b[?2026l\x1b[?2004l\x1b[?7h\x1b[?2048l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l"
    "\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"
)
"""Ends every mode that a screen begins, in the order of ending them; harmless where one was not begun."""


class TerminalState(Struct, frozen=True):
    """A terminal by the path of its device, and its settings as tcgetattr(3) gives them."""

    path: str
    flags: tuple[int, ...]
    """Input, output, control and local flags, and both speeds."""
    characters: tuple[int, ...]
    """The control characters."""
