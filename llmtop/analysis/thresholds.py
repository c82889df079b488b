"""How much worse a run may be than the one before, as somebody writes it: `capacity -5%, ttft_p95 +10%`."""

from __future__ import annotations

from msgspec import Struct

from llmtop.analysis.paired import METRICS
from llmtop.domain import thresholds as words
from llmtop.domain.alike import meant
from llmtop.domain.compared import Compared, Delta, Verdict
from llmtop.domain.plain import plain
from llmtop.errors import UsageError

_SIGNS = {"capacity": -1, "cliff": -1, **{metric.name: -metric.sign for metric in METRICS}}
"""Of a change for the worse, by the name of a figure."""
NAMES = tuple(_SIGNS)
_SPOKEN = {**words.SPOKEN, "kv": "kv_usage"}


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


def parse_changes(text: str) -> tuple[Threshold, ...]:
    """Raises UsageError naming the word and what is allowed."""
    return words.each_word(text, f"name what may not get worse: {words.LIKE_CHANGES}; {_allowed()}", _threshold)


def _threshold(word: str) -> Threshold:
    shown, found = plain(word.strip(), words.MOST), words.read_change(word)
    if found is None and words.is_limit(word):
        why = f"is a limit of one run, as `llmtop run` takes them: here {words.LIKE_CHANGES}"
        raise UsageError(f"--fail-on: {shown!r} {why}")
    if found is None:
        raise UsageError(f"--fail-on: {shown!r} is no figure with a change, like `ttft_p95 +10%`; {_allowed()}")
    name, sign, percent = found
    name = _SPOKEN.get(name, name)
    if name not in _SIGNS:
        raise UsageError(f"--fail-on: {shown!r}: {meant(name[: words.MOST], NAMES)}{_allowed()}")
    words.check_sign(shown, name, sign, "+" if _SIGNS[name] > 0 else "-")
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
