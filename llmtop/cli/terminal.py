"""What a terminal must be able to do before the cockpit takes it."""

from __future__ import annotations

import contextlib
import os
import sys

from llmtop.errors import UsageError

DUMB = ("", "dumb", "unknown")
"""What TERM says of a terminal that cannot move its cursor, or of which nobody knows whether it can."""
ANSI = b"\x1b["
"""How a terminal is told to move its cursor, if it is one that the screen can be drawn on."""


def check_terminal(instead: str) -> None:
    """Raises UsageError, with what to do, where the cockpit cannot be drawn or has no keys.

    Args:
        instead: the command that needs no terminal.
    """
    for name, stream in (("stdout", sys.stdout), ("stdin", sys.stdin), ("stderr", sys.stderr)):
        if not stream.isatty():
            raise UsageError(f"the cockpit needs a terminal, and {name} is none; without one use {instead}")
    term = os.environ.get("TERM", "")
    if not draws(term):
        what = f"TERM={term} says that this terminal" if term else "TERM is not set: it may be that this terminal"
        raise UsageError(f"{what} cannot draw a screen; use {instead}, or set TERM=xterm-256color where it can")


def draws(term: str) -> bool:
    """Whether a cursor can be moved there, as far as this system knows of it."""
    if term.lower() in DUMB:
        return False
    try:
        import _curses as curses  # the whole module takes longer than all that comes before the first word
    except ImportError:
        return True
    try:
        curses.setupterm(term, 2)
    except (curses.error, ValueError):
        return True  # nobody knows it: most are as xterm is
    moves = curses.tigetstr("cup")
    return moves is not None and moves.startswith(ANSI)


def starting() -> None:
    """Say that the screen is coming, before what it needs is imported, where it can be drawn.

    The cursor stays at the beginning of the line: whatever is said next is longer, and the screen takes it away.
    """
    try:
        check_terminal("")
    except UsageError:
        return
    with contextlib.suppress(OSError):
        os.write(2, b"llmtop: starting...\r" if ascii_only() else "llmtop: starting…\r".encode())


def ascii_only() -> bool:
    """Whether the locale, or Python's own setting, says that the terminal shows no UTF-8."""
    told = next(filter(None, (os.environ.get("LC_ALL"), _ctype(), os.environ.get("LANG"))), "")
    charset = told.partition(".")[2].partition("@")[0]
    encoding = sys.stderr.encoding
    plain = told in ("C", "POSIX") or (charset and charset.lower().replace("-", "") != "utf8")
    return bool(plain) or encoding.lower().replace("-", "") != "utf8"


def _ctype() -> str | None:
    """LC_CTYPE, where it is the user's: beside a LANG that has no UTF-8, Python sets it to one of its own."""
    told = os.environ.get("LC_CTYPE")
    return None if told in ("C.UTF-8", "C.utf8", "UTF-8") and os.environ.get("LANG") else told
