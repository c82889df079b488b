"""From the samples of a page to the figures of a server, by the aliases of a dialect table.

A page is read in two steps. `PageReader.read` gives `PageValues`: what the page says, summed over engines, models and
other labels, with counters and histograms still cumulated. `interval` compares two of them: what happened in between.
A figure that no alias finds on the page is not in the result; nothing here makes a 0 that the server did not export.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence

from msgspec import Struct

from llmtop.dialects import Combine, DialectTable, MetricKind, Signal
from llmtop.dialects.naming import AS_EXPORTED, naming_on
from llmtop.telemetry.exposition import ExpositionParser, MetricSeries, Sample, at_once, is_figure

ENGINE_LABELS = ("engine", "dp_rank", "worker_id", "dynamo_worker_id")
"""Labels that tell one engine of a server from another, the first that is there."""
RANK_LABELS = frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "moe_dp_rank"})
"""Ranks of one engine hold the same requests: SGLang with --enable-metrics-for-all-schedulers exports each of them."""
_ENGINES = frozenset(ENGINE_LABELS)
_NO_PARTS = RANK_LABELS | _ENGINES
"""Labels whose series are engines and ranks of their own."""
MODEL_LABELS = ("model_name", "model")
"""Labels that tell one model of a page from another, the first that is there."""
SHARES = frozenset({"kv_usage", "prefix_hit_ratio", "spec_accept_ratio"})
"""Fields that are 1 at most: what is above is told in another unit."""
OVERSHOOT = 1.01
"""What a share may come to by rounding."""
_ALL = frozenset({"", "all", "total"})
"""Values of a label by which a series stands for all that others tell one by one."""
ENGINE_FIELDS = ("running", "waiting", "kv_usage")
START_BLUR_S = 0.5
"""By so much the start time of one process may differ from page to page."""
ENGINE_LIMIT = 1024
"""Engines of one page that are told apart."""


class PageValues(Struct, frozen=True):
    """What one page says, by field of `ServerSnapshot`."""

    gauges: dict[str, float]
    """Gauges and numbers from info labels."""
    counters: dict[str, float]
    quotients: dict[str, tuple[float, float]]
    """Cumulated numerator and denominator of every mean and ratio."""
    engines: dict[str, tuple[float | None, float | None, float | None]]
    """Running, waiting and KV usage of each engine; "" where the page does not tell engines apart."""
    blank: bool = False
    """Metrics of the engine are there without a number: some begin as NaN."""


class Interval(Struct, frozen=True):
    """What happened between two readings of one page."""

    restarted: bool
    """A counter fell or the process is another one: the differences would be meaningless and are left out."""
    counters: dict[str, float]
    quotients: dict[str, tuple[float, float]]


class PageReader:
    """Reads the pages of one server. Keeps the parser's cache, so use one per metrics URL.

    Args:
        model: the one that is driven: of a page of several models, only its figures count.
    """

    def __init__(self, table: DialectTable, model: str | None = None) -> None:
        self._table = table
        self._model = model
        self._metrics = table.metrics
        self._names = names_of(table)
        self._naming = AS_EXPORTED
        self._parser = ExpositionParser(self._names)

    def read(self, page: str | bytes) -> PageValues:
        """An empty or foreign page gives empty `PageValues`. Raises TooManySeries."""
        return at_once(self.steps(page))

    def steps(self, page: str | bytes) -> Generator[None, None, PageValues]:
        """The same, a few milliseconds at a time. Of a series that a page has twice the first counts."""
        self._learn_naming(page.encode("utf-8", "replace") if isinstance(page, str) else page)
        found: dict[str, dict[frozenset[tuple[str, str]], Sample]] = {}
        blank = False
        for part in self._parser.bounded(page):
            for sample in part:
                if is_figure(sample[1]):
                    found.setdefault(sample[0].name, {}).setdefault(sample[0].identity, sample)
                else:
                    blank = blank or sample[0].name.startswith(self._table.detection.metric_prefixes)
            yield
        samples = {name: _of_model(list(by_labels.values()), self._model) for name, by_labels in found.items()}
        gauges: dict[str, float] = {}
        counters: dict[str, float] = {}
        quotients: dict[str, tuple[float, float]] = {}
        by_engine: dict[str, dict[str, float]] = {}
        for field, signals in self._metrics.items():
            yield
            for signal in signals:
                if signal.kind in (MetricKind.MEAN, MetricKind.RATIO):
                    quotient = _quotient(samples, signal)
                    if quotient is None:
                        continue
                    quotients[field] = quotient
                    break
                values = _engine_values(samples, signal)
                total = combine(list(values.values()), signal.combine) * signal.scale if values else math.nan
                if not is_figure(total) or (field in SHARES and total > OVERSHOOT):
                    continue
                if field in ENGINE_FIELDS:
                    by_engine[field] = values
                target = counters if signal.kind is MetricKind.COUNTER else gauges
                target[field] = total
                break
        return PageValues(gauges, counters, quotients, _engine_rows(by_engine), blank)

    def _learn_naming(self, page: bytes) -> None:
        """Read from now on how this page writes the engine's names. Names that are everybody's are left as they are."""
        naming = naming_on(page, self._table)
        if naming is None or naming == self._naming:
            return
        prefixes = self._table.detection.metric_prefixes
        called = {naming.of(name) if name.startswith(prefixes) else name: name for name in sorted(self._names)}
        self._naming = naming
        self._parser = ExpositionParser(called)


def interval(before: PageValues, after: PageValues) -> Interval:
    """Differences of counters, and of the two parts of every mean and ratio, from one reading to the next.

    A counter that was not on the page before has no difference yet. A process start time that moved, or any counter or
    count that fell, is another process's.
    """
    started, starts = before.gauges.get("process_start_s"), after.gauges.get("process_start_s")
    restarted = started is not None and starts is not None and abs(starts - started) > START_BLUR_S
    known = before.counters
    counters = {name: value - known[name] for name, value in after.counters.items() if name in known}
    quotients = {
        name: (numerator - before.quotients[name][0], denominator - before.quotients[name][1])
        for name, (numerator, denominator) in after.quotients.items()
        if name in before.quotients
    }
    fell = any(value < 0 for value in counters.values()) or any(value < 0 for _, value in quotients.values())
    return Interval(True, {}, {}) if restarted or fell else Interval(False, counters, quotients)


def combine(values: Sequence[float], how: Combine) -> float:
    """Make one value of several (at least one)."""
    if how is Combine.MAX:
        return max(values)
    if how is Combine.MEAN:
        return sum(values) / len(values)
    return values[0] if how is Combine.FIRST else sum(values)


def names_of(table: DialectTable) -> set[str]:
    """Names of all samples that figures of a dialect are read from, as they are exported."""
    return {name for signals in table.metrics.values() for signal in signals for name in _sample_names(signal)}


def _sample_names(signal: Signal) -> tuple[str, ...]:
    """Names of all samples that an alias may be read from."""
    if signal.kind is MetricKind.MEAN:
        return (f"{signal.name}_sum", f"{signal.name}_count")
    names = _variants(signal.name) if signal.kind in (MetricKind.COUNTER, MetricKind.RATIO) else (signal.name,)
    if signal.over is not None:
        names = (*names, *(_variants(signal.over) if signal.kind is MetricKind.RATIO else (signal.over,)))
    return names if signal.minus is None else (*names, signal.minus)


def _variants(counter: str) -> tuple[str, str]:
    """A counter's name with and without `_total`: exporters and versions differ."""
    stem = counter.removesuffix("_total")
    return (counter, stem) if counter != stem else (counter, f"{counter}_total")


def _matching(found: Mapping[str, list[Sample]], names: Sequence[str], signal: Signal) -> list[Sample]:
    """Samples of the first name that has any with the labels that the alias wants."""
    for name in names:
        samples = found.get(name, [])
        if signal.where:
            samples = [sample for sample in samples if _has_labels(sample[0], signal)]
        if samples:
            return _without_parts(samples)
    return []


def _of_model(samples: list[Sample], model: str | None) -> list[Sample]:
    """Those of one model, where the page tells models apart and has it; else all."""
    for label in MODEL_LABELS if model is not None and len(samples) > 1 else ():
        own = [sample for sample in samples if sample[0].labels.get(label) == model]
        if own:
            return own
    return samples


def _without_parts(samples: list[Sample]) -> list[Sample]:
    """Without those that others are the totals of: the same labels but for some, in which the total stands for all.

    Engines are kept instead of what is told of all of them.
    """
    if len(samples) < 2:
        return samples
    told = [engine_of(series) != "" for series, _ in samples]
    if any(told) and not all(told):
        engines = {_beside(series, _ENGINES) for (series, _), own in zip(samples, told, strict=True) if own}
        pairs = zip(samples, told, strict=True)
        samples = [each for each, own in pairs if own or _beside(each[0], _ENGINES) not in engines]
    labels = {label for series, _ in samples for label in series.labels} - _NO_PARTS
    if not labels:
        return samples
    blanks = [frozenset(label for label in labels if series.labels.get(label, "") in _ALL) for series, _ in samples]
    for blank in sorted(set(blanks) - {frozenset[str]()}, key=len, reverse=True):
        totals = {_beside(series, blank) for (series, _), own in zip(samples, blanks, strict=True) if own == blank}
        kept = [
            (sample, own)
            for sample, own in zip(samples, blanks, strict=True)
            if not (own < blank and _beside(sample[0], blank) in totals)
        ]
        samples, blanks = [sample for sample, _ in kept], [own for _, own in kept]
    return samples


def _beside(series: MetricSeries, labels: frozenset[str]) -> frozenset[tuple[str, str]]:
    return frozenset(item for item in series.identity if item[0] not in labels and item[1])


def _has_labels(series: MetricSeries, signal: Signal) -> bool:
    return all(series.labels.get(key, text) == text for key, text in signal.where.items())


def _quotient(found: Mapping[str, list[Sample]], signal: Signal) -> tuple[float, float] | None:
    names = (f"{signal.name}_sum",) if signal.kind is MetricKind.MEAN else _variants(signal.name)
    over = (f"{signal.name}_count",) if signal.kind is MetricKind.MEAN else _variants(signal.over or "")
    numerators, denominators = _matching(found, names, signal), _matching(found, over, signal)
    if not numerators or not denominators:
        return None
    return sum(value for _, value in numerators) * signal.scale, sum(value for _, value in denominators)


def _engine_values(found: Mapping[str, list[Sample]], signal: Signal) -> dict[str, float]:
    """The alias' value for each engine on the page, without `scale`; empty if the page has none."""
    if signal.kind is MetricKind.LABEL:
        return _label_values(found, signal)
    names = _variants(signal.name) if signal.kind is MetricKind.COUNTER else (signal.name,)
    values = _sum_by_engine(_matching(found, names, signal), signal.combine)
    if signal.minus is not None:
        less = _sum_by_engine(_matching(found, (signal.minus,), signal), signal.combine)
        values = {engine: max(value - less[engine], 0.0) for engine, value in values.items() if engine in less}
    if signal.over is None or not values:
        return values
    over = _sum_by_engine(_matching(found, (signal.over,), signal), signal.combine)
    if over.keys() != values.keys():
        total = combine(list(over.values()), Combine.SUM) if over else 0.0
        return {"": combine(list(values.values()), Combine.SUM) / total} if total else {}
    return {engine: value / over[engine] for engine, value in values.items() if over[engine]}


def _label_values(found: Mapping[str, list[Sample]], signal: Signal) -> dict[str, float]:
    values = {}
    for series, _ in found.get(signal.name, ()):
        number = _number(series.labels.get(signal.label or "", ""))
        if number is not None and _has_labels(series, signal):
            values[engine_of(series)] = number
    return values


def _number(text: str) -> float | None:
    """The text of a label as a finite number; "None", "True" and the like are not known."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if is_figure(number) else None


def engine_of(series: MetricSeries) -> str:
    """Which engine of its server a series belongs to; "" where it does not say."""
    for label in ENGINE_LABELS:
        if label in series.labels:
            return series.labels[label]
    return ""


def _sum_by_engine(samples: Sequence[Sample], how: Combine) -> dict[str, float]:
    """One value per engine: ranks of one engine count once, then its models and other labels are combined."""
    if not any(RANK_LABELS & series.labels.keys() for series, _ in samples):
        grouped: dict[str, list[float]] = {}
        for series, value in samples:
            grouped.setdefault(engine_of(series), []).append(value)
        return {engine: combine(values, how) for engine, values in grouped.items()}
    once: dict[tuple[tuple[str, str], ...], tuple[str, float]] = {}
    for series, value in samples:
        rest = tuple(sorted(item for item in series.labels.items() if item[0] not in RANK_LABELS))
        engine, largest = once.get(rest, (engine_of(series), value))
        once[rest] = (engine, max(largest, value))
    grouped = {}
    for engine, value in once.values():
        grouped.setdefault(engine, []).append(value)
    return {engine: combine(values, how) for engine, values in grouped.items()}


def _engine_rows(
    by_engine: Mapping[str, Mapping[str, float]],
) -> dict[str, tuple[float | None, float | None, float | None]]:
    names = sorted({engine for values in by_engine.values() for engine in values})
    if len(names) > ENGINE_LIMIT:
        return {}
    running, waiting, kv_usage = (by_engine.get(field, {}) for field in ENGINE_FIELDS)
    return {engine: (running.get(engine), waiting.get(engine), kv_usage.get(engine)) for engine in names}
