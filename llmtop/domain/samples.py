"""Samples: what was seen of the load, the server, its GPUs and our own process at one instant.

`t_s` is seconds since the start of the run. None = not known, 0 = measured zero.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

ClientState = Literal["green", "amber", "red"]
"""Red: the client is the bottleneck, and its figures are void."""


class LoadBin(Struct, frozen=True, kw_only=True, array_like=True):
    """What the load did in one short interval (250 ms): the finest grain that is kept of live figures."""

    t_s: float
    """End of the interval."""
    span_s: float
    target: float
    """Commanded concurrency, or rate in requests/s in open loop."""
    in_flight: int
    """At the end of the interval."""
    prefilling: int = 0
    """In flight without a first token yet, at the end of the interval."""
    oldest_prefill_s: float | None = None
    """Age of the oldest of them: a lower bound of its TTFT."""
    sent: int = 0
    ok: int = 0
    errors: int = 0
    cancelled: int = 0
    output_tokens: int = 0
    prompt_tokens: int = 0
    """Prompt tokens of requests whose first token came in the interval."""
    ttft_ms: tuple[float, ...] = ()
    """Of the first tokens that came in the interval, unfinished requests included."""
    tpot_ms: tuple[float, ...] = ()
    """Of the requests that ended well in the interval."""
    e2e_ms: tuple[float, ...] = ()
    gap_ms: tuple[float, float, float] | None = None
    """p50, p99 and maximum of the gaps between chunks in the interval (ICL)."""
    gaps: int = 0
    gap_sum_ms: float | None = None
    """Of all gaps; None in run files that do not hold it."""
    gap_counts: tuple[tuple[int, int], ...] = ()
    """(bucket, gaps in it), lowest first, empty ones left out: `llmtop.meter.quantiles` says how wide a bucket is."""

    @property
    def gap_max_ms(self) -> float | None:
        return None if self.gap_ms is None else self.gap_ms[2]


class ServerSnapshot(Struct, frozen=True, kw_only=True):
    """One scrape of the server, summed over its engines and replicas.

    `*_total` are counters as exported, of several replicas what they have counted together while they were seen;
    `*_mean_s` are means over the interval since the scrape before.
    """

    t_s: float
    age_s: float = 0.0
    """How long ago the values were read (stale values stay, with their age)."""
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    """0 to 1; of several engines of a server the fullest one's, of several replicas weighted by what each holds."""
    preemptions_total: float | None = None
    prefix_queries_total: float | None = None
    prefix_hits_total: float | None = None
    prefix_hit_ratio: float | None = None
    """Over the interval; the server's own gauge where there are no counters."""
    prompt_tokens_total: float | None = None
    generation_tokens_total: float | None = None
    requests_total: float | None = None
    rejections_total: float | None = None
    ttft_mean_s: float | None = None
    queue_mean_s: float | None = None
    prefill_mean_s: float | None = None
    decode_mean_s: float | None = None
    itl_mean_s: float | None = None
    e2e_mean_s: float | None = None
    iteration_tokens_mean: float | None = None
    spec_accept_ratio: float | None = None
    flops_total: float | None = None
    memory_bytes_total: float | None = None
    max_num_seqs: float | None = None
    max_num_batched_tokens: float | None = None
    num_gpu_blocks: float | None = None
    block_size: float | None = None
    kv_capacity_tokens: float | None = None
    max_model_len: float | None = None
    gpu_memory_utilization: float | None = None
    """Share of GPU memory that the server was told to take: 0 to 1."""
    rss_bytes: float | None = None
    process_start_s: float | None = None
    """Unix time at which the server process started: a change is a restart."""
    replicas: tuple[tuple[str, float | None, float | None, float | None], ...] = ()
    """(name, running, waiting, kv_usage) of each engine or replica, where there are several; one that
    has gone has no figures."""
    late_ms: float | None = None
    """Simulated engine only: how late its clock runs, p99 of the last second."""
    estimated: tuple[str, ...] = ()
    """Names of the fields that are estimates, shown with a ~."""

    @property
    def is_nobodys(self) -> bool:
        """Whether it says that several servers answer here in turn: it has no figure, and those of before were one's
        or another's."""
        return self == ServerSnapshot(t_s=self.t_s)


class GpuSnapshot(Struct, frozen=True, kw_only=True):
    t_s: float
    index: int
    name: str = ""
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    utilisation: float | None = None
    """0 to 1. Never used for a verdict: it reads 97 % on both sides of a cliff."""
    power_w: float | None = None
    power_limit_w: float | None = None
    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle: tuple[str, ...] = ()


class ClientSample(Struct, frozen=True, kw_only=True):
    """What one load process saw of itself over one second. `llmtop.meter.client` judges it.

    The samples of one second, one for each process, follow each other and have the same `t_s`.
    """

    t_s: float
    """End of the second."""
    span_s: float = 1.0
    worker: int = 0
    """Number of the process."""
    lag_p50_ms: float | None = None
    lag_p99_ms: float | None = None
    """Receive lag: time between the kernel's stamp and our read."""
    lag_max_ms: float | None = None
    loop_lag_ms: float | None = None
    """Worst lateness of a 20 ms ticker on the load loop."""
    send_slip_p99_ms: float | None = None
    cpu: float | None = None
    """Of its own core, 0 to 1."""
    reads: int | None = None
    coalesced: int | None = None
    """Reads that held more than one token event."""
    tpot_ms: float | None = None
    """Time between tokens in that second: what a lag is measured by."""
    gc_pause_ms: float | None = None
    steal: float | None = None
    """Share of the machine's time that its host gave to others, 0 to 1."""
    chunks_per_s: float | None = None
    workers: int = 1
    """Processes that the sample is of: above 1 only in run files of schema 1, which hold the worst of all of them."""
    workers_lost: int = 0
    fd_limit: int | None = None
    stamp_source: str | None = None
    state: ClientState | None = None
    """As judged where it was recorded: only in run files of schema 1, which lack what it was judged by."""
    reason: str | None = None
    """Of that `state`."""
