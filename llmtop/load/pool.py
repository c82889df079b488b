"""A load from several processes: one core can read some 35 000 chunks a second, and the load may need more."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import psutil
from msgspec.structs import replace

from llmtop.domain.request import RequestRecord
from llmtop.domain.run import Call, Event, FactBatch, LoadWorker, Severity
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.errors import SessionLost, UsageError, UsersError
from llmtop.load.account import Worker
from llmtop.load.clocks import Clock, shifted
from llmtop.load.files import cores
from llmtop.load.here import BIN_NS, SECOND_NS, WorkerFacts
from llmtop.load.luggage import sent_files
from llmtop.load.merging import Merger, quiet, run_on
from llmtop.load.messages import Close, Cut, Renew, WorkerSetup
from llmtop.load.pacer import Pacer
from llmtop.load.post import Children, Crew
from llmtop.meter.binner import merge_bins
from llmtop.wording import crew as wording

WORKERS_PER_CORE = 4
"""More take each other's turns, and are late."""
WORKER_MB = 60
"""Memory of one: an interpreter with its libraries, and the word list."""
STARTING = 16
"""Workers that begin at the same time: each opens connections and starts an interpreter."""
LOOK_S = 0.1
SILENT_NS = 1_500_000_000
"""Of a worker that tells nothing for so long it is said; figures go on without it."""
PING_NS = SECOND_NS
JOIN_S = 30.0
"""How long those that join together may take before the load is shared with the ones that have come: an interpreter is
started, and clocks are compared."""
FAR = 1 << 32
"""Prompts of one that joins later have numbers of their own: beyond this, which the others never come to."""
LEASE_S = 3.0
"""A worker ends its load when it has heard nothing for so long."""
GIVEN_UP_NS = 4 * SECOND_NS
"""One that has not been heard for longer than its lease has no load any more, or does not know yet that it has none."""
AWAY_NS = SECOND_NS // 2
"""Who has not looked for so long cannot say of others that they are silent."""


def check_workers(workers: int) -> None:
    """Raises UsageError where so many processes are more than this machine carries: says what it does."""
    own = cores()
    free_mb = psutil.virtual_memory().available / 1e6
    most = min(own * WORKERS_PER_CORE, int(free_mb / WORKER_MB))
    if workers > most:
        raise UsageError(
            f"--workers {workers}: this machine carries {max(1, most)} at most, {WORKERS_PER_CORE} for each of its "
            f"{own} cores and {WORKER_MB} MB of memory for each ({free_mb:,.0f} MB are free)"
        )


class Workers:
    """Load from several processes: they do together what `Here` with the same pacer would do.

    Open-loop arrivals are dealt out by number, concurrency by largest remainder. What the workers tell is merged by
    250 ms and by second, once all that live and are not silent have told it. When a worker dies, its share goes to the
    others and its requests in flight are lost. Who joins while the load goes on gets a share as soon as it is heard,
    where prompts are drawn: rows of a file, a trace and users of a file are dealt out at the beginning.

    Args:
        setup: of all workers together; each makes its own client and prompts of it.
        crew: who they are; None: as many processes of this machine as `setup` says.
    """

    def __init__(self, setup: WorkerSetup, crew: Crew | None = None) -> None:
        self._setup = setup
        self._crew = crew or Children(setup.workers)
        self._workers: list[Worker] = []
        self._bins: Merger[LoadBin] = Merger(BIN_NS / 1e9, quiet, run_on)
        self._seconds: Merger[ClientSample] = Merger(SECOND_NS / 1e9, lambda _: None)
        self._records: list[RequestRecord] = []
        self._events: list[Event] = []
        self._calls: list[Call] = []
        self._met: list[LoadWorker] = []
        self._followed: tuple[Pacer, int] | None = None
        self._awaited = set(range(setup.workers))
        self._joining: dict[int, asyncio.Future[bool]] = {}
        """By number: who joins, and gets no load yet; whether it has come."""
        self._working: dict[int, asyncio.Task[None]] = {}
        self._closing = asyncio.Event()
        self._lost = 0
        self._binned_s = 0.0
        self._looked_ns = self._pinged_ns = setup.now()

    @property
    def in_flight(self) -> int:
        """As last told: up to `tell_s` ago, see `worker.py`."""
        return sum(worker.in_flight for worker in self._living)

    @property
    def spent(self) -> bool:
        """Whether each has sent all of its rows."""
        return bool(self._living) and all(worker.spent for worker in self._living)

    @property
    def _living(self) -> list[Worker]:
        """Those that the load is shared by."""
        return [worker for worker in self._present if worker.number not in self._joining]

    @property
    def _present(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.alive]

    def follow(self, pacer: Pacer, start_ns: int) -> None:
        self._followed = (pacer, start_ns)
        living = self._living
        for place, worker in enumerate(living):
            worker.follow(pacer.shared(place, len(living)), start_ns)

    def cut(self, keep: int = 0) -> None:
        living = self._living
        for place, worker in enumerate(living):
            whole, rest = divmod(keep, len(living))
            worker.send(Cut(whole + (place < rest)))

    def renew(self) -> int | None:
        """Each does so with its own connections, of which it does not tell."""
        for worker in self._living:
            worker.send(Renew())
        return None

    def take(self) -> FactBatch:
        awaited = {worker.number for worker in self._living if not worker.silent}
        now_s = self._setup.now() / 1e9
        bins = tuple(self._in_order(group.values(), now_s) for group in self._bins.take(awaited))
        client = tuple(
            replace(sample, t_s=min(now_s, max(each.t_s for each in group.values())), workers_lost=self._lost)
            for group in self._seconds.take(awaited)
            for sample in group.values()
        )
        batch = FactBatch(
            t_s=now_s,
            bins=bins,
            requests=tuple(self._records),
            client=client,
            calls=tuple(self._calls),
            workers=tuple(self._met),
            events=tuple(self._events),
        )
        self._records, self._calls, self._met, self._events = [], [], [], []
        return batch

    def _in_order(self, bins: Iterable[LoadBin], now_s: float) -> LoadBin:
        """One bin of a group, that ends after the one before and not after now: it may hold what came late."""
        merged = merge_bins(list(bins))
        self._binned_s = min(now_s, max(merged.t_s, self._binned_s + 1e-6))
        return merged if merged.t_s == self._binned_s else replace(merged, t_s=self._binned_s)

    async def run(self, ready: Callable[[], None]) -> None:
        """`ready`: every worker has told its first facts.

        Raises SessionLost when one cannot begin or the last has died, UsersError when users of any have raised
        something, FileError and UsageError where a worker elsewhere cannot be given a file that it needs.
        """
        self._ready = ready
        try:
            if self._crew.elsewhere:
                secret = _secrets(self._setup.endpoint.secret_variables)
                files = await asyncio.to_thread(sent_files, self._setup)
                endpoint = replace(self._setup.endpoint, metrics_urls=())  # nothing but the load is asked from there
                self._setup = replace(self._setup, endpoint=endpoint, environment=secret, files=files)
            self._setup = replace(self._setup, lease_s=LEASE_S, waits=not self._crew.elsewhere)
            await self._work_together()
        finally:
            await self._crew.close()

    async def _work_together(self) -> None:
        room = asyncio.Semaphore(STARTING)
        for number in range(self._setup.workers):
            self._working[number] = asyncio.create_task(self._work(number, room))
        looking = asyncio.create_task(self._watch())
        growing = asyncio.create_task(self._grow(room))
        closing = asyncio.create_task(self._closing.wait())
        ended = asyncio.create_task(self._ended())
        try:
            # Not until all have ended: one that hangs would keep the others, and be kept.
            ends: set[asyncio.Future[Any]] = {ended, closing, looking, growing}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in (ended, looking, growing):
                if end.done():
                    end.result()
        finally:
            for task in (closing, looking, growing):
                task.cancel()
            self.close()
            begun = {worker.number for worker in self._workers}
            for number, work in self._working.items():
                if number not in begun:  # it is still on its way
                    work.cancel()
            await asyncio.gather(*(worker.post.close() for worker in self._workers))
            await asyncio.gather(ended, growing, *self._working.values(), return_exceptions=True)

    async def _ended(self) -> None:
        """All have, of those that join meanwhile, too. Raises what the first has raised that fails."""
        ended: set[asyncio.Task[None]] = set()
        while left := set(self._working.values()) - ended:
            done, _ = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for work in done:
                work.result()
            ended |= done

    def close(self) -> None:
        self._closing.set()
        for worker in self._present:
            worker.send(Close())

    async def _work(self, number: int, room: asyncio.Semaphore) -> None:
        """Begin a worker and take in what it tells until it ends."""
        try:
            async with room:
                worker = await self._begin(number)
        except SessionLost as error:
            if number < self._setup.workers:
                raise
            self._cannot_join(number, str(error))
            return
        worker.hearing = asyncio.create_task(self._hear(worker))
        try:
            await asyncio.wait({worker.hearing})
        finally:
            worker.hearing.cancel()
        worker.alive = False
        if not worker.hearing.cancelled():
            worker.hearing.result()
        fate = worker.given_up or await worker.post.fate()
        if not self._closing.is_set():
            self._died(worker, fate)
            self._came(worker)

    # ── Who joins ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _grow(self, room: asyncio.Semaphore) -> None:
        """Take in whoever joins, until cancelled."""
        while True:
            try:
                newcomers = await self._crew.more()
            except SessionLost as error:
                self._say(wording.cannot_join(str(error)), "warning")
                continue
            if self._setup.workload.source == "synthetic":
                await self._take_in(newcomers, room)
            else:
                for host, count in Counter(newcomers.values()).items():
                    self._say(wording.too_late(host, count), "info")

    async def _take_in(self, newcomers: Mapping[int, str], room: asyncio.Semaphore) -> None:
        """Begin them, and share the load with those that come."""
        coming = {number: asyncio.get_running_loop().create_future() for number in newcomers}
        self._joining.update(coming)
        for number in newcomers:
            self._working[number] = asyncio.create_task(self._work(number, room))
        await asyncio.wait(coming.values(), timeout=JOIN_S)
        for worker in self._workers:
            if worker.number in coming and not coming[worker.number].done() and worker.hearing is not None:
                worker.given_up = wording.unheard(JOIN_S)
                worker.hearing.cancel()
        self._joining = {number: has for number, has in self._joining.items() if not has.done()}
        came = Counter(newcomers[number] for number, has in coming.items() if has.done() and has.result())
        self._share_out()
        for host, count in came.items():
            self._say(wording.joined(host, count, len(self._living)), "info")

    def _cannot_join(self, number: int, why: str) -> None:
        for worker in self._workers:
            worker.alive = worker.alive and worker.number != number
        if not self._joining[number].done():
            self._joining[number].set_result(False)
        self._say(wording.cannot_join(why), "warning")

    # ── Each ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self, number: int) -> Worker:
        """Raises SessionLost."""
        beyond = number - self._setup.workers
        setup = replace(self._setup, worker=number, first=None if beyond < 0 else (beyond + 1) * FAR)
        clock = Clock() if self._crew.elsewhere else None
        worker = Worker(number, await self._crew.post(setup), clock)
        self._workers.append(worker)
        self._workers.sort(key=lambda each: each.number)
        if clock is not None:
            await worker.compare_clocks(clock)
            setup = replace(setup, origin_ns=setup.origin_ns + clock.offset_ns)
        worker.send(setup)
        self._introduce(worker)
        return worker

    async def _hear(self, worker: Worker) -> None:
        """Take in what a worker tells until it is gone. Raises UsersError."""
        while (told := await worker.post.told()) is not None:
            self._heard(worker, told)

    def _heard(self, worker: Worker, told: WorkerFacts) -> None:
        now = self._setup.now()
        if worker.silent:
            after_s = (now - worker.heard_ns) / 1e9
            self._say(wording.heard_again(worker.number, worker.post.name, after_s), "info")
        worker.silent, worker.heard_ns = False, now
        if worker.clock is not None:
            worker.heard(told)
            told = shifted(told, worker.clock.shift_ns)
            if told.pong is not None and worker.clock.news:
                self._introduce(worker)
        worker.account(told)
        self._bins.add(worker.number, told.batch.bins)
        self._seconds.add(worker.number, told.batch.client)
        self._records.extend(told.batch.requests)
        self._calls.extend(told.batch.calls)
        self._events.extend(worker.named(event) for event in told.batch.events)
        if told.let_go:
            self._say(wording.let_go(worker.number, worker.post.name, LEASE_S), "warning")
            self._share_out()
        if told.fault is not None:
            worker.alive = False
            raise UsersError(*told.fault)
        self._came(worker)

    def _came(self, worker: Worker) -> None:
        joining = self._joining.get(worker.number)
        if joining is not None and not joining.done():
            joining.set_result(worker.alive)
        if worker.number in self._awaited:
            self._awaited.discard(worker.number)
            if not self._awaited:
                self._ready()

    async def _watch(self) -> None:
        while True:
            self._look(self._setup.now())
            await asyncio.sleep(LOOK_S)

    def _look(self, now_ns: int) -> None:
        """Keep up the load of all, and see who has fallen silent."""
        away = now_ns - self._looked_ns > AWAY_NS
        self._looked_ns = now_ns
        pinging = now_ns - self._pinged_ns >= PING_NS
        if pinging:
            self._pinged_ns = now_ns
        for worker in self._present:
            if pinging:
                worker.ping()
            if worker.number in self._awaited or worker.number in self._joining:
                continue
            if away:
                worker.heard_ns = now_ns
            silent_ns = now_ns - worker.heard_ns
            if silent_ns > SILENT_NS and not worker.silent:
                worker.silent = True
                self._say(wording.silent(worker.number, worker.post.name, silent_ns / 1e9), "warning")
            if silent_ns > GIVEN_UP_NS and worker.clock is not None and worker.hearing is not None:
                worker.given_up = wording.unheard(silent_ns / 1e9)
                worker.hearing.cancel()

    def _died(self, worker: Worker, fate: str) -> None:
        """Write off what it had in flight and give its share to the others."""
        now = self._setup.now()
        self._lost += 1
        self._met.append(replace(worker.introduced(now), lost=True))
        self._bins.end(worker.number, worker.lost_bin(now))
        self._records.extend(worker.lost_records(now))
        living = len(self._living)
        text = wording.lost(worker.number, worker.post.name, fate, len(worker.open))
        if not living:
            raise SessionLost(f"{text}. {wording.NOBODY_LEFT}")
        self._say(f"{text}, {wording.share_goes(living)}", "error")
        self._share_out()

    def _share_out(self) -> None:
        """All that are there now do their part of what is followed; what was not sent until now is not made up for."""
        if self._followed is not None:
            now = self._setup.now()
            pacer, start_ns = self._followed
            elapsed_s = (now - start_ns) / 1e9
            self.follow(pacer.replaced(pacer.plan, elapsed_s, pacer.start_s + elapsed_s), now)

    def _introduce(self, worker: Worker) -> None:
        self._met.append(worker.introduced(self._setup.now()))

    def _say(self, text: str, severity: Severity) -> None:
        self._events.append(Event(self._setup.now() / 1e9, "client", text, severity))


def _secrets(variables: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """What lets somebody in at the endpoint: (variable, its value)."""
    return tuple((name, os.environ[name]) for name in variables if name in os.environ)
