"""One engine in real time: it is told when requests arrive, and its tokens are written when they are due.

The engine's clock is the machine's (`perf_counter_ns`), run `out_ns` behind: what the engine does at T is worked out
at T + out_ns, which is when a real server, that much later, has its tokens on the wire. So a step needs one wake-up,
for the end of the one and the start of the next. Deadlines are absolute: a late wake-up makes no later step late.

Writing a step's tokens takes time (13 us of system call a stream on loopback, 4 ms for 256), so a step is taken up half
of that before its deadline: tokens leave around the deadline instead of after it. What arrives meanwhile cannot have
mattered: it would reach the engine later than T, by the way in.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from time import perf_counter_ns

from llmtop.simulator.engine import Engine, EngineConfig, Rejected, SimRequest, StepPlan, TokenEvent
from llmtop.simulator.server.asked import ApiError, engine_busy
from llmtop.simulator.server.generation import Generation

_LEAD_WEIGHT = 0.2
"""Of the newest step in the running mean of how long writing takes."""
MAX_BEHIND_NS = 1_000_000_000
"""A clock further behind than this (a suspended machine, a stopped process) is moved on instead of caught up with."""


class Lateness:
    """How far from their deadlines tokens left, before or after: p99 of the last whole second."""

    def __init__(self) -> None:
        self._second = 0
        self._samples: list[int] = []
        self._p99_ns = 0

    def add(self, now_ns: int, late_ns: int) -> None:
        if now_ns // 1_000_000_000 != self._second:
            self._turn(now_ns)
        self._samples.append(abs(late_ns))

    def p99_ms(self, now_ns: int) -> float:
        """0 when nothing was sent in the last whole second."""
        if now_ns // 1_000_000_000 != self._second:
            self._turn(now_ns)
        return self._p99_ns / 1e6

    def _turn(self, now_ns: int) -> None:
        second = now_ns // 1_000_000_000
        samples = sorted(self._samples) if second == self._second + 1 else []
        self._p99_ns = samples[(99 * len(samples)) // 100] if samples else 0
        self._second = second
        self._samples = []


class Replica:
    """An engine with its clock and its open generations.

    Args:
        engine: driven by this replica alone.
        out_ns: from the end of a step to its tokens on the wire.
        admits: asked at the instant a request would enter the engine's queue.
        clock_ns: monotonic; a test may give another.
    """

    def __init__(
        self,
        engine: Engine,
        out_ns: int,
        admits: Callable[[], bool],
        clock_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.engine = engine
        self.lateness = Lateness()
        self.first_token_ns: int | None = None
        """When it had generated its first token; None: none yet."""
        self._out_ns = out_ns
        self._admits = admits
        self._clock_ns = clock_ns
        self._loop = asyncio.get_running_loop()
        self._generations: dict[str, Generation] = {}
        self._arrivals: list[tuple[int, int, SimRequest]] = []
        self._serial = 0
        self._plan: StepPlan | None = None
        self._lead_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0

    @property
    def load(self) -> int:
        """Requests that are on their way in, waiting or running."""
        return len(self._generations)

    def start(self, request: SimRequest, generation: Generation) -> None:
        """Take up a request; the engine sees it at its `arrival_ns`, which may lie ahead."""
        self._generations[request.id] = generation
        self._serial += 1
        heapq.heappush(self._arrivals, (request.arrival_ns, self._serial, request))
        if self._plan is None:
            self._arm(self._arrivals[0][0])

    def abort(self, request_id: str) -> None:
        """The client has gone: slot and blocks are free at once."""
        if self._generations.pop(request_id, None) is None:
            return
        if not self.engine.abort(request_id):
            self._arrivals = [entry for entry in self._arrivals if entry[2].id != request_id]
            heapq.heapify(self._arrivals)
        self._wake()

    def reconfigure(self, config: EngineConfig) -> None:
        """Raises ValueError, and changes nothing, for a configuration that the engine refuses."""
        now_ns = self._clock_ns()
        self._deliver(self.engine.reconfigure(config), now_ns)
        self._wake()

    def has(self, request_id: str) -> bool:
        return request_id in self._generations

    def drop(self) -> None:
        """Go away: the connections of all open generations break."""
        generations = list(self._generations.values())
        self.close()
        for generation in generations:
            generation.drop()

    def close(self) -> None:
        """Stop the clock. Open generations are forgotten, not answered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._plan = None
        self._generations.clear()
        self._arrivals.clear()

    def _wake(self) -> None:
        """Something changed: if the engine stands still, let it look again."""
        if self._plan is None and self.engine.has_work:
            self._arm(self._clock_ns() - self._out_ns)

    def _arm(self, engine_ns: int) -> None:
        """While the engine stands still: wake up at `engine_ns`, unless something comes before."""
        if self._timer is None or engine_ns < self._timer_ns:
            self._rearm(engine_ns)

    def _rearm(self, engine_ns: int) -> None:
        """Wake up in time for what the engine does at `engine_ns`."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = engine_ns
        wait_ns = engine_ns + self._out_ns - self._lead_ns - self._clock_ns()
        self._timer = self._loop.call_later(max(0, wait_ns) / 1e9, self._tick)

    def _tick(self) -> None:
        """End the step that is due, then start the next."""
        self._timer = None
        plan = self._plan
        start_ns = self._clock_ns()
        if plan is not None:
            self._note_cached(plan)
            self._deliver(self.engine.commit(plan), self._timer_ns + self._out_ns)
            half_ns = (self._clock_ns() - start_ns) / 2
            self._lead_ns = min(self._out_ns, round(self._lead_ns + _LEAD_WEIGHT * (half_ns - self._lead_ns)))
        engine_ns = max(self._timer_ns, start_ns - self._out_ns - MAX_BEHIND_NS)
        self._take_arrivals(engine_ns)
        self._plan = self.engine.plan(engine_ns)
        if self._plan is not None:
            self._rearm(self._plan.end_ns)
        elif self._arrivals:
            self._rearm(self._arrivals[0][0])

    def _take_arrivals(self, engine_ns: int) -> None:
        while self._arrivals and self._arrivals[0][0] <= engine_ns:
            request = heapq.heappop(self._arrivals)[2]
            try:
                if self._admits():
                    self.engine.submit(request)
                else:
                    self._generations.pop(request.id).refuse(engine_busy())
            except Rejected as rejected:
                self._generations.pop(request.id).refuse(ApiError(400, "BadRequestError", str(rejected)))

    def _note_cached(self, plan: StepPlan) -> None:
        """Tell generations how much of their prompt came from the prefix cache."""
        for sequence in plan.admitted:
            generation = self._generations.get(sequence.id)
            if generation is not None:
                generation.answer.cached_tokens = sequence.cached_tokens

    def _deliver(self, events: list[TokenEvent], due_ns: int) -> None:
        """Hand each token to its stream. A stream that ends or breaks meanwhile is simply not there any more."""
        generations, clock_ns, lateness = self._generations, self._clock_ns, self.lateness
        if events and self.first_token_ns is None:
            self.first_token_ns = clock_ns()
        for event in events:
            if event.finished:
                generation = generations.pop(event.request_id, None)
                if generation is not None:
                    generation.last_token(event.finish_reason or "stop", has_token=event.index >= generation.tokens)
            else:
                generation = generations.get(event.request_id)
                if generation is not None:
                    generation.token()
            now_ns = clock_ns()
            lateness.add(now_ns, now_ns - due_ns)
