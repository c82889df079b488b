"""What is expected of a configuration before it is tried: by the levels near it, or by a twin of the server."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.load import Axis


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
