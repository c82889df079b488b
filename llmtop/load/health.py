"""How the client itself is doing: whether it measures the server, or its own slowness.

Thresholds, once a second:

    receive lag p99   green below 1 ms; amber above max(2 ms, 5 % of TPOT); red above TPOT / 2, and with stamps of the
                      kernel also above 20 ms: such a stamp does not move with the read, and what a late read can spoil,
                      two tokens under one stamp, shows as coalesced reads
    coalesced reads   red when their share rises above what the server does by itself (see `Baseline`)
    CPU of one core   amber from 70 %, red from 85 %: a percentage over all cores would hide it
    loop lag          amber above 25 ms

Figures of a red second are the client's, not the server's.
"""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns, thread_time_ns

import numpy as np

from llmtop.domain.samples import ClientHealth
from llmtop.endpoint import LagSample

TICK_S = 0.02
GREEN_LAG_MS = 1.0
AMBER_LAG_MS = 2.0
AMBER_LAG_OF_TPOT = 0.05
RED_LAG_OF_TPOT = 0.5
RED_KERNEL_LAG_MS = 20.0
AMBER_CPU = 0.70
RED_CPU = 0.85
AMBER_LOOP_LAG_MS = 25.0
COALESCED_MARGIN = 0.10
LEAST_READS = 100
"""A second with fewer reads says nothing about the share of coalesced ones."""
SUSPICIOUS_LOOP_LAG_MS = 2.0
_SEVERITY = ("green", "amber", "red")


class Baseline:
    """The share of reads that hold more than one token event although the client reads at once.

    Some servers write several events at a time, and no client can tell them apart. So the share is learnt in seconds
    whose lag is green, and only a rise above it while the lag is not green is put down to the client: with the kernel's
    stamps at hand, a client that reads within 1 ms of the arrival of the last byte cannot have let two events pile up.
    """

    def __init__(self) -> None:
        self.share: float | None = None

    def rose(self, lag: LagSample) -> bool:
        """Whether the client let events pile up in this second."""
        if lag.reads < LEAST_READS:
            return False
        share = lag.coalesced / lag.reads
        if lag.p99_ms is not None and lag.p99_ms < GREEN_LAG_MS:
            self.share = share if self.share is None else 0.8 * self.share + 0.2 * share
            return False
        return self.share is not None and share > self.share + COALESCED_MARGIN


def judge(
    lag: LagSample,
    tpot_ms: float | None,
    cpu: float | None,
    loop_lag_ms: float,
    coalesced_rose: bool,
    *,
    by_kernel: bool = False,
) -> tuple[str, str | None]:
    """(state, reason) by the thresholds above. The worst one speaks."""
    findings = [(0, "")]
    if lag.p99_ms is not None:
        least_red_ms = RED_KERNEL_LAG_MS if by_kernel else 0.0
        if tpot_ms is not None and lag.p99_ms > max(RED_LAG_OF_TPOT * tpot_ms, least_red_ms):
            findings.append((2, f"receive lag {lag.p99_ms:.1f} ms is over half of TPOT ({tpot_ms:.1f} ms)"))
        elif lag.p99_ms > max(AMBER_LAG_MS, AMBER_LAG_OF_TPOT * (tpot_ms or 0.0)):
            findings.append((1, f"receive lag {lag.p99_ms:.1f} ms"))
    if coalesced_rose:
        findings.append((2, f"{lag.coalesced} of {lag.reads} reads held several tokens: the client reads too late"))
    if cpu is not None and cpu >= AMBER_CPU:
        findings.append((2 if cpu >= RED_CPU else 1, f"load process at {cpu:.0%} of its core; more workers would help"))
    if loop_lag_ms > AMBER_LOOP_LAG_MS:
        findings.append((1, f"event loop {loop_lag_ms:.0f} ms late"))
    severity, reason = max(findings, key=lambda finding: finding[0])
    return _SEVERITY[severity], reason or None


def worst(samples: Mapping[int, ClientHealth]) -> ClientHealth:
    """One sample for several workers: each figure of the worst of them, chunks of all.

    Args:
        samples: by worker, of the same second.
    """
    by_state = max(samples, key=lambda worker: _SEVERITY.index(samples[worker].state))
    chosen = samples[by_state]

    def largest(name: str) -> float | None:
        values = [value for sample in samples.values() if (value := getattr(sample, name)) is not None]
        return max(values, default=None)

    chunks = [sample.chunks_per_s for sample in samples.values() if sample.chunks_per_s is not None]
    return ClientHealth(
        t_s=max(sample.t_s for sample in samples.values()),
        state=chosen.state,
        reason=chosen.reason and (f"worker {by_state}: {chosen.reason}" if len(samples) > 1 else chosen.reason),
        lag_p50_ms=largest("lag_p50_ms"),
        lag_p99_ms=largest("lag_p99_ms"),
        loop_lag_ms=largest("loop_lag_ms"),
        send_slip_p99_ms=largest("send_slip_p99_ms"),
        cpu=largest("cpu"),
        coalesced_ratio=largest("coalesced_ratio"),
        gc_pause_ms=largest("gc_pause_ms"),
        steal=largest("steal"),
        chunks_per_s=sum(chunks) if chunks else None,
        workers=len(samples),
        fd_limit=chosen.fd_limit,
        stamp_source=chosen.stamp_source,
    )


class HealthProbe:
    """Watches the loop and the process that it runs in.

    Args:
        clock: nanoseconds; of the loop's lateness.
        cpu_clock: nanoseconds of CPU that the loop's own thread has used.
    """

    def __init__(
        self, *, clock: Callable[[], int] = perf_counter_ns, cpu_clock: Callable[[], int] = thread_time_ns
    ) -> None:
        self._clock, self._cpu_clock = clock, cpu_clock
        self._baseline = Baseline()
        self._ticker: asyncio.TimerHandle | None = None
        self.fd_limit: int | None = None
        """How many files may be open, once started."""
        self._gc_started_ns = 0
        self._uneasy = False
        self._begin()

    def start(self) -> None:
        """To be called on the loop that is watched. Raises the limit of open files as far as it goes."""
        self.fd_limit = raise_fd_limit()
        gc.callbacks.append(self._on_gc)
        self._begin()
        self._arm()

    def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
            gc.callbacks.remove(self._on_gc)

    def suspicious(self) -> bool:
        """Whether the second that has begun may turn out red: what came before it, the loop or the CPU says so."""
        return self._uneasy or self._loop_lag_ns > SUSPICIOUS_LOOP_LAG_MS * 1e6 or self._cpu() >= AMBER_CPU

    def take(
        self, t_s: float, lag: LagSample, slips_ns: list[int], *, tpot_ms: float | None, chunks: int, stamp_source: str
    ) -> ClientHealth:
        """The second that ends now; the next one begins.

        Args:
            t_s: the run clock.
            lag: how late bytes were read in it.
            slips_ns: sent - scheduled of its requests.
            tpot_ms: time between tokens, for the thresholds of the lag.
            chunks: reads with tokens.
            stamp_source: which clock stamps arrivals.
        """
        span_s = (self._clock() - self._since_ns) / 1e9
        cpu, loop_lag_ms = self._cpu(), self._loop_lag_ns / 1e6
        rose = self._baseline.rose(lag)
        state, reason = judge(lag, tpot_ms, cpu, loop_lag_ms, rose, by_kernel=stamp_source == "kernel")
        health = ClientHealth(
            t_s=t_s,
            state=state,
            reason=reason,
            lag_p50_ms=lag.p50_ms,
            lag_p99_ms=lag.p99_ms,
            loop_lag_ms=loop_lag_ms,
            send_slip_p99_ms=float(np.percentile(slips_ns, 99)) / 1e6 if slips_ns else None,
            cpu=cpu,
            coalesced_ratio=lag.coalesced / lag.reads if lag.reads else None,
            gc_pause_ms=self._gc_pause_ns / 1e6,
            steal=self._steal_share(),
            chunks_per_s=chunks / span_s if span_s > 0 else None,
            fd_limit=self.fd_limit,
            stamp_source=stamp_source,
        )
        self._uneasy = state != "green"
        self._begin()
        return health

    def _begin(self) -> None:
        self._since_ns = self._clock()
        self._cpu_since_ns = self._cpu_clock()
        self._loop_lag_ns = 0
        self._gc_pause_ns = 0
        self._stat = _read_cpu_stat()

    def _cpu(self) -> float:
        """Share of one core that the loop's thread used since the second began."""
        span_ns = self._clock() - self._since_ns
        return (self._cpu_clock() - self._cpu_since_ns) / span_ns if span_ns > 0 else 0.0

    def _arm(self) -> None:
        self._due_ns = self._clock() + round(TICK_S * 1e9)
        self._ticker = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._loop_lag_ns = max(self._loop_lag_ns, self._clock() - self._due_ns)
        self._arm()

    def _on_gc(self, phase: str, details: dict[str, int]) -> None:
        if phase == "start":
            self._gc_started_ns = perf_counter_ns()
        else:
            self._gc_pause_ns = max(self._gc_pause_ns, perf_counter_ns() - self._gc_started_ns)

    def _steal_share(self) -> float | None:
        """Share of the machine's time that its host gave to others."""
        now = _read_cpu_stat()
        if now is None or self._stat is None:
            return None
        total = now[0] - self._stat[0]
        return (now[1] - self._stat[1]) / total if total > 0 else 0.0


def raise_fd_limit() -> int:
    """Raise the soft limit of open files to the hard one; each request in flight needs one. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 1_048_576)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS allows less than it says: keep what there is
            return soft
        return wanted
    return soft


def _read_cpu_stat() -> tuple[int, int] | None:
    """(all, stolen) clock ticks of all cores since boot; None where there is no /proc/stat."""
    try:
        first = Path("/proc/stat").read_bytes().split(b"\n", 1)[0].split()
    except OSError:
        return None
    ticks = [int(field) for field in first[1:9]]
    return sum(ticks), ticks[7] if len(ticks) > 7 else 0
