"""Bins: what a load did in one short interval, collected while it happens and closed by whoever owns the clock."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.samples import LoadBin
from llmtop.meter.quantiles import bucketed, quantile


class Binner:
    """Counts the events of one interval. Every verb is a few list appends: they are called once per chunk."""

    def __init__(self) -> None:
        self._closed_s = 0.0
        self._clear()

    def _clear(self) -> None:
        self._sent = self._ok = self._errors = self._cancelled = 0
        self._output_tokens = self._prompt_tokens = 0
        self._ttft_ms: list[float] = []
        self._tpot_ms: list[float] = []
        self._e2e_ms: list[float] = []
        self._gaps_ns = array("q")

    def sent(self) -> None:
        self._sent += 1

    def first_token(self, ttft_ns: int, prompt_tokens: int = 0) -> None:
        self._ttft_ms.append(ttft_ns / 1e6)
        self._prompt_tokens += prompt_tokens

    def tokens(self, count: int, gap_ns: int | None = None) -> None:
        """`count` tokens arrived in one read, `gap_ns` after the read before (None: it was the first)."""
        self._output_tokens += count
        if gap_ns is not None:
            self._gaps_ns.append(gap_ns)

    def finished(self, record: RequestRecord) -> None:
        if record.outcome is Outcome.OK:
            self._ok += 1
            if record.tpot_s is not None:
                self._tpot_ms.append(record.tpot_s * 1e3)
            if record.e2e_s is not None:
                self._e2e_ms.append(record.e2e_s * 1e3)
        elif record.outcome is Outcome.TEXTLESS:
            self._ok += 1
        elif record.outcome is Outcome.CANCELLED:
            self._cancelled += 1
        else:
            self._errors += 1

    def close(
        self, t_s: float, *, target: float, in_flight: int, prefilling: int = 0, oldest_prefill_s: float | None = None
    ) -> LoadBin:
        """The bin that ends now, at `t_s` of the run clock; the next one starts empty."""
        gaps_ns = sorted(self._gaps_ns)
        closed = LoadBin(
            t_s=t_s,
            span_s=t_s - self._closed_s,
            target=target,
            in_flight=in_flight,
            prefilling=prefilling,
            oldest_prefill_s=oldest_prefill_s,
            sent=self._sent,
            ok=self._ok,
            errors=self._errors,
            cancelled=self._cancelled,
            output_tokens=self._output_tokens,
            prompt_tokens=self._prompt_tokens,
            ttft_ms=tuple(self._ttft_ms),
            tpot_ms=tuple(self._tpot_ms),
            e2e_ms=tuple(self._e2e_ms),
            gap_ms=_gap_quantiles(gaps_ns),
            gaps=len(gaps_ns),
            gap_sum_ms=sum(gaps_ns) / 1e6 if gaps_ns else None,
            gap_counts=bucketed(gaps_ns),
        )
        self._closed_s = t_s
        self._clear()
        return closed


def _gap_quantiles(ordered: Sequence[int]) -> tuple[float, float, float] | None:
    if not ordered:
        return None
    return quantile(ordered, 0.5) / 1e6, quantile(ordered, 0.99) / 1e6, ordered[-1] / 1e6


def merge_bins(bins: Sequence[LoadBin]) -> LoadBin:
    """One bin for the same interval seen by several load workers.

    Counts add up, those of the gaps' buckets too. Gap quantiles cannot be merged exactly: p50 is weighted by the number
    of gaps, p99 and the maximum are the largest (an upper bound).
    """
    if len(bins) == 1:
        return bins[0]
    gaps = sum(b.gaps for b in bins)
    seen = [(b.gaps, b.gap_ms) for b in bins if b.gap_ms is not None]
    counts: Counter[int] = Counter()
    for b in bins:
        counts.update(dict(b.gap_counts))
    ages = [b.oldest_prefill_s for b in bins if b.oldest_prefill_s is not None]
    return LoadBin(
        t_s=max(b.t_s for b in bins),
        span_s=max(b.span_s for b in bins),
        target=sum(b.target for b in bins),
        in_flight=sum(b.in_flight for b in bins),
        prefilling=sum(b.prefilling for b in bins),
        oldest_prefill_s=max(ages, default=None),
        sent=sum(b.sent for b in bins),
        ok=sum(b.ok for b in bins),
        errors=sum(b.errors for b in bins),
        cancelled=sum(b.cancelled for b in bins),
        output_tokens=sum(b.output_tokens for b in bins),
        prompt_tokens=sum(b.prompt_tokens for b in bins),
        ttft_ms=tuple(value for b in bins for value in b.ttft_ms),
        tpot_ms=tuple(value for b in bins for value in b.tpot_ms),
        e2e_ms=tuple(value for b in bins for value in b.e2e_ms),
        gap_ms=(
            sum(n * gap[0] for n, gap in seen) / gaps,
            max(gap[1] for _, gap in seen),
            max(gap[2] for _, gap in seen),
        )
        if seen
        else None,
        gaps=gaps,
        gap_sum_ms=sum(sums) if (sums := [b.gap_sum_ms for b in bins if b.gap_sum_ms is not None]) else None,
        gap_counts=tuple(sorted(counts.items())),
    )
