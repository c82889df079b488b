"""Facts of a run into curves: one for each configuration that was driven, the current one last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY, Level
from llmtop.analysis.openloop import Offered, rate_levels
from llmtop.analysis.sessions import Gauges, Progress, Requests, session_levels
from llmtop.analysis.steps import Index, StepFunction
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.run import LoadChange, RunMeta
from llmtop.meter.facts import Facts, Table
from llmtop.wording.figures import TEXT

GHOSTS = 3
"""Curves of earlier configurations that are kept."""
_CONFIG = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "num_gpu_blocks",
    "block_size",
    "kv_capacity_tokens",
    "max_model_len",
)
_COUNTERS = ("generation_tokens_total", "prompt_tokens_total", "requests_total")


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredCurve:
    """The levels of one configuration: lengths, load mode and server settings."""

    label: str
    axis: Axis
    point: LoadPoint
    levels: tuple[Level, ...]
    requests: Requests


@dataclass(frozen=True, slots=True)
class _Segment:
    start_s: float
    stop_s: float
    key: tuple[object, ...]
    point: LoadPoint
    server: tuple[float, ...]
    restarts: int


def measured_curves(facts: Facts, meta: RunMeta, requests: Requests, now_s: float) -> tuple[MeasuredCurve, ...]:
    """Ghosts first (at most three, with two levels or more), the current curve last. () before any load.

    Args:
        requests: from `finished_requests`.
    """
    in_flight = flight(facts, requests)
    segments = _segments(facts, meta)
    if in_flight is None:
        return ()
    gauges, progress = server_gauges(facts), _progress(facts)
    current = segments[-1].key
    latest = dict.fromkeys(segment.key for segment in reversed(segments) if segment.key != current)
    keys = list(latest)[: 2 * GHOSTS][::-1]
    curves = []
    for key in [*keys, current]:
        own = [segment for segment in segments if segment.key == key]
        curve = _curve(own, segments, requests, in_flight, gauges, progress, facts, now_s if key == current else None)
        if key == current or len(curve.levels) >= 2:
            curves.append(curve)
    return tuple(curves[-GHOSTS - 1 :])


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


def _segments(facts: Facts, meta: RunMeta) -> list[_Segment]:
    """Times between which neither what was asked for nor the server changed."""
    base = meta.profile.plan.base
    changes = list(facts.changes) or [LoadChange(0.0, base)]
    points = [(-math.inf, changes[0].point), *((change.t_s, change.point) for change in changes[1:])]
    servers = _server_epochs(facts)
    edges = sorted({t for t, _ in points} | {t for t, _, _ in servers})
    segments: list[_Segment] = []
    for start_s in edges:
        point = next(p for t, p in reversed(points) if t <= start_s)
        server, restarts = next((v, r) for t, v, r in reversed(servers) if t <= start_s)
        key = (_lengths(point), server, restarts)
        if segments and segments[-1].key == key:
            last = segments.pop()
            segments.append(_Segment(last.start_s, math.inf, key, point, server, restarts))
            continue
        if segments:
            last = segments.pop()
            segments.append(_Segment(last.start_s, start_s, last.key, last.point, last.server, last.restarts))
        segments.append(_Segment(start_s, math.inf, key, point, server, restarts))
    return segments


def _lengths(point: LoadPoint) -> tuple[object, ...]:
    closed = point.axis == "concurrency"
    return closed, point.prompt_tokens, point.output_tokens, point.shared_prefix, closed or point.burstiness


def _server_epochs(facts: Facts) -> list[tuple[float, tuple[float, ...], int]]:
    """(since, settings, restarts before). Settings that are not known yet are those that come to be known."""
    table, size = facts.server, len(facts.server)
    if size == 0:
        return [(-math.inf, (), 0)]
    t_s = _column(table, "t_s", size)
    settings = np.stack([_filled(_column(table, name, size)) for name in _CONFIG])
    changed = np.zeros(size, dtype=bool)
    changed[1:] = np.any(np.nan_to_num(np.diff(settings)) != 0, axis=0)
    restarted = np.zeros(size, dtype=bool)
    for name in _COUNTERS:
        restarted[1:] |= np.diff(_filled(_column(table, name, size))) < 0
    restarted[1:] |= np.abs(np.nan_to_num(np.diff(_filled(_column(table, "process_start_s", size))))) > 1.0
    restarts = np.cumsum(restarted)
    epochs = [(-math.inf, tuple(np.nan_to_num(settings[:, 0]).tolist()), 0)]
    for i in np.flatnonzero(changed | restarted):
        epochs.append((float(t_s[i]), tuple(np.nan_to_num(settings[:, i]).tolist()), int(restarts[i])))
    return epochs


def _filled(values: Array) -> Array:
    """Not-known values replaced by the last known one, and the first ones by the first known."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) == 0:
        return values
    last = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return np.asarray(values[known[np.maximum(last, 0)]])


def _curve(
    own: Sequence[_Segment],
    segments: Sequence[_Segment],
    requests: Requests,
    in_flight: StepFunction,
    gauges: Gauges,
    progress: Progress,
    facts: Facts,
    now_s: float | None,
) -> MeasuredCurve:
    """The curve of one key; `now_s` None: a ghost, without what is still in flight."""
    members = requests.pick(_within(own, requests))
    spans = tuple((segment.start_s, segment.stop_s) for segment in own)
    last = own[-1]
    gauges = gauges.pick(_inside(spans, gauges.t_s))
    progress = progress.pick(_inside(spans, progress.t_s))
    if last.point.axis == "rate":
        size = len(facts.bins)
        bins_s = _column(facts.bins, "t_s", size)
        target = np.where(_inside(spans, bins_s), _column(facts.bins, "target", size), np.nan)
        offered = Offered(bins_s, _column(facts.bins, "span_s", size), target, _column(facts.bins, "in_flight", size))
        levels = rate_levels(members, offered, gauges=gauges, progress=progress)
    else:
        levels = session_levels(
            members,
            in_flight,
            gauges=gauges,
            progress=progress,
            censored_s=EMPTY if now_s is None else waiting_ages(facts),
            now_s=now_s,
            jitter=3.0 if last.point.think_time_s > 0 else 0.0,
            asked=commanded(facts),
        )
    return MeasuredCurve(_label(last, segments), last.point.axis, last.point, levels, members)


def _within(own: Sequence[_Segment], requests: Requests) -> Index:
    """Requests that saw one segment only, from S before they were sent to their first token."""
    until = np.where(np.isfinite(requests.first_token_s), requests.first_token_s, requests.end_s)
    inside = np.zeros(len(until), dtype=bool)
    for segment in own:
        inside |= (requests.sent_s >= segment.start_s) & (until < segment.stop_s)
    service_s = requests.pick(inside).service_s
    settled = np.zeros(len(until), dtype=bool)
    for segment in own:
        settled |= (requests.sent_s >= segment.start_s + service_s) & (until < segment.stop_s)
    return np.flatnonzero(settled)


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


def _label(segment: _Segment, segments: Sequence[_Segment]) -> str:
    """What tells this curve from the others."""
    parts = [f"{segment.point.prompt_tokens}/{segment.point.output_tokens} tok"]
    if segment.point.shared_prefix:
        parts.append(f"{TEXT.round_percent(segment.point.shared_prefix)} shared")
    for i, name in enumerate(_CONFIG):
        values = {each.server[i] for each in segments if each.server}
        if len(values) > 1 and segment.server:
            parts.append(f"{name} {segment.server[i]:g}")
    if segments[-1].restarts:
        parts.append(f"start {segment.restarts + 1}")
    return " · ".join(parts)
