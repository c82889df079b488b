"""The last seconds of a run: what the diagnosis, the SLO of now and the overload marker look at."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from msgspec import structs

from llmtop.analysis.cliff import QUEUE_SHARE, QUEUED_TTFT
from llmtop.analysis.diagnosis import WINDOW_S, Recent
from llmtop.analysis.fits import Array
from llmtop.analysis.gate import at_gate, configured_s, gates_at
from llmtop.analysis.judge import Limits, is_pinned
from llmtop.analysis.levels import EMPTY, MIN_REQUESTS
from llmtop.analysis.readings import server_gauges, waiting_ages
from llmtop.analysis.sessions import Requests
from llmtop.analysis.slo import Sample
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Ending, RunMeta
from llmtop.meter.canaries import ended_s
from llmtop.meter.facts import SERVER_COLUMNS, Facts, Table
from llmtop.wording.sentences import holder_of

SLO_WINDOW_S, SLO_WINDOW_E2E = 60.0, 3.0
"""The SLO of now looks back so far, and on a slow server so many E2E: requests must have had the time to end."""
SAME_LOAD = 0.08
"""A commanded load that is within this of the present one, or half a user, is the same load."""
FOREIGN_SCRAPES = 3
"""So many in a row must show foreign requests: one may be of another instant than our own count."""
FOREIGN_LEAST, FOREIGN_SHARE = 2.0, 0.2
"""Requests beyond ours, and their share of ours, up to which they may be ours on their way in or out."""
HELD_AGAIN_S = 60.0
"""A function of users' own code that goes on holding the loop is told again after so long, and no sooner."""
_NEAR_S = 0.5
"""Our own requests at a scrape are the most of the bins that ended within this of it."""
_STANDS_S = 2.0
"""The commanded load must have stood for so long before a scrape that tells of foreign requests."""
_LATELY = 256
PROOF_S = 15.0
"""So long after a change of the load it settles, as long as nothing is proven of it; from then on it is not known."""
GAP_S = 10.0
"""So long the server's own TTFT must stay below what is measured here, and requests in flight here be missing there."""
GAP_TOKENS = 10
"""Fewest first tokens to compare."""
SAME_LENGTH = 0.1
"""Share by which a counted length may differ from the asked one: templates add some tokens, samples of a spread do."""
_QUEUE_POLLS = 5
_FIRST_TOKENS = 8


def recent_of(facts: Facts, requests: Requests, point: LoadPoint, now_s: float) -> Recent:
    """Means and growth over the last `WINDOW_S` seconds (fewer since the load last changed, but at least five).

    None of it is of before the server or the gate last changed: that was another server, also to the requests that
    began then and ended since.
    """
    changed_s = last_change_s(facts, now_s)
    same_s = configured_s(facts, now_s)
    start_s = max(now_s - WINDOW_S, min(changed_s, now_s - 5.0), same_s)
    here_s, server_s = _first_tokens(facts, requests, now_s) if now_s - changed_s >= GAP_S else (None, None)
    server = _Rows(facts.server, start_s, now_s)
    bins = _Rows(facts.bins, start_s, now_s)
    client = _Rows(facts.client, start_s, now_s)
    waiting = _waiting(facts, server)
    of_late = requests.pick((requests.end_s > start_s) & (requests.end_s <= now_s) & (requests.sent_s >= same_s))
    return Recent(
        polls=server.count,
        in_flight=bins.mean("in_flight"),
        running=server.median("running"),
        running_max=server.highest("running"),
        waiting=float(waiting.mean()) if len(waiting) else None,
        gate=point.gate,
        at_gate=float(np.mean(at_gate(facts, server.column("t_s")))) if server.count else 0.0,
        waiting_share=float(np.mean(waiting >= 1)) if len(waiting) else 0.0,
        kv_usage=server.mean("kv_usage"),
        preemptions=server.growth("preemptions_total"),
        requests=server.growth("requests_total"),
        iteration_tokens=server.mean("iteration_tokens_mean"),
        ttft_here_s=here_s,
        ttft_server_s=server_s,
        held=_held(facts, now_s) if now_s - changed_s >= GAP_S else 0.0,
        flops=server.growth("flops_total"),
        memory_bytes=server.growth("memory_bytes_total"),
        prefix_hit_ratio=server.mean("prefix_hit_ratio"),
        shared_prefix=point.shared_prefix,
        goes_on=bool((facts.requests.column("turn")[-_LATELY:] > 1).any()),
        in_visits=bool(np.isfinite(facts.requests.column("session")[-_LATELY:]).any()),
        red_share=client.mean("red") or 0.0,
        holder=_holder(facts, start_s),
        late_share=client.mean("late") or 0.0,
        ended=of_late,
        changed_s=changed_s,
        foreign=_foreign(facts, server.stop, start_s),
    )


def _holder(facts: Facts, since_s: float) -> str:
    """The last that held the loop, of those that were told since then, or so shortly before that they are not again."""
    told = [event.text for event in facts.events if event.kind == "client" and event.t_s >= since_s - HELD_AGAIN_S]
    return next(filter(None, map(holder_of, reversed(told))), "")


def _waiting(facts: Facts, server: _Rows) -> Array:
    """Requests that waited at each scrape that shows them, those at the gate among them."""
    waiting = server.column("waiting") + at_gate(facts, server.column("t_s"))
    return waiting[np.isfinite(waiting)]


def last_change_s(facts: Facts, now_s: float) -> float:
    """When what was asked for last changed, as known at `now_s`."""
    return next((change.t_s for change in reversed(facts.changes) if change.t_s <= now_s), 0.0)


def _first_tokens(facts: Facts, requests: Requests, now_s: float) -> tuple[float | None, float | None]:
    """Mean TTFT in seconds of the first tokens of the last `GAP_S`, measured here and told by the server.

    Both over the same scrapes with the same weights, the number of first tokens seen here between two scrapes: a mean
    of all requests that ended, or of all scrapes, would compare other requests. A first token at a scrape may be told
    by the one before or after, so the slowest of the three counts. Requests whose end is not seen yet lack. While some
    wait at the gate the two tell of different times.
    """
    table = facts.server
    t_s, told = np.array(table.column("t_s")), np.array(table.column("ttft_mean_s"))
    first_s = requests.first_token_s
    recent = np.flatnonzero((first_s > now_s - GAP_S) & (requests.end_s <= now_s))
    if len(t_s) < 3 or len(recent) == 0 or at_gate(facts, t_s[t_s > now_s - GAP_S]).max(initial=0.0) >= 1:
        return None, None
    number = np.searchsorted(t_s, first_s[recent])
    near = np.stack([told[np.clip(number + i, 0, len(told) - 1)] for i in (-1, 0, 1)])
    known = np.isfinite(near).all(axis=0) & (number < len(t_s))
    if known.sum() < GAP_TOKENS:
        return None, None
    return float(requests.ttft_s[recent[known]].mean()), float(near.max(axis=0)[known].mean())


def _held(facts: Facts, now_s: float) -> float:
    """Requests in flight here at the instant of a scrape and neither on the server nor at the gate: the fewest of the
    last `GAP_S`."""
    server, bins = _Rows(facts.server, now_s - GAP_S, now_s), facts.bins
    t_s, running, waiting = (server.column(name) for name in ("t_s", "running", "waiting"))
    at = np.searchsorted(bins.column("t_s"), t_s, side="right") - 1
    if len(t_s) < GAP_S / 2 or not np.isfinite(running).all() or at.min() < 0:
        return 0.0
    here = np.array(bins.column("in_flight"))[at]
    return max(0.0, float((here - running - np.nan_to_num(waiting) - at_gate(facts, t_s)).min()))


def as_ended(facts: Facts, meta: RunMeta) -> RunMeta:
    """The run with what really ended it: one that was left by hand, or braked, because its server went away.

    What failed while the server fell away says nothing of the load it fell at.
    """
    if meta.ended_s is None or meta.ending not in (Ending.HAND, Ending.BRAKE):
        return meta
    states = [event for event in facts.events if event.state is not None]
    gone = len(states) > 1 and states[-1].state is EndpointState.DOWN and states[-2].state is EndpointState.UP
    loaded = [change.point.value > 0 for change in facts.changes if gone and change.t_s < states[-1].t_s]
    return structs.replace(meta, ending=Ending.GONE) if loaded and loaded[-1] else meta


def last_held_s(facts: Facts, now_s: float) -> float:
    """End of the last bin in which any load was commanded: what drains afterwards says nothing of it."""
    held_s = facts.bins.column("t_s")[facts.bins.column("target") > 0]
    return min(now_s, float(held_s[-1])) if len(held_s) else now_s


def _foreign(facts: Facts, stop: int, start_s: float) -> float | None:
    """Requests on the server that are not ours, by the last scrapes since `start_s`; None: all are ours.

    Args:
        stop: row of the server's table up to which scrapes are looked at.
    """
    since = int(np.searchsorted(facts.server.column("t_s")[:stop], start_s, side="right"))
    t_s, running, waiting = (facts.server.column(name)[since:stop] for name in ("t_s", "running", "waiting"))
    inside = running + np.nan_to_num(waiting)
    bins_s = facts.bins.column("t_s")
    bins = slice(int(np.searchsorted(bins_s, start_s - max(_NEAR_S, _STANDS_S))), len(bins_s))
    bins_s, in_flight, target = bins_s[bins], facts.bins.column("in_flight")[bins], facts.bins.column("target")[bins]
    ours = np.minimum(in_flight, gates_at(facts, bins_s))
    beyond: list[float] = []
    for i in range(len(t_s) - 1, -1, -1):
        if len(beyond) == FOREIGN_SCRAPES:
            break
        if len(bins_s) == 0 or bins_s[-1] < t_s[i]:
            continue
        first, last = np.searchsorted(bins_s, (t_s[i] - _NEAR_S, t_s[i] + _NEAR_S))
        near = float(ours[first : last + 1].max()) + _canaries_at(facts, float(t_s[i]))
        stood = target[int(np.searchsorted(bins_s, t_s[i] - _STANDS_S)) : last + 1]
        if np.ptp(stood) > 0:
            continue
        if not inside[i] - near > max(FOREIGN_LEAST, FOREIGN_SHARE * near):
            return None
        beyond.append(float(inside[i]) - near)
    return float(np.median(beyond)) if len(beyond) == FOREIGN_SCRAPES else None


def _canaries_at(facts: Facts, t_s: float) -> int:
    """Canaries in flight at a scrape, which are nobody else's: one or none, as they go one after the other."""
    for canary in reversed(facts.canaries):
        if canary.t_s <= t_s + _NEAR_S:
            return int((ended_s(canary) or canary.t_s) >= t_s - _NEAR_S)
    return 0


class _Rows:
    """Rows of one table within (start, stop]."""

    def __init__(self, table: Table, start_s: float, stop_s: float) -> None:
        self._table = table
        t_s: Array = self._table.column("t_s")
        self._first = int(np.searchsorted(t_s, start_s, side="right"))
        self.stop = int(np.searchsorted(t_s, stop_s, side="right"))
        self.count = self.stop - self._first

    def column(self, name: str) -> Array:
        values: Array = self._table.column(name)[self._first : self.stop]
        return values

    def known(self, name: str) -> Array:
        values = self.column(name)
        return values[np.isfinite(values)]

    def mean(self, name: str) -> float | None:
        values = self.known(name)
        return float(values.mean()) if len(values) else None

    def median(self, name: str) -> float | None:
        values = self.known(name)
        return float(np.median(values)) if len(values) else None

    def highest(self, name: str) -> float | None:
        values = self.known(name)
        return float(values.max()) if len(values) else None

    def growth(self, name: str) -> float | None:
        values = self.known(name)
        return max(0.0, float(values[-1] - values[0])) if len(values) >= 2 else None


def limits_of(facts: Facts, meta: RunMeta, point: LoadPoint) -> Limits:
    """What the server tells of its own limits now, by its metrics or by the probe.

    A figure that the last snapshot lacks is not known, whatever an earlier one had: that was another server's. One
    without any figure is of several servers in turn: then what the probe was told is one replica's, too.
    """

    def latest(name: str) -> float | None:
        values = facts.server.column(name)
        return float(values[-1]) if len(values) and np.isfinite(values[-1]) else None

    blocks, size = latest("num_gpu_blocks"), latest("block_size")
    pool = latest("kv_capacity_tokens")
    if pool is None and blocks is not None and size is not None:
        pool = blocks * size
    if facts.requests.column("pool_full").any():  # slots that share one pool claim all of it each: they do not add up
        pool = latest("max_model_len") or pool
    nobodys = len(facts.server) and not any(latest(name) is not None for name in SERVER_COLUMNS if name != "t_s")
    probed = meta.info.max_num_seqs if meta.info is not None and not nobodys else None
    slots = latest("max_num_seqs") or probed
    gate = None if _queues_itself(facts, point.gate) or (slots or math.inf) <= (point.gate or 0) else point.gate
    return Limits(
        max_num_seqs=slots if gate is None else gate,
        gate=gate,
        own_slots=slots,
        kv_capacity_tokens=pool,
        max_num_batched_tokens=latest("max_num_batched_tokens"),
        prompt_tokens=point.prompt_tokens,
        output_tokens=point.output_tokens,
        block_tokens=size if size is not None else 1.0,
        max_concurrency=meta.profile.caps.max_concurrency,
    )


def _queues_itself(facts: Facts, gate: int | None) -> bool:
    """Whether requests wait on the server while it runs fewer than the gate lets through: a limit of its own binds."""
    if gate is None:
        return False
    running, waiting = (np.array(facts.server.column(name)) for name in ("running", "waiting"))
    busy = np.flatnonzero(running[: len(waiting)] > 0)[-_QUEUE_POLLS:]
    queues = len(busy) == _QUEUE_POLLS and bool(np.all(waiting[busy] >= 1))
    return queues and not is_pinned(float(np.median(running[busy])), gate)


def measured_lengths(limits: Limits, requests: Requests) -> Limits:
    """The limits with the lengths that the server counted, in place of those asked for: it may cut a prompt."""
    told: dict[str, float] = {}
    for name in ("prompt", "output"):
        tokens = getattr(requests, f"{name}_tokens")[requests.ok]
        tokens = tokens[tokens > 0]
        if len(tokens) >= MIN_REQUESTS:
            mean = float(tokens.mean())
            told |= {f"{name}_tokens": mean, f"{name}_cv": float(tokens.std()) / mean}
    return replace(limits, **told)  # type: ignore[arg-type]


def as_counted(point: LoadPoint, limits: Limits, own: bool = False) -> LoadPoint:
    """The point with the length of prompts that was counted, where the server cut them.

    Args:
        own: requests say themselves how long their answers are to be, whatever the point does: that of answers, too.
    """
    if own and limits.output_tokens and point.output_tokens:
        point = structs.replace(point, output_tokens=max(1, round(limits.output_tokens)))
    asked, counted = point.prompt_tokens, limits.prompt_tokens
    if counted is None or abs(counted - asked) <= SAME_LENGTH * asked:
        return point
    return structs.replace(point, prompt_tokens=round(counted))


def slo_sample(facts: Facts, meta: RunMeta, requests: Requests, now_s: float) -> Sample:
    """What the SLO is held against: a finished run as a whole, of a live one what was sent at the present load.

    Nothing (not known) until requests that were sent at this load have ended: those of before say nothing about it.
    While no load is commanded it is the last one that was.
    """
    if meta.ended_s is not None:
        return Sample.of_window(requests, server_gauges(facts), EMPTY, now_s)
    requests = requests.pick(requests.end_s <= now_s)
    lately = requests.pick(np.arange(max(0, len(requests.sent_s) - _LATELY), len(requests.sent_s)))
    usual_s = float(np.median(lately.e2e_s[lately.ok])) if lately.ok.any() else 0.0
    since_s, stop_s = _present_load(facts, now_s)
    if since_s > 0:
        since_s += lately.service_s
    start_s = max(since_s, stop_s - max(SLO_WINDOW_S, SLO_WINDOW_E2E * usual_s))
    ages_s = waiting_ages(facts) if now_s >= facts.t_s else EMPTY
    return sample_between(
        facts, requests, start_s, stop_s, ages_s[(ages_s < now_s - start_s) & (ages_s >= now_s - stop_s)]
    )


def sample_between(
    facts: Facts, requests: Requests, start_s: float, stop_s: float, censored_s: Array = EMPTY
) -> Sample:
    """What an SLO is held against over one span: the requests that were sent in it, and what the server showed.

    Args:
        censored_s: ages at `stop_s` of requests sent in it that wait for their first token.
    """
    gauges = server_gauges(facts)
    members = requests.pick((requests.sent_s >= start_s) & (requests.sent_s <= stop_s))
    shown = gauges.pick((gauges.t_s > start_s) & (gauges.t_s <= stop_s))
    return Sample.of_window(members, shown, censored_s, max(1e-9, stop_s - max(0.0, start_s)))


def _present_load(facts: Facts, now_s: float) -> tuple[float, float]:
    """Since when the commanded load is what it is, of the present server and in flight, and up to when (now) it is.

    0 from the start of the run on. Users who think are in flight as they come.
    """
    changes, stop_s = [change for change in facts.changes if change.t_s <= now_s], now_s
    while len(changes) > 1 and changes[-1].point.value == 0:
        stop_s = changes.pop().t_s
    now = changes[-1].point if changes else None
    since_s = 0.0
    for change in reversed(changes):
        if now is None or not _same_load(change.point, now):
            break
        since_s = 0.0 if change is changes[0] else change.t_s
    since_s = max(since_s, configured_s(facts, now_s))
    if now is None or now.axis != "concurrency" or now.think_time_s > 0:
        return since_s, stop_s
    t_s = facts.bins.column("t_s")
    more = np.flatnonzero((facts.bins.column("in_flight") > (1 + SAME_LOAD) * now.value + 0.5) & (t_s <= now_s))
    drained_s = float(t_s[more[-1]]) if len(more) else 0.0
    return max(since_s, drained_s), stop_s


def _same_load(point: LoadPoint, now: LoadPoint) -> bool:
    slack = 0.5 if now.axis == "concurrency" else 0.0
    near = point.axis == now.axis and abs(point.value - now.value) <= SAME_LOAD * now.value + slack
    return near and point.at(now.axis, now.value) == now


def overloaded_now(
    facts: Facts, requests: Requests, base_s: float | None, now_s: float, before: bool, usual_s: float
) -> bool:
    """Past the cliff right now.

    Raised by five polls in a row with requests waiting, or by the last eight first tokens: queue share of E2E above
    `QUEUE_SHARE` and TTFT above `QUEUED_TTFT` times the base. Cleared when nothing waits for one service time and
    TTFT is below 1.3 times the base. What was before the server or the gate last changed does not count.

    Args:
        base_s: median TTFT of the lowest level; None: not known yet.
        before: the answer a moment ago.
        usual_s: median time from first to last token.
    """
    same_s = configured_s(facts, now_s)
    polls = _Rows(facts.server, max(now_s - 30.0, same_s), now_s)
    waiting = _waiting(facts, polls)[-_QUEUE_POLLS:]
    queued = len(waiting) == _QUEUE_POLLS and bool(np.all(waiting >= 1))
    first = requests.first_token_s
    own = requests.ok & (requests.sent_s >= same_s)
    recent = np.flatnonzero(np.isfinite(first) & (first > now_s - 30.0) & own)
    recent = recent[np.argsort(first[recent], kind="stable")][-_FIRST_TOKENS:]
    ttft_s = float(np.median(requests.ttft_s[recent])) if len(recent) else None
    slow = False
    if ttft_s is not None and base_s is not None and len(recent) == _FIRST_TOKENS:
        share = (ttft_s - base_s) / float(np.median(requests.e2e_s[recent]))
        slow = share > QUEUE_SHARE and ttft_s > QUEUED_TTFT * base_s
    if queued or slow:
        return True
    if not before:
        return False
    calm = _waiting(facts, _Rows(facts.server, max(now_s - max(usual_s, 1.0), same_s), now_s))
    empty = bool(np.all(calm < 1))
    return not (empty and (ttft_s is None or base_s is None or ttft_s < 1.3 * base_s))
