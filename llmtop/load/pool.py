"""A load from several processes: one core can read some 35 000 chunks a second, and the load may need more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import perf_counter_ns, time

from msgspec.structs import replace

from llmtop.channel import Child
from llmtop.domain.endpoint import Endpoint, EndpointInfo
from llmtop.domain.load import Caps
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Event
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.errors import SessionLost
from llmtop.load.crew import BIN_NS, SECOND_NS, Haul
from llmtop.load.engine import SteeredLoad
from llmtop.load.merging import Merger, quiet
from llmtop.load.messages import Close, Cut, Follow, Order, Setup, hauls, packed, receive
from llmtop.load.pacer import Pacer
from llmtop.load.users import Flight
from llmtop.meter import merge_bins

STREAMS_PER_WORKER = 512
"""For `auto_workers`: half of what one core can do."""
LEAVE_S = 5.0
"""How long a worker may take to end before it is killed."""


def auto_workers(max_concurrency: int) -> int:
    """As many workers as the load may need, but one core stays free for the rest of llmtop."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores - 1, -(-max_concurrency // STREAMS_PER_WORKER)))


class _Worker:
    """One worker process as its parent sees it, with the account of its requests."""

    def __init__(self, number: int, child: Child, facts: asyncio.StreamReader, orders: asyncio.StreamWriter) -> None:
        self.number, self.child = number, child
        self.facts, self._orders = facts, orders
        self.alive = True
        self.in_flight = 0
        self.open: dict[int, Flight] = {}
        """Requests that were sent and whose record has not come."""
        self.told: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.counted = [0, 0, 0, 0]
        """sent, ok, errors, cancelled of its bins."""

    def send(self, *messages: Order) -> None:
        if self.alive:
            self._orders.write(b"".join(map(packed, messages)))

    def account(self, haul: Haul) -> None:
        self.in_flight = haul.in_flight
        self.open.update((flight.number, flight) for flight in haul.started)
        for number, record in zip(haul.numbers, haul.records, strict=True):
            self.open.pop(number, None)
            self.told[record.outcome] += 1
        for closed in haul.bins:
            counts = (closed.sent, closed.ok, closed.errors, closed.cancelled)
            self.counted = [before + more for before, more in zip(self.counted, counts, strict=True)]

    def lost_bin(self, now_ns: int) -> LoadBin:
        """What is missing in its bins, so that nothing of it is in flight any more; what it lost counts as failed."""
        sent = len(self.open) + sum(self.told.values()) - self.counted[0]
        ok = max(0, self.told[Outcome.OK] - self.counted[1])
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
    """The hands of a `WorkerPool`: they do together what one crew with the same pacer would do.

    Open-loop arrivals are dealt out by number, concurrency by largest remainder. What the workers tell is merged by
    250 ms and by second, once all that live have told it. When a worker dies, its share goes to the others and its
    requests in flight are lost.
    """

    def __init__(self, setup: Setup, clock: Callable[[], int]) -> None:
        self._setup, self._clock = setup, clock
        self._workers: list[_Worker] = []
        self._bins: Merger[LoadBin] = Merger(BIN_NS / 1e9, quiet)
        self._seconds: Merger[ClientSample] = Merger(SECOND_NS / 1e9, lambda _: None)
        self._records: list[RequestRecord] = []
        self._events: list[Event] = []
        self._followed: tuple[Pacer, int] | None = None
        self._awaited = set(range(setup.workers))
        self._all_ready = asyncio.Event()
        self._closing = asyncio.Event()
        self._lost = 0

    @property
    def in_flight(self) -> int:
        """As last told: up to 50 ms ago."""
        return sum(worker.in_flight for worker in self._living)

    @property
    def _living(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.alive]

    def follow(self, pacer: Pacer, start_ns: int) -> None:
        self._followed = (pacer, start_ns)
        living = self._living
        for place, worker in enumerate(living):
            worker.send(Follow.of(pacer, (place, len(living)), start_ns))

    def cut(self, keep: int = 0) -> None:
        living = self._living
        for place, worker in enumerate(living):
            whole, rest = divmod(keep, len(living))
            worker.send(Cut(whole + (place < rest)))

    def take(self) -> Haul:
        living = {worker.number for worker in self._living}
        bins = tuple(merge_bins(list(group.values())) for group in self._bins.take(living))
        client = tuple(
            replace(sample, t_s=max(each.t_s for each in group.values()), workers_lost=self._lost)
            for group in self._seconds.take(living)
            for sample in group.values()
        )
        haul = Haul(self.in_flight, bins, tuple(self._records), client, tuple(self._events))
        self._records, self._events = [], []
        return haul

    async def ready(self) -> None:
        """Until every worker has told its first facts."""
        await self._all_ready.wait()

    async def run(self) -> None:
        """Raises SessionLost when the last worker has died."""
        serving = []
        try:
            for number in range(self._setup.workers):
                worker = await self._start(number)
                self._workers.append(worker)
                serving.append(asyncio.create_task(self._serve(worker)))
            done, _ = await asyncio.wait(serving, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            self.close()
            await asyncio.gather(*(worker.child.close(LEAVE_S) for worker in self._workers))
            await asyncio.gather(*serving, return_exceptions=True)

    def close(self) -> None:
        self._closing.set()
        for worker in self._living:
            worker.send(Close())

    async def _start(self, number: int) -> _Worker:
        child = Child("llmtop.load.worker")
        worker = _Worker(number, child, *await child.streams())
        worker.send(replace(self._setup, worker=number))
        return worker

    async def _serve(self, worker: _Worker) -> None:
        """Take in what a worker tells until it ends."""
        while (haul := await receive(worker.facts, hauls)) is not None:
            worker.account(haul)
            self._bins.add(worker.number, haul.bins)
            self._seconds.add(worker.number, haul.client)
            self._records.extend(haul.records)
            self._events.extend(haul.events)
            self._came(worker)
        worker.alive = False
        code = await asyncio.to_thread(worker.child.wait)
        if not self._closing.is_set():
            self._died(worker, code)
            self._came(worker)

    def _came(self, worker: _Worker) -> None:
        self._awaited.discard(worker.number)
        if not self._awaited:
            self._all_ready.set()

    def _died(self, worker: _Worker, code: int) -> None:
        """Write off what it had in flight and give its share to the others."""
        now = self._clock() - self._setup.origin_ns
        self._lost += 1
        self._bins.add(worker.number, (worker.lost_bin(now),))
        self._records.extend(_lost(flight, worker.number, now) for flight in worker.open.values())
        living = len(self._living)
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        said = worker.child.said().rpartition("\n")[2]
        text = (
            f"Load worker {worker.number} died {how}{': ' if said else ''}{said}; {len(worker.open)} requests are lost"
        )
        if not living:
            raise SessionLost(f"{text}. It was the last one: there is no load any more")
        self._events.append(Event(now / 1e9, "client", f"{text}, its share goes to the other {living}", "error"))
        if self._followed is not None:
            pacer, start_ns = self._followed
            elapsed_s = (now - start_ns) / 1e9
            self.follow(pacer.replaced(pacer.plan, elapsed_s, pacer.start_s + elapsed_s), now)


def _lost(flight: Flight, worker: int, now_ns: int) -> RequestRecord:
    return RequestRecord(
        scheduled_ns=flight.scheduled_ns,
        dispatched_ns=flight.dispatched_ns,
        sent_ns=None,
        connect_ns=None,
        headers_ns=None,
        first_token_ns=None,
        first_answer_ns=None,
        last_token_ns=None,
        end_ns=now_ns,
        started_at=time() - (now_ns - flight.dispatched_ns) / 1e9,
        asked_prompt_tokens=flight.asked_prompt_tokens,
        asked_output_tokens=flight.asked_output_tokens,
        prompt_tokens=flight.asked_prompt_tokens,
        output_tokens=0,
        outcome=Outcome.LOST,
        error="its load worker died",
        stage=flight.stage,
        worker=worker,
    )


class WorkerPool(SteeredLoad):
    """The interface of `LoadEngine` over several processes on this machine.

    Args:
        endpoint, info, workload, api: each worker makes its own client and prompts of them.
        pacer: what to follow at first.
        caps: of all workers together.
        origin_ns: zero of the run clock, by perf_counter_ns.
        seed: of staggering and pauses.
        workers: how many processes.
        salt: see `PromptSource`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        info: EndpointInfo | None,
        workload: Workload,
        pacer: Pacer,
        caps: Caps,
        origin_ns: int,
        seed: int,
        api: str,
        workers: int,
        *,
        salt: int = 0,
    ) -> None:
        setup = Setup(
            endpoint=endpoint,
            info=info,
            workload=workload,
            caps=caps,
            origin_ns=origin_ns,
            seed=seed,
            api=api,
            salt=salt,
            workers=workers,
        )
        super().__init__(Workers(setup, perf_counter_ns), pacer, caps, origin_ns, perf_counter_ns)
