"""The load of one process: it follows a pacer and keeps account of what happens."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Callable

from msgspec import Struct

from llmtop.domain.load import LoadPoint
from llmtop.domain.request import RequestRecord
from llmtop.domain.run import Event, FactBatch
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.endpoint.clock import LagSample, StampingLoop
from llmtop.load.files import SPARE_FILES
from llmtop.load.health import HealthProbe
from llmtop.load.pacer import Pacer
from llmtop.load.setup import Setup
from llmtop.load.users import Flight, Users
from llmtop.wording.sentences import ROWS_AGAIN, clock_jumped

BIN_NS = 250_000_000
SECOND_NS = 1_000_000_000
LOOK_S = 0.025
"""The pacer is asked at least this often."""
AHEAD_S = 0.05
"""So long before they are due, requests of a trace have their connections opened: a burst that opens its own is spread
by the time that each takes. Not longer, as some servers spend a thread on each that is idle."""
JUMPS_TOLD_NS = 10_000_000_000
"""Jumps of the wall clock within so long are one piece of news."""
GC_THRESHOLDS = (70_000, 20, 100)
"""A full collection among 50 000 objects stops the loop for some 30 ms; with frozen modules and records that no cycle
holds there is next to nothing to collect."""


class WorkerFacts(Struct, frozen=True, array_like=True):
    """What one process has to tell since it was asked last, and what is needed to account for its loss."""

    batch: FactBatch
    in_flight: int
    numbers: tuple[int, ...] = ()
    """Of the requests in `batch`."""
    started: tuple[Flight, ...] = ()
    """Requests that were sent and are not in `batch`: in flight, or their bin is not closed yet."""
    spent: bool = False
    """Whether all rows of its file were sent and answered, where they do not come again."""
    fault: tuple[str, str] | None = None
    """File and problem of the `FileError` that has ended this process; these are its last facts."""
    pong: tuple[int, int] | None = None
    """Number of the ping that this answers, and perf_counter_ns as it was read."""
    let_go: bool = False
    """Nothing was heard for the lease, and the load was let go; told once something is heard again."""


class Here:
    """The load of this process, on the running event loop: users, their bins and records, and samples of the process.

    A record is told with the bin in which its request ended.

    Args:
        setup: what to send and where.
        health: watches the process.
    """

    def __init__(self, setup: Setup, health: HealthProbe | None = None) -> None:
        self._setup = setup
        self._now = setup.now
        self._users = Users(setup, self._end)
        self._health = health or HealthProbe(clock=setup.clock)
        self._pacer: Pacer | None = None
        self._start_ns = 0
        self._sent = 0
        self._reported = 0
        self._bins: list[LoadBin] = []
        self._second: list[LoadBin] = []
        self._ended: list[tuple[int, RequestRecord]] = []
        self._told: list[tuple[int, RequestRecord]] = []
        self._samples: list[ClientSample] = []
        self._jumps, self._jumped_ns = 0, 0
        self._comes_again = False
        self._jumps_told_ns = -JUMPS_TOLD_NS
        self._wake: asyncio.Future[None] | None = None
        self._closing = False

    @property
    def in_flight(self) -> int:
        return self._users.in_flight

    @property
    def spent(self) -> bool:
        """Whether all rows of a file were sent and answered, where they do not come again."""
        return self._users.spent

    def follow(self, pacer: Pacer, start_ns: int) -> None:
        """Do what `pacer` says, whose elapsed time counts from `start_ns` of the run clock."""
        now = self._now()
        self._ask(now)
        self._pacer, self._start_ns, self._sent = pacer, start_ns, 0
        own, dealt = pacer.dealt
        self._users.most = -(-self._setup.caps.max_concurrency * own // dealt)
        self._ask(now)
        self._stir()

    def cut(self, keep: int = 0) -> None:
        """Cancel what is in flight, but for the `keep` oldest requests."""
        self._users.cut(keep)

    def renew(self) -> int | None:
        """Have the requests from now on open new connections; see `EndpointClient.renew`."""
        return self._setup.client.renew()

    def take(self) -> FactBatch:
        """Everything to tell since the last call."""
        return self.take_with_account().batch

    def take_with_account(self) -> WorkerFacts:
        """The same, for a parent that must account for every request if this process dies."""
        started = self._users.flights(self._reported)
        started += [_flight(number, record) for number, record in self._ended if number > self._reported]
        self._reported = self._users.sent
        batch = FactBatch(
            t_s=self._now() / 1e9,
            bins=tuple(self._bins),
            requests=tuple(record for _, record in self._told),
            client=tuple(self._samples),
            calls=self._users.take_calls(),
            events=tuple(self._users.events),
        )
        numbers = tuple(number for number, _ in self._told)
        facts = WorkerFacts(batch, self.in_flight, numbers, tuple(started), self.spent)
        self._bins, self._told, self._samples, self._users.events = [], [], [], []
        return facts

    async def run(self, ready: Callable[[], None]) -> None:
        """Follow the pacer until `close`. Raises what a bug in a user's task raised, and UsersError.

        Args:
            ready: called once, when the load can begin.
        """
        thresholds = gc.get_threshold()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self._health.start()
        self._check_fd_limit()
        self._users.binner.close(self._now() / 1e9, target=0, in_flight=0)
        self._bin_due_ns = _next(self._now(), BIN_NS)
        self._second_due_ns = _next(self._now(), SECOND_NS)
        try:
            ready()
            while not self._closing:
                if self._users.failure is not None:
                    raise self._users.failure
                now = self._now()
                wait_s = self._ask(now)
                if now >= self._bin_due_ns:
                    self._close_bin(now)
                passed_s = (self._now() - now) / 1e9
                await self._sleep(wait_s - passed_s, min(LOOK_S, (self._bin_due_ns - now) / 1e9) - passed_s)
        finally:
            await self._users.close()
            self._finish()
            self._health.stop()
            gc.set_threshold(*thresholds)
            gc.unfreeze()

    def close(self) -> None:
        """End: cancels everything in flight; `run` returns when it is gone."""
        self._closing = True
        self._users.cut()
        self._stir()

    def _check_fd_limit(self) -> None:
        """Each request in flight needs an open file."""
        limit, wanted = self._health.fd_limit, self._setup.caps.max_concurrency
        if limit is not None and limit < wanted + SPARE_FILES:
            text = f"Only {limit} files may be open: more than {limit - SPARE_FILES} requests in flight will fail"
            event = Event(self._now() / 1e9, "client", f"{text}. Raise the hard limit (ulimit -Hn)", "warning")
            self._users.events.append(event)

    def _ask(self, now_ns: int) -> float:
        """Ask the pacer, do what it says; returns seconds until it wants to be asked again."""
        pacer, users = self._pacer, self._users
        if pacer is None or self._closing:
            return math.inf
        elapsed_s = (now_ns - self._start_ns) / 1e9
        point = pacer.target(elapsed_s)
        stage, _ = pacer.stage(elapsed_s)
        users.stage = stage.name if stage is not None else None
        if point is not None:
            users.point = point
            users.gate.most = self._own_gate(pacer, point.gate)
        users.ready(pacer.soon(elapsed_s, AHEAD_S))
        wait_s = pacer.next_send(elapsed_s, self._sent)
        while wait_s <= 0:
            users.open()
            users.arrive(self._start_ns + round(pacer.send_s(self._sent) * 1e9), pacer.row(self._sent))
            self._sent += 1
            wait_s = pacer.next_send(elapsed_s, self._sent)
        if point is not None and point.rate_rps is not None:
            users.open()
        else:
            users.keep(self._own_concurrency(pacer, point))
        return wait_s

    def _own_concurrency(self, pacer: Pacer, point: LoadPoint | None) -> int:
        if point is None:
            return 0
        return pacer.own(min(point.concurrency or 0, self._setup.caps.max_concurrency), point.gate)

    def _own_gate(self, pacer: Pacer, gate: int | None) -> int | None:
        """So many this process lets through; where none is its share, those that still wait here go one by one."""
        if gate is None:
            return None
        return pacer.own(gate) or min(1, self._users.gate.waiting)

    def _close_bin(self, now_ns: int) -> None:
        users, pacer = self._users, self._pacer
        target = 0.0
        if pacer is not None:
            point = pacer.target((now_ns - self._start_ns) / 1e9)
            target = float(self._own_concurrency(pacer, point))
            if point is not None and point.rate_rps is not None:
                target = point.rate_rps / pacer.share[1]
        closed = users.binner.close(
            now_ns / 1e9,
            target=target,
            in_flight=users.in_flight,
            prefilling=users.prefilling,
            oldest_prefill_s=users.oldest_prefill_s(),
        )
        self._bins.append(closed)
        self._second.append(closed)
        self._bin_due_ns = _next(now_ns, BIN_NS)
        self._told.extend(self._ended)
        self._ended = []
        self._tell_laps(now_ns)
        if now_ns >= self._second_due_ns:
            self._close_second(now_ns)

    def _close_second(self, now_ns: int) -> None:
        bins = self._second
        gaps = sum(closed.gaps for closed in bins)
        weighted = sum(closed.gaps * closed.gap_ms[0] for closed in bins if closed.gap_ms is not None)
        slips_ns, self._users.slips_ns = self._users.slips_ns, []
        lag = self._setup.client.take_lag()
        self._tell_jumps(now_ns, lag)
        sample = self._health.take(
            now_ns / 1e9,
            lag,
            slips_ns,
            tpot_ms=weighted / gaps if gaps else None,
            chunks=gaps + sum(len(closed.ttft_ms) for closed in bins),
            stamp_source=self._setup.client.stamp_source,
            worker=self._setup.worker,
        )
        self._samples.append(sample)
        self._second = []
        self._second_due_ns = _next(now_ns, SECOND_NS)

    def _tell_laps(self, now_ns: int) -> None:
        """That the rows of a file come round, once: all processes begin again at about the same time."""
        if not self._comes_again and self._setup.worker == 0 and self._setup.script.again:
            self._comes_again = True
            self._users.events.append(Event(now_ns / 1e9, "load", ROWS_AGAIN, "info"))

    def _tell_jumps(self, now_ns: int, lag: LagSample) -> None:
        """Every process sees the jumps of the wall clock; the first one tells them."""
        self._jumps += lag.jumps
        self._jumped_ns += lag.jumped_ns
        if self._jumps and self._setup.worker == 0 and now_ns - self._jumps_told_ns >= JUMPS_TOLD_NS:
            text = clock_jumped(self._jumps, self._jumped_ns / 1e9)
            self._users.events.append(Event(now_ns / 1e9, "client", text, "warning"))
            self._jumps, self._jumped_ns, self._jumps_told_ns = 0, 0, now_ns

    def _end(self, number: int, record: RequestRecord) -> None:
        self._ended.append((number, record))

    def _finish(self) -> None:
        now = self._now()
        self._close_bin(now)
        self._close_second(now)

    async def _sleep(self, wait_s: float, most_s: float) -> None:
        """Until the next arrival, but no longer than `most_s`, or until something is commanded."""
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        if isinstance(loop, StampingLoop):
            loop.selector.punctual = wait_s < most_s
        timer = loop.call_later(max(0.0, min(wait_s, most_s)), self._due)
        await self._wake
        timer.cancel()

    def _due(self) -> None:
        """What is due is sent at once: this task has its turn after all that was read meanwhile."""
        try:
            self._ask(self._now())
        except Exception as error:
            self._users.failure = error
        self._stir()

    def _stir(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _flight(number: int, record: RequestRecord) -> Flight:
    return Flight(
        number,
        record.scheduled_ns,
        record.dispatched_ns,
        record.asked_prompt_tokens,
        record.asked_output_tokens,
        record.stage,
    )


def _next(now_ns: int, step_ns: int) -> int:
    """The next whole multiple of `step_ns`: the bins of all workers end at the same instants."""
    return (now_ns // step_ns + 1) * step_ns
