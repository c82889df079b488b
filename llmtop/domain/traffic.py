"""What a service's own traffic is like: the figures of its requests, of whatever log or trace they come."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

WINDOW_S = 600.0
"""Of a peak, and of burstiness: a server that is short for so long is short for its users."""
FEWEST_IN_WINDOW = 30
"""Requests, or gaps, in ten minutes from which a rate or a burstiness of them is told: the busiest of many windows with
fewer is a matter of chance (1 / sqrt(30) = 18 %), and the CV of fewer gaps is 13 % off and more, too low for bursts."""
Counted = Literal["gaps", "counts"]
"""From what burstiness is known: the gaps between arrivals, or, of coarse clocks, how many came at each tick."""

SharedFrom = Literal["cached", "blocks"]
"""How much prompts share is known from what a cache had, or from the ids of the blocks that they begin with."""


class LengthBin(Struct, frozen=True):
    """One bar of a histogram."""

    least: float
    """Tokens, from here on."""
    below: float
    """And fewer than this."""
    requests: int


class TokenLengths(Struct, frozen=True, kw_only=True):
    """How long prompts or answers are, in tokens."""

    requests: int
    """That tell it."""
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    table: tuple[tuple[float, float], ...]
    """[share, tokens]: so large a share is no longer."""
    histogram: tuple[LengthBin, ...]
    """Bars of equal width on a logarithmic axis."""
    coarse: float | None = None
    """Within what factor a figure lies, where only the buckets of a histogram are known; null: each length is."""


class BusiestSpan(Struct, frozen=True, kw_only=True):
    """The stretch of a fixed length in which most requests came, wherever it begins."""

    rate_rps: float
    requests: int
    begins_s: float
    """Seconds after the first request."""


class InFlight(Struct, frozen=True, kw_only=True):
    """How many requests the old server had at once. It is that server's: a faster one has fewer at the same rate."""

    most: int
    at_s: float | None
    """Seconds after the first request; null: not known."""
    e2e_p50_s: float | None
    """Median time to the last token of the requests that began within five minutes of it; null: not known."""
    known: float
    """Share of the requests whose end is known."""


class TrafficFigures(Struct, frozen=True, kw_only=True):
    """What requests a service had, and when. What the source does not tell, or too little of, is null."""

    source: str
    """Of what kind it is."""
    requests: int
    began_at: float | None
    """Unix seconds of the first request."""
    span_s: float
    """From the first request to the last."""
    mean_rps: float | None
    """Requests per second over the span."""
    peak: BusiestSpan | None
    """The busiest ten minutes; null: it lasts no ten minutes, or too few came in them for a rate."""
    busiest_hour: BusiestSpan | None
    peak_to_mean: float | None
    cv: float | None
    """Burstiness: standard deviation / mean of the gaps between arrivals within ten minutes, weighted by their rates; 1
    is a Poisson process."""
    cv_from: Counted | None
    tick_s: float | None
    """Of a clock so coarse that requests share its ticks."""
    prompt: TokenLengths | None
    output: TokenLengths | None
    correlation: float | None
    """Spearman's rank correlation of prompt and answer lengths: -1 to 1."""
    shared_prefix: float | None
    """Share of all prompt tokens that a prefix cache had, or could have had."""
    shared_from: SharedFrom | None
    in_flight: InFlight | None
    says: tuple[str, ...] = ()
    """Sentences: what was left out, guessed, and is not known."""
