"""Facts of a run into curves: one for each configuration that was driven, the current one last."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY, Level
from llmtop.analysis.openloop import Offered, rate_levels
from llmtop.analysis.readings import (
    column,
    commanded,
    finished_requests,
    flight,
    progress_of,
    requests_of_rows,
    server_gauges,
    waiting_ages,
)
from llmtop.analysis.seen import Seen, seen_at, seen_by
from llmtop.analysis.segments import Segment, braked, label_of, segments_of
from llmtop.analysis.sessions import Gauges, Progress, Requests, levels_of, waiting_load
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.run import RunMeta
from llmtop.meter.facts import Facts

__all__ = [
    "Ledger",
    "MeasuredCurve",
    "commanded",
    "finished_requests",
    "flight",
    "measured_curves",
    "server_gauges",
    "waiting_ages",
]

QUEUED_SCRAPES = 3
"""So many scrapes in a row with requests waiting are a queue; one alone is a burst of prompts that are read."""
BLOCK_S = 30.0
"""What cannot change any more is kept in blocks of so many seconds."""
SETTLED_S = 5.0
"""After so long nothing that is told late (a scrape, a chapter, a judged second) can change a block."""
JITTER = 3.0
"""Users who think come and go: the number in flight moves by so many sqrt(load)."""
_LATELY = 512
ROOM = 262144
"""Requests of one segment that are kept; of more the newest of each load, an eighth of this at most."""
GHOSTS = 3
"""Curves of earlier configurations that are kept."""
LeftOut = Literal["client", "warm-up", "load moved", "brake", "other configuration", "faults"]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCurve:
    """The levels of one configuration: lengths, load mode and server settings."""

    label: str
    axis: Axis
    point: LoadPoint
    levels: tuple[Level, ...]
    requests: Requests
    """All that are of this configuration alone, of levels and transients alike."""
    left_out: dict[LeftOut, int] = field(default_factory=dict)
    """Requests that were driven in this configuration and are in no level, by the reason."""
    queued: int = 0
    """Scrapes in a row that showed at least one request waiting, whatever the load was."""
    prompt_tokens: float | None = None
    """Median length of the prompts as they were counted."""

    @property
    def explains_queue(self) -> bool:
        """Whether the queue that stood is in the levels: one of them has it, and most requests are in one."""
        counted = sum(level.n + level.errors for level in self.levels)
        queued = any(level.waiting is not None and level.waiting >= 1 for level in self.levels)
        return self.queued < QUEUED_SCRAPES or (queued and sum(self.left_out.values()) <= counted)


def measured_curves(facts: Facts, meta: RunMeta, requests: Requests, now_s: float) -> tuple[MeasuredCurve, ...]:
    """Ghosts first (at most three, with two levels or more), the current curve last. () before any load.

    Args:
        requests: from `finished_requests`.
    """
    return Ledger().curves(facts, meta, requests, now_s)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
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


class Ledger:
    """The levels of one run, as it goes on: what can no longer change is reckoned once.

    Time is cut into blocks of `BLOCK_S`. A block is closed as soon as no fact can change it any more, and what it says
    of each segment is kept, also when its requests are no longer among the facts. The cuts are the same whoever asks,
    and however often: a live run and its run file have the same levels.
    """

    def __init__(self) -> None:
        self._facts: Facts | None = None
        self._closed_s = 0.0
        self._closed_rows = 0
        self._parts: dict[float, _Part] = {}
        """What is closed, by the start of its segment."""
        self._warm_s: dict[float, float] = {}
        """When the first request of a segment ended."""
        self._service_s: dict[float, Array] = {}
        """Times from first to last token of the last requests of a segment."""
        self._levels: dict[tuple[object, ...], dict[int, Level]] = {}

    def curves(self, facts: Facts, meta: RunMeta, requests: Requests, now_s: float) -> tuple[MeasuredCurve, ...]:
        """As `measured_curves`. Other facts than the last time begin another ledger.

        Args:
            requests: from `finished_requests`; looked at where there are no bins.
        """
        if facts is not self._facts:
            self.__init__()  # type: ignore[misc]
            self._facts = facts
        if len(facts.bins) == 0 and len(requests.sent_s) == 0:
            return ()
        segments = segments_of(facts, meta)
        view = _View(facts, segments, requests)
        while (stop := view.closable(self._closed_rows, self._closed_s + BLOCK_S)) is not None:
            self._close(view.parts(self._closed_rows, stop, self._closed_s, self._closed_s + BLOCK_S, self))
            self._closed_rows, self._closed_s = stop, self._closed_s + BLOCK_S
        fresh = view.parts(self._closed_rows, view.rows, self._closed_s, np.inf, self)
        by_start = self._merged(fresh.parts, segments)
        current = segments[-1].key
        latest = dict.fromkeys(segment.key for segment in reversed(segments) if segment.key != current)
        curves = []
        for key in [*list(latest)[: 2 * GHOSTS][::-1], current]:
            own = [segment for segment in segments if segment.key == key]
            part = _stacked([part for segment in own for part in by_start.get(segment.start_s, ())])
            curve = self._curve(own, segments, part, view, now_s if key == current else None)
            if key == current or len(curve.levels) >= 2:
                curves.append(curve)
        return tuple(curves[-GHOSTS - 1 :])

    def _close(self, fresh: _Fresh) -> None:
        for start_s, part in fresh.parts.items():
            known = self._parts.get(start_s)
            self._parts[start_s] = _bounded(part if known is None else _stacked([known, part]))
        self._warm_s.update(fresh.warm_s)
        self._service_s.update(fresh.service_s)

    def _merged(self, fresh: Mapping[float, _Part], segments: Sequence[Segment]) -> dict[float, list[_Part]]:
        """Parts by the start of the segment that they are in now: an edge may have moved a little since."""
        starts = [segment.start_s for segment in segments]
        merged: dict[float, list[_Part]] = {}
        for start_s, part in [*self._parts.items(), *fresh.items()]:
            merged.setdefault(starts[bisect_right(starts, start_s) - 1], []).append(part)
        return merged

    def _curve(
        self, own: Sequence[Segment], segments: Sequence[Segment], part: _Part, view: _View, now_s: float | None
    ) -> MeasuredCurve:
        """The curve of one key; `now_s` None: a ghost, without what is still in flight."""
        last, requests = own[-1], part.requests
        if last.point.axis == "rate":
            requests = requests.pick(np.argsort(requests.sent_s, kind="stable"))
            levels = rate_levels(requests, view.offered(own), gauges=part.gauges, progress=part.progress)
        elif len(requests.sent_s):
            known = self._levels.setdefault(last.key, {})
            levels = levels_of(
                requests,
                part.seen,
                gauges=(part.gauges, *part.shown),
                progress=(part.progress, *part.done),
                jitter=JITTER if last.point.think_time_s > 0 else 0.0,
                waiting=None if now_s is None else view.waiting(requests.service_s, now_s),
                known=known,
            )
        else:
            levels = ()
        left_out = dict(part.left_out)
        left_out["load moved"] = int(requests.ok.sum()) - sum(level.n for level in levels)
        left_out["faults"] = left_out.get("faults", 0) + int(requests.error.sum()) - sum(each.errors for each in levels)
        told = {why: count for why, count in left_out.items() if count}
        tokens = requests.prompt_tokens[requests.ok & np.isfinite(requests.prompt_tokens)]
        prompt_tokens = float(np.median(tokens)) if len(tokens) else None
        label, queued = label_of(last, segments, prompt_tokens), _longest(part.gauges.waiting >= 1)
        return MeasuredCurve(label, last.point.axis, last.point, levels, requests, told, queued, prompt_tokens)


@dataclass(frozen=True, slots=True, eq=False)
class _Fresh:
    """What one block says: parts by the start of their segment, and what the next block must know of them."""

    parts: dict[float, _Part]
    warm_s: dict[float, float]
    service_s: dict[float, Array]


class _View:
    """The facts as they stand, read once."""

    def __init__(self, facts: Facts, segments: Sequence[Segment], requests: Requests) -> None:
        self._facts, self._segments, self._requests = facts, segments, requests
        self._gauges, self._progress, self._braked = server_gauges(facts), progress_of(facts), braked(facts)
        self._starts = np.array([segment.start_s for segment in segments])
        self._ends_s = np.maximum.accumulate(np.array(facts.requests.column("end_s")))
        self.rows = facts.requests.dropped + len(self._ends_s)
        """Requests that were ever told; those before `dropped` are no more."""

    def closable(self, first: int, stop_s: float) -> int | None:
        """The row before which a block that ends at `stop_s` ends, if nothing can change it any more."""
        table, bins = self._facts.requests, self._facts.bins
        if len(bins) == 0 or bins.column("t_s")[-1] < stop_s + SETTLED_S:
            return None
        first = max(0, first - table.dropped)
        stop = first + int(np.searchsorted(self._ends_s[first:], stop_s))
        if np.isnan(table.column("client_limited")[first:stop]).any():
            return None
        return stop + table.dropped

    def parts(self, first: int, stop: int, start_s: float, stop_s: float, known: Ledger) -> _Fresh:
        """What rows and times from `first` and `start_s` to before `stop` and `stop_s` say of each segment."""
        table = self._facts.requests
        first, stop = max(0, first - table.dropped), stop - table.dropped
        requests = requests_of_rows(table, first, stop)
        limited = np.array(table.column("client_limited")[first:stop]) > 0
        late_s = np.array(table.column("dispatched_s")[first:stop])[limited]
        member = np.searchsorted(self._starts, requests.sent_s, side="right") - 1
        gauges, progress = _between(self._gauges, start_s, stop_s), _between(self._progress, start_s, stop_s)
        found = _Fresh({}, {}, {})
        for i, segment in enumerate(self._segments):
            if segment.stop_s <= start_s and not (member == i).any():
                continue
            if segment.start_s >= stop_s:
                break
            late = int(((late_s >= segment.start_s) & (late_s < segment.stop_s)).sum())
            self._take(found, segment, requests.pick(member == i), late, gauges, progress, known)
        return found

    def _take(
        self,
        found: _Fresh,
        segment: Segment,
        driven: Requests,
        late: int,
        gauges: Gauges,
        progress: Progress,
        known: Ledger,
    ) -> None:
        start_s, lives = segment.start_s, driven.lives
        alone = lives.until_s < segment.stop_s
        recent = _service_times(driven.pick(alone), known._service_s.get(start_s, EMPTY))
        service_s = float(np.median(recent)) if len(recent) else 0.0
        settled = alone & (driven.sent_s >= start_s + service_s)
        warm = np.ones(len(settled), dtype=bool)
        if segment.cold:
            first_s = known._warm_s.get(start_s, driven.end_s[driven.ok].min() if driven.ok.any() else np.inf)
            warm = driven.error | (driven.sent_s >= first_s)
            if np.isfinite(first_s):
                found.warm_s[start_s] = float(first_s)
        held = ~_inside(self._braked, driven.sent_s)
        other = warm & held & ~settled
        left_out: dict[LeftOut, int] = {
            "warm-up": int((~warm).sum()),
            "brake": int((warm & ~held).sum()),
            "other configuration": int((other & driven.ok).sum()),
            "faults": int((other & driven.error).sum()),
            "client": late,
        }
        members = driven.pick(np.flatnonzero(settled & warm & held))
        gauges, progress = _unbraked(gauges, segment, self._braked), _unbraked(progress, segment, self._braked)
        since_s = min((float(each[0]) for each in (members.sent_s, gauges.t_s, progress.t_s) if len(each)), default=0.0)
        in_flight = flight(self._facts, self._requests, since_s - service_s - 1.0)
        asked = commanded(self._facts, since_s - service_s - 1.0)
        assert in_flight is not None
        found.service_s[start_s] = recent
        found.parts[start_s] = _Part(
            members,
            seen_by(members.lives, in_flight, asked, service_s),
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
        """Ages of those without a first token, and in flight while they waited."""
        ages_s = waiting_ages(self._facts)
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


def _bounded(part: _Part) -> _Part:
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


def _stacked(parts: Sequence[_Part]) -> _Part:
    """Parts of one curve, the earliest first, as one."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        nothing, none = np.empty(0), np.empty(0, dtype=bool)
        requests = Requests(*(nothing,) * 6, none, none, nothing, nothing)
        seen, pairs = Seen(nothing, nothing, none, nothing, none, none), np.empty((2, 0))
        return _Part(requests, seen, Gauges(), Progress(), pairs, pairs, {})

    def stack(items: Sequence[_Stack]) -> _Stack:
        first = items[0]
        return type(first)(*(np.concatenate([getattr(each, name) for each in items]) for name in first.__slots__))

    left_out: dict[LeftOut, int] = {}
    for part in parts:
        for why, count in part.left_out.items():
            left_out[why] = left_out.get(why, 0) + count
    return _Part(
        stack([part.requests for part in parts]),
        stack([part.seen for part in parts]),
        stack([part.gauges for part in parts]),
        stack([part.progress for part in parts]),
        np.concatenate([part.shown for part in parts], axis=1),
        np.concatenate([part.done for part in parts], axis=1),
        left_out,
    )


def _longest(shown: np.typing.NDArray[np.bool_]) -> int:
    """Length of the longest run of True."""
    ends = np.flatnonzero(~np.concatenate([[False], shown, [False]]))
    return int(np.diff(ends).max()) - 1


def _inside(spans: Sequence[tuple[float, float]], t_s: Array) -> np.typing.NDArray[np.bool_]:
    inside = np.zeros(len(t_s), dtype=bool)
    for start_s, stop_s in spans:
        inside |= (t_s >= start_s) & (t_s < stop_s)
    return inside
