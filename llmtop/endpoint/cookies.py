"""What a server or a router asks one user to bring back, so that its requests stay together (RFC 6265, in part). Pure.

Clients that people write (openai, httpx, browsers) do so, and sticky routing rests on it. Bounded, for the endpoint's
own origin only, and in no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST = 16
"""Cookies of one user."""
LONGEST = 4096
"""Letters of one, as browsers have it."""
_PAIR = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+=[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e\x22]*")


class Cookies:
    """The cookies of one user. Those that cannot be sent, are too long or too many, or are for other paths are left."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    @property
    def header(self) -> str:
        """The value of `Cookie`; empty: there is none to send."""
        return "; ".join(f"{name}={value}" for name, value in self._values.items())

    def take(self, told: Iterable[str], path: str) -> None:
        """Take the values of `Set-Cookie` of an answer to a request for `path`."""
        for cookie in told:
            pair, *attributes = (part.strip() for part in cookie[: 2 * LONGEST].split(";"))
            if len(pair) > LONGEST or not _PAIR.fullmatch(pair):
                continue
            name, _, value = pair.partition("=")
            said = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in attributes)}
            if said.get("path", "/").startswith("/") and not _covers(said.get("path", "/"), path):
                continue
            if said.get("max-age", "1").lstrip("-").isdecimal() and int(said.get("max-age", "1")[:12]) <= 0:
                self._values.pop(name, None)
            elif name in self._values or len(self._values) < MOST:
                self._values[name] = value


def _covers(own: str, path: str) -> bool:
    return path == own or path.startswith(own if own.endswith("/") else f"{own}/")
