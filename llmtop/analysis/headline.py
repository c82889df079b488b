"""The second line of the screen: one sentence in segments that can be cut off from the right at ` · `."""

from __future__ import annotations

from llmtop.analysis.capacity import slo_text
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Confidence, Diagnosis, Kind, SloVerdict

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

    The limits in brackets and the advice are left out where the line would get longer than 78 characters. `top` is the
    highest level measured.
    """
    long_capacity, short_capacity = _capacity(slo, capacity)
    long_bound, short_bound = _bound(diagnosis)
    state, place = _state(verdict), _cliff(cliff, top)
    for capacity_text, bound_text in (
        (long_capacity, long_bound),
        (short_capacity, long_bound),
        (short_capacity, short_bound),
    ):
        text = SEPARATOR.join(filter(None, (state, capacity_text, place, bound_text)))
        if len(text) <= WIDTH:
            return text
    return text


def _state(verdict: SloVerdict) -> str:
    if verdict.ok:
        return "SLO OK"
    failed = next((target for target in verdict.targets if target.ok is False), None)
    return "SLO --" if failed is None else f"SLO FAIL {failed.text.partition(',')[0]}"


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
    if diagnosis.bound is Bound.NONE:
        return "", ""
    short = _BOUNDS[diagnosis.bound]
    if diagnosis.advice is None:
        return short, short
    return f"{short}: {diagnosis.advice}", f"{short}: {diagnosis.advice.partition(',')[0]}"
