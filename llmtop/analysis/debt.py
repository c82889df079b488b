"""SLO debt: for how long a limit that users feel was broken, and how many requests missed one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.levels import EMPTY
from llmtop.analysis.readings import column
from llmtop.analysis.sessions import Requests
from llmtop.analysis.slo import Sample, holds
from llmtop.domain.slo import LATENCIES, Slo, SloTarget
from llmtop.meter.facts import Facts

_DEBT_REQUESTS = 5
"""Seconds are put together until they hold so many requests: fewer cannot break a limit for sure."""


@dataclass(frozen=True, slots=True)
class Debt:
    """What a span of a run owes."""

    seconds: float
    """Whose requests, by when they were sent, broke a limit."""
    missed: int
    """Requests that failed, or took longer than a limit, each by itself."""
    n: int
    """All that were sent in the span and ended."""
    left_out: int = 0
    """Beside them, those that the client held up: what they owe is the server's or ours."""


def debt_of(requests: Requests, slo: Slo, from_s: float, until_s: float, left_out_s: Array = EMPTY) -> Debt | None:
    """What was sent from `from_s` until `until_s` against the limits that users feel.

    Seconds of fewer than `_DEBT_REQUESTS` are judged together with the next. None: no such limit, or no request.

    Args:
        left_out_s: when the requests were sent that are not among `requests` (`sent_left_out_s`).
    """
    felt = slo.felt
    sent_s = requests.sent_s
    within = requests.pick((sent_s >= from_s) & (sent_s < until_s) & (requests.ok | requests.error))
    if not felt or len(within.sent_s) == 0:
        return None
    # Of a span that may be a year, only seconds in which something was sent, and the last.
    seconds, sent = np.unique((within.sent_s - from_s).astype(int), return_counts=True)
    last = max(math.ceil(until_s - from_s) - 1, int(seconds[-1]))
    slow = within.error.copy()
    for target in felt:
        if target.metric in LATENCIES:
            slow |= getattr(within, f"{target.metric}_s") > target.limit
    broken, first, start = 0, 0, 0
    for second, stop in zip([*seconds.tolist(), last], [*np.cumsum(sent).tolist(), len(slow)], strict=True):
        if stop - first < _DEBT_REQUESTS and second < last:
            continue
        if slow[first:stop].any() and _breaks(within.pick(np.arange(first, stop)), felt):
            broken += second + 1 - start
        first, start = stop, second + 1
    left_out = int(((left_out_s >= from_s) & (left_out_s < until_s)).sum())
    return Debt(float(min(broken, until_s - from_s)), int(slow.sum()), len(slow), left_out)


def sent_left_out_s(facts: Facts) -> Array:
    """When those requests were sent that ended and are left out of all figures, because the client held them up."""
    size = len(facts.requests)
    sent_s, limited, cancelled = (
        column(facts.requests, name, size) for name in ("sent_s", "client_limited", "cancelled")
    )
    sent: Array = sent_s[(limited > 0) & (cancelled == 0)]
    return sent


def _breaks(members: Requests, felt: Sequence[SloTarget]) -> bool:
    ok = members.pick(members.ok)
    sample = Sample(ok.ttft_s, ok.tpot_s, ok.e2e_s, int(members.error.sum()))
    return any(holds(sample, target) is False for target in felt)
