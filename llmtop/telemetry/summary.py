"""One snapshot from what the replicas of an endpoint said: pure, so that every rule of adding up can be tested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from llmtop.dialects import Combine, DialectTable
from llmtop.domain.samples import ServerSnapshot
from llmtop.telemetry.answers import Slots
from llmtop.telemetry.exposition import is_figure
from llmtop.telemetry.signals import Interval, PageValues, combine

PROCESS_FIELDS = frozenset({"rss_bytes", "process_start_s", "late_ms"})
"""On any Python server's page: they do not make it the page of an engine."""
MOVES_OR_ABSENT = frozenset({"flops_total", "memory_bytes_total"})
"""Counters that vLLM exports and never moves unless --enable-mfu-metrics is given: their 0 is not a measurement."""
ADD_UP = frozenset({"max_num_seqs", "kv_capacity_tokens", "num_gpu_blocks"})
"""Configuration that adds up over replicas; for the rest, the first that tells it speaks for all."""
PER_ENGINE = frozenset({"max_num_seqs"})
"""Told in JSON for one engine, where a server may have several (data parallel)."""


TOGETHER_S = 30.0
"""Within so long replicas that start anew do so together."""


class Reading(Struct, frozen=True, kw_only=True):
    """What is known of one replica at the time of a snapshot."""

    name: str
    key: str = ""
    """What tells it from the other replicas."""
    table: DialectTable
    figures: PageValues | None = None
    """The last that were read."""
    change: Interval | None = None
    """What happened since the reading before; None unless both were read."""
    answers: Mapping[str, float]
    """Told in JSON, by field."""
    slots: Slots | None = None
    gone: bool = False
    """It has missed so many scrapes that it no longer counts as running anything."""


def is_of_engine(figures: PageValues) -> bool:
    """Whether a page is an inference engine's, be it without a number yet."""
    return bool((figures.gauges.keys() - PROCESS_FIELDS) or figures.counters or figures.quotients) or figures.blank


class Totals:
    """Counters of a service whose replicas come, go and start anew: what they have counted together.

    At first the sum of what is exported; from then on it grows by what each replica has counted while it was seen, and
    never falls. A newcomer adds what it counts from when it was first read, or from its start if it started after the
    run did; one that starts anew goes on from where it was; one that goes keeps its last. Only when all that are there
    have started anew it begins again.

    Args:
        began_s: when the run began, in Unix seconds.
    """

    def __init__(self, began_s: float = math.inf) -> None:
        self.restarted = False
        """All replicas that are there have started anew by the last take: the service has."""
        self.start_s: float | None = None
        """Unix time at which the eldest of the replicas started with which the totals began."""
        self._began_s = began_s
        self._begun = False
        self._parts: dict[str, dict[str, tuple[float, float]]] = {}
        """Replica -> counter -> (what is added to what it exports, what it last exported)."""
        self._restarts_s: dict[str, float] = {}

    def take(self, t_s: float, readings: Sequence[Reading]) -> dict[str, float]:
        """The totals after these readings, by field."""
        told = [reading for reading in readings if reading.figures is not None]
        there = [reading for reading in told if not reading.gone]
        anew = {reading.key for reading in there if reading.change is not None and reading.change.restarted}
        self._restarts_s |= dict.fromkeys(anew, t_s)
        self.restarted = bool(anew) and all(
            t_s - self._restarts_s.get(reading.key, -math.inf) <= TOGETHER_S for reading in there
        )
        if self.restarted or (told and not self._begun):
            self._begin(there or told)
        for reading in told:
            if reading.key in self._parts or not reading.gone:
                self._add(reading, reading.key in anew and not self.restarted)
        totals: dict[str, float] = {}
        for part in self._parts.values():
            for field, (offset, last) in part.items():
                totals[field] = totals.get(field, 0.0) + offset + last
        return {field: value for field, value in totals.items() if value or field not in MOVES_OR_ABSENT}

    def _begin(self, there: Sequence[Reading]) -> None:
        self._begun = True
        self._restarts_s.clear()
        self._parts = {reading.key: {} for reading in there}
        self.start_s = min((start_s for each in there if (start_s := _start_of(each)) is not None), default=None)

    def _add(self, reading: Reading, anew: bool) -> None:
        figures = reading.figures
        assert figures is not None
        part = self._parts.get(reading.key)
        is_new = part is None
        start_s = _start_of(reading)
        has_past = is_new and (start_s is None or start_s < self._began_s)
        part = self._parts.setdefault(reading.key, {})
        for field, value in figures.counters.items():
            offset, last = part.get(field, (-value if has_past else 0.0, 0.0))
            part[field] = (offset + last if anew or value < last else offset, value)
        if anew:  # what is not exported before it has happened again
            for field in part.keys() - figures.counters.keys():
                offset, last = part[field]
                part[field] = (offset + last, 0.0)


def _start_of(reading: Reading) -> float | None:
    return None if reading.figures is None else reading.figures.gauges.get("process_start_s")


def summarise(t_s: float, age_s: float, readings: Sequence[Reading], totals: Totals | None = None) -> ServerSnapshot:
    """Add up the replicas.

    Gauges: of the replicas that still answer (of all, if none does: last values stay); KV usage weighted by how much
    each can hold. Counters: `totals`, None: of these readings alone. Means and ratios: sum of the numerators' growth
    over sum of the denominators' growth; None if nothing grew.
    """
    totals = Totals() if totals is None else totals
    counters = totals.take(t_s, readings)
    values = _gauges(readings)
    if len(readings) > 1 and totals.start_s is not None:
        values["process_start_s"] = totals.start_s
    values |= counters
    values |= _ratios(readings)
    values |= {field: value for field, value in _answers(readings).items() if field not in values}
    estimated = _fill_in(values, readings)
    values = {field: value for field, value in values.items() if is_figure(value)}
    return ServerSnapshot(t_s=t_s, age_s=age_s, replicas=_rows(readings), estimated=estimated, **values)


def _gauges(readings: Sequence[Reading]) -> dict[str, float]:
    collected: dict[str, list[float]] = {}
    how: dict[str, Combine] = {}
    usages: list[tuple[float, float | None]] = []
    for reading in _shown(readings):
        for field, value in (reading.figures.gauges if reading.figures else {}).items():
            collected.setdefault(field, []).append(value)
            how.setdefault(field, reading.table.metrics[field][0].combine)
            if field == "kv_usage":
                usages.append((value, _capacity_of(reading)))
    values = {field: combine(values, how[field]) for field, values in collected.items()}
    return values | ({"kv_usage": weighted(usages)} if usages else {})


def _shown(readings: Sequence[Reading]) -> Sequence[Reading]:
    """Those that still answer; of none, all."""
    return [reading for reading in readings if not reading.gone] or readings


def weighted(usages: Sequence[tuple[float, float | None]]) -> float:
    """The usage of several caches, of (usage, capacity) of each; where one is not known, all weigh the same."""
    known = [(usage, capacity) for usage, capacity in usages if capacity]
    if len(known) < len(usages):
        known = [(usage, 1.0) for usage, _ in usages]
    return sum(usage * capacity for usage, capacity in known) / sum(capacity for _, capacity in known)


def _capacity_of(reading: Reading) -> float | None:
    """Tokens that its KV cache holds; None: it does not tell."""
    told = {**reading.answers, **(reading.figures.gauges if reading.figures else {})}
    blocks, size = told.get("num_gpu_blocks"), told.get("block_size")
    return told.get("kv_capacity_tokens") or (blocks * size if blocks and size else None)


def _ratios(readings: Sequence[Reading]) -> dict[str, float]:
    """Means and ratios over the interval, and the prefix cache's hit ratio from its two counters."""
    grown: dict[str, list[float]] = {}
    for reading in readings:
        change = reading.change
        if change is None:
            continue
        pairs = dict(change.quotients)
        if "prefix_hits_total" in change.counters and "prefix_queries_total" in change.counters:
            pairs["prefix_hit_ratio"] = (
                change.counters["prefix_hits_total"],
                change.counters["prefix_queries_total"],
            )
        for field, (numerator, denominator) in pairs.items():
            total = grown.setdefault(field, [0.0, 0.0])
            total[0] += numerator
            total[1] += denominator
    return {field: numerator / denominator for field, (numerator, denominator) in grown.items() if denominator > 0}


def _answers(readings: Sequence[Reading]) -> dict[str, float]:
    told: dict[str, float] = {}
    for field in {field for reading in readings for field in reading.answers}:
        values = [
            reading.answers[field] * (_engine_count(reading) if field in PER_ENGINE else 1)
            for reading in readings
            if field in reading.answers
        ]
        if field not in ADD_UP:
            told[field] = values[0]
        elif len(values) == len(readings):
            told[field] = sum(values)
    return told


def _engine_count(reading: Reading) -> int:
    return max(len(reading.figures.engines), 1) if reading.figures else 1


def _fill_in(values: dict[str, float], readings: Sequence[Reading]) -> tuple[str, ...]:
    """Derive what no page says; gives the names of what is only an estimate."""
    if "kv_capacity_tokens" not in values and "num_gpu_blocks" in values and "block_size" in values:
        values["kv_capacity_tokens"] = values["num_gpu_blocks"] * values["block_size"]
    slots = [reading.slots for reading in _shown(readings) if reading.slots is not None]
    if not slots:
        return ()
    values.setdefault("running", float(sum(each.busy for each in slots)))
    values.setdefault("max_num_seqs", float(sum(each.total for each in slots)))
    estimated = []
    usages = [(usage, each.capacity_tokens) for each in slots if (usage := each.kv_usage) is not None]
    if usages and "kv_usage" not in values:
        values["kv_usage"] = weighted(usages)
        estimated.append("kv_usage")
    if usages and "kv_capacity_tokens" not in values:
        values["kv_capacity_tokens"] = sum(each.capacity_tokens for each in slots)
        estimated.append("kv_capacity_tokens")
    return tuple(estimated)


def _rows(readings: Sequence[Reading]) -> tuple[tuple[str, float | None, float | None, float | None], ...]:
    """One row per engine where there are several; a replica that is gone keeps its row, without values."""
    rows: list[tuple[str, float | None, float | None, float | None]] = []
    for reading in readings:
        engines = reading.figures.engines if reading.figures else {}
        if reading.gone or not engines:
            rows.append((reading.name, None, None, None))
            continue
        for engine, (running, waiting, kv_usage) in engines.items():
            place = engine if len(readings) == 1 else reading.name
            name = f"{reading.name} {engine}" if len(readings) > 1 and len(engines) > 1 else place
            rows.append((name, running, waiting, kv_usage))
    return tuple(rows) if len(rows) > 1 else ()
