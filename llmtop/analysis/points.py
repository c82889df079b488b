"""The levels of a curve as charts and tables show them."""

from __future__ import annotations

from functools import partial

import numpy as np

from llmtop.analysis import buffering
from llmtop.analysis.levels import FAINT_BELOW, Level
from llmtop.analysis.measured import MeasuredCurve
from llmtop.analysis.sessions import SHOWN_FROM
from llmtop.analysis.slo import Sample, attainment
from llmtop.domain.slo import Latency, Slo
from llmtop.domain.verdicts import Curve, LevelPoint


def shown_curve(curve: MeasuredCurve, slo: Slo, ghost: bool, arrival: buffering.Arrival | None) -> Curve:
    """The levels of a curve that charts show; `arrival` not None: without what a buffering path spoilt."""
    shown = [level for level in curve.levels if level.n + level.errors >= SHOWN_FROM]
    points = tuple(level.remembered(slo, partial(point_of, level, slo)) for level in shown)
    return Curve(label=curve.label, axis=curve.axis, points=buffering.without_spoilt(points, arrival), ghost=ghost)


def point_of(level: Level, slo: Slo) -> LevelPoint:
    def quantile_ms(metric: Latency, q: float) -> float | None:
        if level.stated is not None:
            told = level.stated.figure(metric, "p50" if q == 0.5 else "p95")
            return None if told is None else told * 1e3
        values = level.samples(metric)
        if len(values) < (FAINT_BELOW if q > 0.5 else 1):
            return None
        return float(np.quantile(values, q)) * 1e3

    given = level.given.y * 1e3 if level.given is not None else None
    return LevelPoint(
        load=level.load,
        n=level.n,
        errors=level.errors,
        ttft_p50_ms=given if given is not None else quantile_ms("ttft", 0.5),
        ttft_p95_ms=quantile_ms("ttft", 0.95),
        tpot_p50_ms=quantile_ms("tpot", 0.5),
        tpot_p95_ms=quantile_ms("tpot", 0.95),
        e2e_p50_ms=quantile_ms("e2e", 0.5),
        output_tokens_per_s=level.output_tokens_per_s,
        requests_per_s=level.requests_per_s,
        waiting=level.waiting,
        kv_usage=level.kv_usage,
        attainment=attainment(Sample.of_level(level), slo) if level.has_samples else None,
        faint=level.n < FAINT_BELOW,
    )
