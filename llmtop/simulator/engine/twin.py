"""The twin: a model of the very server that is measured, fitted to what the client saw, asked what is not tried yet.

The time of a step is fitted to the run's own levels; slots, queue and KV cache are those of the simulated engine. Pure:
no clock, and the same levels give the same twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmtop.domain.load import Axis

LEVELS = 3
"""Of which a twin can be made: two to fit, and one left out to tell how far off it is."""
REACH = 2.0
"""Requests running at once over the most that were measured, up to which the fit is asked."""
LEAST_BAND = 0.10
"""Half of every band is at least this share of its figure: what runs of one server differ by, and what no fit knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One level as the client saw it: a load of one configuration. Seconds; tokens; per second."""

    load: float
    """Requests in flight, or requests/s offered."""
    n: int
    """Requests it rests on."""
    prompt_tokens: float
    output_tokens: float
    """Means, as the server counted them."""
    tpot_s: float
    """Mean."""
    ttft_s: float
    """Mean."""
    e2e_s: float
    """Mean."""
    requests_per_s: float
    output_tokens_per_s: float
    ttft_p95_s: float | None = None
    tpot_p95_s: float | None = None
    running: float | None = None
    """As the server shows it; None: it does not."""
    kv_usage: float | None = None
    """0 to 1."""
    cached: float = 0.0
    """Share of the prompt tokens that the server found in its prefix cache."""
    slots: int | None = None
    """What was let run at once while this level was measured: the server's slots as they stood, or a gate. None: not
    known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the server as it stands. None: not known."""

    slots: int | None = None
    kv_tokens: float | None = None
    block_tokens: int = 16
    budget_tokens: int | None = None
    """Tokens of one step at most."""
    prompt_cv: float = 0.0
    output_cv: float = 0.0
    """Standard deviation of the lengths over their mean."""
    axis: Axis = "concurrency"
    speculates: bool = False
    """Tokens come several at a time, by how well a draft is guessed: no step model holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A configuration to be predicted. None: as it stands, or as it was measured."""

    slots: int | None = None
    kv_tokens: float | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Band:
    """A predicted figure, and between what it lies by the error at the level that was left out."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What a load is expected to give. Seconds; tokens; per second."""

    load: float
    ttft_p50_s: Band
    ttft_p95_s: Band
    tpot_p50_s: Band
    tpot_p95_s: Band
    output_tokens_per_s: Band
    requests_per_s: Band
    running: float
    waiting: float
    kv_usage: float | None


@dataclass(frozen=True, slots=True)
class Outside:
    """No number: what was asked lies outside of what was measured."""

    reason: str
    """`192 running is more than twice the 64 that were measured`."""
    try_this: str
    """The level that would make it known: `drag prompt to 2048 for 10 s`, `hold 96 users for 10 s`."""


class Twin:
    """A fitted server. Made by `fit`."""

    off: float
    """Share by which the level that was left out is missed, the worse of TPOT and tokens/s."""
    levels: int
    """It was fitted on so many."""
    band: float
    """Half of every band, as a share: `max(LEAST_BAND, 2 * off)`."""

    def at(self, load: float, asked: Asked | None = None) -> Foreseen | Outside:
        """One load, in closed form: microseconds, for sliders."""
        raise NotImplementedError

    def curve(self, asked: Asked | None = None, *, loads: Sequence[float] = ()) -> tuple[Foreseen, ...] | Outside:
        """Those of `loads` that lie inside; without any, a ladder from 1 to past the wall or the edge of the box."""
        raise NotImplementedError

    def users_at(self, limits: Sequence[tuple[str, str, float]], asked: Asked | None = None) -> Band | Outside:
        """The most users (or requests/s) with which the limits hold.

        Args:
            limits: (metric `ttft` or `tpot`, statistic `p50` or `p95`, seconds) of each.
        """
        raise NotImplementedError

    def wall(self, asked: Asked | None = None) -> Band | Outside:
        """The load from which a queue forms: the slots, or what the KV cache holds at once, whichever is less."""
        raise NotImplementedError


def fit(levels: Sequence[Measured], known: Known) -> Twin | Outside:
    """The twin of what was measured, in less than 0.3 s.

    `Outside` where none can be made: fewer than `LEVELS` loads, a server that speculates, figures that no step time
    explains.
    """
    raise NotImplementedError
