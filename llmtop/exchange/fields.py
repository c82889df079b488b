"""Values of a file that somebody else has written: every one is checked where it is taken, and named if it is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from llmtop.domain.bounds import TIME_S
from llmtop.domain.plain import plain
from llmtop.errors import FileError

MOST = 1e12
"""Of a number that is no time: tokens, rates, requests."""
MOST_CLOCK = 1e12
"""Of a stamp, in seconds of any clock."""
SLACK_S = 1e-6
"""Two stamps of today, as floats, are right to a quarter of a microsecond each."""
MOST_TEXT = 200
"""Characters that are kept of a word."""


class Fields:
    """One object of a file. What is missing, null or not finite is not known; what is no number is an error.

    Args:
        values: as they were read.
        path: the file, for errors.
        where: the key of this object.
    """

    def __init__(self, values: Mapping[str, Any], path: object, where: str = "") -> None:
        self.values = values
        self.path = path
        self.where = where

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def key(self, name: str) -> str:
        return plain(f"{self.where}.{name}" if self.where else name, MOST_TEXT)

    def wrong(self, name: str, problem: str) -> FileError:
        return FileError(self.path, problem, self.key(name))

    def within(self, *names: str) -> Fields:
        """An object in this one; empty where it is missing. Raises FileError: it is no object."""
        found = self
        for name in names:
            value = found.values.get(name)
            if value is not None and not isinstance(value, dict):
                raise found.wrong(name, "must be an object")
            found = Fields(value or {}, self.path, found.key(name))
        return found

    def number(self, name: str, most: float = MOST) -> float | None:
        """A number from 0 to `most`. Raises FileError: it is something else."""
        return checked(self.values.get(name), most, self, name)

    def seconds(self, name: str, scale: float = 1.0) -> float | None:
        """A time; `scale` is 1e-3 where the file has milliseconds."""
        told = self.number(name, TIME_S.most / scale)
        return None if told is None else told * scale

    def since(self, name: str, begin: float | None, end: float | None) -> float | None:
        """Seconds between two stamps of one clock. Raises FileError naming the later one: they do not fit together."""
        if begin is None or end is None:
            return None
        if not -SLACK_S <= end - begin <= TIME_S.most:
            raise self.wrong(name, f"lies {end - begin:,.6g} s after what came before it")
        return max(0.0, end - begin)

    def count(self, name: str) -> int | None:
        told = self.number(name)
        return None if told is None else round(told)

    def text(self, name: str) -> str:
        value = self.values.get(name)
        return plain(value, MOST_TEXT) if isinstance(value, str) else ""

    def rows(self, name: str) -> list[Any]:
        """An array; empty where it is missing. Raises FileError: it is none."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "must be an array")
        return value

    def objects(self, name: str) -> Iterator[Fields]:
        """The objects of an array. Raises FileError: one of them is none."""
        for at, value in enumerate(self.rows(name)):
            if not isinstance(value, dict):
                raise self.wrong(f"{name}[{at}]", "must be an object")
            yield Fields(value, self.path, self.key(f"{name}[{at}]"))

    def numbers(self, name: str, most: float = MOST) -> list[float | None]:
        return [checked(value, most, self, f"{name}[{at}]") for at, value in enumerate(self.rows(name))]


def checked(value: object, most: float, fields: Fields, name: str) -> float | None:
    """A number that is not known (None, not finite), or from 0 to `most`. Raises FileError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fields.wrong(name, f"must be a number, not {plain(str(value)[:60], 40)!r}")
    try:
        number = float(value)
    except OverflowError:
        number = -1.0
    if not math.isfinite(number):
        return None
    if not 0 <= number <= most:
        raise fields.wrong(name, f"must be a number from 0 to {most:g}")
    return number


def known(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Without what is not known."""
    return {name: value for name, value in figures.items() if value is not None}
