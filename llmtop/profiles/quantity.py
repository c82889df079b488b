"""Quantities as people write them in profile files: durations, shares, and loads in per cent of the expected peak."""

from __future__ import annotations

import math
import re

_NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)"
_DURATION = re.compile(rf"\s*{_NUMBER}\s*(ms|s|min|m|h)\s*")
_PER_CENT = re.compile(rf"\s*{_NUMBER}\s*%\s*")
_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


class Seconds(float):
    """A duration: 30, "30s", "500ms", "5min", "1h"."""

    @classmethod
    def read(cls, value: object) -> Seconds:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match:
            return cls(_finite(float(match[1]) * _SECONDS[match[2]], "a duration"))
        if _is_number(value):
            return cls(_finite(float(value), "a duration"))  # type: ignore[arg-type]
        raise ValueError('is no duration; write "30s", "500ms", "5min", "1h" or a number of seconds')


class Share(float):
    """A share of a whole, 0 to 1: 0.25 or "25%"."""

    @classmethod
    def read(cls, value: object) -> Share:
        match = _PER_CENT.fullmatch(value) if isinstance(value, str) else None
        number = float(match[1]) / 100 if match else float(value) if _is_number(value) else -1.0  # type: ignore[arg-type]
        if not 0 <= number <= 1:
            raise ValueError('must be a share: "25%", or a number from 0 to 1')
        return cls(number)


class ErrorRatio(float):
    """A share of failed requests above which the load is cut, or "never" (then infinite)."""

    @classmethod
    def read(cls, value: object) -> ErrorRatio:
        if value == "never":
            return cls(math.inf)
        try:
            return cls(Share.read(value))
        except ValueError:
            raise ValueError('must be a share such as "1%" or 0.01, or "never"') from None


def of_peak(per_cent: float, peak: float) -> float:
    """The load that is so many per cent of the expected peak."""
    return per_cent * peak / 100


class Load(float):
    """Users or requests/s: a number, or "80%" of the profile's `peak` (then `of_peak`, and the value is 80)."""

    of_peak = False

    @classmethod
    def read(cls, value: object) -> Load:
        match = _PER_CENT.fullmatch(value) if isinstance(value, str) else None
        if match:
            load = cls(_finite(float(match[1]), "a load"))
            load.of_peak = True
            return load
        if _is_number(value):
            return cls(_finite(float(value), "a load"))  # type: ignore[arg-type]
        raise ValueError('must be a number, or a share of the peak such as "80%"')


def load_text(load: float, peak: float | None) -> int | float | str:
    """The load as per cent of the peak where that reads back exactly, else the number that it is.

    Args:
        load: an int is users, which are read as the whole number that is nearest.
    """
    if peak is None:
        return load
    raw = load * 100 / peak
    near = (raw, math.nextafter(raw, 0), math.nextafter(raw, math.inf))
    for share in (*(round(raw, digits) for digits in range(7)), *near):
        read = of_peak(share, peak)
        if math.isfinite(read) and (read == load or (isinstance(load, int) and round(read) == load and read < load)):
            return f"{number_text(share)}%"
    return load


def seconds_text(seconds: float) -> str:
    """The shortest text that `Seconds.read` gives back exactly."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        count = round(seconds / size)
        if count and count * size == seconds:
            return f"{count}{unit}"
    return f"{number_text(seconds)}s"


def number_text(number: float) -> str:
    """The shortest text of a number that reads back exactly; whole numbers without a point."""
    if isinstance(number, int) or (number == int(number) and abs(number) < 1e15):
        return str(int(number))
    return repr(float(number))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(number: float, what: str) -> float:
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"must be {what} of 0 or more")
    return number
