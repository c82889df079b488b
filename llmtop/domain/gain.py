"""One capacity beside another: what a change of the configuration gave, and earlier measurements."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from llmtop.domain.verdicts import Curve


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
