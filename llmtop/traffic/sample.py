"""A thin sample of recorded lengths that keeps both distributions and what ties them."""

from __future__ import annotations

import numpy as np

from llmtop.traffic.table import Floats, Ints, Traffic

MOST_PAIRS = 2000
"""Of a profile: a p99 rests on 20 of them, and the file has 25 kB."""
_GOLDEN = (5**0.5 - 1) / 2


def thinned(traffic: Traffic, most: int = MOST_PAIRS) -> tuple[tuple[int, int], ...]:
    """(prompt, output) of at most `most` pairs, of the requests that tell both lengths; the same each time.

    Requests are cut into `most` strata of equal size by prompt length, and one is taken of each: that whose output is,
    within its stratum, at the next multiple of the golden ratio modulo 1, so that any run of strata has outputs of all
    ranks (Kronecker's sequence; Niederreiter, Random Number Generation and Quasi-Monte Carlo Methods, 1992, ch. 3).
    Then each length becomes the mean of its slice of the whole column, by rank (Iman and Conover, Communications in
    Statistics B 11, 1982): ranks are tied as they were, means are those of all requests, and no pair need be one's own.
    """
    told = np.flatnonzero((traffic.prompt > 0) & (traffic.output > 0))
    prompt, output = traffic.prompt[told], traffic.output[told]
    if len(told) <= most:
        return tuple(zip(prompt.tolist(), output.tolist(), strict=True))
    borders = np.arange(most + 1) * len(told) // most
    sizes = np.diff(borders)
    by_prompt = np.argsort(prompt, kind="stable")
    within = by_prompt[np.lexsort((output[by_prompt], np.repeat(np.arange(most), sizes)))]
    place: Floats = np.arange(1.0, most + 1) * _GOLDEN % 1
    chosen = within[borders[:-1] + (place * sizes).astype(np.int64)]
    outputs = np.empty(most, dtype=np.int64)
    outputs[np.argsort(output[chosen], kind="stable")] = _slices(output, borders)
    return tuple(zip(_slices(prompt, borders).tolist(), outputs.tolist(), strict=True))


def _slices(column: Ints, borders: Ints) -> Ints:
    """The mean of each slice of the sorted column, whole."""
    means: Ints = np.round(np.add.reduceat(np.sort(column), borders[:-1]) / np.diff(borders)).astype(np.int64)
    return means
