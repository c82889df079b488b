"""Requests that failed alike: what is shown, printed and written of errors."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.request import Outcome

MOST_NAMES = 4
"""Of the requests in one group: who has more fails whatever it is called."""


class FailureGroup(Struct, frozen=True, kw_only=True):
    """Failed requests of one outcome, status and text, in which numbers and ids may differ."""

    outcome: Outcome | None = None
    """None: those of all kinds that are in no other group."""
    status: int | None = None
    """HTTP status; None: nobody answered."""
    text: str = ""
    """What the first of them was told, on one line."""
    count: int = 1
    first_s: float
    """When the first of them ended, seconds of the run."""
    last_s: float
    names: tuple[str, ...] = ()
    """What the requests were called, at most `MOST_NAMES`, in the order in which they failed; (): nothing."""
    retry_after_s: float | None = None
    """The longest wait that the server asked for; None: it asked for none."""
