"""Names and the addresses behind them: looked up once, within a limit, by a thread that nobody has to wait for."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from msgspec import structs

from llmtop.domain.endpoint import Endpoint, ascii_name, is_loopback
from llmtop.domain.places import asked_in

LOOK_UP_S = 2.0
"""Before a run is begun. A name that takes longer does not stand for this machine: those are in a file."""

Found = Sequence[tuple[int, int, int, str, Any]]
"""As `socket.getaddrinfo` gives it: family, type, protocol, canonical name, socket address."""


def pinned(endpoint: Endpoint, limit_s: float = LOOK_UP_S) -> Endpoint:
    """The endpoint with the addresses of all its names that stand for this machine, and for nothing else.

    A name that cannot be looked up within `limit_s` stays as it is: whoever connects says what is wrong with it.
    """
    urls = (endpoint.base_url, *asked_in(endpoint.metrics_urls))
    with suppress(ValueError):  # a URL that is none: whoever asks it says so
        names = {ascii_name(urlsplit(url).hostname or "") for url in urls}
        names = {name for name in names if name and not is_loopback(name)}
        found = _look_up_all(names, limit_s)
        here = {name: addresses for name, addresses in found.items() if addresses and all(map(is_loopback, addresses))}
        return structs.replace(endpoint, addresses=tuple(sorted(here.items())))
    return endpoint


async def look_up(host: str, port: int) -> Found:
    """The addresses of a host. Raises OSError. A cancelled call leaves its thread to itself."""
    with suppress(OSError, UnicodeError):
        return numeric(host, port)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Found] = loop.create_future()

    def settle(found: Found | OSError) -> None:
        if answer.done():
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def tell(found: Found | OSError) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, found)

    _start(host, port, tell)
    return await answer


def numeric(address: str, port: int) -> Found:
    """The same for what is an address already; asks nobody. Raises OSError."""
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)


def _look_up_all(names: Iterable[str], limit_s: float) -> dict[str, tuple[str, ...]]:
    """The addresses of all names that are found in time."""
    found: dict[str, tuple[str, ...]] = {}

    def keep(name: str) -> Callable[[Found | OSError], None]:
        def take(answer: Found | OSError) -> None:
            if not isinstance(answer, OSError):
                found[name] = tuple(dict.fromkeys(str(address[0]) for *_, address in answer))

        return take

    threads = [_start(name, 0, keep(name)) for name in names]
    deadline_s = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(deadline_s - time.monotonic(), 0.0))
    return dict(found)


def _start(host: str, port: int, tell: Callable[[Found | OSError], None]) -> threading.Thread:
    """Look up in a thread of its own: a resolver cannot be interrupted, and no pool's end is to wait for it."""

    def work() -> None:
        try:
            found: Found | OSError = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            found = error
        except UnicodeError:
            found = socket.gaierror(socket.EAI_NONAME, "this is no name of a host")
        tell(found)

    thread = threading.Thread(target=work, name=f"look up {host}", daemon=True)
    thread.start()
    return thread
