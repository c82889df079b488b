"""The engine: requests in, step plans out, on a clock that the caller moves.

Time is integer nanoseconds, given by the caller; noise comes from a seed.
"""

from __future__ import annotations

import math
import random

from llmtop.simulator.engine.blocks import BlockPool
from llmtop.simulator.engine.config import EngineConfig
from llmtop.simulator.engine.request import Rejected, Sequence, SimRequest, TokenEvent
from llmtop.simulator.engine.scheduler import Scheduler, StepPlan
from llmtop.simulator.engine.statistics import EngineStatistics
from llmtop.simulator.engine.steptime import StepModel


class Engine:
    """The simulated engine.

    A driver does, again and again: `submit` what has arrived by now; `plan(now_ns)`; wait until `plan.end_ns`;
    `commit(plan)`; hand out the events. `plan` is None when nothing can run; the next chance is the next arrival,
    abort or reconfiguration.

    Args:
        config: flags.
        step_model: seconds of a step.
        seed: of the noise on step times. Same seed and same calls, same times.

    Attributes that faults may set at any time:
        step_time_factor: multiplies every step (a noisy neighbour).
        extra_step_ns: added to every step (a growing leak, a garbage collector).
        stall_ns: added to the next step only, then zero again.
        leak_share: share of the blocks of an aborted request that is lost for good, 0 to 1.
        step_model: replace it, for instance by `step_model.throttled(0.7)`.
    """

    def __init__(self, config: EngineConfig, step_model: StepModel, seed: int = 0) -> None:
        self.statistics = EngineStatistics(config.max_model_len)
        self.step_model = step_model
        self.step_time_factor = 1.0
        self.extra_step_ns = 0
        self.stall_ns = 0
        self.leak_share = 0.0
        self._scheduler = Scheduler(config, self.statistics)
        self._random = random.Random(seed)
        self._live: dict[str, Sequence] = {}
        self._ahead: StepPlan | None = None
        self._serial = 0

    # What is going on ------------------------------------------------------------------------------------------

    @property
    def config(self) -> EngineConfig:
        return self._scheduler.config

    @property
    def pool(self) -> BlockPool:
        """The KV blocks. To look at, not to change."""
        return self._scheduler.pool

    @property
    def running(self) -> int:
        """Sequences with a slot (vllm:num_requests_running)."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Sequences in the queue, preempted ones included (vllm:num_requests_waiting)."""
        return len(self._scheduler.waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the KV blocks in use, 0 to 1 (vllm:kv_cache_usage_perc)."""
        return self.pool.usage

    @property
    def has_work(self) -> bool:
        """Whether any request is running, waiting or in a step."""
        return bool(self._live)

    def running_sequences(self) -> tuple[Sequence, ...]:
        """In order of admission. To look at, not to change."""
        return tuple(self._scheduler.running)

    def waiting_sequences(self) -> tuple[Sequence, ...]:
        """In the order in which they will be looked at. To look at, not to change."""
        return tuple(self._scheduler.waiting)

    # Requests in and out ---------------------------------------------------------------------------------------

    def submit(self, request: SimRequest) -> None:
        """Put a request into the queue. `max_tokens` past the model's length is cut to what fits.

        Raises:
            Rejected: the prompt can never run, or the queue is full.
            ValueError: the id is in use, or a length is not positive.
        """
        if request.id in self._live:
            raise ValueError(f"request id {request.id!r} is in flight already")
        if request.prompt_tokens < 1 or request.max_tokens < 1 or (request.stop_after or 1) < 1:
            raise ValueError(f"request {request.id!r}: prompt_tokens, max_tokens and stop_after must be at least 1")
        config = self.config
        limit = config.request_limit_tokens
        if request.prompt_tokens >= limit:
            self._reject("prompt_too_long", limit, request.prompt_tokens)
        if request.max_tokens > config.max_model_len:
            self._reject("max_tokens_too_large", config.max_model_len, request.max_tokens)
        queued = len(self._scheduler.waiting)
        if config.max_num_queued_reqs is not None and queued >= config.max_num_queued_reqs:
            self._reject("queued_reqs", config.max_num_queued_reqs, queued + 1)
        tokens = self._scheduler.waiting.tokens + request.prompt_tokens
        if config.max_num_queued_tokens is not None and queued and tokens > config.max_num_queued_tokens:
            self._reject("queued_tokens", config.max_num_queued_tokens, tokens)
        self._serial += 1
        max_tokens = min(request.max_tokens, limit - request.prompt_tokens)
        sequence = Sequence(request, max_tokens, self._serial, config.block_size)
        self._live[request.id] = sequence
        self._scheduler.waiting.push(sequence)
        self.statistics.submitted += 1

    def abort(self, request_id: str) -> bool:
        """Forget a request and free its blocks at once. False: it is not in flight."""
        sequence = self._live.get(request_id)
        if sequence is None:
            return False
        self._end(sequence, self.leak_share)
        self.statistics.finished["abort"] += 1
        return True

    def reconfigure(self, config: EngineConfig) -> list[TokenEvent]:
        """Take over new flags while requests run.

        A smaller `max_num_seqs` lets the running ones finish. Fewer `num_gpu_blocks` preempt the last admitted until
        the rest fits; requests that can never fit any more end, and their events are returned: reason `length` when
        they have tokens already, `error` when their prompt alone is too long.
        `block_size` and `policy` cannot change (ValueError).
        """
        if config.block_size != self.config.block_size or config.policy != self.config.policy:
            raise ValueError("block_size and policy are fixed at the start of an engine")
        self._scheduler.config = config
        self.pool.unhashed_first = config.unhashed_first
        self._scheduler.resize(config.num_gpu_blocks)
        return self._end_what_never_fits()

    # Steps -----------------------------------------------------------------------------------------------------

    def plan(self, now_ns: int) -> StepPlan | None:
        """Start the next step at `now_ns`; None when nothing can run."""
        scheduler = self._scheduler
        plan = self._ahead or scheduler.schedule(now_ns)
        self._ahead = None
        if plan is None:
            return None
        plan.start_ns = now_ns
        plan.duration_ns = self._duration_ns(plan)
        if scheduler.config.async_scheduling:
            self._ahead = scheduler.schedule(now_ns)
        return plan

    def commit(self, plan: StepPlan, between: bool = True) -> list[TokenEvent]:
        """End a step: every sequence that caught up has one more token, at `plan.end_ns`.

        Args:
            between: whether tokens between the first and the last of a request are among the events, too.
        """
        events: list[TokenEvent] = []
        start_ns, end_ns = plan.start_ns, plan.end_ns
        inter_token = self.statistics.inter_token
        tokens = steady = len(plan.decodes)
        for sequence in plan.decodes:
            emitted = sequence.emitted + 1
            if sequence.last_token_ns == start_ns and emitted < sequence.stop_at and not sequence.finished:
                sequence.emitted = emitted
                sequence.last_token_ns = end_ns
                if between:
                    events.append(TokenEvent(sequence.id, emitted - 1))
                continue
            if sequence.finished:
                tokens -= 1
                steady -= 1
                continue
            if sequence.last_token_ns != start_ns:
                steady -= 1
                if sequence.emitted:
                    inter_token.observe((end_ns - sequence.last_token_ns) * 1e-9)
            self._emit(sequence, end_ns, events)
        for sequence, _before, _new, samples in plan.chunks:
            if sequence.finished or not samples:
                continue
            tokens += 1
            if sequence.emitted:
                inter_token.observe((end_ns - sequence.last_token_ns) * 1e-9)
            self._emit(sequence, end_ns, events)
        if steady:
            inter_token.observe((end_ns - start_ns) * 1e-9, steady)
        statistics = self.statistics
        statistics.steps += 1
        statistics.busy_ns += plan.duration_ns
        statistics.generation_tokens += tokens
        statistics.iteration_tokens.observe(plan.tokens)
        return events

    # Inside ----------------------------------------------------------------------------------------------------

    def _duration_ns(self, plan: StepPlan) -> int:
        model = self.step_model
        seconds = model.seconds(plan.load) * self.step_time_factor
        if model.jitter:
            seconds *= math.exp(model.jitter * self._random.gauss(0.0, 1.0))
        stall_ns, self.stall_ns = self.stall_ns, 0
        return max(1, round(seconds * 1e9)) + self.extra_step_ns + stall_ns

    def _emit(self, sequence: Sequence, end_ns: int, events: list[TokenEvent]) -> None:
        index = sequence.emitted
        sequence.emitted = index + 1
        sequence.last_token_ns = end_ns
        if index == 0:
            sequence.first_token_ns = end_ns
            self.statistics.observe_first(sequence)
        if index + 1 < sequence.stop_at:
            events.append(TokenEvent(sequence.id, index))
            return
        reason = "stop" if sequence.stop_at < sequence.max_tokens else "length"
        events.append(TokenEvent(sequence.id, index, True, reason))
        self._end(sequence)
        self.statistics.observe_last(sequence, reason)

    def _end(self, sequence: Sequence, leak_share: float = 0.0) -> None:
        self._scheduler.end(sequence, leak_share)
        del self._live[sequence.id]

    def _end_what_never_fits(self) -> list[TokenEvent]:
        """After the limit of a request's length fell: end or shorten those that are past it."""
        limit = self.config.request_limit_tokens
        events = []
        for sequence in list(self._live.values()):
            if sequence.last_target < limit:
                continue
            if sequence.target < limit:
                sequence.max_tokens = limit - sequence.prompt_tokens
                sequence.stop_at = min(sequence.stop_at, sequence.max_tokens)
                sequence.last_target = limit - 1
                continue
            reason = "length" if sequence.emitted else "error"
            events.append(TokenEvent(sequence.id, sequence.emitted - 1, True, reason))
            self._end(sequence)
            self.statistics.finished[reason] += 1
        return events

    def _reject(self, reason: str, limit: int, value: int) -> None:
        rejected = self.statistics.rejected
        rejected[reason] = rejected.get(reason, 0) + 1
        raise Rejected(reason, limit, value)
