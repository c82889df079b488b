"""Frames out of facts: the same code for a live run, a replay and a report.

Every figure is over a trailing window of `WINDOW_S` seconds, in the panels and in the charts alike, so that a panel's
number is the last point of its chart. Percentiles interpolate linearly between order statistics.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable

from msgspec import structs

from llmtop.domain.client import ClientHealth, CrewFigures
from llmtop.domain.endpoint import EndpointStatus
from llmtop.domain.frame import Distribution, Frame, Offer, ReplayPosition, Replicas, Series, Timeline, Totals, Window
from llmtop.domain.load import LoadPoint
from llmtop.domain.replicas import ReplicaCounts
from llmtop.domain.request import Outcome, TokenSource, least_sure
from llmtop.domain.run import Canary, Event, FactBatch, LoadChange, Mark, ScaleStep
from llmtop.domain.samples import GpuSnapshot, LoadBin, ServerSnapshot
from llmtop.meter.canaries import ended_s, new_user
from llmtop.meter.client import ClientJudge
from llmtop.meter.crew import CrewTally
from llmtop.meter.failures import FailureTally
from llmtop.meter.quantiles import quantile_of_runs

WINDOW_S = 5.0
STEP_S = 0.5
SPAN_S = 120.0
STALE_S = 3.5
"""A sample of the server or the client counts as current for so long (scrapes come once a second)."""
NEW_USER_S = 60.0
"""What a new user feels is told of so long: at one canary in two seconds, of thirty."""
FEW_FAILURES = 4
"""Kinds of failures that a frame carries at most."""
RECENT = 50
"""Changes, marks, events and steps of scaling that a frame carries at most."""

_LATENCIES = ("ttft_ms", "tpot_ms", "e2e_ms")
_COLUMNS = tuple(name for name in Timeline.__struct_fields__ if name not in ("end_s", "step_s"))


class _Recent:
    """The bins of the last `WINDOW_S`, and their latencies: of each bin a run in order."""

    def __init__(self) -> None:
        self.bins: deque[LoadBin] = deque()
        self._runs: dict[str, deque[list[float]]] = {name: deque() for name in _LATENCIES}
        self._known: dict[tuple[str, float], float] = {}

    def add(self, closed: LoadBin) -> None:
        self._known.clear()
        self.bins.append(closed)
        for name, runs in self._runs.items():
            runs.append(sorted(getattr(closed, name)))
        while self.bins and self.bins[0].t_s <= closed.t_s - WINDOW_S:
            self.bins.popleft()
            for runs in self._runs.values():
                runs.popleft()

    def quantile(self, name: str, share: float) -> float | None:
        """Of all latencies of one kind; None: there are none."""
        if not any(self._runs[name]):
            return None
        if (name, share) not in self._known:
            self._known[name, share] = quantile_of_runs(self._runs[name], share)
        return self._known[name, share]

    def distribution(self, name: str) -> Distribution:
        runs = self._runs[name]
        n = sum(map(len, runs))
        if not n:
            return Distribution()
        mean = sum(itertools.chain.from_iterable(getattr(b, name) for b in self.bins)) / n
        p50, p90, p95, p99 = (self.quantile(name, share) for share in (0.5, 0.9, 0.95, 0.99))
        return Distribution(n, mean, p50, p90, p95, p99, max(run[-1] for run in runs if run))


class FrameBuilder:
    """Takes in batches and shows the newest frame.

    Args:
        step_s: time between two points of the timeline.
        span_s: how far back the timeline goes; None: to the start of the run.
    """

    def __init__(self, step_s: float = STEP_S, span_s: float | None = SPAN_S) -> None:
        self._step_s = step_s
        self._points = None if span_s is None else round(span_s / step_s)
        self._columns: dict[str, deque[float | None]] = {name: deque(maxlen=self._points) for name in _COLUMNS}
        self._steps = 0
        self._recent = _Recent()
        self._server: ServerSnapshot | None = None
        self._server_before: ServerSnapshot | None = None
        self._gpus: dict[int, GpuSnapshot] = {}
        self._client: ClientHealth | None = None
        self._client_judge = ClientJudge()
        self._crew = CrewTally()
        self._crew_now = CrewFigures()
        self._changes: deque[LoadChange] = deque(maxlen=RECENT)
        self._marks: deque[Mark] = deque(maxlen=RECENT)
        self._events: deque[Event] = deque(maxlen=RECENT)
        self._scaling: deque[ScaleStep] = deque(maxlen=RECENT)
        self._replicas: ReplicaCounts | None = None
        self._target: LoadPoint | None = None
        self._totals = Totals()
        self._hung_up = 0
        self._token_source: TokenSource | None = None
        self._failures = FailureTally()
        self._canaries: deque[tuple[float, Canary]] = deque()
        """When it was told, and what; of the last `NEW_USER_S`."""
        self._undrawn: list[Canary] = []
        """Told, and in no step of the timeline yet."""
        self._seq = itertools.count(1)
        self.t_s = 0.0

    def consume(self, batch: FactBatch) -> None:
        """Take in the facts of one tick. Batches come in order of time."""
        for sample in batch.server:
            self._server_before, self._server = self._server, sample
        for gpu in batch.gpu:
            self._gpus[gpu.index] = gpu
        seconds = self._client_judge.take(batch.client)
        self._crew.take(batch.workers, seconds)
        if seconds:
            self._client = self._crew.named(seconds[-1].health)
        if seconds or batch.workers:
            self._crew_now = self._crew.now()
        for change in batch.changes:
            self._target = change.point
        self._changes.extend(batch.changes)
        self._marks.extend(batch.marks)
        self._events.extend(batch.events)
        for step in batch.scaling:
            self._replicas = self._replicas or ReplicaCounts()
            self._replicas.take(step)
        self._scaling.extend(step for step in batch.scaling if not step.since)
        for record in batch.requests:
            if record.outcome is Outcome.OK:
                source = record.token_source
                if source is not self._token_source:
                    self._token_source = least_sure((source, self._token_source or source))
            else:
                self._failures.add(record)
                self._hung_up += record.hung_up
        for canary in batch.canaries:
            self._canaries.append((batch.t_s, canary))
            self._undrawn.append(canary)
        for closed in batch.bins:
            self._add_bin(closed)
        self.t_s = max(self.t_s, batch.t_s)

    def _add_bin(self, closed: LoadBin) -> None:
        self._recent.add(closed)
        before = self._totals
        self._totals = Totals(
            sent=before.sent + closed.sent,
            ok=before.ok + closed.ok,
            errors=before.errors + closed.errors,
            cancelled=before.cancelled + closed.cancelled,
            in_flight=closed.in_flight,
            output_tokens=before.output_tokens + closed.output_tokens,
            hung_up=self._hung_up,
        )
        self.t_s = max(self.t_s, closed.t_s)
        if self._points is not None:  # what falls off the timeline at once need not be reckoned
            self._steps = max(self._steps, int(closed.t_s / self._step_s) - self._points - 1)
        while (self._steps + 1) * self._step_s <= closed.t_s + 1e-6:
            self._steps += 1
            self._add_step(self._steps * self._step_s, closed)

    def _add_step(self, t_s: float, closed: LoadBin) -> None:
        recent, bins = self._recent, self._recent.bins
        ttft_p50_ms, ttft_p95_ms = recent.quantile("ttft_ms", 0.5), recent.quantile("ttft_ms", 0.95)
        server = self._server if self._server and t_s - self._server.t_s + self._server.age_s <= STALE_S else None
        client = self._client if self._client and t_s - self._client.t_s <= STALE_S else None
        # While nothing gets its first token, the age of the oldest request that waits is what is known of TTFT.
        if ttft_p50_ms is None and closed.oldest_prefill_s is not None:
            ttft_p50_ms = ttft_p95_ms = closed.oldest_prefill_s * 1e3
        values: dict[str, float | None] = {
            "target": closed.target,
            "in_flight": closed.in_flight,
            "ttft_p50_ms": ttft_p50_ms,
            "ttft_p95_ms": ttft_p95_ms,
            "tpot_p50_ms": recent.quantile("tpot_ms", 0.5),
            "tpot_p95_ms": recent.quantile("tpot_ms", 0.95),
            "waiting": server.waiting if server else None,
            "running": server.running if server else None,
            "kv_usage": server.kv_usage if server else None,
            "output_tokens_per_s": _per_second([b for b in bins if b.t_s > t_s - 1.0 - 1e-6]),
            "error_ratio": _error_ratio(bins),
            "client_lag_ms": client.lag_p99_ms if client else None,
            "canary_ms": self._drawn_ms(t_s) if self._undrawn else None,
        }
        for name, column in self._columns.items():
            column.append(values[name])

    def _drawn_ms(self, t_s: float) -> float | None:
        """The slowest of the canaries that came up to `t_s` and are in no step before."""
        came = [each for each in self._undrawn if (ended_s(each) or 0.0) <= t_s]
        self._undrawn = [each for each in self._undrawn if each not in came]
        return max((each.ttft_s * 1e3 for each in came if each.ttft_s is not None), default=None)

    def timeline(self) -> Timeline:
        columns: dict[str, Series] = {name: tuple(column) for name, column in self._columns.items()}
        return Timeline(end_s=self._steps * self._step_s, step_s=self._step_s, **columns)

    def window(self) -> Window:
        bins = self._recent.bins
        gaps = [(b.gaps, b.gap_ms) for b in bins if b.gap_ms is not None and b.gaps]
        return Window(
            span_s=WINDOW_S,
            ttft=self._recent.distribution("ttft_ms"),
            tpot=self._recent.distribution("tpot_ms"),
            e2e=self._recent.distribution("e2e_ms"),
            gap_p50_ms=sum(n * gap[0] for n, gap in gaps) / sum(n for n, _ in gaps) if gaps else None,
            gap_p99_ms=max((gap[1] for _, gap in gaps), default=None),
            gap_max_ms=max((gap[2] for _, gap in gaps), default=None),
            output_tokens_per_s=_per_second(bins),
            requests_per_s=sum(b.ok for b in bins) / span if (span := sum(b.span_s for b in bins)) else None,
            error_ratio=_error_ratio(bins),
            preemptions_per_s=self._preemptions_per_s(),
        )

    def _preemptions_per_s(self) -> float | None:
        now, before = self._server, self._server_before
        if now is None or before is None or now.preemptions_total is None or before.preemptions_total is None:
            return None
        span = now.t_s - before.t_s
        return max(0.0, now.preemptions_total - before.preemptions_total) / span if span > 0 else None

    def frame(
        self,
        endpoint: EndpointStatus,
        *,
        max_concurrency: int = 1024,
        stage: str | None = None,
        stage_left_s: float | None = None,
        profile: str | None = None,
        braked: str | None = None,
        run_file: str | None = None,
        recording: bool = False,
        recording_problem: str | None = None,
        offer: Offer | None = None,
        canary_since_s: float | None = None,
        replay: ReplayPosition | None = None,
        finished: bool = False,
    ) -> Frame:
        """The newest frame. The arguments are what is not a fact of the run but its circumstances.

        Args:
            canary_since_s: when the canary that is in flight was sent; None: none is.
        """
        while self._canaries and self._canaries[0][0] <= self.t_s - NEW_USER_S:
            self._canaries.popleft()
        server = self._server
        if server is not None and self.t_s - server.t_s > STALE_S:
            server = structs.replace(server, age_s=server.age_s + self.t_s - server.t_s)
        return Frame(
            seq=next(self._seq),
            t_s=self.t_s,
            endpoint=endpoint,
            target=self._target or LoadPoint(concurrency=0),
            max_concurrency=max_concurrency,
            in_flight=self._totals.in_flight,
            stage=stage,
            stage_left_s=stage_left_s,
            profile=profile,
            braked=braked,
            totals=self._totals,
            window=self.window(),
            timeline=self.timeline(),
            server=server,
            gpus=tuple(self._gpus.values()),
            client=self._client,
            crew=self._crew_now,
            foreign=self._foreign(canary_since_s is not None),
            new_user=new_user(canary for _, canary in self._canaries),
            new_user_waits_s=None if canary_since_s is None else max(0.0, self.t_s - canary_since_s),
            changes=tuple(self._changes),
            marks=tuple(self._marks),
            replicas=None if self._replicas is None else Replicas(self._replicas.ready, self._replicas.desired),
            scaling=tuple(self._scaling),
            events=tuple(self._events),
            failures=tuple(sorted(self._failures.groups(), key=lambda group: group.last_s)[-FEW_FAILURES:]),
            run_file=run_file,
            recording=recording,
            recording_problem=recording_problem,
            token_source=self._token_source,
            offer=offer,
            replay=replay,
            finished=finished,
        )

    def _foreign(self, canary: bool) -> float | None:
        """Server's own count less ours, and less the canary that is there or was a moment ago.

        A scrape and our count are up to a second apart: judge it over several.
        """
        server = self._server
        if server is None or server.running is None:
            return None
        ours = max((b.in_flight + b.ok + b.errors + b.cancelled for b in self._recent.bins), default=0)
        ours += canary or any(told_s > self.t_s - WINDOW_S for told_s, _ in self._canaries)
        return max(0.0, server.running + (server.waiting or 0.0) - ours)


def whole_run_timeline(batches: Iterable[FactBatch], length_s: float, points: int = 600) -> Timeline:
    """A run's timeline from start to end in at most about `points` steps, none shorter than `STEP_S`."""
    step_s = max(STEP_S, math.ceil(length_s / points / STEP_S) * STEP_S)
    builder = FrameBuilder(step_s=step_s, span_s=None)
    for batch in batches:
        builder.consume(batch)
    return builder.timeline()


def _per_second(bins: Iterable[LoadBin]) -> float | None:
    tokens, span = 0, 0.0
    for b in bins:
        tokens += b.output_tokens
        span += b.span_s
    return tokens / span if span > 0 else None


def _error_ratio(bins: Iterable[LoadBin]) -> float | None:
    ok, errors = 0, 0
    for b in bins:
        ok += b.ok
        errors += b.errors
    return errors / (ok + errors) if ok + errors else None
