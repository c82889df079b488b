"""What a run did over its time: figures that creep, and what a spike of the load left behind."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

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
