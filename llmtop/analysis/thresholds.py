"""How much worse a run may be than the one before, as somebody writes it: `capacity -5%, ttft_p95 +10%`."""

from __future__ import annotations

import re
from difflib import get_close_matches

from msgspec import Struct

from llmtop.analysis.paired import METRICS
from llmtop.domain.compared import Compared, Delta, Verdict
from llmtop.domain.plain import plain
from llmtop.domain.slo import LATENCIES
from llmtop.errors import UsageError

_SIGNS = {"capacity": -1, "cliff": -1, **{metric.name: -metric.sign for metric in METRICS}}
"""Of a change for the worse, by the name of a figure."""
NAMES = tuple(_SIGNS)
SPOKEN: dict[str, str] = {
    **{latency: f"{latency}_p95" for latency in LATENCIES},
    **dict.fromkeys(("errors", "error"), "error_ratio"),
    **dict.fromkeys(("tokens_per_s", "tok_s", "tokens"), "output_tokens_per_s"),
    "kv": "kv_usage",
}
"""Other names of a figure, as tables and limits have them."""
MOST = 40
"""Thresholds, and characters of a word that are shown."""
_ONE = re.compile(r"\s*([a-z0-9_]+)\s*([+-])\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*%\s*")


class Threshold(Struct, frozen=True):
    """A figure may change by less than this for the worse."""

    metric: str
    change: float
    """Signed share, or points of a share."""


class Crossing(Struct, frozen=True, kw_only=True):
    """A threshold that was reached, or of which that is not known."""

    metric: str
    threshold: float
    change: float | None = None
    load: float | None = None
    """Where; None: over all levels, or of the whole."""
    proven: bool = False


def parse_thresholds(text: str) -> tuple[Threshold, ...]:
    """Raises UsageError naming the word and what is allowed."""
    words = [word for word in text.split(",") if word.strip()]
    if not 0 < len(words) <= MOST:
        raise UsageError(f'--fail-on: name what may not get worse: "capacity -5%, ttft_p95 +10%"; {_allowed()}')
    return tuple(map(_threshold, words))


def _threshold(word: str) -> Threshold:
    shown, found = plain(word.strip(), MOST), _ONE.fullmatch(word.lower())
    if found is None:
        raise UsageError(f"--fail-on: {shown!r} is no figure with a change, like `ttft_p95 +10%`; {_allowed()}")
    name, sign, percent = found.groups()
    name = SPOKEN.get(name, name)
    if name not in _SIGNS:
        near = get_close_matches(name, NAMES, 1)
        raise UsageError(f"--fail-on: {shown!r}: {f'did you mean {near[0]}? ' if near else ''}{_allowed()}")
    worse = "+" if _SIGNS[name] > 0 else "-"
    if sign != worse:
        raise UsageError(f"--fail-on: {shown!r}: {name} gets worse by {worse}, not by {sign}")
    return Threshold(name, _SIGNS[name] * float(percent) / 100)


def _allowed() -> str:
    return f"the figures are {', '.join(NAMES)}"


def crossings(told: Compared, thresholds: tuple[Threshold, ...]) -> tuple[Crossing, ...]:
    """The thresholds that were reached for certain, at any load or over all; else those of which that is not known.

    Not known is one whose figure is past it over all levels although no difference is proven, or was not measured.
    """
    return tuple(crossing for each in thresholds if (crossing := _crossing(told, each)) is not None)


def _crossing(told: Compared, threshold: Threshold) -> Crossing | None:
    name = threshold.metric
    if name in ("capacity", "cliff"):
        return _of(told.capacity if name == "capacity" else told.cliff, None, threshold)
    over_all = next((delta for delta in told.over_all if delta.metric == name), Delta(metric=name))
    at = [(level.load, delta) for level in told.levels for delta in level.deltas if delta.metric == name]
    found = [_of(delta, load, threshold) for load, delta in [*at, (None, over_all)] if delta.change is not None]
    proven = [each for each in found if each is not None and each.proven]
    if proven:
        return max(proven, key=lambda each: abs(each.change or 0.0))
    if over_all.change is None and found:
        return next((each for each in found if each is not None), None)
    return _of(over_all, None, threshold)


def _of(delta: Delta, load: float | None, threshold: Threshold) -> Crossing | None:
    """None: surely not reached, as far as the estimate says."""
    told = Crossing(metric=threshold.metric, threshold=threshold.change, change=delta.change, load=load)
    if delta.change is None:
        return told if delta.verdict in (Verdict.UNKNOWN, Verdict.WORSE) else None
    if abs(delta.change) < abs(threshold.change) or delta.change * threshold.change < 0:
        return None
    if delta.verdict is Verdict.SAME:
        return None
    return Crossing(
        metric=told.metric,
        threshold=told.threshold,
        change=told.change,
        load=load,
        proven=delta.verdict is Verdict.WORSE,
    )
