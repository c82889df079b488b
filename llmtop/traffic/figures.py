"""What recorded requests are like: rates, bursts, lengths and requests in flight, in a few passes over columns.

A rate that changes in the course of a day is no burst, so burstiness is told within ten minutes, as the authors of
ServeGen do (github.com/alibaba/ServeGen, data/*/chunk-*-trace.csv: rate and CV of each window, weighted by the rate).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from llmtop.domain.traffic import (
    FEWEST_IN_WINDOW,
    WINDOW_S,
    BusiestSpan,
    Counted,
    InFlight,
    LengthBin,
    SharedFrom,
    TokenLengths,
    TrafficFigures,
)
from llmtop.traffic.table import Blocks, Floats, Ints, Traffic

HOUR_S = 3600.0
FEWEST_PAIRS = 10
"""For a correlation."""
AT_ONCE = 0.2
"""Share of requests that come at the tick of another one, above which the clock is too coarse for gaps."""
FINE = 0.1
"""Ticks shorter than this share of the mean gap change its CV by a few per cent at most."""
ON_TICKS = 0.01
"""How far from a multiple of the tick, in ticks, a clock's times may lie."""
COUNTED_TICKS = 5
"""Ticks that are counted together at least, so that what comes just before and after one is not taken for a burst."""
AROUND_PEAK_S = 300.0
ROWS_AT_ONCE, IDS_AT_ONCE = 50_000, 1_000_000
"""Of blocks, so that what is worked with is small beside what there is."""
SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
"""Of the table of lengths: close where tails are long."""


def characterise(traffic: Traffic) -> TrafficFigures:
    """The figures of recorded requests; an empty table has none.

    Units: seconds and tokens. Sentences of the source are passed on; what is not known is None.
    """
    start_s, span_s = traffic.start_s, traffic.span_s
    count = len(traffic)
    mean = (count - 1) / span_s if span_s > 0 else None
    peak = busiest(start_s, WINDOW_S)
    cv, counted, tick_s = burstiness(start_s)
    shared, shared_from = shared_prefix(traffic)
    return TrafficFigures(
        source=traffic.source,
        requests=count,
        began_at=traffic.began_at,
        span_s=span_s,
        mean_rps=mean,
        peak=peak,
        busiest_hour=busiest(start_s, HOUR_S),
        peak_to_mean=None if peak is None or mean is None else peak.rate_rps / mean,
        cv=cv,
        cv_from=counted,
        tick_s=tick_s,
        prompt=lengths_of(traffic.prompt),
        output=lengths_of(traffic.output),
        correlation=correlation(traffic.prompt, traffic.output),
        shared_prefix=shared,
        shared_from=shared_from,
        in_flight=most_in_flight(traffic),
        says=traffic.says,
    )


def busiest(start_s: Floats, window_s: float) -> BusiestSpan | None:
    """The window of `window_s` with most arrivals; None: they span no window, or too few came for a rate."""
    if not len(start_s) or start_s[-1] - start_s[0] < window_s:
        return None
    begins = start_s[: np.searchsorted(start_s, start_s[-1] - window_s, side="right")]
    counts = np.searchsorted(start_s, begins + window_s) - np.arange(len(begins))
    place = int(np.argmax(counts))
    most = int(counts[place])
    if most < FEWEST_IN_WINDOW:
        return None
    return BusiestSpan(rate_rps=most / window_s, requests=most, begins_s=float(begins[place]))


def burstiness(start_s: Floats) -> tuple[float | None, Counted | None, float | None]:
    """(CV, from what it is known, tick of a coarse clock).

    CV = sum(n_w c_w) / sum(n_w) over windows w of ten minutes from the first arrival on: n_w arrivals a window, c_w the
    standard deviation of the gaps between them over their mean. Where many requests share a tick of the clock, c_w is
    the square root of variance / mean of the counts of ticks, which for a renewal process tends to the CV of its gaps
    (Cox and Lewis, The Statistical Analysis of Series of Events, 1966, ch. 4).
    """
    gaps = np.diff(start_s)
    if len(gaps) < FEWEST_IN_WINDOW or start_s[-1] <= start_s[0]:
        return None, None, None
    window = ((start_s - start_s[0]) // WINDOW_S).astype(np.int64)
    tick_s = _tick_s(gaps)
    if tick_s is not None:
        of_counts = _cv_of_counts(start_s, window, tick_s)
        return of_counts, None if of_counts is None else "counts", tick_s
    inside = window[1:] == window[:-1]
    window, gaps = window[1:][inside], gaps[inside]
    n = np.bincount(window)
    total, squares = np.bincount(window, gaps), np.bincount(window, gaps * gaps)
    enough = (n >= FEWEST_IN_WINDOW) & (total > 0)
    if not enough.any():
        return None, None, None
    n, total, squares = n[enough], total[enough], squares[enough]
    mean = total / n
    cv = np.sqrt(np.maximum(0.0, (squares - n * mean * mean) / (n - 1))) / mean
    return float(np.average(cv, weights=n)), "gaps", None


def _tick_s(gaps: Floats) -> float | None:
    """The tick of a clock that many requests share; None: they do not."""
    apart = gaps[gaps > 0]
    if len(apart) > (1 - AT_ONCE) * len(gaps) or not len(apart):
        return None
    tick_s = float(apart.min())
    if tick_s < FINE * gaps.mean():
        return None
    ticks = apart / tick_s
    return tick_s if np.mean(np.abs(ticks - np.round(ticks)) <= ON_TICKS) > 1 - ON_TICKS else None


def _cv_of_counts(start_s: Floats, window: Ints, tick_s: float) -> float | None:
    """By the counts of equal bins of whole ticks, inside of windows that are full."""
    bins = int(WINDOW_S / (tick_s * COUNTED_TICKS))
    if bins < FEWEST_IN_WINDOW:
        return None
    place = ((start_s - start_s[0]) % WINDOW_S * (bins / WINDOW_S) + 1e-9).astype(np.int64)
    full = int((start_s[-1] - start_s[0]) // WINDOW_S)
    chosen = window < full
    counts = np.bincount(window[chosen] * bins + np.minimum(place[chosen], bins - 1), minlength=full * bins)
    table = counts[: full * bins].reshape(full, bins)
    n = table.sum(axis=1)
    enough = n >= FEWEST_IN_WINDOW
    if not enough.any():
        return None
    cv = np.sqrt(table[enough].var(axis=1, ddof=1) / table[enough].mean(axis=1))
    return float(np.average(cv, weights=n[enough]))


def lengths_of(column: Ints) -> TokenLengths | None:
    """Of the lengths that are told (not 0); None: none is."""
    told = column[column > 0]
    if not len(told):
        return None
    table = np.quantile(told, SHARES)
    p50, p90, p95, p99 = np.quantile(told, (0.5, 0.9, 0.95, 0.99))
    octave = np.frexp(told.astype(np.float64))[1] - 1
    first, counts = int(octave.min()), np.bincount(octave - octave.min())
    return TokenLengths(
        requests=len(told),
        mean=float(told.mean()),
        p50=float(p50),
        p90=float(p90),
        p95=float(p95),
        p99=float(p99),
        table=tuple((share, float(tokens)) for share, tokens in zip(SHARES, table, strict=True)),
        histogram=tuple(
            LengthBin(2.0 ** (first + place), 2.0 ** (first + place + 1), int(each))
            for place, each in enumerate(counts)
        ),
    )


def correlation(prompt: Ints, output: Ints) -> float | None:
    """Spearman's, of the requests that tell both lengths; None: too few do, or one of them is always the same."""
    both = (prompt > 0) & (output > 0)
    if np.count_nonzero(both) < FEWEST_PAIRS:
        return None
    one, other = (_ranks(column[both]) for column in (prompt, output))
    spread = one.std() * other.std()
    return float(np.mean((one - one.mean()) * (other - other.mean())) / spread) if spread > 0 else None


def _ranks(values: Ints) -> Floats:
    """Of each value, the mean place of all that equal it."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def shared_prefix(traffic: Traffic) -> tuple[float | None, SharedFrom | None]:
    """(share of all prompt tokens, `cached` or `blocks`): as a cache had it, or as one without bounds would."""
    if traffic.cached is not None:
        told = (traffic.cached >= 0) & (traffic.prompt > 0)
        if told.any():
            hits = np.minimum(traffic.cached[told], traffic.prompt[told]).sum()
            return float(hits / traffic.prompt[told].sum()), "cached"
    if traffic.blocks is not None and len(traffic.blocks.ids) and traffic.prompt.sum() > 0:
        hits = np.minimum(_begun_before(traffic.blocks) * traffic.blocks.tokens, traffic.prompt).sum()
        return float(hits / traffic.prompt.sum()), "blocks"
    return None, None


def _begun_before(blocks: Blocks) -> Ints:
    """Of each row, how many ids it begins with that a row before it has had."""
    ids, ends = blocks.ids, blocks.ends
    first, numbers = _first_places(ids)
    begins = np.concatenate(([0], ends[:-1]))
    found = np.zeros(len(ends), dtype=np.int64)
    for top in range(0, len(ends), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        start, sizes = begins[rows], (ends - begins)[rows]
        here = slice(start[0], ends[rows][-1])
        places = np.arange(here.start, here.stop)
        new = np.append(np.where(first[numbers(here)] < np.repeat(start, sizes), here.stop, places), here.stop)
        stop = np.minimum.reduceat(new, start - here.start)
        found[rows] = np.where(sizes > 0, np.minimum(stop, ends[rows]) - start, 0)
    return found


def _first_places(ids: Ints) -> tuple[npt.NDArray[np.int32], Callable[[slice], Ints]]:
    """Where each id stands first, by its number, and the numbers of a stretch of ids."""
    least, most = int(ids.min()), int(ids.max())
    if most - least >= 4 * len(ids) + 1024:  # far apart: numbered by their order
        _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
        return first.astype(np.int32), lambda here: inverse[here]
    places: npt.NDArray[np.int32] = np.zeros(most - least + 1, dtype=np.int32)
    for top in range((len(ids) - 1) // IDS_AT_ONCE * IDS_AT_ONCE, -1, -IDS_AT_ONCE):
        part = ids[top : top + IDS_AT_ONCE][::-1]
        places[part - least] = np.arange(top + len(part) - 1, top - 1, -1)  # of an id that comes again the last counts
    return places, lambda here: ids[here] - least


def most_in_flight(traffic: Traffic) -> InFlight | None:
    """By a sweep over the beginnings and ends that are known; None: no end is."""
    if traffic.e2e_s is None:
        return None
    told = np.isfinite(traffic.e2e_s) & (traffic.e2e_s >= 0)
    if not told.any():
        return None
    start_s, e2e_s = traffic.start_s[told], traffic.e2e_s[told]
    there = np.arange(1, len(start_s) + 1) - np.searchsorted(np.sort(start_s + e2e_s), start_s, side="right")
    place = int(np.argmax(there))
    at_s = float(start_s[place])
    around = e2e_s[np.abs(start_s - at_s) <= AROUND_PEAK_S]
    return InFlight(
        most=max(1, int(there[place])), at_s=at_s, e2e_p50_s=float(np.median(around)), known=float(told.mean())
    )
