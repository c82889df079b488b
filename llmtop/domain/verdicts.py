"""Opinions over facts: cliff, SLO, bottleneck, capacity. Pure functions make them; nothing records them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from llmtop.domain.load import Axis
from llmtop.domain.slo import Latency, Stat


class Kind(StrEnum):
    CLIFF = "cliff"
    GRADUAL = "gradual"
    NONE = "none"
    UNSTABLE = "unstable"
    INSUFFICIENT = "insufficient"


class Bound(StrEnum):
    """What a server runs out of first."""

    QUEUE = "queue"
    """Slots: max_num_seqs."""
    KV = "kv"
    TOKEN_BUDGET = "token_budget"
    COMPUTE = "compute"
    MEMORY = "memory"
    """Memory bandwidth."""
    CLIENT = "client"
    NETWORK = "network"
    REFUSED = "refused"
    """Nothing is known to run out: somebody turns requests away, at once or under load."""
    FAILED = "failed"
    """Nothing is known to run out: requests end in errors."""
    NONE = "none"


class Confidence(StrEnum):
    PROVISIONAL = "provisional"
    FIRM = "firm"


class Quantile(Struct, frozen=True):
    """One statistic with its 95 % interval; `high` None: unbounded, too few samples."""

    value: float | None
    low: float | None = None
    high: float | None = None


class LevelPoint(Struct, frozen=True, kw_only=True):
    """One load level as charts and tables show it. Latencies in milliseconds."""

    load: float
    """Users commanded, or mean in-flight delivered where they were not there; or requests/s offered."""
    n: int
    errors: int = 0
    ttft_p50_ms: float | None = None
    ttft_p95_ms: float | None = None
    tpot_p50_ms: float | None = None
    tpot_p95_ms: float | None = None
    e2e_p50_ms: float | None = None
    output_tokens_per_s: float | None = None
    requests_per_s: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    attainment: float | None = None
    """Share of requests that ended well and inside the SLO; failures are misses."""
    faint: bool = False
    """Too few requests to lean on."""


class Curve(Struct, frozen=True, kw_only=True):
    """Levels measured under one configuration. A change of lengths, model or server starts a new one."""

    label: str
    axis: Axis = "concurrency"
    points: tuple[LevelPoint, ...] = ()
    ghost: bool = False
    """Of an earlier configuration, or of an earlier measurement: shown grey, judged no more."""
    what: str = ""
    """What was set of an earlier measurement: `max_num_seqs 64`."""
    apart: str = ""
    """Why it is not drawn over the loads of the current one: `driven by rate`; empty: it is."""


class CliffVerdict(Struct, frozen=True, kw_only=True):
    """Where latency goes non-linear, or requests fail (`fails`), with its interval; `at` is None unless kind is cliff
    or gradual.
    """

    kind: Kind
    metric: Latency = "ttft"
    stat: Stat = "p50"
    axis: Axis = "concurrency"
    at: float | None = None
    low: float | None = None
    high: float | None = None
    cause: Bound = Bound.NONE
    evidence: tuple[str, ...] = ()
    confidence: Confidence = Confidence.PROVISIONAL
    next_levels: tuple[int, ...] = ()
    """Which levels to try next, when more would help."""
    status: int | None = None
    """HTTP status of most of the requests that fail there; None: none do, they had none, or it is not known."""

    @property
    def fails(self) -> bool:
        """Whether it is the requests that fail from there on (`high`, the lowest load that broke), not latency."""
        return self.at is not None and self.cause in (Bound.REFUSED, Bound.FAILED)


class TargetVerdict(Struct, frozen=True, kw_only=True):
    """One SLO limit against what was measured. `ok` None: not enough samples to say."""

    name: str
    limit: float
    value: float | None
    high: float | None = None
    """Upper 95 % bound of the value."""
    n: int = 0
    ok: bool | None = None
    text: str = ""


class SloVerdict(Struct, frozen=True, kw_only=True):
    ok: bool | None = None
    targets: tuple[TargetVerdict, ...] = ()
    attainment: float | None = None
    goodput_rps: float | None = None


class Turn(Struct, frozen=True, kw_only=True):
    """One knob of the server, turned."""

    knob: Literal["slots", "kv", "token_budget"]
    """Requests in one batch, the KV cache (in requests that fit), or the tokens of a step."""
    now: float | None
    """None: the server has no such limit, or does not show it."""
    then: float


class Forecast(Struct, frozen=True, kw_only=True):
    """What turning knobs is expected to give at the SLO. Loads are users, or requests/s in open loop."""

    turns: tuple[Turn, ...] = ()
    """Empty: the present configuration is the best that is known."""
    capacity_now: float
    """By the same walls as `capacity_then`; what was measured is in `Capacity`."""
    capacity_then: float
    next_wall: str | None = None
    """What binds then, as a noun; None: nothing within reach of what was measured."""
    more_loses: bool = False
    """Turning the knob further loses capacity."""


class Diagnosis(Struct, frozen=True, kw_only=True):
    """What binds now, why one may believe it, and what to turn."""

    bound: Bound
    evidence: tuple[str, ...] = ()
    advice: str | None = None
    """Names the server's own flag in its own dialect."""
    confidence: Confidence = Confidence.PROVISIONAL
    prediction: Forecast | None = None
    """What the advice gives; None: the walls are not known, and the advice has no number."""
    votes: tuple[int, int] = (0, 0)
    """How many of the last windows say so, and of how many; of a finished run's curve, none of none."""


class Capacity(Struct, frozen=True, kw_only=True):
    """How many users a configuration carries at the SLO, and which wall comes first."""

    at_slo: float | None = None
    """Largest load at which the SLO held."""
    fails_at: float | None = None
    """Smallest load above at which it did not; None: never failed, so `at_slo` is only a lower bound."""
    low: float | None = None
    high: float | None = None
    """Between which the capacity lies, by the 95 % bounds of the levels around it and what runs differ by; `high`
    None: no level failed."""
    knee: float | None = None
    limited_by: str | None = None
    recommended: float | None = None
    """min(at_slo, knee)."""
    soak: float | None = None
    """0.8 of it."""
    best_tokens_at: float | None = None
    """Load of the most output tokens/s."""
    lowered: bool = False
    """Below that of all requests together, as one name broke its own limit: it is compared with no other."""
    sentence: str = ""
