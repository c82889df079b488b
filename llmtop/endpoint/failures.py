"""What the network, TLS and httpx raise, in words: what was seen, what it means, what to type."""

from __future__ import annotations

import errno
import ssl

import httpx

from llmtop.endpoint.tls import tls_problem
from llmtop.wording.refused import PROXY_LOGIN

FOREIGN = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict, OSError)
"""All that is raised by a request on its way, besides what is ours. ssl's and socket's errors are OSErrors."""
_DEEP = 8
"""How many reasons of a reason are looked at."""


def reason_of(error: BaseException) -> OSError | None:
    """What TLS or the system said that made a library raise `error`; None: nothing of theirs is behind it."""
    seen: BaseException | None = error
    found = None
    for _ in range(_DEEP):
        if isinstance(seen, ssl.SSLError):
            return seen
        if isinstance(seen, OSError) and seen.errno is not None:
            found = found or seen
        if seen is None:
            break
        seen = seen.__cause__ or seen.__context__  # httpcore hides what it was told (`from None`)
    return found


def in_words(error: BaseException) -> str:
    """Why there is no answer."""
    found = reason_of(error)
    if isinstance(error, httpx.ProxyError):
        return _of_proxy(str(error))
    if found is not None:
        return connect_problem(found)
    if isinstance(error, httpx.NetworkError) and not str(error):
        return "the server closed the connection"
    return str(error) or type(error).__name__


def connect_problem(error: Exception) -> str:
    """Why a connection could not be opened, or ended, in words."""
    if isinstance(error, ssl.SSLError):
        return tls_problem(error)
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(error, ConnectionResetError):
        return "the server reset the connection"
    if isinstance(error, OSError):
        limit = "; raise the limit of open files (ulimit -n)" if error.errno in (errno.EMFILE, errno.ENFILE) else ""
        return f"no connection: {error.strerror or error}{limit}"
    return f"no connection: {error}"


def _of_proxy(said: str) -> str:
    if said.startswith("407"):
        return f"{said}: {PROXY_LOGIN}"
    if said.startswith("403"):
        return f"the proxy does not let this address through ({said}): go around it with --proxy none, or NO_PROXY"
    return f"the proxy refuses ({said})"
