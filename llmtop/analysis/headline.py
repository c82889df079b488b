"""The second line of the screen: one sentence in segments that can be cut off from the right at ` · `."""

from __future__ import annotations

from llmtop.analysis.capacity import short_name, slo_text
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Confidence, Diagnosis, Kind, SloVerdict, TargetVerdict

SEPARATOR = " · "
WIDTH = 78
_BOUNDS = {
    Bound.QUEUE: "queue-bound",
    Bound.KV: "KV-bound",
    Bound.TOKEN_BUDGET: "token budget binds",
    Bound.COMPUTE: "compute-bound",
    Bound.MEMORY: "bandwidth-bound",
    Bound.CLIENT: "client-bound",
    Bound.NETWORK: "network-bound",
}


def headline(
    slo: Slo,
    verdict: SloVerdict,
    capacity: Capacity,
    cliff: CliffVerdict,
    diagnosis: Diagnosis,
    top: float | None,
) -> str:
    """E.g. `SLO OK · 71 at SLO (TTFT p95<2s) · cliff ~96 ±8 · queue-bound: raise --max-num-seqs to about 110`.

    Where the line would get longer than 78 characters the limits in brackets go, then the advice becomes a segment of
    its own. `top` is the highest level measured.
    """
    long_capacity, short_capacity = _capacity(slo, capacity)
    state, place = _state(verdict), _cliff(cliff, top)
    bound, advice = _bound(diagnosis)
    brief = f"{bound}: {advice.partition(',')[0].partition(' to about')[0]}" if advice else bound
    for capacity_text in (long_capacity, short_capacity):
        text = SEPARATOR.join(filter(None, (state, capacity_text, place, brief)))
        if len(text) <= WIDTH:
            return text
    return SEPARATOR.join(filter(None, (state, short_capacity, place, bound, advice)))


def _state(verdict: SloVerdict) -> str:
    if verdict.ok:
        return "SLO OK"
    failed = next((target for target in verdict.targets if target.ok is False), None)
    return "SLO --" if failed is None else f"SLO FAIL {_miss(failed)}"


def _miss(target: TargetVerdict) -> str:
    """TTFT p95 3.52s>2s"""
    if target.name in ("error_ratio", "kv"):
        value, limit = f"{100 * (target.value or 0):.3g}%", f"{100 * target.limit:.3g}%"
    elif target.name == "queue":
        value, limit = f"{target.value or 0:.0f}", f"{target.limit:g}"
    else:
        value, limit = (_span(each) for each in (target.value or 0.0, target.limit))
    return f"{short_name(target.name)} {value}>{limit}"


def _span(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}ms" if seconds < 1 else f"{seconds:.3g}s"


def _capacity(slo: Slo, capacity: Capacity) -> tuple[str, str]:
    if capacity.at_slo is None:
        if capacity.fails_at is None:
            return "", ""
        text = f"below {capacity.fails_at:.3g} at SLO"
    else:
        text = f"{'' if capacity.fails_at is not None else '≥'}{capacity.at_slo:.3g} at SLO"
    return f"{text} ({slo_text(slo)})", text


def _cliff(cliff: CliffVerdict, top: float | None) -> str:
    if cliff.kind is Kind.INSUFFICIENT:
        if not cliff.next_levels:
            return "not enough data"
        return "not enough data: " + tries(cliff.next_levels)
    if cliff.kind is Kind.UNSTABLE:
        return "levels contradict each other: measure again"
    if cliff.kind is Kind.NONE or cliff.at is None:
        reached = "no cliff" if top is None else f"no cliff up to {top:.3g}"
        return reached + (f", {tries(cliff.next_levels[:1])}" if cliff.next_levels else "")
    half = max((cliff.high or cliff.at) - cliff.at, cliff.at - (cliff.low or cliff.at))
    digits = 0 if cliff.axis == "concurrency" and cliff.at >= 10 else 1
    word = "cliff" if cliff.kind is Kind.CLIFF else "gradual from"
    text = f"{word} ~{cliff.at:.{digits}f} ±{half:.{digits}f}"
    if cliff.confidence is Confidence.PROVISIONAL and cliff.next_levels:
        return f"{text}?, {tries(cliff.next_levels[:1])}"
    return text


def tries(levels: tuple[int, ...]) -> str:
    """try 27, then 37"""
    return "try " + ", then ".join(str(level) for level in levels[:2])


def _bound(diagnosis: Diagnosis) -> tuple[str, str]:
    return _BOUNDS.get(diagnosis.bound, ""), diagnosis.advice or ""
