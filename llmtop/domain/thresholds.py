"""The words of --fail-on, of a run (`ttft_p95 > 1.5s, capacity < 40`) and of two beside each other (`ttft_p95 +10%`).

Figures have the same names in both, those of tables and of the SLO.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from llmtop.domain.alike import meant
from llmtop.domain.bounds import LIMIT_RATE
from llmtop.domain.plain import plain
from llmtop.domain.slo import FIGURES, LATENCIES, MOST_LIMIT, NUMBER, SloTarget, target_of
from llmtop.errors import UsageError

SPOKEN: dict[str, str] = {
    **{latency: f"{latency}_p95" for latency in LATENCIES},
    **dict.fromkeys(("errors", "error"), "error_ratio"),
    **dict.fromkeys(("tokens_per_s", "tok_s", "tokens"), "output_tokens_per_s"),
}
"""Other names of a figure, as tables and limits have them."""
FLOORS = ("capacity", "output_tokens_per_s", "requests_per_s", "goodput")
"""Figures of a run that may fall below a limit; all others are the SLO's, and may go above one."""
_OF_A_RUN = {**SPOKEN, "rps": "requests_per_s", "kv_usage": "kv"}
MOST = 40
"""Thresholds, and characters of a word that are shown."""
_CHANGE = re.compile(r"\s*([a-z0-9_]+)\s*([+-])\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*%\s*")
_LIMIT = re.compile(rf"\s*(?:([^<>]+)\.)?\s*([A-Za-z0-9_]+)\s*([<>])\s*{NUMBER}\s*([A-Za-z/%]*)\s*")
LIKE_CHANGES = '"capacity -5%, ttft_p95 +10%"'
LIKE_LIMITS = '"ttft_p95 > 1.5s, capacity < 40"'
_Word = TypeVar("_Word")


class RunThreshold(Struct, frozen=True):
    """A figure of a run may not go above this, or not fall below it."""

    name: str
    limit: float
    """Seconds, a share, requests, users or a rate a second."""
    target: SloTarget | None = None
    """The same as a limit of an SLO, of a figure that may not go above it; None: it may not fall below."""


def parse_limits(text: str) -> tuple[RunThreshold, ...]:
    """What a run may not come to. Raises UsageError naming the word and what is allowed."""
    limits = each_word(text, f"name what may not be: {LIKE_LIMITS}; {_allowed()}", _limit)
    names = [each.name for each in limits]
    if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
        raise UsageError(f"--fail-on: a second threshold on {twice}; keep one")
    return limits


def each_word(text: str, wanted: str, read: Callable[[str], _Word]) -> tuple[_Word, ...]:
    """The words between commas. Raises UsageError: `wanted`, where there are none, or too many."""
    words = [word for word in text.split(",") if word.strip()]
    if not 0 < len(words) <= MOST:
        raise UsageError(f"--fail-on: {wanted}")
    return tuple(map(read, words))


def read_change(word: str) -> tuple[str, str, str] | None:
    """(name, sign, percent) of `ttft_p95 +10%`; None: it is no change."""
    found = _CHANGE.fullmatch(word.lower())
    return None if found is None else (found[1], found[2], found[3])


def is_limit(word: str) -> bool:
    return len(word) < MOST_LIMIT and _LIMIT.fullmatch(word) is not None


def _limit(word: str) -> RunThreshold:
    shown, found = plain(word.strip(), MOST), _LIMIT.fullmatch(word) if len(word) < MOST_LIMIT else None
    if found is None:
        raise UsageError(f"--fail-on: {shown!r} {_faulty(word)}")
    kind, name, sign, number, unit = found.groups()
    name = _OF_A_RUN.get(name.lower(), name.lower())
    if name not in FIGURES and name not in FLOORS:
        raise UsageError(f"--fail-on: {shown!r}: {meant(name[:MOST], (*FLOORS, *sorted(FIGURES)))}{_allowed()}")
    check_sign(shown, name, sign, "<" if name in FLOORS else ">")
    try:
        if name in FLOORS:
            return RunThreshold(name, _floor(kind, name, number, unit))
        target = target_of(kind, name, number, unit.lower())
    except ValueError as error:
        raise UsageError(f"--fail-on: {shown!r}: {error}") from None
    return RunThreshold(target.name, target.limit, target)


def _faulty(word: str) -> str:
    if read_change(word) is not None:
        return f"is a change from one run to another, as `llmtop compare` takes them: here {LIKE_LIMITS}"
    if re.search(r"[<>]\s*=|=\s*[<>=]", word):
        return "has a sign too many: > or < alone; at its limit a figure is not past it"
    return f"is no figure with a limit, like `ttft_p95 > 1.5s`; {_allowed()}"


def _floor(kind: str | None, name: str, number: str, unit: str) -> float:
    if kind is not None:
        raise ValueError(f"{name} is of all requests together: leave out the name")
    if unit:
        raise ValueError(f"{name} wants a bare number")
    return LIMIT_RATE.check(float(number))


def check_sign(shown: str, name: str, sign: str, worse: str) -> None:
    """Raises UsageError: the figure gets worse the other way."""
    if sign != worse:
        raise UsageError(f"--fail-on: {shown!r}: {name} gets worse by {worse}, not by {sign}")


def _allowed() -> str:
    stats = "with _mean, _p50, _p90, _p95 or _p99"
    return f"the figures are ttft, tpot and e2e {stats}, error_ratio, queue and kv with >, {', '.join(FLOORS)} with <"
