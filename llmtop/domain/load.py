"""Load: what is commanded at one instant, and the shapes that command it over time."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

Axis = Literal["concurrency", "rate"]
"""What a load is counted in: requests in flight (closed loop), or requests sent per second (open loop)."""
Unit = Literal["concurrency", "rate_rps"]
"""The field of a `LoadPoint` that a shape moves."""


Start = Literal["staggered", "together"]
"""Closed loop: users that are called up begin spread over a moment, their first answers cut to spread their ends; or in
the same instant, once whoever was there before has left: every level begins as a run of its own would."""


class LoadPoint(Struct, frozen=True, kw_only=True):
    """The load commanded at one instant; the sliders write this.

    Exactly one of `concurrency` (closed loop: so many requests in flight) and `rate_rps` (open loop: so many requests
    sent per second, whatever comes back) is set; ValueError otherwise, from a decoder too.
    """

    concurrency: int | None = None
    rate_rps: float | None = None
    prompt_tokens: int = 192
    output_tokens: int = 64
    shared_prefix: float = 0.0
    """Share of every prompt, from its head, that all requests have in common: 0 to 1."""
    think_time_s: float = 0.0
    """Closed loop: pause of a user between the end of one request and the next."""
    burstiness: float = 1.0
    """Open loop: shape of the Gamma between arrivals. 1 = Poisson, below 1 = bursts, `inf` = constant."""
    gate: int | None = None
    """So many requests at most are let through to the server at once, first come, first served; None: all of them."""

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate_rps is None):
            raise ValueError("a load is a concurrency or a rate, one of the two")

    @property
    def axis(self) -> Axis:
        return "rate" if self.concurrency is None else "concurrency"

    @property
    def value(self) -> float:
        """On its axis: requests in flight, or requests/s."""
        value = self.rate_rps if self.concurrency is None else self.concurrency
        assert value is not None
        return value

    def at(self, axis: Axis, value: float) -> LoadPoint:
        """The same requests at another load; a concurrency is cut to a whole number."""
        if axis == "rate":
            return replace(self, concurrency=None, rate_rps=value)
        return replace(self, concurrency=int(value), rate_rps=None)


class Hold(Struct, frozen=True, tag_field="shape", tag="hold", forbid_unknown_fields=True):
    """Stay at one load."""

    concurrency: int | None = None
    rate_rps: float | None = None


class Ramp(Struct, frozen=True, tag_field="shape", tag="ramp", forbid_unknown_fields=True):
    """Go from one load to another in a straight line. `unit` says of what."""

    start: float
    stop: float
    unit: Unit = "concurrency"


class Steps(Struct, frozen=True, tag_field="shape", tag="steps", forbid_unknown_fields=True):
    """Hold each of `levels` for an equal share of the stage."""

    levels: tuple[float, ...]
    unit: Unit = "concurrency"


class Spike(Struct, frozen=True, tag_field="shape", tag="spike", forbid_unknown_fields=True):
    """Hold `base`, jump to `peak` at once for the share [`rise`, `fall`) of the stage, and fall back."""

    base: float
    peak: float
    rise: float = 1 / 3
    fall: float = 2 / 3
    unit: Unit = "concurrency"


class Sine(Struct, frozen=True, tag_field="shape", tag="sine", forbid_unknown_fields=True):
    """Swing between `low` and `high` with a period of `period_s`, starting at `low`."""

    low: float
    high: float
    period_s: float
    unit: Unit = "concurrency"


class Replay(Struct, frozen=True, tag_field="shape", tag="replay", forbid_unknown_fields=True):
    """Repeat a timeline of hand movements: (seconds into the stage, load), each held until the next.

    A load without a gate of its own is held at the stage's, or the plan's.
    """

    points: tuple[tuple[float, LoadPoint], ...]


Shape = Hold | Ramp | Steps | Spike | Sine | Replay


class Stage(Struct, frozen=True, kw_only=True):
    """A named part of a plan. Lengths and gate override the plan's base point while the stage lasts."""

    name: str
    duration_s: float
    shape: Shape
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    gate: int | None = None


class LoadPlan(Struct, frozen=True, kw_only=True):
    """Stages one after another. `base` gives everything that a shape does not."""

    stages: tuple[Stage, ...]
    base: LoadPoint = LoadPoint(concurrency=1)

    @property
    def duration_s(self) -> float:
        return sum(stage.duration_s for stage in self.stages)

    @property
    def top(self) -> float:
        """The largest load that it commands."""
        return max((load for stage in self.stages for load in _loads(stage.shape)), default=self.base.value)

    @property
    def users(self) -> float:
        """The most requests in flight that its stages command."""
        return max((load for stage in self.stages for load in _users(stage.shape)), default=0.0)

    @property
    def gates(self) -> tuple[int, ...]:
        """The gates that it commands, wherever."""
        points = [point for stage in self.stages if isinstance(stage.shape, Replay) for _, point in stage.shape.points]
        gates = (self.base.gate, *(stage.gate for stage in self.stages), *(point.gate for point in points))
        return tuple(gate for gate in gates if gate is not None)


def _users(shape: Shape) -> tuple[float, ...]:
    """The loads of a shape that are requests in flight."""
    match shape:
        case Hold(concurrency, _):
            return (concurrency or 0.0,)
        case Replay(points):
            return tuple(point.concurrency or 0.0 for _, point in points)
    return _loads(shape) if shape.unit == "concurrency" else (0.0,)


def _loads(shape: Shape) -> tuple[float, ...]:
    """The loads between which a shape moves."""
    match shape:
        case Hold(concurrency, rate_rps):
            return (concurrency or 0.0, rate_rps or 0.0)
        case Ramp(low, high) | Spike(low, high) | Sine(low, high):
            return (low, high)
        case Steps(levels):
            return levels
        case Replay(points):
            return tuple(point.value for _, point in points)


class Caps(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where llmtop stops by itself."""

    max_concurrency: int = 1024
    stop_error_ratio: float | None = 0.01
    """Brake (load to one request in flight) when more than this share of the last requests failed."""
    connect_timeout_s: float = 5.0
    first_token_timeout_s: float = 120.0
    idle_timeout_s: float = 60.0
    total_timeout_s: float = 600.0
