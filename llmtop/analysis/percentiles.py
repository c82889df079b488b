"""Percentiles and rates of a run, of each stage and of each level: what machines and reports compare runs by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from llmtop.analysis.buffering import SPOILT, arrival_of
from llmtop.analysis.fits import Array
from llmtop.analysis.levels import Level
from llmtop.analysis.measured import measured_curves
from llmtop.analysis.readings import finished_requests
from llmtop.analysis.sessions import SHOWN_FROM
from llmtop.analysis.stats import FEWEST
from llmtop.domain.figures import LevelFigures, PartFigures, RunFigures, StageFigures
from llmtop.domain.frame import Distribution
from llmtop.domain.run import LoadChange, RunMeta
from llmtop.domain.slo import LATENCIES, Latency, Metric, Stat
from llmtop.meter.canaries import new_user
from llmtop.meter.facts import Facts, Table
from llmtop.meter.quantiles import bucket_ms

_Mask = npt.NDArray[np.bool_]
_BIN = ("t_s", "span_s", "ok", "output_tokens", "gaps", "gap_sum_ms", "gap_max_ms")


def figures_of(facts: Facts, meta: RunMeta) -> RunFigures:
    """The figures of a run so far, or of a finished one; what `facts` has dropped is in none.

    Of answers that a path keeps back TTFT, TPOT and ICL are void: none is told.
    """
    void = SPOILT if arrival_of(facts) is not None else ()
    part = Parts(facts, void)
    now_s = float(facts.bins.column("t_s")[-1]) if len(facts.bins) else facts.t_s
    stages = tuple(
        StageFigures(stage=name, start_s=start_s, end_s=end_s, **part.between(start_s, end_s))
        for name, start_s, end_s in stage_spans(facts.changes, now_s)
    )
    levels = tuple(
        LevelFigures(curve=curve.label, axis=curve.axis, load=level.load, **_level(level, void))
        for curve in measured_curves(facts, meta, finished_requests(facts), now_s)
        for level in curve.levels
        if level.n + level.errors >= SHOWN_FROM
    )
    return RunFigures(
        run=PartFigures(**part.between(-np.inf, np.inf)),
        stages=stages,
        levels=levels,
        new_user=new_user(facts.canaries),
    )


def distribution(seconds: Array) -> Distribution:
    """Of finite values, in milliseconds; a statistic is None where there are too few values (`FEWEST`)."""
    values = seconds[np.isfinite(seconds)] * 1e3
    n = len(values)
    if n == 0:
        return Distribution()

    def told(stat: Stat, percent: float) -> float | None:
        return float(np.percentile(values, percent)) if n >= FEWEST[stat] else None

    return Distribution(
        n=n,
        mean=float(values.mean()) if n >= FEWEST["mean"] else None,
        p50=told("p50", 50),
        p90=told("p90", 90),
        p95=told("p95", 95),
        p99=told("p99", 99),
        max=float(values.max()),
    )


def stage_spans(changes: Sequence[LoadChange], now_s: float) -> list[tuple[str, float, float]]:
    """(name, start, end) of each stretch that a stage drove; a hand, a brake or the next stage ends it."""
    spans: list[tuple[str, float, float]] = []
    driving: str | None = None
    for change in changes:
        stage = change.stage if change.reason == "stage" else None
        if stage == driving:
            continue
        if driving is not None:
            spans[-1] = (*spans[-1][:2], change.t_s)
        if stage is not None:
            spans.append((stage, change.t_s, now_s))
        driving = stage
    return spans


class Parts:
    """The columns of a run, from which the figures of any span of it are taken.

    Args:
        void: metrics that are not told, and ICL with them.
    """

    def __init__(self, facts: Facts, void: Sequence[Metric] = ()) -> None:
        table, bins = facts.requests, facts.bins
        sent_s = column(table, "sent_s")
        self._sent_s = np.where(np.isfinite(sent_s), sent_s, column(table, "scheduled_s"))
        self._requests = {name: column(table, f"{name}_s") for name in LATENCIES}
        self._void = void
        limited = column(table, "client_limited")
        self.cancelled = column(table, "cancelled") > 0
        self.limited = ~self.cancelled & (limited > 0)
        self.unjudged = ~self.cancelled & np.isnan(limited)
        judged = ~self.cancelled & (limited == 0)
        self.error, self.ok = judged & (column(table, "error") > 0), judged & (column(table, "ok") > 0)
        self._bins = {name: column(bins, name) for name in _BIN}
        active = sum(column(bins, name) for name in ("target", "in_flight", "ok", "output_tokens"))
        self._counts = (np.asarray(active) > 0) & ~red(facts, self._bins["t_s"])
        gaps_s = column(facts.gaps, "t_s")
        kept = ~red(facts, gaps_s)
        self._gaps_s, self._buckets = gaps_s[kept], column(facts.gaps, "bucket")[kept]
        self._gaps = column(facts.gaps, "count")[kept]

    def latency(self, name: Latency, chosen: _Mask) -> Distribution:
        """Of requests that ended well, in milliseconds; empty where it is void."""
        return Distribution() if name in self._void else distribution(self._requests[name][chosen & self.ok])

    def span_s(self, start_s: float = -np.inf, end_s: float = np.inf) -> float:
        """Seconds with load, without those in which the client was the bottleneck."""
        bins_s = self._bins["t_s"]
        return float(self._bins["span_s"][self._counts & (bins_s > start_s) & (bins_s <= end_s)].sum())

    def rates(self, spans: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
        """Requests/s that ended well, and output tokens/s, of the seconds that count in these times; None: of none."""
        bins_s = self._bins["t_s"]
        inside = np.zeros(len(bins_s), dtype=bool)
        for start_s, end_s in spans:
            inside |= (bins_s > start_s) & (bins_s <= end_s)
        inside &= self._counts
        span_s = float(self._bins["span_s"][inside].sum())
        if span_s <= 0:
            return None, None
        return float(self._bins["ok"][inside].sum()) / span_s, float(self._bins["output_tokens"][inside].sum()) / span_s

    def between(self, start_s: float, end_s: float) -> dict[str, Any]:
        """The fields of a `PartFigures`: requests sent from `start_s` to before `end_s`, and what arrived meanwhile."""
        sent = (self._sent_s >= start_s) & (self._sent_s < end_s)
        ok = self.ok & sent
        bins_s = self._bins["t_s"]
        during = self._counts & (bins_s > start_s) & (bins_s <= end_s)
        requests_per_s, output_tokens_per_s = self.rates(((start_s, end_s),))
        return {
            "n": int(ok.sum()),
            "errors": int((self.error & sent).sum()),
            "cancelled": int((self.cancelled & sent).sum()),
            "client_limited": int((self.limited & sent).sum()),
            "unjudged": int((self.unjudged & sent).sum()),
            "span_s": self.span_s(start_s, end_s),
            "requests_per_s": requests_per_s,
            "output_tokens_per_s": output_tokens_per_s,
            **{f"{name}_ms": self.latency(name, sent) for name in LATENCIES},
            "icl_ms": Distribution() if self._void else self._gap_distribution(during, start_s, end_s),
        }

    def _gap_distribution(self, during: _Mask, start_s: float, end_s: float) -> Distribution:
        """Of the gaps that ended in these bins: percentiles to 2.2 %, where every gap of them is in a bucket."""
        n = int(self._bins["gaps"][during].sum())
        if n == 0:
            return Distribution()
        longest_ms = self._bins["gap_max_ms"][during]
        if np.isnan(longest_ms).all():
            return Distribution(n=n)
        longest = float(np.nanmax(longest_ms))
        inside = (self._gaps_s > start_s) & (self._gaps_s <= end_s)
        order = np.argsort(self._buckets[inside], kind="stable")
        buckets, below = self._buckets[inside][order], np.cumsum(self._gaps[inside][order])
        if len(below) == 0 or below[-1] != n:
            return Distribution(n=n, max=longest)

        def told(stat: Stat, share: float) -> float | None:
            if n < FEWEST[stat]:
                return None
            return min(longest, bucket_ms(int(buckets[np.searchsorted(below, share * (n - 1), side="right")])))

        return Distribution(
            n=n,
            mean=float(np.nansum(self._bins["gap_sum_ms"][during])) / n if n >= FEWEST["mean"] else None,
            p50=told("p50", 0.50),
            p90=told("p90", 0.90),
            p95=told("p95", 0.95),
            p99=told("p99", 0.99),
            max=longest,
        )


def _level(level: Level, void: Sequence[Metric]) -> dict[str, Any]:
    return {
        "n": level.n,
        "errors": level.errors,
        "requests_per_s": level.requests_per_s,
        "output_tokens_per_s": level.output_tokens_per_s,
        **{
            f"{name}_ms": Distribution() if name in void else distribution(getattr(level, f"{name}_s"))
            for name in LATENCIES
        },
    }


def red(facts: Facts, t_s: Array) -> _Mask:
    """Whether the client was the bottleneck in the second that each instant lies in."""
    ends_s, is_red = column(facts.client, "t_s"), column(facts.client, "red") > 0
    if len(ends_s) == 0:
        return np.zeros(len(t_s), dtype=bool)
    second = np.minimum(np.searchsorted(ends_s, t_s), len(ends_s) - 1)
    return np.asarray(is_red[second] & (t_s <= ends_s[second]) & (t_s > ends_s[second] - 1.0))


def column(table: Table, name: str) -> Array:
    """A copy: the table may grow meanwhile."""
    return np.array(table.column(name))
