"""The frame: the one immutable value that a screen receives per tick. Facts only; newest wins."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.client import ClientHealth, CrewFigures
from llmtop.domain.endpoint import EndpointStatus
from llmtop.domain.failures import FailureGroup
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Event, LoadChange, Mark, ScaleStep
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot

Series = tuple[float | None, ...]
"""One value a step, oldest first; None: a gap."""


class Distribution(Struct, frozen=True):
    """Percentiles over a window, in milliseconds; None where there are too few samples for an honest figure."""

    n: int = 0
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


class Totals(Struct, frozen=True):
    """Since the start of the run. sent = ok + errors + cancelled + in_flight."""

    sent: int = 0
    ok: int = 0
    errors: int = 0
    cancelled: int = 0
    in_flight: int = 0
    output_tokens: int = 0
    hung_up: int = 0
    """Of `cancelled`: those that the workload has the client end (`cancel`)."""


class Window(Struct, frozen=True, kw_only=True):
    """The last `span_s` seconds."""

    span_s: float = 10.0
    ttft: Distribution = Distribution()
    tpot: Distribution = Distribution()
    e2e: Distribution = Distribution()
    gap_p50_ms: float | None = None
    gap_p99_ms: float | None = None
    gap_max_ms: float | None = None
    output_tokens_per_s: float | None = None
    requests_per_s: float | None = None
    error_ratio: float | None = None
    """None: no request ended in the window."""
    preemptions_per_s: float | None = None


class NewUser(Struct, frozen=True, kw_only=True):
    """What lone small requests beside the load felt (`domain.run.Canary`), in milliseconds."""

    n: int = 0
    """Those that ended."""
    failed: int = 0
    """Of them, without a token."""
    p50_ms: float | None = None
    """Of TTFT. There are too few of them for a p95."""
    max_ms: float | None = None


class Replicas(Struct, frozen=True):
    """How many replicas a deployment has."""

    ready: int
    desired: int | None = None
    """None: nobody tells."""


class Timeline(Struct, frozen=True, kw_only=True):
    """What the charts draw: columns of one length on one time axis that ends at `end_s`."""

    end_s: float = 0.0
    step_s: float = 1.0
    target: Series = ()
    in_flight: Series = ()
    ttft_p50_ms: Series = ()
    ttft_p95_ms: Series = ()
    tpot_p50_ms: Series = ()
    tpot_p95_ms: Series = ()
    waiting: Series = ()
    running: Series = ()
    kv_usage: Series = ()
    output_tokens_per_s: Series = ()
    error_ratio: Series = ()
    client_lag_ms: Series = ()
    canary_ms: Series = ()
    """The slowest TTFT of the canaries whose token came in the step."""


class ReplayPosition(Struct, frozen=True):
    """Where a replay stands."""

    length_s: float
    speed: float
    playing: bool
    moments: tuple[float, ...] = ()
    """When marks and events of the whole run became known, in order."""


class Offer(Struct, frozen=True):
    """A load that may be driven again: the one under which the server went away."""

    t_s: float
    """Since when it stands."""
    point: LoadPoint
    text: str
    """What became of the server: `back after 52 s: max_num_seqs 32 → 64`."""


class Frame(Struct, frozen=True, kw_only=True):
    seq: int
    t_s: float
    """Seconds since the start of the run."""
    endpoint: EndpointStatus
    target: LoadPoint
    """Commanded now."""
    max_concurrency: int = 1024
    """Where the slider ends."""
    in_flight: int = 0
    stage: str | None = None
    stage_left_s: float | None = None
    profile: str | None = None
    braked: str | None = None
    """Why the load was cut by llmtop itself; None: it was not."""
    totals: Totals = Totals()
    window: Window = Window()
    timeline: Timeline = Timeline()
    server: ServerSnapshot | None = None
    gpus: tuple[GpuSnapshot, ...] = ()
    client: ClientHealth | None = None
    crew: CrewFigures = CrewFigures()
    """The load workers in their last second, where there are several."""
    foreign: float | None = None
    """Requests that run or wait on the server and are not ours."""
    new_user: NewUser | None = None
    """Of the canaries that ended in the last minute; None: there are none."""
    new_user_waits_s: float | None = None
    """Age of the canary that is in flight; None: none is."""
    changes: tuple[LoadChange, ...] = ()
    marks: tuple[Mark, ...] = ()
    replicas: Replicas | None = None
    """None: nobody tells."""
    scaling: tuple[ScaleStep, ...] = ()
    """The steps that were taken, the newest last, at most a screenful."""
    events: tuple[Event, ...] = ()
    """The newest last, at most a screenful."""
    failures: tuple[FailureGroup, ...] = ()
    """The kinds of failures that came last, at most a few; the newest last."""
    run_file: str | None = None
    recording: bool = False
    recording_problem: str | None = None
    """What is missing from the run file, or waits to be written, and why; None: nothing."""
    token_source: str | None = None
    """Where token counts come from, the least sure of the run's answers; ≈ is shown unless it is usage."""
    offer: Offer | None = None
    """None: there is nothing to take up again, or a hand has set another load since."""
    replay: ReplayPosition | None = None
    finished: bool = False
    """The plan has ended, or the replay has."""

    @property
    def guesses_tokens(self) -> bool:
        """Whether what is counted in tokens is not, or not only, the server's own count."""
        return self.token_source not in (None, "usage")
