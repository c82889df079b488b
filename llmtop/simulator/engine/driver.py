"""The engine in virtual time: an event heap of arrivals that jumps from step to step, and three kinds of load."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator

from msgspec import Struct

from llmtop.errors import UsageError
from llmtop.simulator.engine.engine import Engine
from llmtop.simulator.engine.request import Rejected, SimRequest
from llmtop.simulator.engine.steptime import Overhead


class Lengths(Struct, frozen=True, kw_only=True):
    """Token lengths of a workload. With a cv of 0 every request is the same; otherwise lengths are log-normal.

    `shared_prefix` is the share of the prompt, from its head, that all requests of one of `prefix_groups` have in
    common.
    """

    prompt_tokens: int = 192
    output_tokens: int = 64
    prompt_cv: float = 0.0
    output_cv: float = 0.0
    shared_prefix: float = 0.0
    prefix_groups: int = 1


class Visit(Struct):
    """One request as its client saw it. Nanoseconds of the virtual clock; -1: not yet."""

    number: int
    sent_ns: int
    prompt_tokens: int
    output_tokens: int
    first_token_ns: int = -1
    end_ns: int = -1
    rejected: bool = False

    @property
    def ttft_s(self) -> float:
        return (self.first_token_ns - self.sent_ns) * 1e-9

    @property
    def e2e_s(self) -> float:
        return (self.end_ns - self.sent_ns) * 1e-9

    @property
    def tpot_s(self) -> float | None:
        """(end - first token) / (tokens - 1); None for a single token."""
        return (self.end_ns - self.first_token_ns) * 1e-9 / (self.output_tokens - 1) if self.output_tokens > 1 else None


class Work(Struct):
    """How much simulation is left to be spent, in sequences that a step computes. Some 400 000 take a second."""

    left: int = 50_000_000

    def spend(self, amount: int) -> None:
        """Raises UsageError where nothing is left."""
        self.left -= amount
        if self.left < 0:
            raise UsageError("this would take minutes to predict: ask for fewer levels, requests at a level or tokens")


STEP_WORK = 8
"""What a step itself takes, in sequences."""


class GaugeSums(Struct):
    """Time-weighted sums of the engine's gauges, from `since_ns` on."""

    since_ns: int = 0
    until_ns: int = 0
    running_ns: float = 0.0
    waiting_ns: float = 0.0
    kv_usage_max: float = 0.0
    output_tokens: int = 0


class VirtualDriver:
    """Moves an engine's clock and keeps a `Visit` per request.

    Args:
        engine: to be driven; nobody else may.
        overhead: the server's own times before and after the engine.
        seed: of lengths and arrivals.
        work: of this and of other drivers together; None: as much as it takes.
    """

    def __init__(self, engine: Engine, overhead: Overhead, seed: int = 0, work: Work | None = None) -> None:
        self.engine = engine
        self.now_ns = 0
        self.gauges = GaugeSums()
        self._random = random.Random(seed)
        self._api_in_ns = round(overhead.api_in_ms * 1e6)
        self._api_in_token_ns = overhead.api_in_us_per_token * 1e3
        self._api_out_ns = round(overhead.api_out_ms * 1e6)
        self._arrivals: list[tuple[int, int, SimRequest, Visit]] = []
        self._visits: dict[str, Visit] = {}
        self._work = work
        self._number = 0

    def send(self, at_ns: int, lengths: Lengths) -> Visit:
        """Let a client send a request at `at_ns`, not before now."""
        prompt = self._length(lengths.prompt_tokens, lengths.prompt_cv)
        output = self._length(lengths.output_tokens, lengths.output_cv)
        visit = Visit(self._number, at_ns, prompt, output)
        arrival_ns = at_ns + self._api_in_ns + round(self._api_in_token_ns * prompt)
        request = SimRequest(
            id=str(self._number),
            arrival_ns=arrival_ns,
            prompt_tokens=prompt,
            max_tokens=output,
            block_hashes=self._shared_hashes(lengths, prompt),
        )
        heapq.heappush(self._arrivals, (arrival_ns, self._number, request, visit))
        self._number += 1
        return visit

    @property
    def sent(self) -> int:
        """How many requests clients have been told to send."""
        return self._number

    @property
    def arrivals_left(self) -> int:
        """How many of them have not reached the engine yet."""
        return len(self._arrivals)

    def run(self) -> Iterator[Visit]:
        """Step until nothing is left, and yield each request when it ends (its client may send the next one then).

        Ends, too, when the engine is stuck: it has work that will never fit. Raises UsageError when no `work` is left.
        """
        engine = self.engine
        while True:
            yield from self._submit_arrived()
            plan = engine.plan(self.now_ns)
            if plan is None:
                if not self._arrivals:
                    return
                self._idle_until(self._arrivals[0][0])
                continue
            if self._work is not None:
                self._work.spend(STEP_WORK + plan.sequences)
            gauges = self.gauges
            gauges.running_ns += engine.running * plan.duration_ns
            gauges.waiting_ns += engine.waiting * plan.duration_ns
            gauges.kv_usage_max = max(gauges.kv_usage_max, engine.kv_usage)
            self.now_ns = gauges.until_ns = plan.end_ns
            before = engine.statistics.generation_tokens
            events = engine.commit(plan, between=False)
            gauges.output_tokens += engine.statistics.generation_tokens - before
            seen_ns = plan.end_ns + self._api_out_ns
            for event in events:
                if event.index and not event.finished:  # a prompt that was computed again
                    continue
                if event.index == 0:
                    self._visits[event.request_id].first_token_ns = seen_ns
                if event.finished:
                    visit = self._visits.pop(event.request_id)
                    visit.end_ns = seen_ns
                    visit.output_tokens = event.index + 1
                    yield visit

    def restart_gauges(self) -> None:
        """Forget what the gauges have summed up: the warm-up is over."""
        self.gauges = GaugeSums(since_ns=self.now_ns, until_ns=self.now_ns)

    def _submit_arrived(self) -> Iterator[Visit]:
        while self._arrivals and self._arrivals[0][0] <= self.now_ns:
            _at, _number, request, visit = heapq.heappop(self._arrivals)
            try:
                self.engine.submit(request)
            except Rejected:
                visit.rejected = True
                visit.end_ns = self.now_ns
                yield visit
            else:
                self._visits[request.id] = visit

    def _idle_until(self, at_ns: int) -> None:
        """Nothing runs until the next arrival; what waits (a head that does not fit) goes on waiting."""
        self.gauges.waiting_ns += self.engine.waiting * (at_ns - self.now_ns)
        self.now_ns = self.gauges.until_ns = at_ns

    def _length(self, mean: int, cv: float) -> int:
        if cv == 0.0:
            return mean
        sigma = math.sqrt(math.log1p(cv * cv))
        return max(1, round(mean * math.exp(sigma * self._random.gauss(0.0, 1.0) - sigma * sigma / 2.0)))

    def _shared_hashes(self, lengths: Lengths, prompt_tokens: int) -> tuple[int, ...]:
        if lengths.shared_prefix == 0.0:
            return ()
        blocks = int(lengths.shared_prefix * prompt_tokens) // self.engine.config.block_size
        first = self._random.randrange(lengths.prefix_groups) << 32
        return tuple(range(first, first + blocks))


def closed_loop(
    driver: VirtualDriver, users: int, lengths: Lengths, think_s: float = 0.0, stagger_s: float = 0.0
) -> Iterator[Visit]:
    """`users` clients, each sending its next request `think_s` after the one before ended.

    They start evenly over `stagger_s`; at once for 0, as most load tools do. Of equal requests that start at once,
    those prefilled in one step stay together for good: they end, return and are prefilled again in one step.
    """
    for user in range(users):
        driver.send(driver.now_ns + round(stagger_s * 1e9 * user / users), lengths)
    think_ns = round(think_s * 1e9)
    for visit in driver.run():
        yield visit
        driver.send(max(visit.end_ns + think_ns, driver.now_ns), lengths)


def open_loop(
    driver: VirtualDriver,
    rate_rps: float,
    count: int,
    lengths: Lengths,
    burstiness: float = 1.0,
    max_in_flight: int | None = None,
    seed: int = 0,
) -> Iterator[Visit]:
    """`count` requests at `rate_rps`, Gamma-spaced: 1 is Poisson, below 1 comes in bursts, `inf` is constant.

    With `max_in_flight` the client holds back what would be one more; a request counts from when it is really sent.
    """
    spacing = random.Random(seed)
    limit = max_in_flight or count
    due_ns: list[int] = []
    clock_s = 0.0
    for _ in range(count):
        due_ns.append(round(clock_s * 1e9))
        if math.isinf(burstiness):
            clock_s += 1.0 / rate_rps
        else:
            clock_s += spacing.gammavariate(burstiness, 1.0 / (burstiness * rate_rps))
    sent = 0
    while sent < min(limit, count):
        driver.send(due_ns[sent], lengths)
        sent += 1
    for visit in driver.run():
        if sent < count:
            driver.send(max(due_ns[sent], visit.end_ns), lengths)
            sent += 1
        yield visit
