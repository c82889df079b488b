"""Load workers beside Dask workers, whose scheduler passes messages on."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import re
import socket
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from llmtop import __version__
from llmtop.cluster import calm, relay
from llmtop.cluster.scheduler import PATIENCE_S, address_of, check_there, is_near, security_of, source
from llmtop.domain.crew import CrewSpec
from llmtop.domain.endpoint import Endpoint, safe_endpoint
from llmtop.domain.plain import plain
from llmtop.errors import LlmtopError, SessionLost
from llmtop.load.here import WorkerFacts
from llmtop.load.messages import Follow, Order, WorkerSetup, facts, packed
from llmtop.load.post import LEAVE_S
from llmtop.wording.crew import died

if TYPE_CHECKING:
    from distributed import Client

WATCH_S = 0.2
TOGETHER_S = 1.0
"""Those that join within so long of each other are taken in together."""
PASS_S = 4.0
"""How long a scheduler may take to pass orders on: load workers that hear nothing for so long have no load any more."""
_PASS_ON = source(
    "lambda orders, run, dask_scheduler: [dask_scheduler.worker_send(address, "
    f"{{'op': {relay.ORDERS!r}, 'run': run, 'orders': piece}}) "
    "for address, piece in orders if address in dask_scheduler.stream_comms] and None"
)
_FORGET = source(f"lambda dask_scheduler: dask_scheduler._broker.truncate({relay.TOPIC!r})")
"""What load workers have told, of which the scheduler keeps the last thousand messages."""
_LOOK = source(
    "lambda dask_worker: (dask_worker.name, __import__('socket').gethostname(), __import__('distributed').__version__, "
    "__import__('importlib.util').util.find_spec('llmtop') and __import__('llmtop').__version__)"
)
"""Its Dask worker's name, its host, and the versions of distributed and llmtop there; None: there is none."""


class _Place(Struct, frozen=True):
    """A Dask worker, beside which a load worker can be."""

    address: str
    host: str
    """Its own name, or where it is."""
    of: str
    """The load host that it is one of."""


class DaskCrew:
    """Implements `Crew`: one load worker beside each Dask worker that has joined the scheduler."""

    elsewhere = True

    def __init__(self, spec: CrewSpec, client: Client, places: list[_Place]) -> None:
        self._spec, self._client, self._places = spec, client, places
        self._run = uuid.uuid4().hex
        self._posts: dict[int, _Post] = {}
        self._outbox: list[tuple[_Post, Order]] = []
        self._stirred = asyncio.Event()
        self._cut_off = False
        self._joined: asyncio.Queue[str] = asyncio.Queue()
        """Addresses of Dask workers that have joined since."""
        self._met = {place.address for place in places}
        self._unusable: list[SessionLost] = []
        client.subscribe_topic(relay.TOPIC, self._hear)
        client.subscribe_topic("all", self._hear_of_workers)
        self._tasks = [asyncio.create_task(self._deliver()), asyncio.create_task(self._watch())]

    @classmethod
    async def reach(cls, spec: CrewSpec) -> DaskCrew:
        """Raises SessionLost, UsageError, FileError."""
        distributed = await asyncio.to_thread(calm.distributed)
        security = security_of(spec)
        await check_there(spec, security)
        client = distributed.Client(
            address_of(spec),
            asynchronous=True,
            name="llmtop",
            security=security,
            timeout=PATIENCE_S,
            set_as_default=False,
        )
        try:
            await client
            return cls(spec, client, await _places(spec, client, distributed.__version__))
        except BaseException as error:
            await _close(client)
            if isinstance(error, LlmtopError) or not isinstance(error, Exception):
                raise
            raise SessionLost(f"{spec}: what answers there does not let us in: {plain(str(error))}") from None

    @property
    def size(self) -> int:
        return len(self._places)

    async def post(self, setup: WorkerSetup) -> _Post:
        place = self._places[setup.worker]
        private = self._spec.where == "tls" or (is_near(address_of(self._spec)) and is_near(place.address))
        variables = () if private else self._left_there(setup.endpoint, place)
        post = _Post(setup.worker, place, private, self._put, self._end)
        self._posts[setup.worker] = post
        task = relay.Begin(self._run, setup.worker, _driver(), variables)
        begun = await _ask(self._spec, self._client, place.address, place.host, relay.begin, task)
        self._check(begun, place)
        post.name = f"{place.host}:{begun.pid}"
        return post

    async def more(self) -> Mapping[int, str]:
        if self._unusable:
            raise self._unusable.pop()
        addresses = [await self._joined.get()]
        await asyncio.sleep(TOGETHER_S)
        while not self._joined.empty():
            addresses.append(self._joined.get_nowait())
        version = (await asyncio.to_thread(calm.distributed)).__version__
        looks = (_look(self._spec, self._client, each, version) for each in addresses)
        found = await asyncio.gather(*looks, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, SessionLost):
                raise each
        self._unusable += [each for each in found if isinstance(each, SessionLost)]
        first, places = len(self._places), [each for each in found if isinstance(each, _Place)]
        if not places:
            raise self._unusable.pop()
        self._places += sorted(places, key=lambda place: (place.host, place.address))
        return {first + at: place.of for at, place in enumerate(self._places[first:])}

    def _meet(self, address: str) -> None:
        """A Dask worker is there."""
        if address not in self._met:
            self._met.add(address)
            self._joined.put_nowait(address)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._cut_off:
            with contextlib.suppress(Exception):  # a scheduler that keeps them otherwise keeps them
                async with asyncio.timeout(PASS_S):
                    await self._client.run_on_scheduler(_FORGET)
        await _close(self._client)

    def _left_there(self, endpoint: Endpoint, place: _Place) -> tuple[str, ...]:
        """The variables that must be set there, as their values are not sent. Raises SessionLost."""
        bare = replace(endpoint, addresses=())
        if bare != safe_endpoint(bare) or endpoint.client_cert is not None:
            raise SessionLost(
                f"{self._spec}: the endpoint's headers, query or client certificate would go to {place.host} without "
                "encryption: use tls:// or ssh://, or headers whose values are in variables that are set there"
            )
        return tuple(dict.fromkeys(name for name in endpoint.secret_variables if name in os.environ))

    def _check(self, begun: relay.Begun, place: _Place) -> None:
        if begun.driver:
            raise SessionLost(
                f"{self._spec}: {plain(begun.driver)} drives a load from {place.host} already: wait for its end"
            )
        if begun.missing:
            raise SessionLost(
                f"{self._spec}: {' and '.join(begun.missing)} is not set on {place.host}, and dask:// sends no secret: "
                "set it there before llmtop worker, or use tls:// or ssh://"
            )
        if begun.problem:
            raise SessionLost(f"{self._spec}: no load worker can begin on {place.host}: {begun.problem}")

    # ── Orders ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _put(self, post: _Post, orders: tuple[Order, ...]) -> None:
        self._outbox.extend((post, order) for order in orders)
        self._stirred.set()

    async def _deliver(self) -> None:
        """All that is to be sent goes by one question to the scheduler, which waits for no worker."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            waiting, self._outbox = self._outbox, []
            orders: dict[_Post, list[Order]] = {}
            for post, order in waiting:
                last = orders.setdefault(post, [])
                if last and isinstance(last[-1], Follow) and isinstance(order, Follow):
                    last.pop()
                last.append(order)
            pieces = [(post.place.address, b"".join(map(packed, of_one))) for post, of_one in orders.items()]
            try:
                async with asyncio.timeout(PASS_S):
                    await self._client.run_on_scheduler(_PASS_ON, pieces, self._run)
            except TimeoutError:
                self._lose(f"is out of reach: the scheduler {self._spec} does not answer any more")
            except OSError:
                self._lose(f"is out of reach: the scheduler {self._spec} is gone")
            except Exception as error:
                self._lose(f"is out of reach: the scheduler {self._spec} passes nothing on ({plain(str(error))})")

    # ── Facts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, event: tuple[float, Any]) -> None:
        _, told = event
        if isinstance(told, dict) and told.get("run") == self._run:
            self._posts[told["number"]].hear(told)

    def _hear_of_workers(self, event: tuple[float, Any]) -> None:
        _, told = event
        action = told.get("action") if isinstance(told, dict) else None
        if action == "add-worker":
            self._meet(told["worker"])
        if action == "remove-worker":
            for post in self._posts.values():
                if post.place.address == told.get("worker"):
                    post.lose(f"is gone: its Dask worker on {post.place.host} has left {self._spec}", ended=True)

    async def _watch(self) -> None:
        while self._client.status == "running":  # noqa: ASYNC110 - Dask does not tell
            await asyncio.sleep(WATCH_S)
        self._lose(f"is out of reach: the scheduler {self._spec} is gone")

    def _lose(self, fate: str) -> None:
        self._cut_off = True
        for post in self._posts.values():
            post.lose(fate)

    async def _end(self, post: _Post) -> None:
        if self._cut_off:
            return  # there is nobody to ask: it ends without its scheduler
        with contextlib.suppress(SessionLost):
            await _ask(self._spec, self._client, post.place.address, post.place.host, relay.end, self._run)


class _Post:
    """Implements `Post`.

    Args:
        private: nobody can read along on the way; else no secret is sent.
    """

    def __init__(
        self,
        number: int,
        place: _Place,
        private: bool,
        put: Callable[[_Post, tuple[Order, ...]], None],
        end: Callable[[_Post], Any],
    ) -> None:
        self.number, self.place, self.name = number, place, place.host
        self._private, self._put, self._end = private, put, end
        self._told: asyncio.Queue[WorkerFacts | None] = asyncio.Queue()
        self._sequence = 0
        self._fate = ""
        self._ended = False
        """Whether it is gone for sure."""

    def send(self, *orders: Order) -> None:
        if not self._fate:
            self._put(self, orders if self._private else tuple(map(_without_secrets, orders)))

    def hear(self, told: dict[str, Any]) -> None:
        if self._fate:
            return
        if told["sequence"] != self._sequence:
            missing = told["sequence"] - self._sequence
            self.lose(f"cannot be followed any more: {missing} of its messages did not arrive")
            return
        self._sequence += 1
        for body in relay.split(told["frames"]):
            self._told.put_nowait(facts.decode(body))
        if (code := told.get("code")) is not None:
            self.lose(died(code, plain(told["said"])), ended=True)

    def lose(self, fate: str, *, ended: bool = False) -> None:
        """Nothing more comes of it."""
        if not self._fate:
            self._fate, self._ended = fate, ended
            self._told.put_nowait(None)

    async def told(self) -> WorkerFacts | None:
        return await self._told.get()

    async def fate(self) -> str:
        return self._fate

    async def close(self) -> None:
        if not self._ended:
            await self._end(self)
            self.lose("was ended", ended=True)


def _without_secrets(order: Order) -> Order:
    return replace(order, environment=()) if isinstance(order, WorkerSetup) else order


async def _places(spec: CrewSpec, client: Client, ours: str) -> list[_Place]:
    """The Dask workers that have joined, in the order of their hosts. Raises SessionLost unless all can be driven."""
    async with asyncio.timeout(PATIENCE_S):
        known = (await client.scheduler.identity(n_workers=-1))["workers"]  # type: ignore[union-attr]
    if not known:
        raise SessionLost(f"{spec}: no load worker has joined: run llmtop worker {spec} on each load host")
    looks = await asyncio.gather(*(_look(spec, client, address, ours) for address in known))
    return sorted(looks, key=lambda place: (place.host, place.address))


async def _look(spec: CrewSpec, client: Client, address: str, ours: str) -> _Place:
    name, host, theirs, found = await _ask(spec, client, address, address, _LOOK)
    of = host if name == address else re.sub(r"-\d+$", "", str(name))  # as `llmtop worker --name` names them
    host = plain(str(host if name == address else name))
    if _month(theirs) != _month(ours):
        raise SessionLost(
            f"{spec}: {host} has distributed {theirs}, this machine {ours}: pip install distributed=={ours} there"
        )
    if found is None:
        wanted = f"pip install 'llmtop[cluster]=={__version__}'"
        raise SessionLost(f"{spec}: llmtop is not installed on {host} ({address}): {wanted} there")
    if found != __version__:
        raise SessionLost(
            f"{spec}: {host} has llmtop {plain(str(found))}, this machine {__version__}: install the same on both"
        )
    place = _Place(address, host, plain(str(of)))
    if by := await _ask(spec, client, address, host, relay.driver):
        raise SessionLost(_driven(spec, host, by))
    return place


def _driven(spec: CrewSpec, host: str, by: str) -> str:
    return f"{spec}: {plain(by)} drives a load from {host} already: wait for its end"


def _month(version: str) -> list[str]:
    """Dask promises nothing across its versions, `2026.8.0`; what differs in the last part alone is a mended one."""
    return version.split(".")[:2]


async def _ask(
    spec: CrewSpec, client: Client, address: str, host: str, function: Callable[..., Any], *arguments: Any
) -> Any:
    """What `function` returns in a Dask worker; one that is frozen never answers. Raises SessionLost."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            answers = await client.run(function, *arguments, workers=[address], on_error="return")
    except TimeoutError:
        raise SessionLost(f"{spec}: the load worker on {host} does not answer within {PATIENCE_S:g} s") from None
    except OSError as error:
        raise SessionLost(f"{spec}: the load worker on {host} cannot be asked: {plain(str(error))}") from None
    answer = answers.get(address)
    if isinstance(answer, Exception):
        raise SessionLost(f"{spec}: the load worker on {host} cannot be used: {plain(str(answer))}")
    return answer


async def _close(client: Client) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(LEAVE_S):
            await client.close(timeout=1)


def _driver() -> str:
    """Who we are, for others who would drive the same load workers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (process {os.getpid()})"
