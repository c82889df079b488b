"""Facts of a run into curves: one for each configuration that was driven, the current one last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY, Level
from llmtop.analysis.openloop import Offered, rate_levels
from llmtop.analysis.segments import Segment, braked, label_of, segments_of
from llmtop.analysis.sessions import Gauges, Progress, Requests, session_levels
from llmtop.analysis.steps import StepFunction
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.run import RunMeta
from llmtop.meter.facts import Facts, Table

QUEUED_SCRAPES = 3
"""So many scrapes in a row with requests waiting are a queue; one alone is a burst of prompts that are read."""
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

    @property
    def prompt_tokens(self) -> float | None:
        """Median length of the prompts as they were counted."""
        known = self.requests.prompt_tokens[self.requests.ok]
        known = known[np.isfinite(known)]
        return float(np.median(known)) if len(known) else None

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
    in_flight = flight(facts, requests)
    if in_flight is None:
        return ()
    segments = segments_of(facts, meta)
    watched = _Watched(in_flight, commanded(facts), server_gauges(facts), _progress(facts), braked(facts))
    current = segments[-1].key
    latest = dict.fromkeys(segment.key for segment in reversed(segments) if segment.key != current)
    keys = list(latest)[: 2 * GHOSTS][::-1]
    curves = []
    for key in [*keys, current]:
        own = [segment for segment in segments if segment.key == key]
        curve = _curve(own, segments, requests, watched, facts, now_s if key == current else None)
        if key == current or len(curve.levels) >= 2:
            curves.append(curve)
    return tuple(curves[-GHOSTS - 1 :])


@dataclass(frozen=True, slots=True, eq=False)
class _Watched:
    """What was seen of load and server over the whole run."""

    in_flight: StepFunction
    asked: StepFunction | None
    gauges: Gauges
    progress: Progress
    braked: Sequence[tuple[float, float]]


def finished_requests(facts: Facts, newest: int | None = None) -> Requests:
    """Requests that ended by themselves, without those that the client held up, in order of sending.

    Args:
        newest: only so many that ended last; None: all.
    """
    table = facts.requests
    size = len(table)
    first = 0 if newest is None else max(0, size - newest)

    def rows(name: str) -> Array:
        return np.array(table.column(name)[first:size])

    kept = (rows("cancelled") == 0) & (rows("client_limited") == 0)
    sent_s = rows("sent_s")
    sent_s = np.where(np.isfinite(sent_s), sent_s, rows("scheduled_s"))
    order = np.flatnonzero(kept)
    order = order[np.argsort(sent_s[order], kind="stable")]

    def column(name: str) -> Array:
        return rows(name)[order]

    return Requests(
        sent_s=sent_s[order],
        first_token_s=column("first_token_s"),
        end_s=column("end_s"),
        ttft_s=column("ttft_s"),
        tpot_s=column("tpot_s"),
        e2e_s=column("e2e_s"),
        ok=column("ok") > 0,
        error=column("error") > 0,
        prompt_tokens=column("prompt_tokens"),
        output_tokens=column("output_tokens"),
    )


def flight(facts: Facts, requests: Requests) -> StepFunction | None:
    """Requests in flight over time: from the bins, or from the requests themselves where there are none."""
    size = len(facts.bins)
    if size:
        t_s, span_s = _column(facts.bins, "t_s", size), _column(facts.bins, "span_s", size)
        count = _column(facts.bins, "in_flight", size)
        before = np.concatenate([count[:1] if facts.bins.dropped else [0.0], count[:-1]])
        return StepFunction(np.append(t_s - span_s, t_s[-1]), np.append((before + count) / 2, count[-1]))
    if len(requests.sent_s):
        return StepFunction.of_intervals(requests.sent_s, requests.end_s)
    return None


def commanded(facts: Facts) -> StepFunction | None:
    """The commanded load over time; None without bins."""
    size = len(facts.bins)
    if size == 0:
        return None
    t_s, span_s = _column(facts.bins, "t_s", size), _column(facts.bins, "span_s", size)
    target = _column(facts.bins, "target", size)
    return StepFunction(t_s - span_s, target)


def server_gauges(facts: Facts) -> Gauges:
    """What the server showed, without the seconds in which the client was the bottleneck."""
    table, size = facts.server, len(facts.server)
    if size == 0:
        return Gauges()
    t_s = _column(table, "t_s", size)
    total = _column(table, "preemptions_total", size)
    gauges = Gauges(
        t_s=t_s,
        running=_column(table, "running", size),
        waiting=_column(table, "waiting", size),
        kv_usage=_column(table, "kv_usage", size),
        preemptions=np.maximum(np.diff(total, prepend=total[:1]), 0.0),
    )
    return gauges.pick(~_red(facts, t_s))


def _progress(facts: Facts) -> Progress:
    table, size = facts.bins, len(facts.bins)
    if size == 0:
        return Progress()
    t_s = _column(table, "t_s", size)
    progress = Progress(
        t_s, _column(table, "span_s", size), _column(table, "ok", size), _column(table, "output_tokens", size)
    )
    return progress.pick(~_red(facts, t_s))


def _red(facts: Facts, t_s: Array) -> np.typing.NDArray[np.bool_]:
    """Whether the client was the bottleneck within a second of each instant."""
    size = len(facts.client)
    red_s = _column(facts.client, "t_s", size)[_column(facts.client, "red", size) > 0]
    if len(red_s) == 0:
        return np.zeros(len(t_s), dtype=bool)
    nearest = np.clip(np.searchsorted(red_s, t_s), 0, len(red_s) - 1)
    gap = np.minimum(np.abs(red_s[nearest] - t_s), np.abs(red_s[np.maximum(nearest - 1, 0)] - t_s))
    return np.asarray(gap <= 1.0)


def _column(table: Table, name: str, size: int) -> Array:
    """The first `size` rows of a column as a copy: the table may grow in another thread meanwhile."""
    return np.array(table.column(name)[:size])


def _curve(
    own: Sequence[Segment],
    segments: Sequence[Segment],
    requests: Requests,
    watched: _Watched,
    facts: Facts,
    now_s: float | None,
) -> MeasuredCurve:
    """The curve of one key; `now_s` None: a ghost, without what is still in flight."""
    spans = tuple((segment.start_s, segment.stop_s) for segment in own)
    driven = requests.pick(_inside(spans, requests.sent_s))
    members, left_out = _members(own, driven, watched.braked)
    last = own[-1]

    def shown(t_s: Array) -> np.typing.NDArray[np.bool_]:
        return _inside(spans, t_s) & ~_inside(watched.braked, t_s)

    gauges = watched.gauges.pick(shown(watched.gauges.t_s))
    progress = watched.progress.pick(shown(watched.progress.t_s))
    if last.point.axis == "rate":
        size = len(facts.bins)
        bins_s = _column(facts.bins, "t_s", size)
        target = np.where(shown(bins_s), _column(facts.bins, "target", size), np.nan)
        offered = Offered(bins_s, _column(facts.bins, "span_s", size), target, _column(facts.bins, "in_flight", size))
        levels = rate_levels(members, offered, gauges=gauges, progress=progress)
    else:
        levels = session_levels(
            members,
            watched.in_flight,
            gauges=gauges,
            progress=progress,
            censored_s=EMPTY if now_s is None else waiting_ages(facts),
            now_s=now_s,
            jitter=3.0 if last.point.think_time_s > 0 else 0.0,
            asked=watched.asked,
        )
    left_out["load moved"] = int(members.ok.sum()) - sum(level.n for level in levels)
    left_out["faults"] += int(members.error.sum()) - sum(level.errors for level in levels)
    left_out["client"] = _client_limited(facts, spans)
    told = {why: count for why, count in left_out.items() if count}
    curve = MeasuredCurve("", last.point.axis, last.point, levels, members, told, _longest(gauges.waiting >= 1))
    return replace(curve, label=label_of(last, segments, curve.prompt_tokens))


def _longest(shown: np.typing.NDArray[np.bool_]) -> int:
    """Length of the longest run of True."""
    ends = np.flatnonzero(~np.concatenate([[False], shown, [False]]))
    return int(np.diff(ends).max()) - 1


def _members(
    own: Sequence[Segment], driven: Requests, braked: Sequence[tuple[float, float]]
) -> tuple[Requests, dict[LeftOut, int]]:
    """Requests that saw one segment only, from S before they were sent to their first token, and the others' number.

    The first of a server that has just started meet cold kernels and empty caches: what was sent until the first of
    them has ended is left out.
    """
    until = np.where(np.isfinite(driven.first_token_s), driven.first_token_s, driven.end_s)
    alone = np.zeros(len(until), dtype=bool)
    warm = np.ones(len(until), dtype=bool)
    for segment in own:
        inside = (driven.sent_s >= segment.start_s) & (driven.sent_s < segment.stop_s)
        alone |= inside & (until < segment.stop_s)
        if segment.cold:
            ends_s = driven.end_s[inside & driven.ok]
            warm &= ~inside | driven.error | (driven.sent_s >= (ends_s.min() if len(ends_s) else math.inf))
    service_s = driven.pick(alone).service_s
    settled = np.zeros(len(until), dtype=bool)
    for segment in own:
        settled |= (driven.sent_s >= segment.start_s + service_s) & (until < segment.stop_s)
    held = ~_inside(braked, driven.sent_s)
    kept = settled & warm & held
    other = warm & held & ~settled
    return driven.pick(np.flatnonzero(kept)), {
        "warm-up": int((~warm).sum()),
        "brake": int((warm & ~held).sum()),
        "other configuration": int((other & driven.ok).sum()),
        "faults": int((other & driven.error).sum()),
    }


def _client_limited(facts: Facts, spans: Sequence[tuple[float, float]]) -> int:
    table, size = facts.requests, len(facts.requests)
    limited = _column(table, "client_limited", size) > 0
    return int(_inside(spans, _column(table, "dispatched_s", size)[limited]).sum())


def _inside(spans: Sequence[tuple[float, float]], t_s: Array) -> np.typing.NDArray[np.bool_]:
    inside = np.zeros(len(t_s), dtype=bool)
    for start_s, stop_s in spans:
        inside |= (t_s >= start_s) & (t_s < stop_s)
    return inside


def waiting_ages(facts: Facts) -> Array:
    """Ages of the requests that still wait for their first token, spread evenly up to the oldest (a queue's are)."""
    size = len(facts.bins)
    if size == 0:
        return EMPTY
    count = facts.bins.column("prefilling")[size - 1]
    oldest = facts.bins.column("oldest_prefill_s")[size - 1]
    if not (count >= 1 and np.isfinite(oldest)):
        return EMPTY
    return np.asarray(oldest * (np.arange(int(count)) + 1.0) / int(count))
