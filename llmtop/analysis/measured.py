"""Facts of a run into curves: one for each configuration that was driven, the current one last."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from llmtop.analysis.blocks import BLOCK_S, Fresh, LeftOut, Part, View, add, stacked
from llmtop.analysis.levels import Level
from llmtop.analysis.openloop import rate_levels
from llmtop.analysis.segments import Segment, parts_of, segments_of
from llmtop.analysis.sessions import Requests, levels_of
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.run import RunMeta
from llmtop.meter.facts import Facts

QUEUED_SCRAPES = 3
"""So many scrapes in a row with requests waiting are a queue; one alone is a burst of prompts that are read."""
JITTER = 3.0
"""Users who think come and go: the number in flight moves by so many sqrt(load)."""
GHOSTS = 3
"""Curves of earlier configurations that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCurve:
    """The levels of one configuration: lengths, load mode and server settings."""

    parts: dict[str, str]
    """What tells it from the others, from `parts_of`."""
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
    traits: tuple[tuple[str, str], ...] = ()
    """What the server told of itself then."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """What its metrics showed of its settings then, by name."""

    @property
    def label(self) -> str:
        return " · ".join(self.parts.values())

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
class _Ghost:
    """An earlier curve, and what it is made of."""

    own: Sequence[Segment]
    parts: Sequence[Part]
    curve: MeasuredCurve

    def is_of(self, own: Sequence[Segment], parts: Sequence[Part]) -> bool:
        """Whether nothing was told since; of an open loop the bins count, too, of which the oldest may be no more."""
        same = len(self.parts) == len(parts) and all(was is part for was, part in zip(self.parts, parts, strict=True))
        return same and self.own == own and self.curve.axis == "concurrency"


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
        self._closed = Fresh({}, {}, {})
        self._parts: dict[float, list[Part]] = {}
        """What is closed, by the start of its segment."""
        self._levels: dict[tuple[object, ...], dict[int, Level]] = {}
        self._ghosts: dict[tuple[object, ...], _Ghost] = {}

    def curves(
        self, facts: Facts, meta: RunMeta, requests: Requests, now_s: float, *, every: bool = False
    ) -> tuple[MeasuredCurve, ...]:
        """As `measured_curves`. Other facts than the last time begin another ledger.

        Args:
            requests: from `finished_requests`; looked at where there are no bins.
            every: all configurations, also those of which there is too little to be drawn behind.
        """
        if facts is not self._facts:
            self.__init__()  # type: ignore[misc]
            self._facts = facts
        if len(facts.bins) == 0 and len(requests.sent_s) == 0:
            return ()
        segments = segments_of(facts, meta)
        view = View(facts, segments, requests, over=meta.ended_s is not None)
        while (stop := view.closable(self._closed_rows, self._closed_s + BLOCK_S)) is not None:
            self._close(view.parts(self._closed_rows, stop, self._closed_s, self._closed_s + BLOCK_S, self._closed))
            self._closed_rows, self._closed_s = stop, view.told_from(self._closed_s + BLOCK_S)
        fresh = view.parts(self._closed_rows, view.rows, self._closed_s, np.inf, self._closed)
        by_start = self._merged(fresh.parts, segments)
        current = segments[-1].key
        latest = dict.fromkeys(segment.key for segment in reversed(segments) if segment.key != current)
        curves = []
        for key in [*list(latest)[: None if every else 2 * GHOSTS][::-1], current]:
            own = [segment for segment in segments if segment.key == key]
            made_of = [part for segment in own for part in by_start.get(segment.start_s, ())]
            ghost = self._ghosts.get(key)
            if key != current and ghost is not None and ghost.is_of(own, made_of):
                named = parts_of(own[-1], segments, ghost.curve.prompt_tokens)
                curve = replace(ghost.curve, parts=named)
            else:
                curve = self._curve(own, segments, stacked(made_of), view, now_s if key == current else None)
            if key != current:
                self._ghosts[key] = _Ghost(own, made_of, curve)
            if key == current or every or len(curve.levels) >= 2:
                curves.append(curve)
        return tuple(curves if every else curves[-GHOSTS - 1 :])

    def _close(self, fresh: Fresh) -> None:
        for start_s, part in fresh.parts.items():
            add(self._parts.setdefault(start_s, []), part)
        self._closed.warm_s.update(fresh.warm_s)
        self._closed.service_s.update(fresh.service_s)

    def _merged(self, fresh: Mapping[float, Part], segments: Sequence[Segment]) -> dict[float, list[Part]]:
        """Parts by the start of the segment that they are in now: an edge may have moved a little since."""
        starts = [segment.start_s for segment in segments]
        merged: dict[float, list[Part]] = {}
        for start_s, parts in [*self._parts.items(), *((start_s, [part]) for start_s, part in fresh.items())]:
            merged.setdefault(starts[bisect_right(starts, start_s) - 1], []).extend(parts)
        return merged

    def _curve(
        self, own: Sequence[Segment], segments: Sequence[Segment], part: Part, view: View, now_s: float | None
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
        parts, queued = parts_of(last, segments, prompt_tokens), _longest(part.gauges.waiting >= 1)
        return MeasuredCurve(
            parts,
            last.point.axis,
            last.point,
            levels,
            requests,
            told,
            queued,
            prompt_tokens,
            last.traits,
            last.settings,
        )


def _longest(shown: np.typing.NDArray[np.bool_]) -> int:
    """Length of the longest run of True."""
    ends = np.flatnonzero(~np.concatenate([[False], shown, [False]]))
    return int(np.diff(ends).max()) - 1
