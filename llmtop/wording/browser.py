"""What whoever looks at a run in a browser is told."""

from __future__ import annotations

WHOLE_LINK = "This page opens with the whole link that `llmtop serve` has printed, on the machine that it is for."
FOREIGN_PAGE = "Another page asked for this run: open the link itself."
CONNECTION_OVER = "The connection has ended."
CONNECT_AGAIN = "Connect again"
NOT_SHOWN = "The run cannot be shown: it has ended, or does not answer."


def run_over(name: str) -> str:
    """`name`: empty where nobody may read it."""
    return f"{name or 'The run'} has ended."


def full(most: int) -> str:
    return f"{most} people look at this run now, which is as many as can: try again later."
