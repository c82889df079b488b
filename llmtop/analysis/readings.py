"""What opinions read of the facts: requests, loads and gauges as columns, without what the client held up."""

from __future__ import annotations

import math

import numpy as np
from msgspec.structs import replace

from llmtop.analysis.fits import Array
from llmtop.analysis.gate import at_gate
from llmtop.analysis.levels import EMPTY
from llmtop.analysis.sessions import Gauges, Progress, Requests
from llmtop.analysis.steps import StepFunction
from llmtop.domain.endpoint import safe_url
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.meter.facts import Facts, Table
from llmtop.wording.answers import not_seen

POWER_AGE_S = 3.0
"""What a GPU takes is read once a second; what was read longer ago is no more known."""


def finished_requests(facts: Facts, newest: int | None = None) -> Requests:
    """Requests that ended by themselves, without those that the client held up, in order of sending.

    Args:
        newest: only so many that ended last; None: all.
    """
    size = len(facts.requests)
    return requests_of_rows(facts.requests, 0 if newest is None else max(0, size - newest), size)


def requests_of_rows(table: Table, first: int, stop: int) -> Requests:
    """`finished_requests` among the rows from `first` to before `stop`."""

    def rows(name: str) -> Array:
        return np.array(table.column(name)[first:stop])

    kept = (rows("cancelled") == 0) & (rows("client_limited") == 0)
    sent_s = rows("sent_s")
    sent_s = np.where(np.isfinite(sent_s), sent_s, rows("scheduled_s"))
    order = np.flatnonzero(kept)
    order = order[np.argsort(sent_s[order], kind="stable")]

    def column(name: str) -> Array:
        return rows(name)[order]

    return Requests(
        sent_s=sent_s[order],
        first_token_s=column("first_token_s"),
        end_s=column("end_s"),
        ttft_s=column("ttft_s"),
        tpot_s=column("tpot_s"),
        e2e_s=column("e2e_s"),
        ok=column("ok") > 0,
        error=column("error") > 0,
        prompt_tokens=column("prompt_tokens"),
        output_tokens=column("output_tokens"),
        status=column("status"),
        name=column("name"),
        model=column("model"),
    )


def flight(
    facts: Facts, requests: Requests, since_s: float = -math.inf, until_s: float = math.inf
) -> StepFunction | None:
    """Requests in flight over time: from the bins, or from the requests themselves where there are none.

    Args:
        since_s, until_s: bins that ended before or after are left out.
    """
    first, size = _bins(facts, since_s, until_s)
    if size:
        t_s, span_s, count = (np.array(facts.bins.column(name)[first:size]) for name in ("t_s", "span_s", "in_flight"))
        start = 0.0 if first == facts.bins.dropped == 0 else facts.bins.column("in_flight")[max(0, first - 1)]
        before = np.append(start, count[:-1])
        return StepFunction(np.append(t_s - span_s, t_s[-1]), np.append((before + count) / 2, count[-1]))
    if len(requests.sent_s):
        return StepFunction.of_intervals(requests.sent_s, requests.end_s)
    return None


def commanded(facts: Facts, since_s: float = -math.inf, until_s: float = math.inf) -> StepFunction | None:
    """The commanded load over time, from the bins as `flight`; None without bins."""
    first, size = _bins(facts, since_s, until_s)
    if size == 0:
        return None
    t_s, span_s, target = (np.array(facts.bins.column(name)[first:size]) for name in ("t_s", "span_s", "target"))
    return StepFunction(t_s - span_s, target)


def _bins(facts: Facts, since_s: float, until_s: float) -> tuple[int, int]:
    """(first row, row after the last) of the bins that ended in a span, but of one at least; (0, 0) without any."""
    t_s = facts.bins.column("t_s")
    first = min(int(np.searchsorted(t_s, since_s)), max(0, len(t_s) - 1))
    return first, min(len(t_s), max(first + 1, int(np.searchsorted(t_s, until_s, side="right"))))


def server_gauges(facts: Facts) -> Gauges:
    """What the server showed, and what waited at the gate before it, without the seconds in which the client was the
    bottleneck.
    """
    table, size = facts.server, len(facts.server)
    if size == 0:
        return Gauges()
    t_s = column(table, "t_s", size)
    total = column(table, "preemptions_total", size)
    gauges = Gauges(
        t_s=t_s,
        running=column(table, "running", size),
        waiting=column(table, "waiting", size) + at_gate(facts, t_s),
        kv_usage=column(table, "kv_usage", size),
        preemptions=np.maximum(np.diff(total, prepend=total[:1]), 0.0),
        iteration_tokens=column(table, "iteration_tokens_mean", size),
        prefill_s=column(table, "prefill_mean_s", size),
        kv_fullest=_kv_fullest(facts, t_s),
    )
    return gauges.pick(~_red(facts, t_s))


def unseen_limits(facts: Facts, meta: RunMeta, slo: Slo) -> tuple[str, ...]:
    """That limits on what the server shows were not judged, and why, where a page was named that told of none."""
    urls = [safe_url(url) for url in meta.endpoint.metrics_urls]
    shown = {"queue": facts.server.column("waiting"), "kv": facts.server.column("kv_usage")}
    names = [each.name for each in slo.limits if each.metric in shown and not np.isfinite(shown[each.metric]).any()]
    if not urls or not names:
        return ()
    said = [each.text for each in facts.events if each.kind == "server" and each.severity == "warning"]
    why = next((text for text in reversed(said) if any(url in text for url in urls)), "")
    return (not_seen(names, why),)


def _kv_fullest(facts: Facts, t_s: Array) -> Array:
    """KV usage of the replica whose cache is the fullest, at each scrape; NaN: no replica tells one."""
    size = len(facts.replicas)
    told_s, usage = column(facts.replicas, "t_s", size), column(facts.replicas, "kv_usage", size)
    at = np.minimum(np.searchsorted(t_s, told_s), len(t_s) - 1)
    own = (t_s[at] == told_s) & np.isfinite(usage)
    fullest = np.full(len(t_s), math.nan)
    np.fmax.at(fullest, at[own], usage[own])
    return fullest


def progress_of(facts: Facts) -> Progress:
    table, size = facts.bins, len(facts.bins)
    if size == 0:
        return Progress()
    t_s = column(table, "t_s", size)
    span_s, ok, output_tokens = (column(table, name, size) for name in ("span_s", "ok", "output_tokens"))
    return Progress(t_s, span_s, ok, output_tokens, _power_at(facts, t_s)).pick(~_red(facts, t_s))


def _power_at(facts: Facts, t_s: Array) -> Array:
    """What the GPUs took at each instant, as it was read last; NaN: not lately, or fewer told it than before."""
    size = len(facts.power)
    if size == 0:
        return np.full(len(t_s), math.nan)
    told_s, power_w, read = (column(facts.power, name, size) for name in ("t_s", "power_w", "read"))
    place = np.searchsorted(told_s, t_s, side="right") - 1
    fresh = (place >= 0) & (t_s - told_s[place] <= POWER_AGE_S) & (read[place] == np.maximum.accumulate(read)[place])
    return np.where(fresh, power_w[place], math.nan)


def _red(facts: Facts, t_s: Array) -> np.typing.NDArray[np.bool_]:
    """Whether the client was the bottleneck within a second of each instant."""
    size = len(facts.client)
    red_s = column(facts.client, "t_s", size)[column(facts.client, "red", size) > 0]
    if len(red_s) == 0:
        return np.zeros(len(t_s), dtype=bool)
    nearest = np.clip(np.searchsorted(red_s, t_s), 0, len(red_s) - 1)
    gap = np.minimum(np.abs(red_s[nearest] - t_s), np.abs(red_s[np.maximum(nearest - 1, 0)] - t_s))
    return np.asarray(gap <= 1.0)


def column(table: Table, name: str, size: int) -> Array:
    """The first `size` rows of a column as a copy: the table may grow in another thread meanwhile."""
    return np.array(table.column(name)[:size])


def waiting_ages(facts: Facts) -> Array:
    """Ages of the requests that still wait for their first token, spread evenly up to the oldest (a queue's are)."""
    size = len(facts.bins)
    if size == 0:
        return EMPTY
    count = facts.bins.column("prefilling")[size - 1]
    oldest = facts.bins.column("oldest_prefill_s")[size - 1]
    if not (count >= 1 and np.isfinite(oldest)):
        return EMPTY
    return np.asarray(oldest * (np.arange(int(count)) + 1.0) / int(count))


def driven_lengths(point: LoadPoint, embeds: bool) -> LoadPoint:
    """The point with the lengths that requests have: those for embeddings have no answer's."""
    return replace(point, output_tokens=0) if embeds else point
