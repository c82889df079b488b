"""Chapters of a run: times between which neither what was asked for nor the server changed."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.domain.load import LoadPoint
from llmtop.domain.replicas import ReplicaCounts
from llmtop.domain.run import Chapter, LoadChange, RunMeta
from llmtop.meter.facts import Facts
from llmtop.wording.chapters import GATE, LENGTHS, REPLICAS, SHARED, START, TOLD
from llmtop.wording.figures import TEXT
from llmtop.wording.restarts import RESTARTED, is_restart
from llmtop.wording.sentences import gate_text, lengths, setting_changed

EDGE_S = 2.0
"""A change that the server shows within this of a chapter is that chapter: scrapes come once a second."""
_CONFIG = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "num_gpu_blocks",
    "block_size",
    "kv_capacity_tokens",
    "max_model_len",
)
_SUMMED = {"max_num_seqs", "num_gpu_blocks", "kv_capacity_tokens"}
"""Those that are sums over all replicas, and change as one comes or goes: that is no turned knob."""
_SOON_S = 5.0
"""A replica comes or goes within so long of the sums that it changes."""
_COUNTERS = ("generation_tokens_total", "prompt_tokens_total", "requests_total")


@dataclass(frozen=True, slots=True)
class Segment:
    """A time of one configuration; segments of one `key` make one curve."""

    start_s: float
    stop_s: float
    key: tuple[object, ...]
    point: LoadPoint
    server: tuple[float, ...]
    """Its settings, in the order of `_CONFIG`; 0: not known. () without metrics."""
    restarts: int
    chapter: str = ""
    """What changed without the server's settings saying so."""
    cold: bool = False
    """The server has just started."""
    traits: tuple[tuple[str, str], ...] = ()
    """What the server told of itself by then, and shows since."""
    flags: tuple[tuple[str, str], ...] = ()
    """The same as of its last start; what was turned since is told by `chapter`."""
    replicas: int = 0
    """How many its summed settings are of; 0: none has come or gone."""
    turned: tuple[float, ...] = ()
    """Its settings, of the summed ones without what replicas that came or went changed."""

    @property
    def settings(self) -> dict[str, float]:
        """Those of the server's settings that it shows, by name."""
        return {name: value for name, value in zip(_CONFIG, self.server, strict=False) if value}


@dataclass(frozen=True, slots=True)
class _Epoch:
    """From `t_s` on the server has these settings, after so many restarts, and `hidden` was the last told change."""

    t_s: float
    server: tuple[float, ...] = ()
    restarts: int = 0
    hidden: Chapter | None = None
    replicas: int = 0
    turned: tuple[float, ...] = ()


def segments_of(facts: Facts, meta: RunMeta) -> list[Segment]:
    """All segments of a run so far, in order, without gaps; the first begins before all time, the last has no end."""
    changes = list(facts.changes) or [LoadChange(0.0, meta.profile.plan.base)]
    points = [(-math.inf, changes[0].point)]
    for each in changes[1:]:
        before = points[-1][1]
        points.append((each.t_s, each.point if each.point.value else each.point.at(before.axis, 0)))
    epochs = _epochs(facts)
    told = [(-math.inf, True, first_traits(meta))]
    told += [(each.t_s, is_restart(each.text), each.traits) for each in facts.chapters if each.traits]
    points_s, epochs_s = [t_s for t_s, _ in points], [epoch.t_s for epoch in epochs]
    segments: list[Segment] = []
    hidden_before: Chapter | None = None
    for start_s in sorted({*points_s, *epochs_s}):
        point = points[bisect_right(points_s, start_s) - 1][1]
        epoch = epochs[bisect_right(epochs_s, start_s) - 1]
        hidden = epoch.hidden
        key = (asked_for(point), epoch.server, epoch.restarts, "" if hidden is None else hidden.key)
        last = segments[-1] if segments else None
        if last is not None and last.key == key:
            segments[-1] = replace(last, point=point)
            continue
        if last is not None:
            segments[-1] = replace(last, stop_s=start_s)
        text = "" if hidden is None else hidden.text
        cold = last is None or epoch.restarts != last.restarts or (is_restart(text) and hidden is not hidden_before)
        hidden_before = hidden
        known = [(started, traits) for t_s, started, traits in told if t_s <= start_s]
        traits, flags = _shown_over(known[-1][1], epoch.server), [each for started, each in known if started][-1]
        segment = Segment(start_s, math.inf, key, point, epoch.server, epoch.restarts, text, cold, traits, flags)
        segments.append(replace(segment, replicas=epoch.replicas, turned=epoch.turned))
    return segments


def first_traits(meta: RunMeta) -> tuple[tuple[str, str], ...]:
    """What the server told of itself at the start of the run."""
    info = meta.began or meta.info
    return () if info is None else info.traits


def _shown_over(traits: tuple[tuple[str, str], ...], server: tuple[float, ...]) -> tuple[tuple[str, str], ...]:
    """Traits, with what the metrics show of those that they know."""
    shown = {name: f"{value:.0f}" for name, value in zip(_CONFIG, server, strict=False) if value}
    return tuple((name, shown.get(name, value)) for name, value in traits)


def asked_for(point: LoadPoint) -> tuple[object, ...]:
    """What of a load makes another configuration of it: closed or open loop, lengths, arrivals, gate."""
    closed = point.axis == "concurrency"
    arrivals = closed or point.burstiness
    return closed, point.prompt_tokens, point.output_tokens, point.shared_prefix, arrivals, point.gate


def _epochs(facts: Facts) -> list[_Epoch]:
    """What the server shows and what was told of it, as one list.

    A chapter whose change the server's own settings or counters show as well adds nothing to them but its time; of any
    other its key is the only trace. One with the key of the chapter before changed nothing.
    """
    shown = _shown(facts)
    hidden: list[Chapter] = []
    moved = [epoch.t_s for epoch in shown]
    chapters = [
        after
        for before, after in zip([None, *facts.chapters], facts.chapters, strict=False)
        if before is None or before.key != after.key
    ]
    for chapter in chapters:
        same = [i for i, t_s in enumerate(moved) if abs(t_s - chapter.t_s) <= EDGE_S]
        for i in same:
            shown[i] = replace(shown[i], t_s=chapter.t_s)
        if not same:
            hidden.append(chapter)
    epochs = []
    for t_s in sorted({epoch.t_s for epoch in shown} | {chapter.t_s for chapter in hidden}):
        last = next(each for each in reversed(shown) if each.t_s <= t_s)
        told = next((each for each in reversed(hidden) if each.t_s <= t_s), None)
        epochs.append(replace(last, t_s=t_s, hidden=told))
    return epochs


def _shown(facts: Facts) -> list[_Epoch]:
    """Epochs by the server's metrics. Settings that are not known yet are those that come to be known."""
    table, size = facts.server, len(facts.server)
    if size == 0:
        return [_Epoch(-math.inf)]
    t_s = np.array(table.column("t_s")[:size])
    settings = np.stack([_filled(np.array(table.column(name)[:size])) for name in _CONFIG])
    changed = np.zeros(size, dtype=bool)
    changed[1:] = np.any(np.nan_to_num(np.diff(settings)) != 0, axis=0)
    restarted = np.zeros(size, dtype=bool)
    for name in _COUNTERS:
        restarted[1:] |= np.diff(_filled(np.array(table.column(name)[:size]))) < 0
    started_s = _filled(np.array(table.column("process_start_s")[:size]))
    restarted[1:] |= np.abs(np.nan_to_num(np.diff(started_s))) > 1.0
    restarts = np.cumsum(restarted)
    epochs = [_Epoch(-math.inf, tuple(np.nan_to_num(settings[:, 0]).tolist()))]
    for i in np.flatnonzero(changed | restarted):
        epochs.append(_Epoch(float(t_s[i]), tuple(np.nan_to_num(settings[:, i]).tolist()), int(restarts[i])))
    return _by_replicas(epochs, facts)


def replica_moved(facts: Facts, t_s: float) -> bool:
    """Whether a replica is known to have come or gone about then."""
    return _moved(_counted(facts), t_s) is not None


def _by_replicas(epochs: Sequence[_Epoch], facts: Facts) -> list[_Epoch]:
    """Epochs with how many replicas there were, and their settings without what those that came or went changed."""
    counted = _counted(facts) if len(epochs) > 1 else []
    found: list[_Epoch] = []
    for epoch in epochs:
        last = found[-1] if found else None
        turned, replicas = epoch.server, 0
        if last is not None:
            changed = {name for name, was, now in zip(_CONFIG, last.server, epoch.server, strict=True) if was != now}
            moved = _moved(counted, epoch.t_s) if changed and changed <= _SUMMED else None
            pairs = zip(last.turned, last.server, epoch.server, strict=True)
            turned = tuple(own if was == now or moved else now for own, was, now in pairs)
            replicas = last.replicas
            if moved:
                before, replicas = moved
                found = [replace(each, replicas=each.replicas or before) for each in found]
        found.append(replace(epoch, replicas=replicas, turned=turned))
    return found


def _counted(facts: Facts) -> list[tuple[float, int]]:
    """(when, how many replicas from then on), by what each scrape shows, or else by those that were ready."""
    rows_s = np.array(facts.replicas.column("t_s"))
    if len(rows_s):
        scraped_s = np.array(facts.server.column("t_s"))
        scraped_s = scraped_s[scraped_s >= rows_s[0]] if facts.replicas.dropped else scraped_s
        counts = np.searchsorted(rows_s, scraped_s, side="right") - np.searchsorted(rows_s, scraped_s)
        counts = np.maximum(counts, 1)  # of one alone there are no rows
        first = np.flatnonzero(np.diff(counts, prepend=0))
        return list(zip(scraped_s[first].tolist(), counts[first].tolist(), strict=True))
    tally, told = ReplicaCounts(), list[tuple[float, int]]()
    for step in facts.scaling:
        tally.take(step)
        told.append((step.t_s, tally.ready))
    return told


def _moved(counted: Sequence[tuple[float, int]], t_s: float) -> tuple[int, int] | None:
    """How many replicas there were before and after an instant, if one came or went about then."""
    counts = [(at_s, count) for at_s, count in counted if at_s <= t_s + _SOON_S]
    earlier = [count for at_s, count in counts if at_s < t_s - _SOON_S]
    about = [count for at_s, count in counts if at_s >= t_s - _SOON_S]
    first = (earlier or about or [0])[-1 if earlier else 0]
    now = next((count for at_s, count in reversed(counts) if at_s <= t_s), first)
    after = now if now != first or not about else about[-1]
    return (first, after) if first and after != first else None


def _filled(values: Array) -> Array:
    """Not-known values replaced by the last known one, and the first ones by the first known."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) == 0:
        return values
    last = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return np.asarray(values[known[np.maximum(last, 0)]])


def braked(facts: Facts) -> list[tuple[float, float]]:
    """Times in which a brake and nobody else said what the load is."""
    spans: list[tuple[float, float]] = []
    start_s: float | None = None
    for change in facts.changes:
        if change.reason == "brake":
            start_s = change.t_s if start_s is None else start_s
        elif start_s is not None:
            spans.append((start_s, change.t_s))
            start_s = None
    return spans if start_s is None else [*spans, (start_s, math.inf)]


def parts_of(segment: Segment, segments: Sequence[Segment], prompt_tokens: float | None = None) -> dict[str, str]:
    """What tells this curve from the others, by name; what has no name of its own stands under "".

    Args:
        prompt_tokens: mean length of the prompts as the server counted them, where that is not what was asked for.
    """
    point = segment.point
    parts = {LENGTHS: lengths(point, prompt_tokens, "tok")}
    if point.shared_prefix:
        parts[SHARED] = f"{TEXT.round_percent(point.shared_prefix)} shared"
    if point.gate is not None:
        parts[GATE] = gate_text(point.gate)
    if len({each.replicas for each in segments}) > 1:
        parts[REPLICAS] = f"{REPLICAS} {segment.replicas}"
    for i, name in enumerate(_CONFIG):
        values = {each.turned[i] for each in segments if each.turned}
        if len(values) > 1 and segment.server:
            parts[name] = f"{name} {segment.turned[i]:g}"
    for name in dict.fromkeys(name for each in segments for name, _ in each.flags):
        told = {dict(each.flags).get(name) for each in segments if each.flags}
        value = dict(segment.flags).get(name)
        if len(told) > 1 and value is not None:
            parts.setdefault(name, f"{name} {value}")
    if is_restart(segment.chapter):
        parts[TOLD] = RESTARTED
    elif segment.chapter:
        parts[TOLD] = segment.chapter
    if segments[-1].restarts:
        parts[START] = f"start {segment.restarts + 1}"
    return parts


def chapter_notes(facts: Facts, meta: RunMeta) -> tuple[str, ...]:
    """Changes of the server's settings that nobody made here and no restart explains: an autoscaler's, or a hand's.

    Of KV blocks `soak.replicas` tells more.
    """
    segments = segments_of(facts, meta)
    notes = []
    for before, after in itertools.pairwise(segments):
        told = any(abs(chapter.t_s - after.start_s) <= EDGE_S for chapter in facts.chapters)
        if told or not before.server or not after.server or after.restarts != before.restarts:
            continue
        if after.turned == before.turned:  # a replica: told as one
            continue
        notes += [
            setting_changed(name, old, new)
            for name, old, new in zip(_CONFIG, before.server, after.server, strict=True)
            if old != new and old and new and name != "num_gpu_blocks"
        ]
    return tuple(notes)
