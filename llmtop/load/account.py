"""One load worker as its parent sees it: what it has told, and what is lost when it is gone."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns

from msgspec.structs import replace

from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Event, LoadWorker
from llmtop.domain.samples import LoadBin
from llmtop.endpoint.trace import Trace
from llmtop.errors import SessionLost
from llmtop.load.clocks import PINGS, Clock
from llmtop.load.here import BIN_NS, WorkerFacts
from llmtop.load.messages import Follow, Order, Ping
from llmtop.load.pacer import Pacer
from llmtop.load.post import Post
from llmtop.load.users import Flight

FIRST_ANSWER_S = 20.0
"""How long one on another machine may take to answer for the first time: it has to start an interpreter."""


class Worker:
    """The account of one worker's requests.

    Args:
        post: the way to it.
        clock: its own, where it is on another machine; None: ours.
    """

    def __init__(self, number: int, post: Post, clock: Clock | None = None) -> None:
        self.number, self.post, self.clock = number, post, clock
        self.alive = True
        self.in_flight = 0
        self.spent = False
        self.heard_ns = 0
        """When it told something last, on the run clock."""
        self.silent = False
        self.hearing: asyncio.Task[None] | None = None
        """Takes in what it tells."""
        self.given_up: str | None = None
        """Why nothing is expected of it any more, though its end was not seen."""
        self.open: dict[int, Flight] = {}
        """Requests that were sent and whose record has not come."""
        self.told: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.counted = [0, 0, 0, 0]
        """sent, ok, errors, cancelled of its bins."""

    def send(self, *orders: Order) -> None:
        if self.alive:
            self.post.send(*orders)

    def follow(self, pacer: Pacer, start_ns: int) -> None:
        """`start_ns`: on the run clock."""
        self.send(Follow(pacer, start_ns - (self.clock.shift_ns if self.clock is not None else 0)))

    def ping(self) -> None:
        """Tell it that we are here, and look what the clock of another machine shows."""
        self.send(Ping(0) if self.clock is None else self.clock.ping(perf_counter_ns()))

    def heard(self, told: WorkerFacts) -> None:
        if self.clock is not None and told.pong is not None:
            self.clock.hear(told.pong, perf_counter_ns())

    async def compare_clocks(self, clock: Clock) -> None:
        """Ask one that has no setup yet for the time. Raises SessionLost where it does not answer."""
        try:
            async with asyncio.timeout(FIRST_ANSWER_S):
                for _ in range(PINGS):
                    self.ping()
                    told = await self.post.told()
                    if told is None:
                        raise SessionLost(f"load worker {self.post.name} {await self.post.fate()}")
                    self.heard(told)
        except TimeoutError:
            raise SessionLost(
                f"load worker {self.post.name} was started and does not answer within {FIRST_ANSWER_S:g} s"
            ) from None
        clock.begin()

    def introduced(self, now_ns: int) -> LoadWorker:
        offset_ns, error_ns = (0, 0) if self.clock is None else (self.clock.offset_ns, self.clock.error_ns)
        return LoadWorker(now_ns / 1e9, self.number, self.post.name, offset_ns / 1e9, error_ns / 1e9)

    def named(self, event: Event) -> Event:
        """What it tells of its own machine, with whose that is; there is no need to say that of ours."""
        if self.clock is None or event.kind != "client":
            return event
        return replace(event, text=f"{self.post.name}: {event.text}")

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

    def lost_records(self, now_ns: int) -> list[RequestRecord]:
        """Of the requests that it had in flight."""
        return [_lost(flight, self.number, now_ns) for flight in self.open.values()]


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
