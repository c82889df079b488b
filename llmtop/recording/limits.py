"""What a value of a run file may be: by its type, and by the unit that its name ends in.

A file may be anybody's, and whoever judges it reckons with what is in it. So every figure is finite and within what a
run can bring about: these ranges, from which both the check of a row (`schema`) and that of the meta are made.
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import cache
from types import GenericAlias, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta, Struct

from llmtop.domain.bounds import CANARY
from llmtop.domain.plain import KEPT, plain

LONGEST_RUN_S = 366 * 86_400.0
"""A year: a longer run is a time that went wrong."""
SLACK_S = 60.0
"""Clocks that differ: a fact may be so much older than the start of its run, or newer than when it was told."""
LAST_DATE_S = 250_000_000_000.0
"""Unix seconds, in the year 9892: calendars end in 9999."""
MOST = 2**53
"""Of anything that is counted: as far as floats are exact, and as much as a server's own count is believed."""
MOST_LOAD = 1e9
"""Requests in flight or a second."""
MOST_OPEN = 1_000_000
"""Requests in flight: each has a connection, and one machine has no more to give."""
LARGEST = 1e30
"""Any other figure: floating-point operations of the largest cluster in a year are some 1e27."""
BUCKETS = 1024
"""Of gaps between chunks: 2^(1024 / 16) us are half a million years."""
LONGEST_TEXT = KEPT
"""Characters: of an error, a mark, a name."""
MOST_VALUES = 65_536
"""In one list."""
LONGEST_LIST = 32 * MOST_VALUES
"""Characters of a list as JSON."""

Range = tuple[float, float]

_UNITS: dict[str, Range] = {
    "_ns": (-SLACK_S * 1e9, LONGEST_RUN_S * 1e9),
    "_ms": (-SLACK_S * 1e3, LONGEST_RUN_S * 1e3),
    "_s": (-SLACK_S, LONGEST_RUN_S),
    "_c": (-273.15, LARGEST),
    "_at": (0, LAST_DATE_S),
}
"""By the end of a name, the first that fits."""
_NAMES: dict[str, Range] = {
    "told_s": (0, LONGEST_RUN_S),
    "process_start_s": (0, LAST_DATE_S),
    "offset_s": (-LAST_DATE_S, LAST_DATE_S),
    "in_flight": (0, MOST_OPEN),
    "prefilling": (0, MOST_OPEN),
    "burstiness": (0, math.inf),
    "gate": (1, MOST_LOAD),
    "canary": (CANARY.least, CANARY.most),
    "seed": (-(2**63), 2**63 - 1),
    **dict.fromkeys(("concurrency", "rate_rps", "target", "load", "max_concurrency"), (0, MOST_LOAD)),
    **dict.fromkeys(("running", "waiting", "max_num_seqs"), (0, MOST_LOAD)),
    **dict.fromkeys(("start", "stop", "levels", "base", "peak", "low", "high", "at_least"), (0, MOST_LOAD)),
}
"""By a whole name, whatever it ends in."""
_NESTED: dict[str, Any] = {
    "gap_counts": tuple[Annotated[int, Meta(ge=0, le=BUCKETS)], Annotated[int, Meta(ge=0, le=MOST)]],
}
"""What a list holds where its types alone do not say it."""


def range_of(name: str, kind: Any = float) -> Range:
    """(least, largest) of a figure called `name`."""
    return _range_of(name, kind is int)


@cache
def _range_of(name: str, whole: bool) -> Range:
    if name in _NAMES:
        return _NAMES[name]
    of_unit = next((limits for unit, limits in _UNITS.items() if name.endswith(unit)), None)
    return of_unit or ((0, MOST) if whole else (0, LARGEST))


def bare(hint: Any) -> Any:
    """`X | None` without the None."""
    if get_origin(hint) in (Union, UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def limited(hint: Any, name: str) -> Any:
    """A type as one that also checks the range: for `msgspec.convert` and for decoders."""
    kind = bare(hint)
    if kind is not hint:
        return limited(kind, name) | None
    if get_origin(kind) is tuple:
        *parts, last = get_args(kind)
        if last is not Ellipsis:
            return GenericAlias(tuple, tuple(limited(part, name) for part in (*parts, last)))
        listed = GenericAlias(tuple, (_NESTED.get(name) or limited(parts[0], name), Ellipsis))
        return Annotated[listed, Meta(max_length=MOST_VALUES)]
    if kind is str:
        return Annotated[str, Meta(max_length=LONGEST_TEXT)]
    if kind in (int, float):
        low, high = range_of(name, kind)
        return Annotated[kind, Meta(ge=kind(low), le=None if math.isinf(high) else kind(high))]
    return kind


def stored(hint: Any, name: str) -> Any:
    """The same as it lies in a column: lists are JSON, and yes and no are 1 and 0."""
    kind = bare(hint)
    if kind is not hint:
        return stored(kind, name) | None
    if get_origin(kind) is tuple:
        return Annotated[str, Meta(max_length=LONGEST_LIST)]
    return Literal[0, 1] if kind is bool else limited(kind, name)


def wanted(hint: Any, name: str) -> str:
    """What is allowed there, in words."""
    kind = bare(hint)
    if kind in (int, float):
        low, high = range_of(name, kind)
        text = f"a {'whole ' if kind is int else ''}number from {low:.16g} to {high:.16g}"
    elif get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, StrEnum)):
        text = f"one of {', '.join(get_args(kind) or [str(word) for word in kind])}"
    elif get_origin(kind) is tuple:
        text = f"a list as JSON, of at most {MOST_VALUES} values"
    else:
        text = "0 or 1" if kind is bool else f"text of at most {LONGEST_TEXT} characters"
    return text if kind is hint else f"{text}, or nothing"


def found(value: object) -> str:
    """What stands there instead, fit to be shown."""
    if value is None:
        return "nothing"
    if isinstance(value, bytes):
        return f"{len(value)} bytes that are no text"
    text = plain(repr(value) if isinstance(value, str) else str(value), 60)
    return f"text {text}" if isinstance(value, str) else text


def broken(value: object, name: str, key: str) -> tuple[str, str] | None:
    """The first value below `value` that is out of its range: (its key, what is wrong), or None.

    Args:
        name: of the field that holds it.
        key: where that is, for the message.
    """
    if isinstance(value, Struct):
        parts = [(getattr(value, field), field, f"{key}.{field}") for field in value.__struct_fields__]
        return next(filter(None, (broken(*part) for part in parts)), None)
    if isinstance(value, tuple):
        if len(value) > MOST_VALUES:
            return key, f"{len(value)} values, more than {MOST_VALUES}"
        return next(filter(None, (broken(part, name, f"{key}[{at}]") for at, part in enumerate(value))), None)
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return key, f"must be {wanted(str, name)}, and has {len(value)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = range_of(name, type(value))
        low = low if name == "seed" else max(low, 0)
        if not low <= value <= high:
            return key, f"must be a number from {low:.16g} to {high:.16g}, and is {found(value)}"
    return None


def fitting(value: Any, name: str) -> Any:
    """What a server or a user said, as it can be kept: a figure out of its range is not known, a text is cut."""
    if isinstance(value, float):
        low, high = range_of(name)
        return value if low <= value <= high else None
    if isinstance(value, str):
        if len(value) <= LONGEST_TEXT and value.isascii():
            return value
        return value[:LONGEST_TEXT].encode("utf-8", "backslashreplace").decode()[:LONGEST_TEXT]
    if isinstance(value, tuple):
        return tuple(fitting(part, name) for part in value[:MOST_VALUES])
    return value
