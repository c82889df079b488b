"""What a run, each of its stages and each of its levels came to: the figures of requests, without an opinion."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.frame import Distribution, NewUser
from llmtop.domain.load import Axis


class PartFigures(Struct, frozen=True, kw_only=True):
    """The requests of one part of a run. Every request that ended is in one count: n + errors + those left out.

    Distributions are in milliseconds, of the n requests. None = not known.
    """

    n: int = 0
    """Requests that ended well and count."""
    errors: int = 0
    cancelled: int | None = None
    """Left out: given up by us."""
    client_limited: int | None = None
    """Left out: the client was the bottleneck."""
    unjudged: int | None = None
    """Left out: they ended in a second of which nobody knows whether the client was the bottleneck."""
    span_s: float | None = None
    """Seconds that the rates are of: those with load, without those in which the client was the bottleneck."""
    requests_per_s: float | None = None
    """Requests that ended well."""
    output_tokens_per_s: float | None = None
    """Tokens that arrived, whatever became of their request."""
    ttft_ms: Distribution = Distribution()
    tpot_ms: Distribution = Distribution()
    e2e_ms: Distribution = Distribution()
    icl_ms: Distribution = Distribution()
    """Gaps between the chunks of all streams, in the seconds that the rates are of: percentiles to 2.2 %, from buckets.
    A run file without the buckets tells how many there were and the longest."""


class StageFigures(PartFigures, frozen=True, kw_only=True):
    """One stage of a plan: the requests that were sent in it."""

    stage: str
    start_s: float
    end_s: float


class LevelFigures(PartFigures, frozen=True, kw_only=True):
    """One level of a curve, without the requests on the way to it. Its gaps are not known."""

    curve: str
    """Which configuration it was measured under."""
    axis: Axis
    load: float


class RunFigures(Struct, frozen=True, kw_only=True):
    """The whole run, its stages in their order, and its levels, earlier configurations first, lowest load first."""

    run: PartFigures = PartFigures()
    stages: tuple[StageFigures, ...] = ()
    levels: tuple[LevelFigures, ...] = ()
    new_user: NewUser | None = None
    """What canaries felt, which are in no other figure; None: none were sent, or none has ended."""
