"""A load from several processes: one core can read some 35 000 chunks a second, and the load may need more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Protocol

import psutil
from msgspec.structs import replace

from llmtop.channel import Child, outward_environment
from llmtop.domain.plain import plain
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Call, Event, FactBatch, LoadWorker
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.endpoint.trace import Trace
from llmtop.errors import SessionLost, UsageError, UsersError
from llmtop.load.here import BIN_NS, SECOND_NS, WorkerFacts
from llmtop.load.merging import Merger, quiet
from llmtop.load.messages import Close, Cut, Follow, Order, WorkerSetup, facts, packed, receive
from llmtop.load.pacer import Pacer
from llmtop.load.users import Flight
from llmtop.meter.binner import merge_bins

WORKERS_PER_CORE = 4
"""More take each other's turns, and are late."""
WORKER_MB = 60
"""Memory of one: an interpreter with its libraries, and the word list."""
LEAVE_S = 5.0
"""How long a worker may take to end before it is killed."""


def check_workers(workers: int) -> None:
    """Raises UsageError where so many processes are more than this machine carries: says what it does."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free_mb = psutil.virtual_memory().available / 1e6
    most = min(cores * WORKERS_PER_CORE, int(free_mb / WORKER_MB))
    if workers > most:
        raise UsageError(
            f"--workers {workers}: this machine carries {max(1, most)} at most, {WORKERS_PER_CORE} for each of its "
            f"{cores} cores and {WORKER_MB} MB of memory for each ({free_mb:,.0f} MB are free)"
        )


class Post(Protocol):
    """The way to one load worker, wherever it runs."""

    @property
    def name(self) -> str:
        """Who it is: `h2:4711`, host and process."""

    @property
    def clock(self) -> tuple[int, int]:
        """(offset, error) in nanoseconds: what its perf_counter_ns shows beyond ours; so far off that is at most."""

    def send(self, *orders: Order) -> None:
        """Tell it, in this order, some time soon; nothing happens when it is gone."""

    async def told(self) -> WorkerFacts | None:
        """What it tells next; None: it is gone."""

    async def fate(self) -> str:
        """Of one that is gone, how it came to its end: `died by signal 9`, and its last words."""

    async def close(self) -> None:
        """See to it that it is gone, within `LEAVE_S`."""


class Crew(Protocol):
    """Where load workers are had: this machine's processes (`Children`), or other machines."""

    @property
    def size(self) -> int:
        """How many there are."""

    async def post(self, setup: WorkerSetup) -> Post:
        """Begin the worker `setup.worker`, by whose clock `setup.origin_ns` is put right. Raises SessionLost."""

    async def close(self) -> None:
        """All posts are closed: end what was there for all of them."""


class Children:
    """Load workers that are processes of this machine and end with this one."""

    def __init__(self, size: int) -> None:
        self.size = size

    async def post(self, setup: WorkerSetup) -> Post:
        child = Child("llmtop.load.worker", environment=outward_environment(*setup.endpoint.secret_variables))
        post = _Pipes(child, *await child.streams())
        post.send(setup)
        return post

    async def close(self) -> None:
        pass


class _Pipes:
    """The way to a child."""

    clock = (0, 0)
    """perf_counter_ns counts from the same instant in all processes of a machine (Linux, macOS)."""

    def __init__(self, child: Child, facts: asyncio.StreamReader, orders: asyncio.StreamWriter) -> None:
        self._child, self._facts, self._orders = child, facts, orders
        self.name = f"here:{child.pid}"

    def send(self, *orders: Order) -> None:
        self._orders.write(b"".join(map(packed, orders)))

    async def told(self) -> WorkerFacts | None:
        return await receive(self._facts, facts)

    async def fate(self) -> str:
        code = await asyncio.to_thread(self._child.wait)
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        said = plain(self._child.said().rpartition("\n")[2])
        return f"died {how}{': ' if said else ''}{said}"

    async def close(self) -> None:
        await self._child.close(LEAVE_S)


class _Worker:
    """One load worker as its parent sees it, with the account of its requests."""

    def __init__(self, number: int, post: Post) -> None:
        self.number, self.post = number, post
        self.alive = True
        self.in_flight = 0
        self.spent = False
        self.open: dict[int, Flight] = {}
        """Requests that were sent and whose record has not come."""
        self.told: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.counted = [0, 0, 0, 0]
        """sent, ok, errors, cancelled of its bins."""

    def send(self, *orders: Order) -> None:
        if self.alive:
            self.post.send(*orders)

    def introduced(self, now_ns: int) -> LoadWorker:
        offset_ns, error_ns = self.post.clock
        return LoadWorker(now_ns / 1e9, self.number, self.post.name, offset_ns / 1e9, error_ns / 1e9)

    def account(self, told: WorkerFacts) -> None:
        self.in_flight, self.spent = told.in_flight, told.spent
        self.open.update((flight.number, flight) for flight in told.started)
        for number, record in zip(told.numbers, told.batch.requests, strict=True):
            self.open.pop(number, None)
            self.told[record.outcome] += 1
        for closed in told.batch.bins:
            counts = (closed.sent, closed.ok, closed.errors, closed.cancelled)
            self.counted = [before + more for before, more in zip(self.counted, counts, strict=True)]

    def lost_bin(self, now_ns: int) -> LoadBin:
        """What is missing in its bins, so that nothing of it is in flight any more; what it lost counts as failed."""
        sent = len(self.open) + sum(self.told.values()) - self.counted[0]
        ok = max(0, self.told[Outcome.OK] + self.told[Outcome.TEXTLESS] - self.counted[1])
        cancelled = max(0, self.told[Outcome.CANCELLED] - self.counted[3])
        errors = sum(self.told.values()) + len(self.open) - sum(self.counted[1:]) - ok - cancelled
        return LoadBin(
            t_s=now_ns / 1e9,
            span_s=BIN_NS / 1e9,
            target=0.0,
            in_flight=0,
            sent=sent,
            ok=ok,
            errors=errors,
            cancelled=cancelled,
        )


class Workers:
    """Load from several processes: they do together what `Here` with the same pacer would do.

    Open-loop arrivals are dealt out by number, concurrency by largest remainder. What the workers tell is merged by
    250 ms and by second, once all that live have told it. When a worker dies, its share goes to the others and its
    requests in flight are lost.

    Args:
        setup: of all workers together; each makes its own client and prompts of it.
        crew: who they are; None: as many processes of this machine as `setup` says.
    """

    def __init__(self, setup: WorkerSetup, crew: Crew | None = None) -> None:
        self._setup = setup
        self._crew = crew or Children(setup.workers)
        self._workers: list[_Worker] = []
        self._bins: Merger[LoadBin] = Merger(BIN_NS / 1e9, quiet)
        self._seconds: Merger[ClientSample] = Merger(SECOND_NS / 1e9, lambda _: None)
        self._records: list[RequestRecord] = []
        self._events: list[Event] = []
        self._calls: list[Call] = []
        self._met: list[LoadWorker] = []
        self._followed: tuple[Pacer, int] | None = None
        self._awaited = set(range(setup.workers))
        self._closing = asyncio.Event()
        self._lost = 0

    @property
    def in_flight(self) -> int:
        """As last told: up to 50 ms ago."""
        return sum(worker.in_flight for worker in self._living)

    @property
    def spent(self) -> bool:
        """Whether each has sent all of its rows."""
        return bool(self._living) and all(worker.spent for worker in self._living)

    @property
    def _living(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.alive]

    def follow(self, pacer: Pacer, start_ns: int) -> None:
        self._followed = (pacer, start_ns)
        living = self._living
        for place, worker in enumerate(living):
            worker.send(Follow(pacer.shared(place, len(living)), start_ns))

    def cut(self, keep: int = 0) -> None:
        living = self._living
        for place, worker in enumerate(living):
            whole, rest = divmod(keep, len(living))
            worker.send(Cut(whole + (place < rest)))

    def take(self) -> FactBatch:
        living = {worker.number for worker in self._living}
        bins = tuple(merge_bins(list(group.values())) for group in self._bins.take(living))
        client = tuple(
            replace(sample, t_s=max(each.t_s for each in group.values()), workers_lost=self._lost)
            for group in self._seconds.take(living)
            for sample in group.values()
        )
        batch = FactBatch(
            t_s=self._setup.now() / 1e9,
            bins=bins,
            requests=tuple(self._records),
            client=client,
            calls=tuple(self._calls),
            workers=tuple(self._met),
            events=tuple(self._events),
        )
        self._records, self._calls, self._met, self._events = [], [], [], []
        return batch

    async def run(self, ready: Callable[[], None]) -> None:
        """`ready`: every worker has told its first facts.

        Raises SessionLost when the last worker has died, UsersError when users of any have raised something.
        """
        self._ready = ready
        serving = []
        closing = asyncio.create_task(self._closing.wait())
        try:
            for number in range(self._setup.workers):
                worker = _Worker(number, await self._crew.post(replace(self._setup, worker=number)))
                self._workers.append(worker)
                self._met.append(worker.introduced(self._setup.now()))
                serving.append(asyncio.create_task(self._serve(worker)))
            ended = asyncio.gather(*serving)
            # Not until all have ended: one that hangs would keep the others, and be kept.
            ends: set[asyncio.Future[Any]] = {ended, closing}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                ended.result()
        finally:
            closing.cancel()
            self.close()
            await asyncio.gather(*(worker.post.close() for worker in self._workers))
            await asyncio.gather(*serving, return_exceptions=True)
            await self._crew.close()

    def close(self) -> None:
        self._closing.set()
        for worker in self._living:
            worker.send(Close())

    async def _serve(self, worker: _Worker) -> None:
        """Take in what a worker tells until it ends."""
        while (told := await worker.post.told()) is not None:
            worker.account(told)
            self._bins.add(worker.number, told.batch.bins)
            self._seconds.add(worker.number, told.batch.client)
            self._records.extend(told.batch.requests)
            self._calls.extend(told.batch.calls)
            self._events.extend(told.batch.events)
            if told.fault is not None:
                worker.alive = False
                raise UsersError(*told.fault)
            self._came(worker)
        worker.alive = False
        fate = await worker.post.fate()
        if not self._closing.is_set():
            self._died(worker, fate)
            self._came(worker)

    def _came(self, worker: _Worker) -> None:
        if worker.number in self._awaited:
            self._awaited.discard(worker.number)
            if not self._awaited:
                self._ready()

    def _died(self, worker: _Worker, fate: str) -> None:
        """Write off what it had in flight and give its share to the others."""
        now = self._setup.now()
        self._lost += 1
        self._bins.add(worker.number, (worker.lost_bin(now),))
        self._records.extend(_lost(flight, worker.number, now) for flight in worker.open.values())
        living = len(self._living)
        text = f"Load worker {worker.number} {fate}; {len(worker.open)} requests are lost"
        if not living:
            raise SessionLost(f"{text}. It was the last one: there is no load any more")
        self._events.append(Event(now / 1e9, "client", f"{text}, its share goes to the other {living}", "error"))
        if self._followed is not None:
            pacer, start_ns = self._followed
            elapsed_s = (now - start_ns) / 1e9
            self.follow(pacer.replaced(pacer.plan, elapsed_s, pacer.start_s + elapsed_s), now)


def _lost(flight: Flight, worker: int, now_ns: int) -> RequestRecord:
    trace = Trace(flight.scheduled_ns, flight.dispatched_ns)
    trace.outcome, trace.error = Outcome.LOST, "its load worker died"
    return trace.record(
        now_ns,
        asked_prompt_tokens=flight.asked_prompt_tokens,
        asked_output_tokens=flight.asked_output_tokens,
        stage=flight.stage,
        worker=worker,
    )
