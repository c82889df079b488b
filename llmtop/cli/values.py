"""What reads the value of an option: an error tells the value and what is allowed."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from llmtop.domain import bounds
from llmtop.domain.bounds import Quantity
from llmtop.domain.plain import plain

if TYPE_CHECKING:
    from llmtop.domain.crew import CrewSpec


SHOWN = 40
"""Characters of a value that are shown in an error."""


def number(quantity: Quantity) -> Callable[[str], float]:
    """What reads an option: an error tells the value and what is allowed."""

    def read(text: str) -> float:
        try:
            return quantity.read_whole(text) if quantity.whole else quantity.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{plain(text, SHOWN)!r}: {error}") from None

    return read


TOKENS, USERS, MOST_USERS = number(bounds.TOKENS), number(bounds.USERS), number(bounds.MOST_USERS)
GATE, CANARY = number(bounds.GATE), number(bounds.CANARY)
RATE, PEAK, TIME = number(bounds.SENT_RATE), number(bounds.PEAK), number(bounds.TIME_S)
LOAD = number(bounds.SENT_RATE)
SHARE, SEED, FPS = number(bounds.SHARE), number(bounds.SEED), number(bounds.FPS)


def size(text: str) -> tuple[int, int]:
    columns, _, rows = text.lower().partition("x")
    try:
        return bounds.COLUMNS.read_whole(columns), bounds.ROWS.read_whole(rows)
    except ValueError:
        allowed = " and ".join(
            f"from {each.least} to {each.most} {each.name}" for each in (bounds.COLUMNS, bounds.ROWS)
        )
        raise argparse.ArgumentTypeError(f"{plain(text, SHOWN)!r}: must be a size as 120x40, {allowed}") from None


def lasting(text: str) -> float:
    """Seconds of `2h`, `30min`, or of a number of them."""
    from llmtop.profiles.quantity import Lasting  # late: --help does without it

    for read in (bounds.LASTING_S.read, Lasting.read):
        with contextlib.suppress(ValueError):
            return float(read(text))
    allowed = "must be a duration from 1 ms to 31 days: 90s, 30min, 2h"
    raise argparse.ArgumentTypeError(f"{plain(text, SHOWN)!r}: {allowed}")


def scheduler(text: str) -> CrewSpec:
    return crew(text, scheduler=True)


def processes(text: str) -> int:
    return 0 if text == "auto" else int(number(bounds.WORKERS)(text))


def crew(text: str, *, scheduler: bool = False) -> CrewSpec:
    from llmtop.domain.crew import parse_crew, parse_scheduler
    from llmtop.errors import UsageError

    try:
        return parse_scheduler(text) if scheduler else parse_crew(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
