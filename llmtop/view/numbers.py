"""Figures as the screen writes them: three significant digits, a unit, `--` for what is not known."""

from __future__ import annotations

import math

UNKNOWN = "--"


def digits(value: float) -> str:
    """Three significant digits, never an exponent: 0.042, 1.42, 38.0, 142, 2 410."""
    if value == 0:
        return "0"
    if value < 0:
        return "-" + digits(-value)
    rounded = float(f"{value:.3g}")
    if rounded < 0.001:
        return "<0.001"
    decimals = max(0, 2 - math.floor(math.log10(rounded))) if rounded >= 0.1 else 3
    return f"{rounded:,.{decimals}f}".replace(",", " ")


def latency(milliseconds: float | None) -> str:
    """0.42ms, 38.0ms, 142ms, 1.42s, 12.4s, 20.1min."""
    if milliseconds is None:
        return UNKNOWN
    rounded = float(f"{milliseconds:.3g}")
    if rounded < 1:
        return f"{rounded:.2f}ms"
    if rounded < 1000:
        return f"{digits(rounded)}ms"
    if rounded < 600_000:
        return f"{digits(rounded / 1000)}s"
    return f"{digits(rounded / 60_000)}min"


def count(value: float | None) -> str:
    """A number of things: 3, 41.5, 2 410, 124k, 1.24M."""
    if value is None:
        return UNKNOWN
    rounded = float(f"{value:.3g}")
    if rounded == int(rounded) and rounded < 1000:
        return str(int(rounded))
    if rounded < 100_000:
        return digits(rounded)
    if rounded < 1_000_000:
        return f"{digits(rounded / 1e3)}k"
    return f"{digits(rounded / 1e6)}M"


def whole(value: float | None) -> str:
    """An exact count, in groups of three: 1 234 567."""
    return UNKNOWN if value is None else f"{value:,.0f}".replace(",", " ")


def percent(share: float | None) -> str:
    """A share between 0 and 1: 0.00%, 0.14%, 71.0%, 100%."""
    if share is None:
        return UNKNOWN
    value = share * 100
    return f"{value:.2f}%" if value < 9.995 else f"{digits(value)}%"


def clock(seconds: float) -> str:
    """Time of a run: 03:12, 1:03:12."""
    whole_s = max(0, int(seconds))
    minutes, s = divmod(whole_s, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes:02d}:{s:02d}"


def span(seconds: float) -> str:
    """A length of time in words: 10s, 2min, 1.5h."""
    if seconds < 60:
        return f"{seconds:g}s"
    if seconds < 3600:
        return f"{seconds / 60:.3g}min"
    return f"{seconds / 3600:.3g}h"
