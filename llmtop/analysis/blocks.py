"""Blocks of time: what the facts of each say of every segment, reckoned once and put together as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from llmtop.analysis.falls import falls_of, open_fall
from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY
from llmtop.analysis.openloop import Offered
from llmtop.analysis.readings import (
    column,
    commanded,
    flight,
    progress_of,
    requests_of_rows,
    server_gauges,
    waiting_ages,
)
from llmtop.analysis.seen import Seen, seen_at, seen_by
from llmtop.analysis.segments import Segment, braked
from llmtop.analysis.sessions import Gauges, Progress, Requests, waiting_load
from llmtop.meter.facts import Facts

BLOCK_S = 30.0
"""What cannot change any more is kept in blocks of so many seconds."""
SETTLED_S = 5.0
"""After so long nothing that is told late (a scrape, a chapter, a judged second) can change a block."""
ROOM = 262144
"""Requests of one segment that are kept; of more the newest of each load, an eighth of this at most."""
_LATELY = 512
LeftOut = Literal["client", "warm-up", "load moved", "brake", "other configuration", "faults", "restart"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What is known of one segment, of all of it or of one block of time."""

    requests: Requests
    seen: Seen
    gauges: Gauges
    progress: Progress
    shown: Array
    """Load and sway at each scrape, shape (2, scrapes)."""
    done: Array
    """The same at the end of each bin."""
    left_out: Mapping[LeftOut, int]


@dataclass(frozen=True, slots=True, eq=False)
class Fresh:
    """What one block says: parts by the start of their segment, and what the next block must know of them."""

    parts: dict[float, Part]
    warm_s: dict[float, float]
    """When the first request of a segment ended."""
    service_s: dict[float, Array]
    """Times from first to last token of the last requests of a segment."""


class View:
    """The facts as they stand, read once."""

    def __init__(self, facts: Facts, segments: Sequence[Segment], requests: Requests, *, over: bool) -> None:
        self._facts, self._segments, self._requests = facts, segments, requests
        self._gauges, self._progress, self._braked = server_gauges(facts), progress_of(facts), braked(facts)
        self._falls, self._open_s = falls_of(facts, over=over), open_fall(facts)
        self._starts = np.array([segment.start_s for segment in segments])
        self._ends_s = np.maximum.accumulate(np.array(facts.requests.column("end_s")))
        self.rows = facts.requests.dropped + len(self._ends_s)
        """Requests that were ever told; those before `dropped` are no more."""

    def closable(self, first: int, stop_s: float) -> int | None:
        """The row before which a block that ends at `stop_s` ends, if nothing can change it any more."""
        table, bins = self._facts.requests, self._facts.bins
        if len(bins) == 0 or bins.column("t_s")[-1] < stop_s + SETTLED_S or stop_s > self._open_s:
            return None
        first = max(0, first - table.dropped)
        stop = first + int(np.searchsorted(self._ends_s[first:], stop_s))
        if np.isnan(table.column("client_limited")[first:stop]).any():
            return None
        return stop + table.dropped

    def told_from(self, start_s: float) -> float:
        """The start of the first block from `start_s` on of which anything was told: nobody watched those between."""
        times = (self._facts.bins.column("t_s"), self._gauges.t_s, self._progress.t_s, self._ends_s)
        coming = [float(each[at]) for each in times if (at := np.searchsorted(each, start_s, side="right")) < len(each)]
        return start_s + BLOCK_S * max(0.0, (min(coming, default=start_s) - start_s) // BLOCK_S - 1)

    def parts(self, first: int, stop: int, start_s: float, stop_s: float, known: Fresh) -> Fresh:
        """What rows and times from `first` and `start_s` to before `stop` and `stop_s` say of each segment."""
        table = self._facts.requests
        first, stop = max(0, first - table.dropped), stop - table.dropped
        requests = requests_of_rows(table, first, stop)
        limited = np.array(table.column("client_limited")[first:stop]) > 0
        late_s = np.array(table.column("dispatched_s")[first:stop])[limited]
        member = np.searchsorted(self._starts, requests.sent_s, side="right") - 1
        gauges, progress = _between(self._gauges, start_s, stop_s), _between(self._progress, start_s, stop_s)
        found = Fresh({}, {}, {})
        for i, segment in enumerate(self._segments):
            if segment.stop_s <= start_s and not (member == i).any():
                continue
            if segment.start_s >= stop_s:
                break
            late = int(((late_s >= segment.start_s) & (late_s < segment.stop_s)).sum())
            self._take(found, segment, requests.pick(member == i), late, gauges, progress, stop_s, known)
        return found

    def _take(
        self,
        found: Fresh,
        segment: Segment,
        driven: Requests,
        late: int,
        gauges: Gauges,
        progress: Progress,
        stop_s: float,
        known: Fresh,
    ) -> None:
        start_s, lives = segment.start_s, driven.lives
        alone = lives.until_s < segment.stop_s
        recent = _service_times(driven.pick(alone), known.service_s.get(start_s, EMPTY))
        service_s = float(np.median(recent)) if len(recent) else 0.0
        settled = alone & (driven.sent_s >= start_s + service_s)
        warm = np.ones(len(settled), dtype=bool)
        if segment.cold:
            first_s = known.warm_s.get(start_s, driven.end_s[~driven.error].min(initial=np.inf))
            warm = driven.error | (driven.sent_s >= first_s)
            if np.isfinite(first_s):
                found.warm_s[start_s] = float(first_s)
        fell = _inside(self._falls, driven.sent_s) | (driven.error & _inside(self._falls, driven.end_s))
        warm &= ~fell
        held = ~_inside(self._braked, driven.sent_s)
        other = warm & held & ~settled
        left_out: dict[LeftOut, int] = {
            "warm-up": int((~warm & ~fell).sum()),
            "restart": int(fell.sum()),
            "brake": int((warm & ~held).sum()),
            "other configuration": int((other & driven.ok).sum()),
            "faults": int((other & driven.error).sum()),
            "client": late,
        }
        members = driven.pick(np.flatnonzero(settled & warm & held))
        own_end = members.end_s < segment.stop_s
        gauges, progress = _unbraked(gauges, segment, self._braked), _unbraked(progress, segment, self._braked)
        since_s = min((float(each[0]) for each in (members.sent_s, gauges.t_s, progress.t_s) if len(each)), default=0.0)
        in_flight = flight(self._facts, self._requests, since_s - service_s - 1.0, stop_s + 1.0)
        asked = commanded(self._facts, since_s - service_s - 1.0, stop_s + 1.0)
        assert in_flight is not None
        seen = seen_by(members.lives, in_flight, asked, service_s)
        found.service_s[start_s] = recent
        found.parts[start_s] = Part(
            members,
            replace(seen, stays=seen.stays & own_end, on=seen.on & own_end),
            gauges,
            progress,
            np.stack(seen_at(gauges.t_s, in_flight, service_s)),
            np.stack(seen_at(progress.t_s, in_flight, service_s)),
            left_out,
        )

    def offered(self, own: Sequence[Segment]) -> Offered:
        bins, size = self._facts.bins, len(self._facts.bins)
        t_s, span_s, target, in_flight = (column(bins, name, size) for name in ("t_s", "span_s", "target", "in_flight"))
        driven = _inside([(each.start_s, each.stop_s) for each in own], t_s) & ~_inside(self._braked, t_s)
        return Offered(t_s, span_s, np.where(driven, target, np.nan), in_flight)

    def waiting(self, service_s: float, now_s: float) -> tuple[Array, float] | None:
        """Ages of those without a first token that began in this segment, and in flight while they waited.

        One that began before it waited for another server, or at another gate.
        """
        ages_s = waiting_ages(self._facts)
        ages_s = ages_s[ages_s < now_s - self._segments[-1].start_s]
        if len(ages_s) == 0:
            return None
        in_flight = flight(self._facts, self._requests, now_s - ages_s.max() - service_s - 1.0)
        assert in_flight is not None
        return ages_s, waiting_load(in_flight, ages_s, service_s, now_s)


def _service_times(driven: Requests, before: Array) -> Array:
    """Times from first to last token of the last `_LATELY` requests that ended well, the newest last."""
    ok = driven.pick(driven.ok)
    ok = ok.pick(np.argsort(ok.end_s, kind="stable"))
    service_s = ok.e2e_s - ok.ttft_s
    return np.concatenate([before, service_s[np.isfinite(service_s)]])[-_LATELY:]


_Columns = TypeVar("_Columns", Gauges, Progress)
_Stack = TypeVar("_Stack", Requests, Seen, Gauges, Progress)


def _between(columns: _Columns, start_s: float, stop_s: float) -> _Columns:
    return columns.pick((columns.t_s > start_s) & (columns.t_s <= stop_s))


def _unbraked(columns: _Columns, segment: Segment, braked: Sequence[tuple[float, float]]) -> _Columns:
    inside = (columns.t_s >= segment.start_s) & (columns.t_s < segment.stop_s)
    return columns.pick(inside & ~_inside(braked, columns.t_s))


def add(parts: list[Part], new: Part) -> None:
    """Append a part, the newest last; small ones are put together, so that many blocks cost little more than one."""
    parts.append(new)
    whole = sum(len(part.requests.sent_s) for part in parts) > ROOM
    while len(parts) > 1 and (whole or 2 * len(parts[-1].requests.sent_s) >= len(parts[-2].requests.sent_s)):
        last = parts.pop()
        parts[-1] = stacked([parts[-1], last])
    parts[-1] = _bounded(parts[-1])


def _bounded(part: Part) -> Part:
    """The part, and of one that has more than `ROOM` requests the newest of each load."""
    load = np.round(np.nan_to_num(part.seen.load)).astype(int)
    if len(load) <= ROOM:
        return part
    order = np.lexsort((-np.arange(len(load)), load))
    _, first = np.unique(load[order], return_index=True)
    age = np.arange(len(load)) - np.repeat(first, np.diff(np.append(first, len(load))))
    newest = np.sort(order[age < ROOM // 8])
    seen = Seen(*(getattr(part.seen, name)[newest] for name in Seen.__slots__))
    return replace(part, requests=part.requests.pick(newest), seen=seen)


def stacked(parts: Sequence[Part]) -> Part:
    """Parts of one curve, the earliest first, as one."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        nothing, none = np.empty(0), np.empty(0, dtype=bool)
        requests = Requests(*(nothing,) * 6, none, none, nothing, nothing)
        seen, pairs = Seen(nothing, nothing, none, nothing, none, none), np.empty((2, 0))
        return Part(requests, seen, Gauges(), Progress(), pairs, pairs, {})

    def stack(items: Sequence[_Stack]) -> _Stack:
        first = items[0]
        return type(first)(*(np.concatenate([getattr(each, name) for each in items]) for name in first.__slots__))

    left_out: dict[LeftOut, int] = {}
    for part in parts:
        for why, count in part.left_out.items():
            left_out[why] = left_out.get(why, 0) + count
    return Part(
        stack([part.requests for part in parts]),
        stack([part.seen for part in parts]),
        stack([part.gauges for part in parts]),
        stack([part.progress for part in parts]),
        np.concatenate([part.shown for part in parts], axis=1),
        np.concatenate([part.done for part in parts], axis=1),
        left_out,
    )


def _inside(spans: Sequence[tuple[float, float]], t_s: Array) -> np.typing.NDArray[np.bool_]:
    inside = np.zeros(len(t_s), dtype=bool)
    for start_s, stop_s in spans:
        inside |= (t_s >= start_s) & (t_s < stop_s)
    return inside
