"""Whether the client measured the server or its own slowness: raw samples judged, one rule for all who ask. Pure.

Thresholds, once a second and for each process:

    receive lag p99   green below 1 ms; amber above max(2 ms, 5 % of TPOT); red above TPOT / 2, and with stamps of the
                      kernel also above 20 ms: such a stamp does not move with the read, and what a late read can spoil,
                      two tokens under one stamp, shows as coalesced reads
    coalesced reads   red when their share rises above what the server does by itself (see `Baseline`)
    CPU of one core   amber from 70 %, red from 85 %: a percentage over all cores would hide it
    loop lag          amber above 25 ms

Figures of a red second are the client's, not the server's, and so are those of every request of that process that lived
through a part of it. Of many processes one that is red spoils its own requests alone: the second is red when `TOGETHER`
of them are, amber when fewer are or as many are amber.

A process that stands still for a moment (stopped, or without a core) need not have a red second: most of its reads are
in time, and the kernel stamps what is read late. But a read has one stamp, that of its last byte: a first token that is
read together with later ones has theirs. Such a `Pause` voids single requests (see `Facts`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from llmtop.domain.client import ClientCause, ClientHealth, ClientReason
from llmtop.domain.samples import ClientSample, ClientState

GREEN_LAG_MS = 1.0
AMBER_LAG_MS = 2.0
AMBER_LAG_OF_TPOT = 0.05
RED_LAG_OF_TPOT = 0.5
RED_KERNEL_LAG_MS = 20.0
AMBER_CPU = 0.70
RED_CPU = 0.85
AMBER_LOOP_LAG_MS = 25.0
PAUSE_MS = 20.0
"""From here on it is looked for the requests whose stamps a pause of the process has spoilt."""
SPOILT = 0.02
"""Of a time that is measured: by so much a pause may spoil it before it is void."""
KERNEL = "kernel"
"""Where stamps come from that do not move with the read."""
TOGETHER = 0.25
"""Share of the processes whose state is that of all of them together: one of four."""
COALESCED_MARGIN = 0.10
LEAST_READS = 100
"""A second with fewer reads says nothing about the share of coalesced ones."""
SEVERITY: tuple[ClientState, ...] = ("green", "amber", "red")


class Baseline:
    """The share of reads that hold more than one token event although the client reads at once.

    Some servers write several events at a time, and no client can tell them apart. So the share is learnt in seconds
    whose lag is green, and only a rise above it while the lag is not green is put down to the client: with the kernel's
    stamps at hand, a client that reads within 1 ms of the arrival of the last byte cannot have let two events pile up.
    """

    def __init__(self) -> None:
        self.share: float | None = None

    def rose(self, sample: ClientSample) -> bool:
        """Whether the client let events pile up in this second."""
        if sample.reads is None or sample.coalesced is None or sample.reads < LEAST_READS:
            return False
        share = sample.coalesced / sample.reads
        if sample.lag_p99_ms is not None and sample.lag_p99_ms < GREEN_LAG_MS:
            self.share = share if self.share is None else 0.8 * self.share + 0.2 * share
            return False
        return self.share is not None and share > self.share + COALESCED_MARGIN


def judge(sample: ClientSample, coalesced_rose: bool) -> tuple[ClientState, ClientReason | None]:
    """(state, reason) by the thresholds above. The worst one speaks."""
    lag_p99_ms, tpot_ms, cpu = sample.lag_p99_ms, sample.tpot_ms, sample.cpu
    findings: list[tuple[int, ClientReason | None]] = [(0, None)]
    if lag_p99_ms is not None:
        least_red_ms = RED_KERNEL_LAG_MS if sample.stamp_source == KERNEL else 0.0
        if tpot_ms is not None and lag_p99_ms > max(RED_LAG_OF_TPOT * tpot_ms, least_red_ms):
            findings.append((2, ClientReason(cause=ClientCause.LAG, value=lag_p99_ms, of=tpot_ms)))
        elif lag_p99_ms > max(AMBER_LAG_MS, AMBER_LAG_OF_TPOT * (tpot_ms or 0.0)):
            findings.append((1, ClientReason(cause=ClientCause.LAG, value=lag_p99_ms)))
    if coalesced_rose:
        reads = ClientReason(cause=ClientCause.COALESCED, value=sample.coalesced or 0, of=sample.reads)
        findings.append((2, reads))
    if cpu is not None and cpu >= AMBER_CPU:
        findings.append((2 if cpu >= RED_CPU else 1, ClientReason(cause=ClientCause.CPU, value=cpu)))
    if sample.loop_lag_ms is not None and sample.loop_lag_ms > AMBER_LOOP_LAG_MS:
        findings.append((1, ClientReason(cause=ClientCause.LOOP, value=sample.loop_lag_ms)))
    severity, reason = max(findings, key=lambda finding: finding[0])
    return SEVERITY[severity], reason


class Pause(Struct, frozen=True):
    """A second in which a process once let bytes wait for `longest_s`."""

    worker: int
    start_s: float
    end_s: float
    longest_s: float
    by_kernel: bool
    """Whether stamps come from the kernel: only what was read together with later bytes is spoilt then."""

    @classmethod
    def of(cls, sample: ClientSample) -> Pause | None:
        """None: it did not stand still for longer than `PAUSE_MS`."""
        longest_ms = max(sample.loop_lag_ms or 0.0, sample.lag_max_ms or 0.0)
        if longest_ms <= PAUSE_MS or sample.state is not None:
            return None
        end_s, by_kernel = sample.t_s, sample.stamp_source == KERNEL
        return cls(sample.worker, end_s - sample.span_s, end_s, longest_ms / 1e3, by_kernel)

    def spoils(self, first_s: Any, last_s: Any, ttft_s: Any, first_chunk_tokens: Any) -> Any:
        """Whether the stamps of a request of that process may be wrong by more than `SPOILT` through this pause: of
        one, or of columns of them; NaN where there is no token."""
        spoilt = (first_s > self.start_s) & (first_s <= self.end_s) & (SPOILT * ttft_s < self.longest_s)
        if self.by_kernel:
            return spoilt & (first_chunk_tokens > 1)
        ended = (last_s > self.start_s) & (last_s <= self.end_s)
        return spoilt | (ended & (SPOILT * (last_s - first_s) < self.longest_s))


class JudgedSecond(Struct, frozen=True):
    """One second of all processes."""

    health: ClientHealth
    red: tuple[ClientSample, ...]
    """Of the processes that were the bottleneck: their requests are void. Empty for files of schema 1, whose requests
    carry that judgement themselves."""
    pauses: tuple[Pause, ...] = ()
    judged: tuple[tuple[ClientSample, ClientState], ...] = ()
    """Each process, and how it did."""


class ClientJudge:
    """Judges a run's samples, from its first on: what a share of coalesced reads means is learnt on the way."""

    def __init__(self) -> None:
        self._baselines: dict[int, Baseline] = {}

    def take(self, samples: Sequence[ClientSample]) -> list[JudgedSecond]:
        """The seconds that these samples are of. All samples of one second must come in one call."""
        return [self._second(tuple(group)) for _, group in groupby(samples, key=lambda sample: sample.t_s)]

    def _second(self, samples: tuple[ClientSample, ...]) -> JudgedSecond:
        judged = [self._judge(sample) for sample in samples]
        worst = max(range(len(samples)), key=lambda place: SEVERITY.index(judged[place][0]))
        state, reason = _together([each for each, _ in judged]), judged[worst][1]
        if state == "green":
            reason = None
        elif reason is not None and len(samples) > 1:
            reason = replace(reason, worker=samples[worst].worker)
        chunks = [sample.chunks_per_s for sample in samples if sample.chunks_per_s is not None]
        health = ClientHealth(
            t_s=samples[0].t_s,
            state=state,
            reason=reason,
            lag_p99_ms=_largest([sample.lag_p99_ms for sample in samples]),
            loop_lag_ms=_largest([sample.loop_lag_ms for sample in samples]),
            send_slip_p99_ms=_largest([sample.send_slip_p99_ms for sample in samples]),
            cpu=_largest([sample.cpu for sample in samples]),
            chunks_per_s=sum(chunks) if chunks else None,
            workers=sum(sample.workers for sample in samples),
            workers_lost=max(sample.workers_lost for sample in samples),
        )
        verdicts = tuple((sample, state) for sample, (state, _) in zip(samples, judged, strict=True))
        red = tuple(sample for sample, state in verdicts if state == "red" and sample.state is None)
        pauses = tuple(pause for pause in map(Pause.of, samples) if pause is not None)
        return JudgedSecond(health, red, pauses, verdicts)

    def _judge(self, sample: ClientSample) -> tuple[ClientState, ClientReason | None]:
        if sample.state is not None:
            told = None if sample.reason is None else ClientReason(cause=ClientCause.TOLD, text=sample.reason)
            return sample.state, told
        return judge(sample, self._baselines.setdefault(sample.worker, Baseline()).rose(sample))


def _together(states: Sequence[ClientState]) -> ClientState:
    """How the client as a whole did in a second."""
    red = states.count("red")
    if red >= TOGETHER * len(states):
        return "red"
    return "amber" if red or len(states) - states.count("green") >= TOGETHER * len(states) else "green"


class RedSpans:
    """The times in which each process was the bottleneck."""

    def __init__(self) -> None:
        self._spans: dict[int, tuple[list[float], list[float]]] = {}
        """By worker: starts and ends, both rising."""

    def add(self, sample: ClientSample) -> None:
        """A red second, later than those before of the same process."""
        starts, ends = self._spans.setdefault(sample.worker, ([], []))
        starts.append(sample.t_s - sample.span_s)
        ends.append(sample.t_s)

    def touch(self, worker: int, start_s: float, end_s: float) -> bool:
        """Whether that process was the bottleneck at any time between the two."""
        starts, ends = self._spans.get(worker, ((), ()))
        first = bisect_right(ends, start_s)
        return first < len(ends) and starts[first] < end_s


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
