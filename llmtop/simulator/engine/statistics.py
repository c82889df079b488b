"""Counters and histograms as vLLM's /metrics page needs them.

Source: vLLM `vllm/v1/metrics/loggers.py` (names, buckets), `vllm/v1/metrics/stats.py` (what is observed when).
"""

from __future__ import annotations

from bisect import bisect_left

from llmtop.simulator.engine.request import Sequence

TTFT_BUCKETS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
ITL_BUCKETS_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
LATENCY_BUCKETS_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
ITERATION_BUCKETS = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)
PREEMPTION_BUCKETS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)


def one_two_five(limit: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50, ... up to `limit`: vLLM's buckets for token counts."""
    buckets: list[float] = []
    scale = 1
    while True:
        for step in (1, 2, 5):
            if step * scale > limit:
                return tuple(buckets)
            buckets.append(float(step * scale))
        scale *= 10


class Histogram:
    """Counts per bucket, not cumulated; `counts[-1]` is what lies above the last bound."""

    __slots__ = ("bounds", "count", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.count = 0
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value`, so many times, in the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.count += times
        self.sum += value * times

    def cumulated(self) -> list[int]:
        """Counts at or below each bound, then the count of all: the `le` series of an exposition."""
        total = 0
        series = []
        for count in self.counts:
            total += count
            series.append(total)
        return series


class EngineStatistics:
    """All that the engine counts since it started. Every figure only ever rises.

    Times are the engine's own: from arrival in the engine, without the server's part.
    """

    def __init__(self, max_model_len: int) -> None:
        self.submitted = 0
        """Requests taken into the queue: those turned away are in `rejected` only."""
        self.admitted = 0
        """Admissions, resumed ones included."""
        self.preemptions = 0
        self.prefix_queries = 0
        """Prompt tokens looked up in the prefix cache, of requests that were never preempted."""
        self.prefix_hits = 0
        self.prompt_tokens = 0
        """Counted at the first token."""
        self.prompt_tokens_cached = 0
        self.generation_tokens = 0
        self.steps = 0
        self.busy_ns = 0
        self.finished: dict[str, int] = {"stop": 0, "length": 0, "abort": 0, "error": 0}
        """Requests by finish reason."""
        self.rejected: dict[str, int] = {}
        """Refusals by reason."""
        tokens = one_two_five(max_model_len)
        self.ttft = Histogram(TTFT_BUCKETS_S)
        self.inter_token = Histogram(ITL_BUCKETS_S)
        self.request_tpot = Histogram(ITL_BUCKETS_S)
        self.e2e_time = Histogram(LATENCY_BUCKETS_S)
        self.queue_time = Histogram(LATENCY_BUCKETS_S)
        self.inference_time = Histogram(LATENCY_BUCKETS_S)
        self.prefill_time = Histogram(LATENCY_BUCKETS_S)
        self.decode_time = Histogram(LATENCY_BUCKETS_S)
        self.iteration_tokens = Histogram(ITERATION_BUCKETS)
        self.request_prompt_tokens = Histogram(tokens)
        self.request_generation_tokens = Histogram(tokens)
        self.request_max_tokens = Histogram(tokens)
        self.request_preemptions = Histogram(PREEMPTION_BUCKETS)
        self.request_prefill_computed = Histogram(tokens)
        self.histograms: dict[str, Histogram] = {
            "time_to_first_token_seconds": self.ttft,
            "inter_token_latency_seconds": self.inter_token,
            "request_time_per_output_token_seconds": self.request_tpot,
            "e2e_request_latency_seconds": self.e2e_time,
            "request_queue_time_seconds": self.queue_time,
            "request_inference_time_seconds": self.inference_time,
            "request_prefill_time_seconds": self.prefill_time,
            "request_decode_time_seconds": self.decode_time,
            "iteration_tokens_total": self.iteration_tokens,
            "request_prompt_tokens": self.request_prompt_tokens,
            "request_generation_tokens": self.request_generation_tokens,
            "request_params_max_tokens": self.request_max_tokens,
            "request_num_preemptions": self.request_preemptions,
            "request_prefill_kv_computed_tokens": self.request_prefill_computed,
        }
        """By vLLM's metric name, without the `vllm:` prefix."""

    def observe_first(self, sequence: Sequence) -> None:
        """A request has its first token."""
        self.ttft.observe((sequence.first_token_ns - sequence.arrival_ns) * 1e-9)
        self.prompt_tokens += sequence.prompt_tokens
        self.prompt_tokens_cached += sequence.cached_tokens

    def observe_last(self, sequence: Sequence, reason: str) -> None:
        """A request has all its tokens."""
        self.finished[reason] += 1
        first, last, scheduled = sequence.first_token_ns, sequence.last_token_ns, sequence.scheduled_ns
        self.queue_time.observe((scheduled - sequence.arrival_ns) * 1e-9)
        self.prefill_time.observe((first - scheduled) * 1e-9)
        self.decode_time.observe((last - first) * 1e-9)
        self.inference_time.observe((last - scheduled) * 1e-9)
        self.e2e_time.observe((last - sequence.arrival_ns) * 1e-9)
        if sequence.emitted > 1:
            self.request_tpot.observe((last - first) * 1e-9 / (sequence.emitted - 1))
        self.request_prompt_tokens.observe(sequence.prompt_tokens)
        self.request_generation_tokens.observe(sequence.emitted)
        self.request_max_tokens.observe(sequence.max_tokens)
        self.request_preemptions.observe(sequence.preemptions)
        self.request_prefill_computed.observe(sequence.prompt_tokens - sequence.cached_tokens)
