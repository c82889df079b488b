"""Load workers that are told of and not there: a crew on a virtual clock whose posts tell what real ones would.

Each has streams that ask, get their tokens and ask again, counted by the same `Binner` and told in the same messages,
at the same pace. What it takes to invent them is kept apart from what it takes to hear them (`Fleet.invented_s`).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping
from random import Random
from time import perf_counter_ns, thread_time

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome, RequestRecord, TokenSource
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import ClientSample, LoadBin
from llmtop.load.here import BIN_NS, SECOND_NS, WorkerFacts
from llmtop.load.messages import Close, Order, Ping, WorkerSetup, facts, packed, receive
from llmtop.load.users import Flight
from llmtop.load.worker import tell_s
from llmtop.meter.binner import Binner

PROMPT_TOKENS, OUTPUT_TOKENS = 512, 256
TTFT_S, TPOT_S = 0.25, 0.05
MOST_POOLED = 1 << 14
FAR_NS = 5_000_000_000
"""Their clocks show so much more than ours."""


class Clock:
    """Nanoseconds of a run whose time somebody else moves on."""

    def __init__(self, now_s: Callable[[], float] = lambda: 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> int:
        return round(self.now_s() * 1e9)


CLOCK = Clock()


class VirtualSetup(WorkerSetup, tag="WorkerSetup"):
    """A setup on `CLOCK`."""

    def now(self) -> int:
        return CLOCK()


def setup_of(workers: int, streams: int) -> VirtualSetup:
    return VirtualSetup(
        endpoint=Endpoint(base_url="http://gateway:8000"),
        info=None,
        workload=Workload(),
        caps=Caps(max_concurrency=workers * streams),
        origin_ns=0,
        seed=0,
        api="chat",
        workers=workers,
    )


class Streams:
    """What happens in one worker: a closed loop of `count` streams in a server that gives each the same speed."""

    def __init__(self, worker: int, count: int, gaps_ns: list[int]) -> None:
        self._worker, self._count, self._gaps_ns = worker, count, gaps_ns
        self._rng = Random(worker)
        self._binner = Binner()
        self._due: list[tuple[int, int, int]] = []
        """(when, what, stream): 0 a request is sent, 1 its first token comes, 2 it ends."""
        self._flights: dict[int, Flight] = {}
        """By stream."""
        self._first_ns: dict[int, int] = {}
        self._number = self._reported = 0
        self._ended: list[tuple[int, RequestRecord]] = []
        self._told: list[tuple[int, RequestRecord]] = []
        self._bins: list[LoadBin] = []
        self._samples: list[ClientSample] = []
        self._chunks = 0
        self._bin_due_ns, self._second_due_ns = BIN_NS, SECOND_NS
        for stream in range(count):
            heapq.heappush(self._due, (round(self._rng.random() * 1e8), 0, stream))

    @property
    def sent(self) -> int:
        return self._number

    @property
    def in_flight(self) -> int:
        return len(self._flights)

    def tell(self, now_ns: int) -> WorkerFacts:
        """What it tells at that time, as `Here.take_with_account` does."""
        while self._bin_due_ns <= now_ns:
            self._pass(self._bin_due_ns)
            self._close_bin(self._bin_due_ns)
        self._pass(now_ns)
        flying = [flight for flight in self._flights.values() if flight.number > self._reported]
        flying += [_flight(number, record) for number, record in self._ended if number > self._reported]
        self._reported = self._number
        batch = FactBatch(
            t_s=now_ns / 1e9,
            bins=tuple(self._bins),
            requests=tuple(record for _, record in self._told),
            client=tuple(self._samples),
        )
        numbers = tuple(number for number, _ in self._told)
        self._bins, self._told, self._samples = [], [], []
        return WorkerFacts(batch, len(self._flights), numbers, tuple(flying))

    def _pass(self, until_ns: int) -> None:
        while self._due and self._due[0][0] <= until_ns:
            when_ns, what, stream = heapq.heappop(self._due)
            (self._send, self._begin, self._end)[what](when_ns, stream)

    def _send(self, now_ns: int, stream: int) -> None:
        self._number += 1
        self._flights[stream] = Flight(self._number, now_ns, now_ns + 40_000, PROMPT_TOKENS, OUTPUT_TOKENS, None)
        self._binner.sent()
        heapq.heappush(self._due, (now_ns + round(TTFT_S * 1e9 * self._rng.lognormvariate(0, 0.3)), 1, stream))

    def _begin(self, now_ns: int, stream: int) -> None:
        sent_ns = self._flights[stream].dispatched_ns + 60_000
        self._first_ns[stream] = now_ns
        self._binner.first_token(now_ns - sent_ns, PROMPT_TOKENS)
        self._binner.tokens(1)
        tokens = OUTPUT_TOKENS
        if self._flights[stream].number <= self._count:  # first answers are cut, as those of real users are
            tokens = max(2, OUTPUT_TOKENS * (stream + 1) // self._count)
        length_s = (tokens - 1) * TPOT_S * self._rng.gauss(1, 0.01)
        heapq.heappush(self._due, (now_ns + round(length_s * 1e9), 2, stream))

    def _end(self, now_ns: int, stream: int) -> None:
        flight, first_ns = self._flights.pop(stream), self._first_ns.pop(stream)
        record = RequestRecord(
            scheduled_ns=flight.scheduled_ns,
            dispatched_ns=flight.dispatched_ns,
            sent_ns=flight.dispatched_ns + 60_000,
            connect_ns=0,
            headers_ns=first_ns - 500_000,
            first_token_ns=first_ns,
            first_answer_ns=first_ns,
            last_token_ns=now_ns,
            end_ns=now_ns + 150_000,
            started_at=1_700_000_000.0 + flight.dispatched_ns / 1e9,
            asked_prompt_tokens=PROMPT_TOKENS,
            asked_output_tokens=OUTPUT_TOKENS,
            prompt_tokens=PROMPT_TOKENS,
            output_tokens=OUTPUT_TOKENS,
            chunks=OUTPUT_TOKENS,
            max_gap_ns=round(1.4 * TPOT_S * 1e9),
            timed_tokens=OUTPUT_TOKENS - 1.0,
            cached_tokens=0,
            token_source=TokenSource.USAGE,
            prompt_source=TokenSource.USAGE,
            outcome=Outcome.OK,
            status=200,
            finish_reason="length",
            worker=self._worker,
        )
        self._binner.finished(record)
        self._ended.append((flight.number, record))
        heapq.heappush(self._due, (now_ns + 200_000, 0, stream))

    def _close_bin(self, now_ns: int) -> None:
        decoding = len(self._first_ns)
        chunks = round(decoding * BIN_NS / 1e9 / TPOT_S)
        first = self._rng.randrange(MOST_POOLED - chunks)
        for gap_ns in self._gaps_ns[first : first + chunks]:
            self._binner.tokens(1, gap_ns)
        closed = self._binner.close(
            (now_ns + self._rng.randrange(2_000_000)) / 1e9,
            target=float(self._count),
            in_flight=len(self._flights),
            prefilling=len(self._flights) - decoding,
            oldest_prefill_s=0.4,
        )
        self._bins.append(closed)
        self._chunks += closed.gaps
        self._told += self._ended
        self._ended = []
        self._bin_due_ns += BIN_NS
        if now_ns >= self._second_due_ns:
            self._close_second(closed.t_s)

    def _close_second(self, t_s: float) -> None:
        lag_ms = self._rng.lognormvariate(-1, 0.3)
        sample = ClientSample(
            t_s=t_s,
            worker=self._worker,
            lag_p50_ms=0.1,
            lag_p99_ms=lag_ms,
            lag_max_ms=2 * lag_ms,
            loop_lag_ms=3 * lag_ms,
            send_slip_p99_ms=lag_ms,
            cpu=0.35 + 0.1 * self._rng.random(),
            reads=self._chunks,
            coalesced=self._chunks // 100,
            tpot_ms=TPOT_S * 1e3,
            gc_pause_ms=0.0,
            steal=0.0,
            chunks_per_s=float(self._chunks),
            fd_limit=1 << 20,
            stamp_source="kernel",
        )
        self._samples.append(sample)
        self._chunks = 0
        self._second_due_ns += SECOND_NS


class FleetPost:
    """The way to one of them: a stream of bytes, as a pipe's."""

    def __init__(self, fleet: Fleet, setup: WorkerSetup) -> None:
        self._fleet = fleet
        self.name = f"h{setup.worker // 8 + 1}:{4000 + setup.worker}"
        self.streams = Streams(setup.worker, fleet.streams, fleet.gaps_ns)
        self._reader = asyncio.StreamReader()
        self._pace_s = tell_s(setup.workers)
        self._drift_ns = 0
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    def send(self, *orders: Order) -> None:
        for order in orders:
            match order:
                case WorkerSetup():
                    self._drift_ns = self._fleet.drift_ns
                    first_s = self._pace_s * (order.worker + 1) / order.workers  # each began when it could
                    self._timer = asyncio.get_running_loop().call_later(first_s, self._tell)
                case Ping():
                    pong = order.number, perf_counter_ns() + FAR_NS + self._drift_ns
                    self._feed(packed(WorkerFacts(FactBatch(t_s=0.0), self.streams.in_flight, pong=pong)))
                case Close():
                    self.end()

    async def told(self) -> WorkerFacts | None:
        return await receive(self._reader, facts)

    async def fate(self) -> str:
        return "died by signal 9"

    async def close(self) -> None:
        self.end()

    def end(self) -> None:
        """It is gone."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._ended:
            self._ended = True
            self._reader.feed_eof()

    def _tell(self) -> None:
        began_s = thread_time()
        body = packed(self.streams.tell(CLOCK() + self._drift_ns))
        self._fleet.invented_s += thread_time() - began_s
        self._feed(body)
        self._timer = asyncio.get_running_loop().call_later(self._pace_s, self._tell)

    def _feed(self, body: bytes) -> None:
        if not self._ended:
            self._fleet.told_bytes += len(body)
            self._fleet.messages += 1
            self._reader.feed_data(body)


class Fleet:
    """The crew. Put `CLOCK` on the loop's time before.

    Args:
        drift_ns: by so much the clock of each has moved since its beginning.
    """

    elsewhere = True

    def __init__(self, size: int, streams: int, drift_ns: int = 0) -> None:
        self.size, self.streams, self.drift_ns = size, streams, drift_ns
        rng = Random(7)
        self.gaps_ns = [round(TPOT_S * 1e9 * rng.lognormvariate(0, 0.1)) for _ in range(MOST_POOLED)]
        self.posts: list[FleetPost] = []
        self.joining: asyncio.Queue[Mapping[int, str]] = asyncio.Queue()
        self.told_bytes = self.messages = 0
        self.invented_s = 0.0

    async def post(self, setup: WorkerSetup) -> FleetPost:
        self.posts.append(FleetPost(self, setup))
        return self.posts[-1]

    async def more(self) -> Mapping[int, str]:
        return await self.joining.get()

    async def close(self) -> None:
        pass


def _flight(number: int, record: RequestRecord) -> Flight:
    return Flight(number, record.scheduled_ns, record.dispatched_ns, PROMPT_TOKENS, OUTPUT_TOKENS, None)
