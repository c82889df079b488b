"""What a Prometheus has kept of a service's traffic: lengths, rates and requests in flight over days.

`promql` asks it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import httpx
import numpy as np
from msgspec.structs import replace

from llmtop.dialects import DIALECTS, DialectTable
from llmtop.domain.endpoint import Endpoint, safe_url
from llmtop.domain.places import prometheus_root
from llmtop.domain.traffic import WINDOW_S, InFlight, TokenLengths, TrafficFigures
from llmtop.endpoint.access import Access
from llmtop.errors import EndpointUnusable
from llmtop.telemetry.promql import Asker, Series, number_in
from llmtop.traffic.buckets import busiest_in, lengths_in
from llmtop.traffic.table import Floats
from llmtop.wording import traffic as words

LIMIT_S = 60.0
"""For one question: Prometheus itself gives up after two minutes, and days of a busy one take seconds."""
POINTS = 10_000
"""Of one series in an answer: Prometheus refuses more than 11,000."""
HOUR_WINDOWS = 6
DAY_S = 86_400.0


async def figures_of(endpoint: Endpoint, days: float, now_s: float) -> TrafficFigures:
    """The traffic of `endpoint.model`, or of all models together, in the last `days`.

    Args:
        endpoint: the Prometheus, by its root or a page of it.
        now_s: Unix seconds.

    Raises EndpointError: it does not answer, does not let in, is no Prometheus, or has kept no such metrics.
    """
    root = prometheus_root(endpoint.base_url)
    endpoint = replace(endpoint, base_url=root)
    access = Access(endpoint)
    async with access.stock_client() as client:
        asker = _Asker(client, root, access, endpoint.model, days * DAY_S, now_s)
        tables = [table for table in DIALECTS.values() if table.histograms is not None]
        for table in tables:
            told = await asker.figures(table)
            if told is not None:
                return told
        raise EndpointUnusable(safe_url(root), await asker.why_nothing(tables[0], days))


class _Asker:
    """Asks one Prometheus about one span of time."""

    def __init__(
        self, client: httpx.AsyncClient, root: str, access: Access, model: str | None, span_s: float, now_s: float
    ) -> None:
        self._asker = Asker(client, root, access, LIMIT_S)
        self._access = access
        self._model = model
        self._span_s = span_s
        self._now_s = now_s

    async def figures(self, table: DialectTable) -> TrafficFigures | None:
        """None: it has kept no lengths of such servers."""
        assert table.histograms is not None
        names = table.histograms
        prompt = await self._lengths(table, names.prompt)
        output = await self._lengths(table, names.output)
        if prompt is None and output is None:
            return None
        counts, first_s = await self._counts(table)
        known = counts[np.isfinite(counts)]
        span_s = len(counts) * WINDOW_S
        total = float(known.sum())
        mean = total / (len(known) * WINDOW_S) if total > 0 else None
        peak = busiest_in(counts, 1)
        return TrafficFigures(
            source=f"{table.title} in Prometheus",
            requests=round(total),
            began_at=first_s,
            span_s=span_s,
            mean_rps=mean,
            peak=peak,
            busiest_hour=busiest_in(counts, HOUR_WINDOWS),
            peak_to_mean=None if peak is None or mean is None else peak.rate_rps / mean,
            cv=None,
            cv_from=None,
            tick_s=None,
            prompt=prompt,
            output=output,
            correlation=None,
            shared_prefix=(shared := await self._shared(table)),
            shared_from=None if shared is None else "cached",
            in_flight=await self._in_flight(table, first_s),
            says=await self._says(table, len(counts) - len(known)),
        )

    async def _says(self, table: DialectTable, gaps: int) -> tuple[str, ...]:
        models = await self._models(table) if self._model is None else ()
        return tuple(
            filter(
                None,
                (
                    words.models_text(models) if len(models) > 1 else "",
                    words.gaps_text(gaps * WINDOW_S) if gaps else "",
                    words.no_arrivals_text(),
                ),
            )
        )

    async def why_nothing(self, table: DialectTable, days: float) -> str:
        assert table.histograms is not None
        models = await self._models(table)
        return words.nothing_kept_text(f"{table.histograms.prompt}_bucket", days, self._model, models)

    async def _lengths(self, table: DialectTable, name: str) -> TokenLengths | None:
        over = f"[{round(self._span_s)}s]"
        picked = self._picked(table)
        found = await self._now(f"sum by (le) (increase({name}_bucket{picked}{over}))")
        buckets = [(number_in(each.metric.get("le", "")), each.number) for each in found]
        total = _only(await self._now(f"sum(increase({name}_sum{picked}{over}))"))
        count = _only(await self._now(f"sum(increase({name}_count{picked}{over}))"))
        mean = total / count if total and count else None
        return lengths_in([pair for pair in buckets if not math.isnan(pair[0])], mean)

    async def _counts(self, table: DialectTable) -> tuple[Floats, float | None]:
        """Requests of each ten minutes from the first that is known on (nan: not known), and when that began."""
        names = [signal.name for signal in table.metrics["requests_total"]]
        asked = f"sum(increase({names[0]}{self._picked(table)}[{round(WINDOW_S)}s]))"
        found = await self._over_time(asked)
        if not found:
            return np.empty(0), None
        first_s, last_s = min(found), max(found)
        counts = np.full(round((last_s - first_s) / WINDOW_S) + 1, np.nan)
        for at_s, count in found.items():
            counts[round((at_s - first_s) / WINDOW_S)] = count
        return counts, first_s - WINDOW_S

    async def _in_flight(self, table: DialectTable, first_s: float | None) -> InFlight | None:
        assert table.histograms is not None
        picked, each_s = self._picked(table), f"{round(WINDOW_S)}s"
        running, waiting = (table.metrics[name][0].name for name in ("running", "waiting"))
        there = f"max_over_time((sum({running}{picked}) + sum({waiting}{picked}))[{each_s}:30s])"
        found = await self._over_time(there)
        if not found:
            return None
        at_s, most = max(found.items(), key=lambda pair: pair[1])
        latency = f"histogram_quantile(0.5, sum by (le) (increase({table.histograms.e2e}_bucket{picked}[{each_s}])))"
        e2e_s = _only(await self._now(latency, at_s))
        begun_s = None if first_s is None else max(0.0, at_s - WINDOW_S - first_s)
        return InFlight(most=round(most), at_s=begun_s, e2e_p50_s=e2e_s, known=1.0)

    async def _shared(self, table: DialectTable) -> float | None:
        over = f"{self._picked(table)}[{round(self._span_s)}s]"
        pairs = zip(table.metrics["prefix_hits_total"], table.metrics["prefix_queries_total"], strict=True)
        for hits, queries in pairs:
            share = _only(await self._now(f"sum(increase({hits.name}{over})) / sum(increase({queries.name}{over}))"))
            if share is not None and 0 <= share <= 1:
                return share
        return None

    async def _models(self, table: DialectTable) -> tuple[str, ...]:
        assert table.histograms is not None
        label, name = table.histograms.model_label, table.metrics["requests_total"][0].name
        found = await self._now(f"group by ({label}) (last_over_time({name}[{round(self._span_s)}s]))")
        return tuple(sorted(self._access.heard(each.metric.get(label, "")) for each in found))

    def _picked(self, table: DialectTable) -> str:
        """The labels of what is asked for."""
        assert table.histograms is not None
        if self._model is None:
            return ""
        quoted = self._model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{{{table.histograms.model_label}="{quoted}"}}'

    # ── Asking ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _now(self, question: str, at_s: float | None = None) -> list[Series]:
        return await self._asker.ask("query", query=question, time=f"{self._now_s if at_s is None else at_s:.0f}")

    async def _over_time(self, question: str) -> dict[float, float]:
        """Values every ten minutes, by their time."""
        found: dict[float, float] = {}
        for start_s, end_s in _stretches(self._now_s - self._span_s + WINDOW_S, self._now_s):
            asked = {"start": f"{start_s:.0f}", "end": f"{end_s:.0f}", "step": f"{WINDOW_S:.0f}"}
            for each in await self._asker.ask("query_range", query=question, **asked):
                found |= {at_s: value for at_s, text in each.values if math.isfinite(value := number_in(text))}
        return found


def _stretches(start_s: float, end_s: float) -> Iterator[tuple[float, float]]:
    """Spans of no more points than one answer may have, on one grid."""
    while start_s <= end_s:
        stop_s = min(end_s, start_s + (POINTS - 1) * WINDOW_S)
        yield start_s, stop_s
        start_s += POINTS * WINDOW_S


def _only(found: list[Series]) -> float | None:
    """The value of a question that has one answer; None: there is none."""
    value = found[0].number if len(found) == 1 else math.nan
    return value if math.isfinite(value) else None
