"""Quantities as people write them in profile files: durations, shares, and loads in per cent of the expected peak."""

from __future__ import annotations

import math
import re

from llmtop.domain.bounds import BURSTINESS, CANARY, LASTING_S, RATE, TIME_S

_NUMBER = r"([0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][-+]?[0-9]{1,4})?)"
_DURATION = re.compile(rf"\s*{_NUMBER}\s*(ms|s|min|m|h)\s*")
_PER_CENT = re.compile(rf"\s*{_NUMBER}\s*%\s*")
_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


class Seconds(float):
    """A duration: 30, "30s", "500ms", "5min", "1h"."""

    @classmethod
    def read(cls, value: object) -> Seconds:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        number = float(match[1]) * _SECONDS[match[2]] if match else _float(value)
        if number is None:
            raise ValueError('is no duration; write "30s", "500ms", "5min", "1h" or a number of seconds')
        if not TIME_S.holds(number):
            raise ValueError(f"must be a duration of 0 or more, and of {TIME_S.most:,} s or less")
        return cls(number)


class Lasting(Seconds):
    """A duration of what must take its time."""

    @classmethod
    def read(cls, value: object) -> Lasting:
        seconds = Seconds.read(value)
        if seconds <= 0:
            raise ValueError("must be longer than 0 s")
        return cls(LASTING_S.check(seconds))


class Share(float):
    """A share of a whole, 0 to 1: 0.25 or "25%"."""

    @classmethod
    def read(cls, value: object) -> Share:
        match = _PER_CENT.fullmatch(value) if isinstance(value, str) else None
        number = float(match[1]) / 100 if match else _float(value)
        if number is None or not 0 <= number <= 1:
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


MOST_PER_CENT = 10_000_000
"""Of a peak of one: as many as there may be."""


def of_peak(per_cent: float, peak: float) -> float:
    """The load that is so many per cent of the expected peak."""
    return per_cent * peak / 100


class Load(float):
    """Users or requests/s: a number, or "80%" of the profile's `peak` (then `of_peak`, and the value is 80)."""

    of_peak = False

    @classmethod
    def read(cls, value: object) -> Load:
        match = _PER_CENT.fullmatch(value) if isinstance(value, str) else None
        number = float(match[1]) if match else _float(value)
        if number is None:
            raise ValueError('must be a number, or a share of the peak such as "80%"')
        most = MOST_PER_CENT if match else RATE.most
        if not 0 <= number <= most:
            raise ValueError(f"must be a load of 0 or more, and of {most:,}{'%' if match else ''} or less")
        load = cls(number)
        load.of_peak = match is not None
        return load


class Burstiness(float):
    """Shape of the gaps between arrivals; `inf` is constant."""

    @classmethod
    def read(cls, value: object) -> Burstiness:
        number = _float(value)
        if number is None or not (BURSTINESS.holds(number) or number == math.inf):
            raise ValueError(f"must be {BURSTINESS.allowed}, or inf")
        return cls(number)


class CanaryRate(float):
    """Lone requests a second beside the load."""

    @classmethod
    def read(cls, value: object) -> CanaryRate:
        number = _float(value)
        return cls(CANARY.check(math.nan if number is None else number))


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
    if isinstance(number, int) or (abs(number) < 1e15 and number == int(number)):
        return str(int(number))
    return repr(float(number))


def _float(value: object) -> float | None:
    """None: it is no number; one that no float can hold is infinite."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
