"""The runs of this user that go on now: each has a socket among the run files, and says there what it is."""

from __future__ import annotations

from msgspec import Struct

from llmtop.errors import UsageError

LAST = "last"
"""The name of the run that began last."""


class Running(Struct, frozen=True, kw_only=True):
    """A run that goes on, as it says of itself."""

    name: str
    """Of its run file, without the ending."""
    path: str = ""
    """Of its socket."""
    pid: int = 0
    """Of its host's process."""
    version: str = ""
    """Of llmtop."""
    protocol: int = 0
    """How its messages are written; another number is another llmtop's, and can be stopped, not joined."""
    started_at: float = 0.0
    """Wall clock, Unix seconds."""
    run_file: str | None = None
    label: str | None = None
    endpoint: str = ""
    """As it is shown."""
    load: str = ""
    """`32 in flight`"""
    headline: str = ""
    """The first words of its verdict."""
    detached: bool = False
    """No screen holds it: it goes on until somebody ends it, or its limit does."""
    screens: int = 0
    holder: str = ""
    """Who has the wheel: `pts/3`; empty: nobody."""
    headless: bool = False
    """A run that is driven by its plan: it can be looked at and stopped."""


def running() -> tuple[Running, ...]:
    """All that go on, the newest first. What a killed one has left behind is taken away."""
    return ()


def find(text: str | None) -> Running:
    """The one that is meant.

    Args:
        text: its name or the only beginning of one, its label, `last`; None: the only one.

    Raises:
        UsageError: there is none, or several; it lists them.
    """
    raise UsageError("no run goes on now")


def stop(run: Running) -> None:
    """End it in order, and wait until it is over.

    Raises:
        SessionLost: it could not be asked, or takes longer than it takes a server to drain.
    """
