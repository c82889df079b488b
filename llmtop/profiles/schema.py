"""What a profile file may hold: the tables and keys of the TOML, as strict structs.

description = "..."     name = "..."
question     hold, peak, capacity (with at_least), soak, spike (with recover_within) or cliff; none: what the plan asks
peak         what loads in per cent are shares of; peak_from_slots = true: the server's slots, where it tells them
search       true: question = "capacity" without a [[stage]]
[endpoint]   url, model
[simulated]  preset and knobs of the simulated engine, where that is driven
[workload]   source (synthetic, sharegpt, jsonl, trace, python), file, prompt, output, lengths, seed, api; of a file:
             columns, repeat, speed, window; of every request: body, stop, models, affinity, user_header, cancel
[load]       concurrency or rate_rps, prompt_tokens, output_tokens, shared_prefix, think_time, burstiness, gate, start,
             canary
[[stage]]    name, duration, shape and what the shape needs; prompt_tokens, output_tokens, gate
[slo]        ttft_p95 = "2s", ...; or slo = "ttft_p95<2s,..."; of one name alone: answer.ttft_p95 = "2s"
[cost]       gpu_price_per_hour, gpus, currency, peak (to be carried), traffic (shares of it over equal spans of a day),
             think_time (of a real user)
[limits]     max_concurrency, stop_error_ratio, connect_timeout, first_token_timeout, idle_timeout, total_timeout
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from llmtop.domain.bounds import CARRIED, GATE, GPUS, MOST_USERS, PEAK, PRICE, SEED, TOKENS, TRACE_SPEED
from llmtop.domain.load import Start, Unit
from llmtop.domain.profile import Affinity, Fixed, LengthDistribution, ModelShare, Question
from llmtop.profiles.quantity import Burstiness, CanaryRate, ErrorRatio, Lasting, Load, Seconds, Share

Gate = Annotated[int, Meta(ge=GATE.least, le=GATE.most)]
Tokens = Annotated[int, Meta(ge=TOKENS.least, le=TOKENS.most)]
Peak = Annotated[float, Meta(ge=PEAK.least, le=PEAK.most)]


class EndpointTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str | None = None
    model: str | None = None


class SimulatedTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    preset: str | None = None
    knobs: dict[str, float] = {}


class CancelTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    share: Share
    after: Seconds = Seconds(1)


class WorkloadTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: Literal["synthetic", "sharegpt", "jsonl", "trace", "python"] = "synthetic"
    file: str | None = None
    prompt: LengthDistribution = Fixed()
    output: LengthDistribution = Fixed()
    seed: Annotated[int, Meta(ge=SEED.least, le=SEED.most)] = 0
    api: Literal["chat", "completions", "responses", "embeddings"] = "chat"
    lengths: tuple[tuple[Tokens, Tokens], ...] = ()
    columns: dict[str, str] = {}
    repeat: bool = True
    speed: Annotated[float, Meta(ge=TRACE_SPEED.least, le=TRACE_SPEED.most)] = 1.0
    window: tuple[Seconds, Seconds] | None = None
    body: dict[str, Any] = {}
    stop: tuple[str, ...] = ()
    models: tuple[ModelShare, ...] = ()
    affinity: Affinity = "none"
    user_header: str | None = None
    cancel: str | float | CancelTable | None = None
    """A share alone stands for a `CancelTable` of it."""


class PointTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load point; what is missing comes from the point it builds on."""

    concurrency: Load | None = None
    rate_rps: Load | None = None
    prompt_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    shared_prefix: Share | None = None
    think_time: Seconds | None = None
    burstiness: Burstiness | None = None
    gate: Gate | None = None


class LoadTable(PointTable, frozen=True, kw_only=True):
    start: Start = "staggered"
    canary: CanaryRate | None = None


class ReplayPoint(PointTable, frozen=True, kw_only=True):
    at: Seconds


class StageTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="shape"):
    name: str | None = None
    duration: Lasting
    prompt_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    gate: Gate | None = None


class HoldStage(StageTable, frozen=True, kw_only=True, tag="hold"):
    concurrency: Load | None = None
    rate_rps: Load | None = None


class RampStage(StageTable, frozen=True, kw_only=True, tag="ramp"):
    start: Load
    stop: Load
    unit: Unit = "concurrency"


class StepsStage(StageTable, frozen=True, kw_only=True, tag="steps"):
    levels: Annotated[tuple[Load, ...], Meta(min_length=1)]
    unit: Unit = "concurrency"


class SpikeStage(StageTable, frozen=True, kw_only=True, tag="spike"):
    base: Load
    peak: Load
    rise: Share = Share(1 / 3)
    fall: Share = Share(2 / 3)
    unit: Unit = "concurrency"


class SineStage(StageTable, frozen=True, kw_only=True, tag="sine"):
    low: Load
    high: Load
    period: Lasting
    unit: Unit = "concurrency"


class ReplayStage(StageTable, frozen=True, kw_only=True, tag="replay"):
    points: Annotated[tuple[ReplayPoint, ...], Meta(min_length=1)]


AnyStage = HoldStage | RampStage | StepsStage | SpikeStage | SineStage | ReplayStage


class SloLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: str | float
    warn: str | float | None = None


class LimitsTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_concurrency: Annotated[int, Meta(ge=MOST_USERS.least, le=MOST_USERS.most)] = 1024
    stop_error_ratio: ErrorRatio = ErrorRatio(0.01)
    connect_timeout: Lasting = Lasting(5)
    first_token_timeout: Lasting = Lasting(120)
    idle_timeout: Lasting = Lasting(60)
    total_timeout: Lasting = Lasting(600)


class CostTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    gpu_price_per_hour: Annotated[float, Meta(ge=PRICE.least, le=PRICE.most)] | None = None
    gpus: Annotated[int, Meta(ge=GPUS.least, le=GPUS.most)] | None = None
    currency: str | None = None
    peak: Annotated[float, Meta(ge=CARRIED.least, le=CARRIED.most)] | None = None
    traffic: tuple[Share, ...] = ()
    think_time: Seconds | None = None


class ProfileTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str | None = None
    description: str = ""
    question: Question | None = None
    peak: Peak | None = None
    peak_from_slots: bool = False
    at_least: Peak | None = None
    recover_within: Seconds | None = None
    search: bool = False
    endpoint: EndpointTable = EndpointTable()
    simulated: SimulatedTable = SimulatedTable()
    workload: WorkloadTable = WorkloadTable()
    load: LoadTable = LoadTable()
    stage: tuple[AnyStage, ...] = ()
    slo: str | dict[str, Any] = {}
    """Values are `str | float | SloLimit`; they are converted one by one, to be able to name the key of a fault."""
    limits: LimitsTable = LimitsTable()
    cost: CostTable = CostTable()
