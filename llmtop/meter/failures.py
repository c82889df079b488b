"""Failed requests in groups: the same for the screen, the judgement and a report."""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmtop.domain.failures import MOST_NAMES, FailureGroup
from llmtop.domain.request import Outcome, RequestRecord

MOST_GROUPS = 20
"""What a reader looks through; all that is rarer is one group more."""
SHOWN_CHARACTERS = 240
"""Of a text: three lines of a narrow screen."""

_MOST_KINDS = 400
"""Groups that are counted; what comes after so many is a server that says something else each time."""
_MOST_TEXTS = 2000
"""Texts whose group is remembered: a server that refuses says the same over and over."""
_WORD = re.compile(r"[\w-]+(?:\.[\w-]+)*")
_DIGIT = re.compile(r"\d")

_Kind = tuple[Outcome, int | None, str]


class FailureTally:
    """Counts failed requests by outcome, status and text. Its size does not depend on what a server says."""

    def __init__(self) -> None:
        self._groups: dict[_Kind, list[float]] = {}
        """[count, first, last, longest wait or -1] by kind, in order of the first."""
        self._texts: dict[_Kind, str] = {}
        self._names: dict[_Kind, tuple[str, ...]] = {}
        self._kinds: dict[_Kind, _Kind] = {}
        self._others: list[float] = []
        self._sorted: tuple[FailureGroup, ...] | None = ()

    def add(self, record: RequestRecord) -> None:
        """Count a record, if it failed or told nothing that anybody can see."""
        if not record.outcome.is_error and record.outcome is not Outcome.TEXTLESS:
            return
        kind = self._kind_of(record)
        counts = self._groups.get(kind)
        at_s = record.end_ns / 1e9
        if counts is None and len(self._groups) < _MOST_KINDS:
            counts = self._groups[kind] = [0, at_s, at_s, -1.0]
            self._texts[kind] = _line(record.error)
        elif counts is None:
            counts = self._others = self._others or [0, at_s, at_s, -1.0]
        names = self._names.get(kind, ())
        if record.name is not None and record.name not in names and kind in self._groups and len(names) < MOST_NAMES:
            self._names[kind] = (*names, record.name)
        counts[0] += 1
        counts[1:3] = min(counts[1], at_s), max(counts[2], at_s)
        counts[3] = max(counts[3], -1.0 if record.retry_after_s is None else record.retry_after_s)
        self._sorted = None

    def groups(self) -> tuple[FailureGroup, ...]:
        """The most frequent first, at most `MOST_GROUPS`; then one of all others, if there are some."""
        if self._sorted is None:
            ranked = sorted(self._groups.items(), key=lambda item: (-item[1][0], item[1][1]))
            told = [
                _group(counts, outcome=kind[0], status=kind[1], text=self._texts[kind], names=self._names.get(kind, ()))
                for kind, counts in ranked[:MOST_GROUPS]
            ]
            rest = [counts for _, counts in ranked[MOST_GROUPS:]] + ([self._others] if self._others else [])
            self._sorted = (*told, *([_group(_summed(rest))] if rest else []))
        return self._sorted

    @property
    def statuses(self) -> tuple[int, ...]:
        """HTTP statuses that were errors, in the order in which they came."""
        found = (status for outcome, status, _ in self._groups if outcome is Outcome.HTTP_ERROR)
        return tuple(dict.fromkeys(status for status in found if status is not None))

    def _kind_of(self, record: RequestRecord) -> _Kind:
        said = (record.outcome, record.status, record.error or "")
        kind = self._kinds.get(said)
        if kind is None:
            kind = (record.outcome, record.status, folded(_line(record.error)))
            if len(self._kinds) >= _MOST_TEXTS:
                self._kinds.clear()
            self._kinds[said] = kind
        return kind


def failures_of(records: Iterable[RequestRecord]) -> FailureTally:
    """The failures among records."""
    tally = FailureTally()
    for record in records:
        tally.add(record)
    return tally


def folded(text: str) -> str:
    """A text without what differs from request to request: words with digits in them, which are numbers and ids."""
    return _WORD.sub(lambda word: "#" if _DIGIT.search(word[0]) else word[0], text)


def _line(error: str | None) -> str:
    text = next(iter((error or "").strip().splitlines()), "")
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _group(
    counts: list[float],
    outcome: Outcome | None = None,
    status: int | None = None,
    text: str = "",
    names: tuple[str, ...] = (),
) -> FailureGroup:
    count, first_s, last_s, wait_s = counts
    return FailureGroup(
        outcome=outcome,
        status=status,
        text=text,
        count=int(count),
        first_s=first_s,
        last_s=last_s,
        names=names,
        retry_after_s=None if wait_s < 0 else wait_s,
    )


def _summed(rest: list[list[float]]) -> list[float]:
    counts, firsts, lasts, _ = zip(*rest, strict=True)
    return [sum(counts), min(firsts), max(lasts), -1.0]
