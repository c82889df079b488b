"""One snapshot from what the replicas of an endpoint said: pure, so that every rule of adding up can be tested."""

from __future__ import annotations

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


class Reading(Struct, frozen=True, kw_only=True):
    """What is known of one replica at the time of a snapshot."""

    name: str
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


def summarise(t_s: float, age_s: float, readings: Sequence[Reading]) -> ServerSnapshot:
    """Add up the replicas.

    Gauges: of the replicas that still answer (of all, if none does: last values stay). Counters: of all, so that a
    replica that falls silent does not look like a counter that fell. Means and ratios: sum of the numerators' growth
    over sum of the denominators' growth; None if nothing grew.
    """
    values = _gauges(readings)
    counters = _counters(readings)
    values |= counters
    values |= _ratios(readings)
    values |= {field: value for field, value in _answers(readings).items() if field not in values}
    estimated = _fill_in(values, readings)
    values = {field: value for field, value in values.items() if is_figure(value)}
    return ServerSnapshot(t_s=t_s, age_s=age_s, replicas=_rows(readings), estimated=estimated, **values)


def _gauges(readings: Sequence[Reading]) -> dict[str, float]:
    shown = [reading for reading in readings if not reading.gone] or readings
    collected: dict[str, list[float]] = {}
    how: dict[str, Combine] = {}
    for reading in shown:
        for field, value in (reading.figures.gauges if reading.figures else {}).items():
            collected.setdefault(field, []).append(value)
            how.setdefault(field, reading.table.metrics[field][0].combine)
    return {field: combine(values, how[field]) for field, values in collected.items()}


def _counters(readings: Sequence[Reading]) -> dict[str, float]:
    totals: dict[str, float] = {}
    for reading in readings:
        for field, value in (reading.figures.counters if reading.figures else {}).items():
            totals[field] = totals.get(field, 0.0) + value
    return {field: value for field, value in totals.items() if value or field not in MOVES_OR_ABSENT}


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
    slots = [reading.slots for reading in readings if reading.slots is not None]
    if not slots:
        return ()
    values.setdefault("running", float(sum(each.busy for each in slots)))
    values.setdefault("max_num_seqs", float(sum(each.total for each in slots)))
    estimated = []
    usages = [each.kv_usage for each in slots if each.kv_usage is not None]
    if usages and "kv_usage" not in values:
        values["kv_usage"] = max(usages)
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
