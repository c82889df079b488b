"""Two scales: the logarithmic track of a slider, and the 1-2-5 height of a chart that holds still."""

from __future__ import annotations

import math

from msgspec import Struct

from llmtop.wording.figures import nice_above

_STEPS_PER_OCTAVE = 8
"""A key press moves by at most 12.5 %, and lands on powers of two: batch sizes and slots come in those."""


class LogScale(Struct, frozen=True, kw_only=True):
    """Values `low` to `high` in multiples of `quantum` on a logarithmic track; with `zero`, its left end is 0."""

    low: float
    high: float
    quantum: float = 1
    zero: bool = False

    @property
    def floor(self) -> float:
        return 0.0 if self.zero else self.low

    def snap(self, value: float) -> float:
        """The nearest value that the slider can stand on."""
        if self.zero and value < self.low / 2:
            return 0.0
        units = round(min(max(value, self.low), self.high) / self.quantum)
        return round(units * self.quantum, 6)

    def share(self, value: float) -> float:
        """Where `value` stands on the track, 0 to 1. Monotone; `low` and `high` are the ends, 0 is 0."""
        if self.zero and value <= 0:
            return 0.0
        clamped = min(max(value, self.low), self.high)
        if self.high <= self.low:
            return 1.0
        return math.log(clamped / self.low) / math.log(self.high / self.low)

    def cell(self, value: float, cells: int) -> int:
        """The cell of a track of `cells` cells; the first is 0 alone when the scale has a zero."""
        first = 1 if self.zero and cells > 2 else 0
        if self.zero and value <= 0:
            return 0
        return first + round(self.share(value) * (cells - 1 - first))

    def at_cell(self, cell: int, cells: int) -> float:
        """The value under a cell; `cell(at_cell(c)) == c` wherever the quantum is finer than a cell."""
        first = 1 if self.zero and cells > 2 else 0
        if first and cell <= 0:
            return 0.0
        share = min(max((cell - first) / max(1, cells - 1 - first), 0.0), 1.0)
        return self.snap(self.low * (self.high / self.low) ** share)

    def step(self, value: float, direction: int) -> float:
        """One key press up (+1) or down (-1): eight steps to the octave, one quantum where those are finer."""
        units = round(value / self.quantum)
        below = units - 1 if direction < 0 else units
        size = max(1, 2 ** max(0, below.bit_length() - 1) // _STEPS_PER_OCTAVE)
        moved = (units // size + 1) * size if direction > 0 else (-(-units // size) - 1) * size
        target = moved * self.quantum
        if target < self.low:
            target = self.floor if direction < 0 else self.low
        return self.snap(min(target, self.high))

    def times(self, value: float, factor: float) -> float:
        """PgUp and PgDn. From 0 up is `low`, from `low` down is the floor."""
        if value <= 0:
            return self.low if factor > 1 else self.floor
        if factor < 1 and value <= self.low:
            return self.floor
        return self.snap(value * factor)


class HeldTop(Struct):
    """Top of a chart's y axis: rises at once, falls only after `patience` calm redraws, so the picture keeps still."""

    top: float = 0.0
    calm: int = 0
    patience: int = 20

    def follow(self, peak: float, floor: float, ceiling: float | None = None) -> float:
        """The top for data up to `peak`; never under `floor`, never over `ceiling`."""
        wanted = max(nice_above(peak * 1.02), floor) if peak > 0 else floor
        if ceiling is not None:
            wanted = min(wanted, ceiling)
        if wanted >= self.top:
            self.calm = 0
            self.top = wanted
        else:
            self.calm += 1
            if self.calm > self.patience:
                self.calm = 0
                self.top = wanted
        return self.top
