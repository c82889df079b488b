"""When something was, of any log: text with or without a zone, or a number of seconds, ms, us or ns."""

from __future__ import annotations

import calendar
import re

from llmtop.domain.bounds import Quantity
from llmtop.traffic.columns import UNTOLD, took

WALL_S = Quantity("time", 946_684_800, 4_102_444_800, "seconds since 1970")
"""From 2000 to 2100: no log is older, and a clock that was never set says 1970."""
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2})(?::([0-9]{2}(?:[.,][0-9]{1,20})?))?"
    r" ?(?:(Z|UTC)|([+-])([0-9]{2}):?([0-9]{2})?)?"
)
_CLF = re.compile(r"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4}):([0-9]{2}:[0-9]{2}:[0-9]{2}) ([+-][0-9]{4})")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MOST_MINUTES = 100_000
"""Kept of those that were read: two months."""
NO_TIME = "must be a time such as 2023-11-16 18:15:46.68"


class Times:
    """Reads times and counts those whose zone nobody names."""

    def __init__(self) -> None:
        self.zoned = 0
        self.bare = 0
        """Without a zone, taken as UTC."""
        self._minutes: dict[str, float] = {}

    def text_s(self, text: str) -> float:
        """Unix seconds of a written time. Raises ValueError: what it must be."""
        begun_s = self._minutes.get(text[:17])
        if begun_s is not None:
            try:
                second_s = float(text[17:-1] if text[-1] == "Z" else text[17:].removesuffix("+00:00"))
            except ValueError:
                return self._slow_s(text.strip())
            if 0 <= second_s < 60:
                if text[-1] == "Z" or text[-6:] == "+00:00":
                    self.zoned += 1
                else:
                    self.bare += 1
                return begun_s + second_s
        return self._slow_s(text.strip())

    def number_s(self, value: float) -> float:
        """Unix seconds of a number in seconds, ms, us or ns, whichever gives a date in this age. Raises ValueError."""
        for unit_s in (1.0, 1e-3, 1e-6, 1e-9):
            if WALL_S.holds(value * unit_s):
                return value * unit_s
        raise ValueError("must be a time in seconds, ms, us or ns since 1970")

    def any_s(self, value: str | float) -> float:
        """Unix seconds of a time in any form. Raises ValueError: what it must be."""
        if isinstance(value, str) and value[4:5] == "-":
            return self.text_s(value)
        number = number_of(value)
        return self.number_s(number) if number == number else self.text_s(str(value))

    def since_s(self, value: str | float | None, start_s: float) -> float:
        """Seconds from `start_s`, in Unix seconds, to a time in any form; nan: none, or one before it."""
        if value is None:
            return UNTOLD
        try:
            return took(self.any_s(value) - start_s)
        except ValueError:
            return UNTOLD

    def said(self, naming: str = "times name no zone: taken as UTC") -> list[str]:
        """A sentence where zones are missing; none of an ordinary file."""
        if not self.bare:
            return []
        if not self.zoned:
            return [naming]
        return [f"{self.bare:,} of {self.bare + self.zoned:,} {naming}"]

    def _slow_s(self, text: str) -> float:
        if (clf := _CLF.fullmatch(text)) and clf[2] in _MONTHS:
            text = f"{clf[3]}-{_MONTHS.index(clf[2]) + 1:02}-{clf[1]}T{clf[4]}{clf[5]}"
        match = _TIME.fullmatch(text)
        if match is None:
            raise ValueError(NO_TIME)
        year, month, day, hour, minute = map(int, match.groups()[:5])
        second = float((match[6] or "0").replace(",", "."))
        if not (2000 <= year < 2100 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 61):
            raise ValueError(NO_TIME)
        if not 1 <= day <= calendar.monthrange(year, month)[1]:
            raise ValueError(NO_TIME)
        begun_s = float(calendar.timegm((year, month, day, hour, minute, 0)))
        if len(self._minutes) < _MOST_MINUTES and match[6]:
            self._minutes[text[:17]] = begun_s
        if match[7] or match[8]:
            self.zoned += 1
        else:
            self.bare += 1
        east_s = int(match[9]) * 3600 + int(match[10] or 0) * 60 if match[8] else 0
        return begun_s + second - (east_s if match[8] == "+" else -east_s)


def number_of(value: object) -> float:
    """Of what a log has as a number or as text; nan: it is none."""
    if isinstance(value, str):
        if not (value[-1:].isdigit() and value.isascii() and "_" not in value):
            return float("nan")
        try:
            return float(value)
        except ValueError:
            return float("nan")
    return float(value) if isinstance(value, (int, float)) else float("nan")
