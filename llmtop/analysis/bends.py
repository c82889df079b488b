"""The cliffs of the configuration that is driven: all that were judged, and the one that matters."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from llmtop.analysis import buffering
from llmtop.analysis import cliff as cliffs
from llmtop.analysis.case import Case
from llmtop.analysis.display import NEW_REQUESTS, settled
from llmtop.analysis.judge import judge
from llmtop.analysis.levels import MIN_REQUESTS_P95, Level, are_embeddings
from llmtop.analysis.measured import MeasuredCurve
from llmtop.domain.slo import LATENCIES, Latency, Stat
from llmtop.domain.verdicts import CliffVerdict, Kind
from llmtop.wording.sentences import TRANSIENTS

QUICK_REPLICATES = 24
"""Bootstrap draws of a live verdict between the full ones."""
_UNKNOWN = CliffVerdict(kind=Kind.INSUFFICIENT)


def curve_verdicts(case: Case) -> tuple[tuple[CliffVerdict, ...], CliffVerdict, int]:
    """All verdicts of this computation, the one to show, and the requests they rest on."""
    if case.all_failed:
        return (), _UNKNOWN, 0
    curve, previous = case.current, case.previous
    count = sum(level.n + level.errors for level in curve.levels)
    same = previous is not None and bool(previous.curves) and previous.curves[-1].label == curve.label
    known = previous if same else None
    if known is not None and known.cliffs and known.cliff.kind is not Kind.INSUFFICIENT:
        fresh = abs(count - known.judged_requests) >= NEW_REQUESTS
    else:
        fresh = True
    if known is not None and not fresh:
        return known.cliffs, known.cliff, known.judged_requests
    replicates = cliffs.REPLICATES if case.full else QUICK_REPLICATES
    judged = (
        judge(curve.levels, axis=curve.axis, metric=metric, stat=stat, limits=case.limits, replicates=replicates)
        for metric, stat in _judged(curve.levels, case.full)
        if case.arrival is None or metric not in buffering.SPOILT
    )
    verdicts = tuple(_with_transients(verdict, curve) for verdict in judged)
    raw = _with_crossover(_main(verdicts), verdicts)
    if known is not None and known.cliffs:
        return verdicts, settled(known.cliff, _main(known.cliffs), raw), count
    return verdicts, raw, count


def _with_transients(verdict: CliffVerdict, curve: MeasuredCurve) -> CliffVerdict:
    """Levels without a bend say nothing of a wall while a queue stood that is not in them."""
    if verdict.kind is not Kind.NONE or curve.explains_queue:
        return verdict
    return msgspec.structs.replace(verdict, kind=Kind.INSUFFICIENT, evidence=(TRANSIENTS, *verdict.evidence))


def _judged(levels: Sequence[Level], full: bool) -> list[tuple[Latency, Stat]]:
    metrics: tuple[Latency, ...] = ("e2e",) if are_embeddings(levels) else LATENCIES
    chosen: list[tuple[Latency, Stat]] = [(metric, "p50") for metric in metrics]
    if full and sum(level.n >= MIN_REQUESTS_P95 for level in levels) >= cliffs.MIN_LEVELS:
        chosen += [(metric, "p95") for metric in metrics]
    return chosen


def _main(verdicts: Sequence[CliffVerdict]) -> CliffVerdict:
    """The verdict that matters: a TTFT cliff, then a tail cliff of TTFT, then anything gradual, else what TTFT says."""
    ttft = verdicts[0]
    if ttft.kind is Kind.CLIFF:
        return ttft
    tail = next((v for v in verdicts if v.metric == "ttft" and v.stat == "p95" and v.kind is Kind.CLIFF), None)
    if tail is not None and ttft.kind is Kind.NONE:
        return msgspec.structs.replace(tail, evidence=("tail cliff: p50 has none", *tail.evidence))
    if ttft.kind in (Kind.NONE, Kind.UNSTABLE):
        e2e = next((v for v in verdicts if v.metric == "e2e" and v.stat == "p50" and v.kind is Kind.CLIFF), None)
        return ttft if e2e is None else e2e
    return ttft


def _with_crossover(main: CliffVerdict, verdicts: Sequence[CliffVerdict]) -> CliffVerdict:
    """The verdict that matters; where there is no wall, with what tokens say of how users share."""
    if main.kind is not Kind.NONE or main.metric == "tpot":
        return main
    told = next((v.evidence for v in verdicts if (v.metric, v.stat, v.kind) == ("tpot", "p50", Kind.NONE)), ())
    return msgspec.structs.replace(main, evidence=(*main.evidence, *told)) if told else main
