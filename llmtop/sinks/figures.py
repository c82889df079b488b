"""What flows out of a run: one accumulator of its figures, of which every sink renders the same `Figures`."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from urllib.parse import urlsplit

from msgspec import Struct, field

from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import safe_url
from llmtop.domain.load import Axis
from llmtop.domain.plain import plain
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Latency, Slo
from llmtop.domain.verdicts import Bound
from llmtop.files import run_name
from llmtop.meter.frames import STALE_S
from llmtop.meter.voids import Voids

BOUNDS: dict[Latency, tuple[float, ...]] = {
    "ttft": (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 20, 30, 60, 120),
    "tpot": (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1),
    "e2e": (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300, 600),
}
"""Seconds: upper bounds of the buckets, beside the limits of the SLO."""
TOKEN_BOUNDS = tuple(4.0**power for power in range(11))
"""As the conventions for generative AI have them, up to a million tokens."""
MOST_ERRORS = 32
"""Kinds of failures that are told apart."""
OTHER = "_OTHER"
"""Those beyond, by the word of the conventions of OpenTelemetry."""


class Histogram(Struct, frozen=True):
    """How many values were at most so large, since the start of the run."""

    buckets: tuple[tuple[float, int], ...] = ()
    """(upper bound, values up to it), the lowest bound first; `count` is the last bucket, without a bound."""
    sum: float = 0.0
    count: int = 0


class Figures(Struct, frozen=True, kw_only=True):
    """The figures of a run at one moment. Counts and histograms are since its start, and never fall."""

    time: float
    """Wall clock, Unix seconds."""
    t_s: float = 0.0
    """Seconds since the start of the run."""
    run: str = ""
    """Its name: when it began, and its label or profile."""
    endpoint: str = ""
    """Its URL, without what lets somebody in."""
    model: str = ""
    """Empty: not known yet."""
    requests: dict[str, int] = field(default_factory=dict)
    """Requests that ended, by outcome."""
    void_requests: int = 0
    """Of them, those that this client held up: in no histogram of a latency."""
    output_tokens: int = 0
    """Output tokens received."""
    prompt_tokens: int = 0
    """Prompt tokens of requests whose first token has come."""
    in_flight: int = 0
    target_concurrency: float | None = None
    """Requests in flight that are commanded; None: the load is a rate."""
    target_rps: float | None = None
    """Requests/s that are commanded; None: the load is a concurrency."""
    server_running: float | None = None
    """By the server's own metrics, as the next two; None: not known."""
    server_waiting: float | None = None
    server_kv_usage: float | None = None
    slo_ok: bool | None = None
    """Whether the SLO holds; None: no verdict."""
    cliff_concurrency: float | None = None
    """Requests in flight at which latency goes non-linear; None: none is known."""
    cliff_rps: float | None = None
    """The same in requests/s, where the load is a rate."""
    cliff_cause: str = "none"
    """What runs out there."""
    users_at_slo: float | None = None
    """Largest load at which the SLO held, in concurrent users; None: none is known."""
    rps_at_slo: float | None = None
    """The same in requests/s, where the load is a rate."""
    client_bound: bool | None = None
    """Whether this client is the bottleneck now: its figures are void."""
    ttft_s: Histogram = Histogram()
    """As the next two, of requests that ended well."""
    tpot_s: Histogram = Histogram()
    e2e_s: Histogram = Histogram()
    failed_s: dict[str, Histogram] = field(default_factory=dict)
    """Until requests failed, by HTTP status or outcome."""
    prompt_lengths: Histogram = Histogram()
    """Tokens of each request that ended well, as the next."""
    output_lengths: Histogram = Histogram()

    @property
    def is_known(self) -> bool:
        """Whether it is known what is driven: before that there is nothing to tell."""
        return bool(self.run and self.model)


class _Counts:
    """A histogram as it grows."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float | None) -> None:
        if value is not None:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def now(self) -> Histogram:
        *up_to, count = accumulate(self._counts)
        return Histogram(tuple(zip(self._bounds, up_to, strict=True)), self._sum, count)


class Accumulator:
    """Hears a run as an output does, from one thread, and gives its figures to any. No call waits for anybody.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._run = self._endpoint = self._model = ""
        self._e2e_bounds = BOUNDS["e2e"]
        self._latencies = {name: _Counts(bounds) for name, bounds in BOUNDS.items()}
        self._failed: dict[str, _Counts] = {}
        self._lengths = (_Counts(TOKEN_BOUNDS), _Counts(TOKEN_BOUNDS))
        self._voids = Voids()
        self._requests: dict[Outcome, int] = dict.fromkeys(Outcome, 0)  # one that begins above 0 has no rate
        self._t_s = 0.0
        self._output_tokens = self._prompt_tokens = self._in_flight = 0
        self._axis: Axis = "concurrency"
        self._target: float | None = None
        self._server: ServerSnapshot | None = None
        self._in_turn = False
        """Whether several servers answer where one was scraped: no figure is of one of them."""
        self._assessment = Assessment()
        self._ended = False
        self.meta: RunMeta | None = None
        """Of the run, as it was told last."""

    def begin(self, meta: RunMeta) -> None:
        """What is driven; may be told again, as more of it becomes known."""
        with self._lock:
            if self.meta is None:
                self._run = run_name(meta.label or meta.profile.name, meta.started_at)
                self._endpoint = plain(safe_url(meta.endpoint.base_url))
                self._latencies = {name: _Counts(bounds_of(name, meta.profile.slo)) for name in BOUNDS}
                self._e2e_bounds = bounds_of("e2e", meta.profile.slo)
            self.meta = meta
            model = meta.info.model if meta.info is not None else meta.endpoint.model
            self._model = self._model or plain(model or "")  # a run has one name for as long as it lasts

    def tell(self, batch: FactBatch) -> None:
        with self._lock:
            self._t_s = batch.t_s
            for record in batch.requests:
                self._requests[record.outcome] += 1
                if record.outcome is Outcome.OK:
                    self._lengths[0].add(record.prompt_tokens)
                    self._lengths[1].add(record.output_tokens)
            for record in self._voids.take(batch):
                self._count(record)
            for bin_ in batch.bins:
                self._output_tokens += bin_.output_tokens
                self._prompt_tokens += bin_.prompt_tokens
                self._in_flight, self._target = bin_.in_flight, bin_.target
            if batch.changes:
                self._axis = batch.changes[-1].point.axis
            self._in_turn = self._in_turn or any(each.is_nobodys for each in batch.server)
            if batch.server:
                self._server = None if self._in_turn else batch.server[-1]

    def judged(self, assessment: Assessment) -> None:
        with self._lock:
            self._assessment = assessment

    def end(self) -> None:
        """Nothing more will come: what waited for a verdict counts or does not."""
        with self._lock:
            for record in self._voids.last():
                self._count(record)
            self._in_flight, self._target, self._ended = 0, None, True

    def _count(self, record: RequestRecord) -> None:
        """Its latencies. Where a path keeps answers back, TTFT and TPOT are the path's."""
        if record.outcome is Outcome.OK:
            if not self._assessment.path:
                self._latencies["ttft"].add(record.ttft_s)
                self._latencies["tpot"].add(record.tpot_s)
            self._latencies["e2e"].add(record.e2e_s)
        elif record.outcome.is_error and record.begun_ns is not None:
            kind = plain(str(record.outcome) if record.status in (None, 200) else str(record.status))
            if kind not in self._failed and len(self._failed) >= MOST_ERRORS:
                kind = OTHER
            counts = self._failed.setdefault(kind, _Counts(self._e2e_bounds))
            counts.add((record.end_ns - record.begun_ns) / 1e9)

    def now(self) -> Figures:
        """The figures of this moment."""
        with self._lock:
            said, target, axis = self._assessment, self._target, self._axis
            cliff, capacity = said.cliff, said.capacity
            by_rate = bool(said.curves) and said.curves[-1].axis == "rate"
            server = self._server if self._server and self._is_fresh(self._server.t_s - self._server.age_s) else None
            health = self._voids.health if self._voids.health and self._is_fresh(self._voids.health.t_s) else None
            known = cliff.at is not None
            return Figures(
                time=self._clock(),
                t_s=self._t_s,
                run=self._run,
                endpoint=self._endpoint,
                model=self._model,
                requests={str(outcome): count for outcome, count in self._requests.items()},
                void_requests=self._voids.void,
                output_tokens=self._output_tokens,
                prompt_tokens=self._prompt_tokens,
                in_flight=self._in_flight,
                target_concurrency=target if axis == "concurrency" else None,
                target_rps=target if axis == "rate" else None,
                server_running=None if server is None else server.running,
                server_waiting=None if server is None else server.waiting,
                server_kv_usage=None if server is None else server.kv_usage,
                slo_ok=said.slo.ok,
                cliff_concurrency=cliff.at if cliff.axis == "concurrency" else None,
                cliff_rps=cliff.at if cliff.axis == "rate" else None,
                cliff_cause=str(cliff.cause if known else Bound.NONE),
                users_at_slo=None if by_rate else capacity.at_slo,
                rps_at_slo=capacity.at_slo if by_rate else None,
                client_bound=None if health is None else health.state == "red",
                ttft_s=self._latencies["ttft"].now(),
                tpot_s=self._latencies["tpot"].now(),
                e2e_s=self._latencies["e2e"].now(),
                failed_s={kind: counts.now() for kind, counts in self._failed.items()},
                prompt_lengths=self._lengths[0].now(),
                output_lengths=self._lengths[1].now(),
            )

    def _is_fresh(self, t_s: float) -> bool:
        return self._ended or self._t_s - t_s <= STALE_S


def bounds_of(latency: Latency, slo: Slo) -> tuple[float, ...]:
    """Of the buckets of a histogram: the limits of the SLO on that latency are among them, so that the share that keeps
    them is exact."""
    limits = {target.limit for target in slo.limits if target.metric == latency}
    return tuple(sorted({float(bound) for bound in BOUNDS[latency]} | limits))


def address_of(endpoint: str) -> tuple[str, int | None]:
    """Host and port in the shown form of an endpoint's URL."""
    try:
        parts = urlsplit(endpoint)
        return parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return "", None
