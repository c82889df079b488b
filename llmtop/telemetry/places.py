"""Where the replicas of a service show their metrics, looked for again and again while a run goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from socket import EAI_AGAIN, AddressFamily, gaierror
from typing import Protocol

from msgspec import Struct

from llmtop.domain.endpoint import host_and_port
from llmtop.domain.places import DnsName
from llmtop.endpoint.addresses import Found as Addresses
from llmtop.endpoint.addresses import look_up
from llmtop.wording import replicas as words

LOOK_S = 10.0
"""How often it is looked which replicas there are."""
FIRST_S = 6.0
"""How long the first figures wait for it."""
USUAL_PAGE = "/metrics"


class Found(Struct, frozen=True, kw_only=True):
    """One replica, as a place tells of it."""

    key: str
    """What tells it from others of its place."""
    name: str
    url: str = ""
    """Its page; empty: the place has read it."""
    page: bytes | None = None
    """What its page would say, where the place tells that itself; None: nothing new."""
    age_s: float = 0.0
    """How old that is."""
    ready: bool | None = None
    """Whether it takes requests; None: the place does not say."""


class Place(Protocol):
    """Finds the replicas of one service."""

    every_s: float
    """How often it is worth looking."""
    problem: str | None
    """Why the last look found nothing, and what to do; None: it found some."""

    async def look(self) -> tuple[Found, ...] | None:
        """The replicas that there are now; None: that could not be found out. Never raises for what is out there."""
        ...

    async def close(self) -> None: ...


class Lookout:
    """A place, and what is known of it: looked at when it is due, beside everything else but the first time."""

    def __init__(self, url: str, place: Place) -> None:
        self.url, self.place = url, place
        self.found: tuple[Found, ...] = ()
        self.looked: bool | None = None
        """The last turn brought news; False: it tried, and found nothing out; None: it did not try."""
        self._due_s = -1.0
        self._looking: asyncio.Task[tuple[Found, ...] | None] | None = None

    async def turn(self, now_s: float) -> None:
        """Take what became known since the last turn, and see to it that it is looked again in time."""
        first = self._due_s < 0
        self.looked = None
        if self._looking is None and now_s >= self._due_s:
            self._due_s = now_s + self.place.every_s
            self._looking = asyncio.create_task(self.place.look())
            if first:
                await asyncio.wait({self._looking}, timeout=FIRST_S)
        if self._looking is not None and self._looking.done():
            found, self._looking = self._looking.result(), None
            self.looked = found is not None
            self.found = self.found if found is None else found

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self.place.close()


Resolve = Callable[[str, int], Awaitable[Addresses]]


class NameAddresses:
    """Every address of a name: a headless service has one for each pod that is ready.

    Hosts that speak both IPv4 and IPv6 have an address of each kind: the kind that has more addresses counts, IPv4
    where both have as many, so that no replica is counted twice.
    """

    every_s = LOOK_S

    def __init__(self, url: str, name: DnsName, usual: str, resolve: Resolve = look_up) -> None:
        self.problem: str | None = None
        self._url, self._name, self._resolve = url, name, resolve
        self._path = name.path or usual
        self._stood = False

    async def look(self) -> tuple[Found, ...] | None:
        try:
            async with asyncio.timeout(self.every_s):
                answer = await self._resolve(self._name.host, self._name.port)
        except (OSError, TimeoutError) as error:
            why = getattr(error, "strerror", None) or "the resolver does not answer"
            self.problem = words.no_addresses(self._url, self._name.host, why)
            unsure = not isinstance(error, gaierror) or error.errno == EAI_AGAIN
            return None if unsure else ()
        found = tuple(self._at(address) for address in one_kind(answer))
        self.problem = None if found else words.no_addresses(self._url, self._name.host, "an empty answer")
        return found

    def _at(self, address: str) -> Found:
        host = host_and_port(address, self._name.port)
        return Found(key=host, name=host, url=f"http://{host}{self._path}")

    async def close(self) -> None:
        """Nothing is kept."""


def one_kind(answer: Addresses) -> tuple[str, ...]:
    """The addresses of the kind that has more, each once, in order."""
    kinds: dict[AddressFamily | int, dict[str, None]] = {}
    for family, *_, address in answer:
        with contextlib.suppress(ValueError):
            kinds.setdefault(family, {})[str(ip_address(str(address[0]).partition("%")[0]))] = None
    if not kinds:
        return ()
    most = max(kinds.values(), key=lambda addresses: (len(addresses), ":" not in next(iter(addresses))))
    return tuple(sorted(most, key=lambda address: ip_address(address).packed))
