"""How the clock of a load worker on another machine stands against ours.

Its stamps are shifted to the run clock, all of a record by the same, so that durations are those of one clock. What is
measured here only says in which interval of the run something was.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from llmtop.domain.request import RequestRecord
from llmtop.domain.run import FactBatch
from llmtop.load.here import WorkerFacts
from llmtop.load.messages import Ping
from llmtop.load.users import Flight

PINGS = 8
"""The shortest answer of so many is believed."""
DRIFT_PPM = 100
"""By so much at most two clocks part: an answer is the less believed the older it is."""
SHIFT_NS = 2_000_000
"""A clock that has moved by less is left: what is told of is binned by 250 ms."""
NEWS_NS = 1_000_000
_BEGINNING = ("scheduled_ns", "dispatched_ns")
_STAMPS = (*_BEGINNING, "sent_ns", "headers_ns", "first_token_ns", "first_answer_ns", "last_token_ns", "end_ns")
"""Of a record: those that are instants and no durations."""


class _Answer(Struct, frozen=True):
    offset_ns: int
    error_ns: int
    at_ns: int

    def error_at(self, now_ns: int) -> int:
        return self.error_ns + (now_ns - self.at_ns) * DRIFT_PPM // 1_000_000


class Clock:
    """One worker's, by its answers to pings; all instants are nanoseconds, ours by perf_counter_ns."""

    def __init__(self) -> None:
        self._asked: dict[int, int] = {}
        """By number of a ping: when it was sent."""
        self._number = 0
        self._answers: deque[_Answer] = deque(maxlen=PINGS)
        self._began: tuple[int, int] | None = None
        self._shift_ns = 0
        self._news = 0, 0
        self.offset_ns = 0
        """What it shows beyond ours."""
        self.error_ns = 0
        """By so much at most that is wrong."""

    def ping(self, now_ns: int) -> Ping:
        """What to send now."""
        self._number += 1
        self._asked[self._number] = now_ns
        if len(self._asked) > PINGS:
            del self._asked[min(self._asked)]
        return Ping(self._number)

    def hear(self, pong: tuple[int, int], now_ns: int) -> bool:
        """Whether it counted: a late answer to a ping that is forgotten says nothing."""
        number, theirs_ns = pong
        asked_ns = self._asked.pop(number, None)
        if asked_ns is None:
            return False
        middle_ns, half_ns = (asked_ns + now_ns) // 2, (now_ns - asked_ns + 1) // 2
        self._answers.append(_Answer(theirs_ns - middle_ns, half_ns, now_ns))
        best = min(self._answers, key=lambda answer: answer.error_at(now_ns))
        self.offset_ns, self.error_ns = best.offset_ns, best.error_at(now_ns)
        return True

    def begin(self) -> int:
        """What is added to our origin of the run clock so that it is the worker's, from now on and for good."""
        self._began = self._news = self.offset_ns, self.error_ns
        return self.offset_ns

    @property
    def news(self) -> bool:
        """Whether it stands otherwise than it did at `begin`, or when this was said, by more than can be an error."""
        offset_ns, error_ns = self._news
        if abs(self.offset_ns - offset_ns) <= max(self.error_ns + error_ns, NEWS_NS):
            return False
        self._news = self.offset_ns, self.error_ns
        return True

    @property
    def shift_ns(self) -> int:
        """What is added to the worker's instants: it has drifted since `begin`."""
        if self._began is not None:
            began_ns, error_ns = self._began
            drift_ns = began_ns - self.offset_ns
            if abs(drift_ns - self._shift_ns) > max(SHIFT_NS, error_ns + self.error_ns):
                self._shift_ns = drift_ns
        return self._shift_ns


def shifted(told: WorkerFacts, shift_ns: int) -> WorkerFacts:
    """The same, with all its instants of the run clock moved by so much: durations stay as they are."""
    if not shift_ns:
        return told
    batch, by_s = told.batch, shift_ns / 1e9
    moved = {
        name: tuple(replace(each, t_s=each.t_s + by_s) for each in getattr(batch, name))
        for name in FactBatch.__struct_fields__
        if name not in ("t_s", "requests")
    }
    requests = tuple(_moved(record, _STAMPS, shift_ns) for record in batch.requests)
    started = tuple(_moved(flight, _BEGINNING, shift_ns) for flight in told.started)
    return replace(told, batch=FactBatch(t_s=batch.t_s + by_s, requests=requests, **moved), started=started)


_Stamped = TypeVar("_Stamped", RequestRecord, Flight)


def _moved(stamped: _Stamped, names: tuple[str, ...], shift_ns: int) -> _Stamped:
    stamps = {name: at + shift_ns for name in names if (at := getattr(stamped, name)) is not None}
    return replace(stamped, **stamps)
