"""Who is let in to the page: whoever has the whole link, from a page that came from here."""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import urlsplit

from llmtop.domain.endpoint import is_loopback

LOCAL = "localhost"


def new_token() -> str:
    """What stands in the link and cannot be guessed."""
    return secrets.token_urlsafe(24)


class Gate:
    """Looks at requests before anything else does.

    Args:
        token: the first part of each path.
        here: the page is for this machine alone; a request for another machine's name is then one that a foreign page
            has sent here by way of that name (DNS rebinding).
    """

    def __init__(self, token: str, *, here: bool) -> None:
        self._token, self._here = token.encode(), here

    def lets_in(self, path: str, host: str | None) -> bool:
        """Whether a request may be answered: by its path as it was sent, and the machine that it names."""
        part = path.removeprefix("/").partition("/")[0]
        known = hmac.compare_digest(part.encode(errors="surrogateescape"), self._token)
        return known and host is not None and (not self._here or _is_here(host))

    @staticmethod
    def lets_talk(origin: str | None, host: str | None) -> bool:
        """Whether a WebSocket may be opened: browsers say on which page it was asked for, and that must be ours."""
        if origin is None or host is None:
            return False
        asked = urlsplit(origin)
        return asked.scheme in ("http", "https") and asked.netloc.lower() == host.lower()


def _is_here(host: str) -> bool:
    """Whether a `Host` header names this machine, by an address or as localhost; its port may be that of a tunnel."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and (name == LOCAL or is_loopback(name))
