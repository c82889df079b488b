"""Where the time went, and whose requests the server holds: pure functions over what client and server measured.

The server's means come from deltas of its histograms, so they cover the requests that reached that point within the
interval; client and server figures are compared as means over the same span, never request by request.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from llmtop.domain.samples import ServerSnapshot

SCHEDULING_SLACK = 1.0
"""Requests that may be ours on the server and not counted by us yet, or the reverse: the two are not read at once."""


class TtftSplit(Struct, frozen=True):
    """Mean TTFT in parts, in seconds. Parts that the server does not tell are None; nothing is made up for them."""

    client_s: float
    network_s: float | None
    """Client minus server: network, TLS, gateway, HTTP front end and tokenizing before the server's clock starts.
    Below zero only by noise, and then 0."""
    queue_s: float | None
    prefill_s: float | None
    other_s: float | None
    """Of the server's own TTFT, what is neither queue nor prefill: input processing and the way to the engine."""


def split_ttft(client_s: float, server_s: float | None, queue_s: float | None, prefill_s: float | None) -> TtftSplit:
    """Split the client's mean TTFT by the server's means over the same span."""
    network_s = None if server_s is None else max(client_s - server_s, 0.0)
    other_s = None
    if server_s is not None and queue_s is not None and prefill_s is not None:
        other_s = max(server_s - queue_s - prefill_s, 0.0)
    return TtftSplit(client_s, network_s, queue_s, prefill_s, other_s)


def counter_rate(before: float | None, after: float | None, span_s: float) -> float | None:
    """Growth of a counter per second; None when it is not known on both sides, fell (restart) or no time passed."""
    if before is None or after is None or after < before or span_s <= 0:
        return None
    return (after - before) / span_s


def preemption_rate(before: ServerSnapshot, after: ServerSnapshot) -> float | None:
    """Preemptions (SGLang: retractions) per second between two snapshots."""
    return counter_rate(before.preemptions_total, after.preemptions_total, after.t_s - before.t_s)


def prefix_hit_ratio(before: ServerSnapshot, after: ServerSnapshot) -> float | None:
    """Share of the looked-up prompt tokens that were in the prefix cache, between two snapshots.

    hits / queries of the two counters; None if nothing was looked up, or after a restart.
    """
    hits = counter_rate(before.prefix_hits_total, after.prefix_hits_total, 1.0)
    queries = counter_rate(before.prefix_queries_total, after.prefix_queries_total, 1.0)
    return hits / queries if hits is not None and queries else None


def foreign_requests(
    snapshot: ServerSnapshot, in_flight_low: float, in_flight_high: float | None = None
) -> float | None:
    """Requests that run or wait on the server and are not ours; None if the server does not tell.

    Ours are between `in_flight_low` and `in_flight_high`: the least and the most that we had in flight around the
    scrape. Only what exceeds the most by more than one request is foreign; without a count of those that wait, it is
    what runs.
    """
    if snapshot.running is None:
        return None
    held = snapshot.running + (snapshot.waiting or 0.0)
    surplus = held - max(in_flight_low, in_flight_low if in_flight_high is None else in_flight_high)
    return surplus if surplus > SCHEDULING_SLACK else 0.0


def infer_max_num_seqs(snapshots: Sequence[ServerSnapshot], kv_full: float = 0.9) -> float | None:
    """The number of slots of a server that does not tell it, as an estimate; None if nothing shows it yet.

    While requests wait, the cache is below `kv_full` and nothing is preempted, `running` cannot be held back by
    memory: if it then stands at one value within 1, that is the number of slots. Needs three such snapshots.
    """
    plateau = []
    for before, after in pairwise(snapshots):
        calm = (counter_rate(before.preemptions_total, after.preemptions_total, 1.0) or 0.0) == 0.0
        queued = after.waiting is not None and after.waiting >= 1.0
        if after.running and queued and calm and (after.kv_usage is None or after.kv_usage < kv_full):
            plateau.append(after.running)
    if len(plateau) < 3 or max(plateau) - min(plateau) > 1.0:
        return None
    return max(plateau)
