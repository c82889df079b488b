"""One formatter for each kind of figure: three significant digits, a unit, `--` for what is not known.

Measured figures keep their last zeros, so that 38.0 ms says how well it is known; round ones (limits, ticks of an axis)
have none. Where a figure stands decides only what separates it from its unit and thousands from each other.
"""

from __future__ import annotations

import math

from msgspec import Struct

from llmtop.domain.load import Axis
from llmtop.domain.slo import LATENCIES, Metric, SloTarget
from llmtop.wording.names import target_name

UNKNOWN = "--"


class Figures(Struct, frozen=True):
    """Figures in one typography: `gap` stands before a unit, `group` between thousands."""

    gap: str
    group: str

    def digits(self, value: float) -> str:
        """Three significant digits, never an exponent: 0.042, 1.42, 38.0, 142, 2 410."""
        if value == 0:
            return "0"
        if value < 0:
            return "-" + self.digits(-value)
        rounded = float(f"{value:.3g}")
        if rounded < 0.001:
            return "<0.001"
        decimals = max(0, 2 - math.floor(math.log10(rounded))) if rounded >= 0.1 else 3
        return f"{rounded:,.{decimals}f}".replace(",", self.group)

    def count(self, value: float | None) -> str:
        """A number of things: 3, 41.5, 2 410, 124k, 1.24M."""
        if value is None:
            return UNKNOWN
        rounded = float(f"{value:.3g}")
        if rounded == int(rounded) and rounded < 1000:
            return str(int(rounded))
        if rounded < 100_000:
            return self.digits(rounded)
        if rounded < 1_000_000:
            return f"{self.digits(rounded / 1e3)}k"
        return f"{self.digits(rounded / 1e6)}M"

    def whole(self, value: float | None) -> str:
        """An exact count, in groups of three: 1 234 567."""
        return UNKNOWN if value is None else f"{value:,.0f}".replace(",", self.group)

    def exact(self, value: float | None) -> str:
        """What was commanded or is a gauge: whole numbers to the last digit, three digits of others."""
        return self.whole(value) if value is None or value == int(value) else self.digits(value)

    def load(self, value: float | None, axis: Axis) -> str:
        """A load: users are whole, whatever an estimate between levels says, and at least one; rates have digits."""
        if value is None or axis == "rate":
            return self.exact(value)
        return self.whole(max(value, 1.0) if value > 0 else value)

    def latency(self, milliseconds: float | None) -> str:
        """0.42 ms, 38.0 ms, 142 ms, 1.42 s, 12.4 s, 20.1 min."""
        if milliseconds is None:
            return UNKNOWN
        rounded = float(f"{milliseconds:.3g}")
        if rounded < 1:
            return f"{rounded:.2f}{self.gap}ms"
        if rounded < 1000:
            return f"{self.digits(rounded)}{self.gap}ms"
        if rounded < 600_000:
            return f"{self.digits(rounded / 1000)}{self.gap}s"
        return f"{self.digits(rounded / 60_000)}{self.gap}min"

    def percent(self, share: float | None) -> str:
        """A share between 0 and 1: 0 %, 0.14 %, 4.90 %, 71.0 %, 100 %. Only none is 0 %, only all is 100 %."""
        if share is None:
            return UNKNOWN
        value = share * 100
        if value == 0:
            text = "0"
        elif 99.95 <= value < 100:
            text = "99.9"
        else:
            text = f"{value:.2f}" if value < 9.995 else self.digits(value)
        return f"{text}{self.gap}%"

    def change(self, share: float) -> str:
        """A relative change: +12.3 %, -4.00 %, +150 %, 0 %."""
        sign = "+" if share > 0 else "-" if share < 0 else ""
        return sign + self.percent(abs(share))

    def duration(self, seconds: float) -> str:
        """A length of time: 0.5 s, 42 s, 2 min, 6 min 12 s, 1 h 02 min."""
        if seconds < 59.5:
            return f"{seconds:.3g}{self.gap}s"
        minutes, rest = divmod(round(seconds), 60)
        if minutes < 60:
            tail = f"{self.gap}{rest:02d}{self.gap}s" if rest else ""
            return f"{minutes}{self.gap}min{tail}"
        tail = f"{self.gap}{minutes % 60:02d}{self.gap}min" if minutes % 60 else ""
        return f"{minutes // 60}{self.gap}h{tail}"

    def size(self, size: int) -> str:
        """Of a file: 0 B, 74 kB, 1.24 MB, 12.0 GB."""
        for factor, unit in ((1e9, "GB"), (1e6, "MB")):
            if size >= 0.9995 * factor:
                return f"{self.digits(size / factor)}{self.gap}{unit}"
        return f"{round(size / 1e3)}{self.gap}kB" if size >= 1000 else f"{size}{self.gap}B"

    # -- round figures ------------------------------------------------------------------------------------------------

    def round_latency(self, milliseconds: float) -> str:
        """300 ms, 2 s."""
        return f"{milliseconds:g}{self.gap}ms" if milliseconds < 1000 else f"{milliseconds / 1e3:g}{self.gap}s"

    def round_percent(self, share: float) -> str:
        """80 %, 0.1 %."""
        return f"{share * 100:g}{self.gap}%"

    def round_count(self, value: float) -> str:
        """5, 500, 20k."""
        return f"{value:g}" if value < 1000 else f"{value / 1e3:g}k"

    # -- limits -------------------------------------------------------------------------------------------------------

    def measured(self, metric: Metric, value: float | None) -> str:
        """A figure that a limit of `metric` is held against, in the limit's unit: seconds, requests or a share."""
        if metric in LATENCIES:
            return self.latency(None if value is None else value * 1e3)
        return self.count(value) if metric == "queue" else self.percent(value)

    def limit(self, metric: Metric, limit: float) -> str:
        """2 s, 50 ms, 1 %, 10."""
        if metric in LATENCIES:
            return self.round_latency(limit * 1e3)
        return f"{limit:g}" if metric == "queue" else self.round_percent(limit)

    def target(self, target: SloTarget) -> str:
        """TTFT p95 < 2 s"""
        return f"{target_name(target.name)}{self.gap}<{self.gap}{self.limit(target.metric, target.limit)}"


TIGHT = Figures("", " ")
"""In cells of a terminal."""
TEXT = Figures(" ", " ")
"""In sentences for a terminal, a log or a machine."""
PAGE = Figures(" ", "\u202f")
"""In a report, where a line may break at a blank."""


def clock(seconds: float) -> str:
    """Time of a run: 03:12, 1:03:12."""
    whole_s = max(0, int(seconds))
    minutes, s = divmod(whole_s, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes:02d}:{s:02d}"


def nice_above(value: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is at least `value`; 1 for what is not above zero."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    for factor in (1.0, 2.0, 5.0):
        if value <= factor * power * (1 + 1e-9):
            return float(f"{factor * power:.6g}")
    return float(f"{10 * power:.6g}")
