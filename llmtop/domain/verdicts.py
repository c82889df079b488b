"""Opinions over facts: cliff, SLO, bottleneck, capacity. Pure functions make them; nothing records them."""

from __future__ import annotations

import itertools
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from llmtop.domain.balance import Imbalance, ReplicaFigures
from llmtop.domain.failures import FailureGroup
from llmtop.domain.kinds import CallFigures, KindFigures, VisitFigures
from llmtop.domain.load import Axis
from llmtop.domain.profile import Question
from llmtop.domain.run import Ending
from llmtop.domain.samples import ClientState
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


class ClientCause(StrEnum):
    """What slows the client down."""

    LAG = "lag"
    """Bytes are read late."""
    COALESCED = "coalesced"
    """Reads hold several tokens: they come too late."""
    CPU = "cpu"
    LOOP = "loop"
    """The event loop wakes late."""
    TOLD = "told"
    """As text, in run files of schema 1."""


class ClientReason(Struct, frozen=True, kw_only=True):
    """Why the client was not green in one second."""

    cause: ClientCause
    value: float = 0.0
    """Milliseconds late, reads that held several tokens, or share of a core."""
    of: float | None = None
    """TPOT in milliseconds, where the lag is over half of it; all reads of the second."""
    worker: int | None = None
    """Whose it was, where there are several."""
    name: str = ""
    """Of that worker: `h2:4711`, where it is known."""
    text: str = ""


class ClientHealth(Struct, frozen=True, kw_only=True):
    """How our own processes did over one second: each figure that of the worst of them. None = not known."""

    t_s: float
    state: ClientState = "green"
    """Of all together: red, and the second's figures void, where enough of them were."""
    reason: ClientReason | None = None
    lag_p99_ms: float | None = None
    """Receive lag: time between the kernel's stamp and our read."""
    loop_lag_ms: float | None = None
    send_slip_p99_ms: float | None = None
    cpu: float | None = None
    """Of a core, 0 to 1."""
    chunks_per_s: float | None = None
    """Of all processes together."""
    workers: int = 1
    workers_lost: int = 0


WorkerState = Literal["green", "amber", "red", "silent", "lost"]


class WorkerFigures(Struct, frozen=True, kw_only=True):
    """How one of several load workers did: in its last second, or at worst over a run."""

    worker: int
    name: str = ""
    """`h2:4711`, where it is known."""
    state: WorkerState = "green"
    """Silent: it tells nothing. Lost: its requests are, too."""
    red_s: int = 0
    """Seconds of the run in which it was the bottleneck."""
    share: float | None = None
    """Of all chunks that the load workers have read."""
    chunks_per_s: float | None = None
    cpu: float | None = None
    """Of a core, 0 to 1."""
    lag_p99_ms: float | None = None
    loop_lag_ms: float | None = None
    offset_s: float = 0.0
    """What its clock shows beyond ours, wrong by `error_s` at most."""
    error_s: float = 0.0


class CrewFigures(Struct, frozen=True, kw_only=True):
    """How several load workers did. Without any, this process alone has sent the load."""

    began: int = 0
    heard: int = 0
    """So many of them tell what they do."""
    worst: tuple[WorkerFigures, ...] = ()
    """The worst first, at most so many as were asked for."""
    rest: int = 0
    """So many more are as good as the last of these, or better."""
    rest_share: float | None = None
    rest_chunks_per_s: float | None = None


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


class Gain(StrEnum):
    """What a change of the configuration did to the capacity at the SLO."""

    MORE = "more"
    FEWER = "fewer"
    SAME = "same"
    """No difference beyond what runs of one server differ by."""
    OPEN = "open"
    """Not known yet: one of them was not driven to its wall, or the levels around the walls are too far apart."""


class Change(Struct, frozen=True, kw_only=True):
    """A capacity relative to another: 0.18 is 18 % more. `low`, `high`: by the intervals of both; None: no bound."""

    share: float
    low: float | None = None
    high: float | None = None


class Comparison(Struct, frozen=True, kw_only=True):
    """The capacity of the present configuration beside that of the one before, or of an earlier measurement. Loads as
    in `Capacity`.
    """

    changed: str
    """What differs: `max_num_seqs 32 → 46`."""
    gain: Gain
    against: str = ""
    """Name of the earlier measurement; empty: the configuration before, of the same run."""
    change: Change | None = None
    """None: one of the two is not known, or no difference is."""
    before: float | None = None
    before_fails_at: float | None = None
    after: float | None = None
    after_fails_at: float | None = None
    text: str = ""
    short: str = ""
    """The same where there is little room; empty: there is no shorter way."""


class Baseline(Struct, frozen=True, kw_only=True):
    """An earlier measurement that was asked for, judged by the same SLO."""

    curve: Curve
    """A ghost, by its name; `apart` where it was driven otherwise: then no figures are compared."""
    compared: Comparison | None = None
    """None: nothing of the present run may be compared."""


class Interval(Struct, frozen=True):
    """A predicted figure, and between what it lies."""

    value: float
    low: float
    high: float


class WhatIf(Struct, frozen=True, kw_only=True):
    """What the server would give with fewer slots, by what was measured of it with so many requests in flight."""

    slots: int
    users: Interval
    """At the SLO."""
    tpot_p95_ms: float | None = None
    """With so many users, as the next."""
    output_tokens_per_s: float | None = None
    users_change: float | None = None
    """Of the users at the SLO against those of now: 0.09 is 9 % more; null: not known what is carried now."""
    tokens_change: float | None = None
    """Of the output tokens/s at the SLO."""
    worth: bool = False
    """So many more users than now that the slots are worth a turn."""
    text: str = ""
    """What is said of the best of them; empty: of another, or it may not stand beside the advice."""


class ForeseenPoint(Struct, frozen=True, kw_only=True):
    """One load as the twin foresees it. Latencies in milliseconds."""

    load: float
    ttft_p50_ms: Interval | None
    ttft_p95_ms: Interval | None
    """None: the wait grows for as long as the load lasts."""
    tpot_p50_ms: Interval
    tpot_p95_ms: Interval
    output_tokens_per_s: Interval
    requests_per_s: Interval
    running: float = 0.0
    waiting: float | None = None
    """None: more and more."""
    kv_usage: float | None = None


class Gap(Struct, frozen=True):
    """A load of which nothing is foreseen."""

    load: float
    reason: str
    missing: str = ""
    """What would make it known."""


class Foresight(Struct, frozen=True, kw_only=True):
    """What the twin of the server says of a configuration before it is tried; nothing outside of what was measured."""

    settings: tuple[tuple[str, float], ...] = ()
    """What was asked about, as `commands.Imagine` names it; (): the server as it stands."""
    label: str = ""
    """The same for a reader: `max_num_seqs 64`."""
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    axis: Axis = "concurrency"
    users: Interval | None = None
    """Users (or requests/s) at the SLO."""
    wall: Interval | None = None
    """Load from which a queue forms, or TPOT breaks its limit, whichever comes first."""
    points: tuple[ForeseenPoint, ...] = ()
    gaps: tuple[Gap, ...] = ()
    """Loads that were asked about and lie outside of what is foreseen."""
    off: float | None = None
    """Share by which the level that was left out of the fit is missed; None: there is no twin."""
    band: float | None = None
    """Half of every interval is at least this share of its figure; None: there is no twin."""
    levels: int = 0
    """It was fitted on so many."""
    text: str = ""
    """One sentence: what it gives and how sure that is, or why there is no number."""
    missing: str = ""
    """What would make it known: `drag prompt to 2048 for 10 s`; empty: it is known."""


class Amount(Struct, frozen=True):
    """What something costs or takes, and between what that lies, by the interval of the capacity that it rests on."""

    value: float
    low: float | None = None
    """None: no load failed, so that the value is the most that it can be."""
    high: float | None = None


class CostRow(Struct, frozen=True, kw_only=True):
    """What is paid while the endpoints are used in one way, in the currency of the price."""

    use: Literal["slo", "autoscaled", "fixed", "third"]
    """At the SLO capacity; at the stated traffic with as many endpoints as it needs, or always those of its peak; at
    30 % use."""
    per_million_output: Amount | None = None
    """All of the cost over the output tokens that were sold."""
    input_part: Amount | None = None
    """Per 1M input tokens, the part of the cost that prefill takes; null: not known how it splits."""
    output_part: Amount | None = None
    """Per 1M output tokens, the rest of it."""
    per_user_month: Amount | None = None
    """730 hours; of a stated traffic over the users of its peak."""
    per_month: Amount | None = None
    """Of one endpoint; of a stated traffic, of all of them."""


class Costs(Struct, frozen=True, kw_only=True):
    """What the capacity at the SLO costs: by what was stated of prices, and by what was read of power."""

    void: str = ""
    """Why nothing is told; empty: it is."""
    missing: tuple[str, ...] = ()
    """What would give the figures that are not there."""
    price_per_hour: float | None = None
    """Of one GPU."""
    currency: str = ""
    gpus: int = 1
    """Of one endpoint, with all its replicas."""
    replicas: int = 1
    """Of the endpoint at that load, where their number changed while it was driven: what is needed comes in these."""
    axis: Axis = "concurrency"
    at: float | None = None
    """Load that it rests on: the capacity at the SLO."""
    at_most: bool = False
    """No load failed: the capacity is at least this, and what is told is the most that it can be."""
    users: float | None = None
    """Real users of one endpoint at that load, who think as was stated; null: not known."""
    requests_per_s: float | None = None
    output_tokens_per_s: float | None = None
    """Of requests that ended well, as the next: what failed is paid for and not sold."""
    input_tokens_per_s: float | None = None
    input_share: float | None = None
    """Of the cost, by the engine's time that prefill takes; the output's is the rest."""
    output_share: float | None = None
    split: Literal["steps", "server", "ttft", "whole"] | None = None
    """By what it is split: what prompts add to the engine's steps, by a model of them; how much longer than a step
    a prefill takes at the lowest load, as the server tells it, or by TTFT, times requests/s, which give the input too
    much where a prefill waits or takes several steps; or there is no output."""
    cached: float | None = None
    """Share of the input tokens that came from the prefix cache; null: not told."""
    rows: tuple[CostRow, ...] = ()
    """(): no price is known."""
    peak: float | None = None
    """Load that is to be carried: real users, or requests/s in open loop."""
    gpus_at_peak: Amount | None = None
    """With 20 % headroom and one endpoint to spare."""
    joules_per_output_token: Amount | None = None
    """null: no power was read."""
    power_w: float | None = None
    """Mean of all GPUs that were read, at that load."""
    gpus_read: int = 0
    """Whose power is in it."""
    gpus_seen: int = 0
    """That were read at all."""

    def row(self, use: str) -> CostRow | None:
        return next((row for row in self.rows if row.use == use), None)


Stand = Literal["ok", "near", "broken"]
"""How a load stands against the limits that users feel: well inside, past the warning of one, or past the limit."""


class MapCell(Struct, frozen=True, kw_only=True):
    """One load of one prompt length, measured or foreseen. Latencies in milliseconds."""

    load: float
    prompt_tokens: int
    """As they were asked for."""
    n: int = 0
    """Requests it rests on; 0: it is foreseen."""
    stand: Stand | None = None
    """None: too few requests to say."""
    ttft_p95_ms: float | None = None
    tpot_p95_ms: float | None = None
    output_tokens_per_s: float | None = None
    off: float | None = None
    """Half of the band around a foreseen figure, as a share of it; None: it was measured."""

    @property
    def measured(self) -> bool:
        return self.n > 0


class MapEdge(Struct, frozen=True, kw_only=True):
    """Where one prompt length meets the SLO."""

    prompt_tokens: int
    users: Interval | None = None
    """Users (or requests/s) up to which it holds; None: it was not driven past that, nor can it be foreseen."""
    measured: bool = False
    """Whether levels on both sides of it were."""
    held: float | None = None
    """The highest load that held below every failure."""
    after: float | None = None
    """Half of the band of the contour between this length and the next, as a share; None: it is not known, or there is
    no next."""
    drops: bool = False
    """The next length is so near, and carries so much less, that the contour has a step between them."""


class Map(Struct, frozen=True, kw_only=True):
    """What one configuration of the server carries, by load and by prompt length."""

    axis: Axis = "concurrency"
    output_tokens: int = 0
    cells: tuple[MapCell, ...] = ()
    contour: tuple[MapEdge, ...] = ()
    """Of each length that was measured, the shortest first."""
    kv_tokens: float | None = None
    """What the KV cache holds; None: not known."""
    answer_tokens: float = 0.0
    """Of the answer of a request that runs, in the KV cache on average."""
    slots: float | None = None
    """Requests that run at once at most; None: not known."""
    off: float | None = None
    """Share by which the level that was left out of the twin's fit is missed; None: nothing is foreseen."""
    text: str = ""
    """What is known of the contour, in one sentence."""
    missing: str = ""
    """What would make the rest known; empty: nothing is missing."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Prompt lengths that were measured, the shortest first."""
        return tuple(edge.prompt_tokens for edge in self.contour)

    @property
    def band(self) -> float | None:
        """Half of the widest band along the contour, as a share, but for steps; None: it is not known from the shortest
        length to the longest."""
        known = [edge.users for edge in self.contour if edge.users is not None]
        gaps = [edge.after for edge in self.contour[:-1] if not edge.drops]
        told = [gap for gap in gaps if gap is not None]
        if len(known) < 2 or len(known) < len(self.contour) or len(told) < len(gaps):
            return None
        return max(*told, *(half_band(each) for each in known))

    def wall_at(self, prompt_tokens: float) -> float | None:
        """Requests of that length that the KV cache holds at once; None: its size is not known."""
        return None if self.kv_tokens is None else self.kv_tokens / (prompt_tokens + self.answer_tokens)

    def users_at(self, prompt_tokens: float) -> Interval | None:
        """The contour at a length between two that were measured: what a user costs grows in a straight line with the
        prompt, so that 1 / users does. None outside."""
        known = [edge for edge in self.contour if edge.users is not None]
        own = next((edge.users for edge in known if edge.prompt_tokens == prompt_tokens), None)
        if own is not None:
            return own
        for below, above in itertools.pairwise(known):
            if below.prompt_tokens < prompt_tokens < above.prompt_tokens:
                return _along(below, above, prompt_tokens)
        return None


def _along(below: MapEdge, above: MapEdge, prompt_tokens: float) -> Interval:
    """Between two lengths; the band is widest half-way."""
    assert below.users is not None
    assert above.users is not None
    share = (prompt_tokens - below.prompt_tokens) / (above.prompt_tokens - below.prompt_tokens)
    wide = (below.after or 0.0) * 4 * share * (1 - share)
    ends = ((getattr(below.users, name), getattr(above.users, name)) for name in ("value", "low", "high"))
    value, low, high = (1 / ((1 - share) / max(a, 1e-9) + share / max(b, 1e-9)) for a, b in ends)
    if below.drops:  # somewhere between them: nobody knows where
        low, high = min(below.users.low, above.users.low), max(below.users.high, above.users.high)
    return Interval(value, min(low, value * (1 - wide)), max(high, value * (1 + wide)))


def half_band(users: Interval) -> float:
    """Half of the width of an interval, as a share of its value."""
    return (users.high - users.low) / 2 / users.value if users.value else 1.0


Shape = Literal["none", "slope", "step", "levelling"]
"""What a figure does over a run: stays, creeps, changes at once and stays there, or warms up and levels off."""


class Drift(Struct, frozen=True, kw_only=True):
    """What one figure does over the longest part of a run at one load and one configuration.

    Changes are shares of the figure's level, but for figures that may be near zero where all is well: shares of the KV
    cache, of the requests (errors, preemptions), of a core (the client's CPU), and milliseconds (the client's lag).
    """

    metric: str
    shape: Shape = "none"
    per_hour: float | None = None
    """Slope; None for a step and a warm-up, which have none."""
    low: float | None = None
    high: float | None = None
    change: float = 0.0
    """From the beginning of the part to its end: of the whole slope, step or warm-up."""
    since_s: float | None = None
    """When a step came, or a slope began; None: it was there from the beginning of the part."""
    from_s: float = 0.0
    until_s: float = 0.0
    """The part that it is told of."""
    visible_per_hour: float | None = None
    """The smallest slope that would have been seen."""
    significant: bool = False
    """A slope or a step that is neither chance nor too little to matter."""
    text: str = ""


class Recovery(Struct, frozen=True, kw_only=True):
    """What a spike of the load left behind."""

    up_s: float
    down_s: float
    base: float
    peak: float
    took_s: float | None = None
    """From the end of the spike until latency, queue and KV cache were as before; None: not as long as it was seen."""
    seen_s: float = 0.0
    """How long after its end it was seen; with `took_s` None and too few requests to compare, 0."""
    end_s: float | None = None
    """When all was as before, or until when it was seen: what the SLO debt is counted to."""
    debt_s: float | None = None
    """SLO debt: seconds, from the start of the spike on, whose requests broke a limit; None: it cannot be said."""
    missed: int | None = None
    """The same in requests: of the `n` that were sent meanwhile, those that failed or took longer than a limit."""
    n: int | None = None
    left_out: int = 0
    """Beside them, those that the client held up: what they owe is not known."""
    text: str = ""


ReplicaStep = Literal["created", "ready", "serving"]
"""What a replica goes through on its way."""


class Scaling(Struct, frozen=True, kw_only=True):
    """What a deployment did about a rise of the load, or about its fall.

    Times are seconds after `from_s`; None: nobody told it, or it had not come. They are those of the last replica.
    """

    from_s: float
    """When the load rose (or fell); without such a move, when it was decided."""
    before: int
    """Replicas."""
    after: int
    """As many as were wanted; where nobody tells what is wanted, as many as came."""
    decided_s: float | None = None
    """When another number was wanted first."""
    created_s: float | None = None
    ready_s: float | None = None
    """It takes requests."""
    serving_s: float | None = None
    """It has generated its first token."""
    gone_s: float | None = None
    """Of fewer replicas: when the last of them was none any more."""
    seen_s: float = 0.0
    """How long it was followed."""
    lost: bool = False
    """Fewer, though the load had not fallen and nobody tells that fewer were wanted: they broke."""
    missing: Literal[ReplicaStep, ""] = ""
    """The first step on the way to the last replica that had not come; empty: it came, as far as anybody tells."""
    came: int = 0
    """Replicas that had come as far as what is missing."""
    late_s: float | None = None
    """So long after the load was back the last replica served; None: it came in time, or not at all."""
    debt_s: float | None = None
    """As of a `Recovery`, from `from_s` on; of fewer replicas from the decision on."""
    missed: int | None = None
    n: int | None = None
    left_out: int = 0
    queue: float | None = None
    """Requests that waited for each replica when it was decided."""
    threshold: int | None = None
    """At a queue above that for each replica nothing would have been missed; None: no such queue is known."""
    keep: int | None = None
    """So many replicas kept before the rise, and nothing would have been missed; None: no such number is known."""
    advice: str = ""
    """The same in words, or why it is not known; empty: nothing was missed."""
    text: str = ""

    @property
    def up(self) -> bool:
        return self.after > self.before


class PartVerdict(Struct, frozen=True, kw_only=True):
    """The same answer for one part of a plan that is judged by itself: a load that it holds, or a configuration."""

    name: str
    ok: bool | None = None
    text: str = ""
    """What decided it."""


class ThresholdVerdict(Struct, frozen=True, kw_only=True):
    """A threshold of --fail-on against what was measured where the answer to the run's question is about."""

    name: str
    """Of the figure: `ttft_p95`, `answer.ttft_p95`, `capacity`."""
    limit: float
    """In seconds, a share, requests, users (open loop: requests/s) or a rate a second."""
    measured: float | None = None
    n: int = 0
    """Requests that it rests on; of a capacity and a rate 0."""
    ok: bool | None = None
    """False: the limit is passed. None: it cannot be said."""
    text: str = ""


class Judgement(Struct, frozen=True, kw_only=True):
    """The answer to a run's question. Screen, last line, report, JSON, JUnit and exit code are renderings of it."""

    question: Question = Question.CLIFF
    ok: bool | None = None
    """Yes, no, or not known."""
    sentence: str = ""
    """The answer, with the configuration it holds for."""
    reasons: tuple[str, ...] = ()
    """What decided it: the limits that broke, or what is missing for an answer."""
    left_out: tuple[str, ...] = ()
    """What was measured and not judged, and why."""
    void: bool = False
    """The client was the bottleneck: the figures say nothing about the server."""
    ending: Ending | None = None
    """How the run ended, where that is known."""
    final: bool = False
    """The run is over: no later figure can change this."""
    parts: tuple[PartVerdict, ...] = ()
    """Of a plan with several loads or configurations, each by itself; (): it has one."""
    thresholds: tuple[ThresholdVerdict, ...] = ()
    """Those of --fail-on, once the run is over."""
    client_bound: float | None = None
    """Share of the seconds in which the client was the bottleneck; None: not known."""

    @property
    def passes(self) -> bool | None:
        """Whether the answer is yes and no threshold is passed; None: a part of that is not known."""
        each = (self.ok, *(threshold.ok for threshold in self.thresholds))
        return False if False in each else None if None in each else True


class Assessment(Struct, frozen=True, kw_only=True):
    """All opinions over one run or one live window. `headline` is the verdict under the header of the screen."""

    t_s: float = 0.0
    headline: str = ""
    slo: SloVerdict = SloVerdict()
    cliff: CliffVerdict = CliffVerdict(kind=Kind.INSUFFICIENT)
    cliffs: tuple[CliffVerdict, ...] = ()
    """One for each metric and statistic that could be judged; `cliff` is the one that matters."""
    diagnosis: Diagnosis = Diagnosis(bound=Bound.NONE)
    capacity: Capacity = Capacity()
    curves: tuple[Curve, ...] = ()
    """Ghosts first, the current one last."""
    drifts: tuple[Drift, ...] = ()
    recoveries: tuple[Recovery, ...] = ()
    scalings: tuple[Scaling, ...] = ()
    """What the deployment did about the load, in the order in which it was decided."""
    judgement: Judgement = Judgement()
    overloaded: bool = False
    """Past the cliff right now."""
    judged_requests: int = 0
    """Requests of the current curve that `cliffs` rest on; a shown verdict changes only as this grows."""
    failures: tuple[FailureGroup, ...] = ()
    """Of all requests of the run, the most frequent first; of a table, none."""
    compared: Comparison | None = None
    """With the configuration before; None: there was none, or nothing of it is known."""
    baselines: tuple[Baseline, ...] = ()
    """Earlier measurements, in the order in which they were asked for."""
    what_if: tuple[WhatIf, ...] = ()
    """Fewer slots, where levels were measured near them, the fewest first; (): the levels do not tell."""
    foreseen: Foresight | None = None
    """None: nothing was asked, and fewer levels were measured than a twin needs."""
    map: Map | None = None
    """Of the present configuration, whatever the prompt length; None: no level of it was measured."""
    by_name: tuple[KindFigures, ...] = ()
    """The requests of each name, in the order in which they came; (): none has one."""
    by_model: tuple[KindFigures, ...] = ()
    """The same of each model, where several were asked."""
    sessions: VisitFigures | None = None
    """Visits of users, with the turns in them; None: no request is told to be of one."""
    calls: tuple[CallFigures, ...] = ()
    """Users' requests that were none to the model, by name; in no other figure."""
    costs: Costs | None = None
    """None: neither a price nor a peak was stated, and no power was read."""
    replicas: tuple[ReplicaFigures, ...] = ()
    """What each replica carried while there was load, in the order in which they came; (): there was one alone."""
    imbalance: Imbalance | None = None
    """Of these means; None: there was one alone, or nothing ran."""
    path: str = ""
    """How the path between server and client makes TTFT, TPOT and ICL void, and what to type; empty: it does not."""
    notes: tuple[str, ...] = ()

    @property
    def scaled_besides(self) -> tuple[str, ...]:
        """What is said of `scalings` that the answer does not say already."""
        void, answer = self.judgement.void, self.judgement.sentence
        return tuple(each.text for each in self.scalings if not void and each.text not in answer)

    @property
    def fewer_slots(self) -> WhatIf | None:
        """Of `what_if` the one that is said; None: none may be."""
        return next((each for each in self.what_if if each.text), None)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """With earlier measurements, as they were asked for, then with the configuration before."""
        found = (*(each.compared for each in self.baselines), self.compared)
        return tuple(each for each in found if each is not None)
