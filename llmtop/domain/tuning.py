"""What a tune tries, and what it comes to."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Values = tuple[tuple[str, str], ...]
"""(name, value) of each setting, in the order in which they are tried."""
Kind = Literal["first", "race", "search", "again"]
"""Of a task: one load, all numbers of slots on one server, a capacity search, that first load again."""
DRIFT = 0.05
"""Change of the first configuration from the first measurement to the last that voids a tune: what settings gain is
seldom more."""


class Carried(Struct, frozen=True):
    """Users at the SLO, or output tokens a second, and between which bounds they surely lie."""

    value: float
    low: float
    high: float

    def above(self, other: Carried) -> bool:
        return self.low > other.high


class Tried(Struct, frozen=True, kw_only=True):
    """One candidate in the table."""

    values: Values
    how: Literal["searched", "by gate", "by the ramp", "dropped", "failed", "not applied", "not tried"]
    users: Carried | None = None
    tokens_per_s: Carried | None = None
    figures: tuple[tuple[str, float], ...] = ()
    restarts: int = 0
    note: str = ""


class Tune(Struct, frozen=True, kw_only=True):
    """What a tune came to."""

    rows: tuple[Tried, ...]
    original: Values
    winner: Values | None
    """None: no configuration could be verified."""
    users: int | None
    """That were asked for."""
    gain: float | None = None
    """Of the winner over the original, as a share of users at the SLO, or of tokens with `users`."""
    drift: float | None = None
    """Of the first configuration; None: not measured twice."""
    edge: Literal["largest", "smallest"] | None = None
    """The winner has the largest, or the smallest, of several numbers that were tried."""
    holds: bool | None = None
    """Whether the winner carries the users that were asked for; None: not known, or none were."""
    restarts: int = 0
    runs: tuple[tuple[str, str], ...] = ()
    """(what was driven, run file) of each, in order: for `compare` one of several numbers of slots is `RUN@2`."""

    @property
    def void(self) -> bool:
        return self.drift is not None and abs(self.drift) > DRIFT


def named(values: Values) -> str:
    """`max_num_seqs=64 kv_cache_dtype=fp8`."""
    return " ".join(f"{name}={value}" for name, value in values)
