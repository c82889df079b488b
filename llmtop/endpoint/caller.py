"""What belongs to one user at the endpoint: cookies, a header with its name, perhaps a connection of its own."""

from __future__ import annotations

from llmtop.endpoint.connection import Own
from llmtop.endpoint.cookies import Cookies
from llmtop.endpoint.secret import HEADER_NAME

TAKEN = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that say what a request is, or who may send it."""
MOST_NAME = 100
"""Letters of a header's name."""


def header_fault(name: str) -> str | None:
    """What is wrong with a header as the one that has the user's number; None: nothing."""
    if not HEADER_NAME.fullmatch(name) or len(name) > MOST_NAME:
        return f"must be the name of a header, such as x-user-id, of at most {MOST_NAME} letters"
    if name.lower() in TAKEN:
        return f"cannot be {name}, which says something else; use one of your own, such as x-user-id"
    return None


class Caller:
    """One user, for as long as it lives.

    Args:
        header: name and value that its requests have besides those of all.
        keeps: whether it keeps one connection of its own.
    """

    __slots__ = ("cookies", "header", "own")

    def __init__(self, header: tuple[str, str] | None = None, *, keeps: bool = False) -> None:
        self.cookies = Cookies()
        self.header = header
        self.own = Own() if keeps else None

    def close(self) -> None:
        """It has gone, and its connection with it."""
        if self.own is not None:
            self.own.close()
