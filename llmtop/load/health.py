"""What this process can tell of itself once a second; whether it keeps up is judged elsewhere, from these facts."""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns, thread_time_ns

from llmtop.domain.samples import ClientSample
from llmtop.endpoint.clock import LagSample
from llmtop.meter.quantiles import quantile

TICK_S = 0.02


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
        self._ticker: asyncio.TimerHandle | None = None
        self.fd_limit: int | None = None
        """How many files may be open, once started."""
        self._gc_started_ns = 0
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

    def take(
        self,
        t_s: float,
        lag: LagSample,
        slips_ns: list[int],
        *,
        tpot_ms: float | None,
        chunks: int,
        stamp_source: str,
        worker: int = 0,
    ) -> ClientSample:
        """The second that ends now; the next one begins.

        Args:
            t_s: the run clock.
            lag: how late bytes were read in it.
            slips_ns: sent - scheduled of its requests.
            tpot_ms: time between tokens in it.
            chunks: reads with tokens.
            stamp_source: which clock stamps arrivals.
            worker: number of this process.
        """
        span_s = (self._clock() - self._since_ns) / 1e9
        sample = ClientSample(
            t_s=t_s,
            span_s=span_s,
            worker=worker,
            lag_p50_ms=lag.p50_ms,
            lag_p99_ms=lag.p99_ms,
            lag_max_ms=lag.max_ms,
            loop_lag_ms=self._loop_lag_ns / 1e6,
            send_slip_p99_ms=quantile(sorted(slips_ns), 0.99) / 1e6 if slips_ns else None,
            cpu=self._cpu(),
            reads=lag.reads,
            coalesced=lag.coalesced,
            tpot_ms=tpot_ms,
            gc_pause_ms=self._gc_pause_ns / 1e6,
            steal=self._steal_share(),
            chunks_per_s=chunks / span_s if span_s > 0 else None,
            fd_limit=self.fd_limit,
            stamp_source=stamp_source,
        )
        self._begin()
        return sample

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
