"""Words of the twin: what it is fitted to, what it is asked, and what it says."""

from __future__ import annotations

from dataclasses import dataclass

from llmtop.domain.foresight import Interval
from llmtop.domain.load import Axis

LEVELS = 3
"""Of which a twin can be made: two to fit, and one left out to tell how far off it is."""
REACH = 2.0
"""Requests running at once over the most that were measured, up to which the fit is asked."""
FAR, FAR_OFF, FAR_BAND = 4.0, 0.05, 0.20
"""Up to `FAR` times the most that were measured, with half a band of `FAR_BAND` at least, where a fit to the levels
that are well below the busiest foretells that one within `FAR_OFF`."""
FIRST_BAND = 0.35
"""Half of the band of the time to the first token at least, where more run at once than were measured: requests that
come at random, and those that have fallen into step, differ by as much and more."""
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
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    tpot_p50_s: float | None = None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What a load is expected to give. Seconds; tokens; per second."""

    load: float
    ttft_p50_s: Interval | None
    ttft_p95_s: Interval | None
    """None: more is offered than the server may keep up with, and the wait grows for as long as the load lasts."""
    tpot_p50_s: Interval
    tpot_p95_s: Interval
    output_tokens_per_s: Interval
    requests_per_s: Interval
    running: float
    waiting: float
    """inf where the wait grows without end."""
    kv_usage: float | None
    assumed: str | None = None
    """`slots and KV cache suffice, of which neither is known`: what the figures rest on that nobody has seen."""


@dataclass(frozen=True, slots=True)
class Outside:
    """No number: what was asked lies outside of what was measured."""

    reason: str
    """`192 running is more than twice the 64 that were measured`."""
    try_this: str
    """The level that would make it known: `drag prompt to 2048 for 10 s`, `hold 96 users for 10 s`."""
