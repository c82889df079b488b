"""Lists of numbers on a command line."""

from __future__ import annotations

from llmtop.domain.bounds import Quantity
from llmtop.domain.plain import plain
from llmtop.errors import UsageError

MOST_LEVELS = 100
"""Of one prediction."""


def numbers(option: str, text: str | None, quantity: Quantity) -> tuple[float, ...]:
    """The numbers of a list; none: the option was not given."""
    parts = [] if text is None else text.split(",")
    if len(parts) > MOST_LEVELS:
        raise UsageError(f"{option}: {len(parts):,} numbers; at most {MOST_LEVELS} levels are predicted at once")
    numbers = []
    for part in parts:
        try:
            numbers.append(quantity.read(part))
        except ValueError as error:
            said = f"{option} {plain(text or '', 60)}: {plain(part, 40)!r}: {error}"
            raise UsageError(f"{said}; write numbers with commas, like 1,2,4,8") from None
    return tuple(numbers)
