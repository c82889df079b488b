"""What one replica was measured to carry while the old ones were full, as the twin of a deployment wants it."""

from __future__ import annotations

import math

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.headroom import Fleet
from llmtop.analysis.readings import column
from llmtop.analysis.sessions import Mask, Requests
from llmtop.domain.load import LoadPoint
from llmtop.domain.scaling import Scaling
from llmtop.domain.slo import LATENCIES, Slo
from llmtop.meter.facts import Facts
from llmtop.wording import scaled as words

FULL = 0.5
"""With so many waiting on average the slots are taken."""
LEAST_S, LEAST_REQUESTS = 3.0, 20
"""So long full, and with so many requests that ended meanwhile, tells what a replica carries."""
NEAR = 0.9
"""From this share of the queue at the decision on, it was there to be seen."""
BEFORE_S = 60.0
"""Of the time before a rise, so much tells what a request takes that need not wait."""
RISE_S = 5.0
"""Of the time before a rise, so much tells what is in service as it begins."""
ALONE = 0.1
"""Where nothing was sent before the rise, the quickest tenth did not wait."""
LEAST_ALONE = 5


def queue_for_each(facts: Facts, t_s: float, replicas: int) -> float | None:
    """Requests that waited for each replica when it was last seen up to `t_s`; None: the server shows no queue."""
    seen_s, waiting = _gauge(facts, "waiting")
    known = np.flatnonzero((seen_s <= t_s) & np.isfinite(waiting))
    return float(waiting[known[-1]]) / max(1, replicas) if len(known) else None


def reaction_s(facts: Facts, told: Scaling, queue: float) -> float:
    """For how long a queue near that of the decision had been there by then: as late another decision comes, too."""
    assert told.decided_s is not None
    decided_s = told.from_s + told.decided_s
    seen_s, waiting = _gauge(facts, "waiting")
    there = (seen_s >= told.from_s) & (seen_s <= decided_s) & (waiting / max(1, told.before) >= NEAR * queue)
    return decided_s - float(seen_s[there][0]) if there.any() else 0.0


def fleet_of(
    facts: Facts, slo: Slo, requests: Requests, told: Scaling, serve_s: tuple[float, ...], until_s: float
) -> Fleet | str:
    """The deployment as it was when the load rose; or why it is not known."""
    from_s = told.from_s
    loads = _loads(facts, from_s, until_s)
    if any(point.gate is not None for _, point in loads):
        return words.GATED
    seen_s, waiting = _gauge(facts, "waiting")
    running = _gauge(facts, "running")[1]
    known = np.isfinite(waiting) & np.isfinite(running) & (seen_s <= until_s)
    if not known[seen_s >= from_s].any():
        return words.NO_QUEUE
    slack = _slack_s(slo, requests, from_s, until_s)
    if isinstance(slack, str):
        return slack
    new_s = from_s + (told.decided_s or 0.0) + serve_s[0] if serve_s else until_s
    full = known & (seen_s >= from_s) & (seen_s <= min(new_s, until_s)) & (waiting > FULL)
    carried = _carried(facts, seen_s, full, told.before)
    if carried is None:
        return words.NOT_BUSY
    present = (running + waiting)[known & (seen_s < from_s) & (seen_s >= from_s - RISE_S)]
    return Fleet(
        loads=tuple((t_s - from_s, point) for t_s, point in loads),
        until_s=until_s - from_s,
        slots=float(np.median(running[full])) / told.before,
        rate=carried,
        slack_s=slack,
        before=told.before,
        serve_s=serve_s,
        start=float(np.median(present)) if len(present) else 0.0,
    )


def _carried(facts: Facts, seen_s: Array, full: Mask, replicas: int) -> float | None:
    """Requests/s of one replica from the first to the last moment at which all slots were seen taken."""
    if replicas < 1 or full.sum() < 2:
        return None
    begin_s, end_s = float(seen_s[full][0]), float(seen_s[full][-1])
    table = facts.requests
    ended_s, ok = np.array(table.column("end_s")), np.array(table.column("ok")) > 0
    count = int((ok & (ended_s > begin_s) & (ended_s <= end_s)).sum())
    if end_s - begin_s < LEAST_S or count < LEAST_REQUESTS:
        return None
    return count / (end_s - begin_s) / replicas


def _slack_s(slo: Slo, requests: Requests, from_s: float, until_s: float) -> float | str:
    """How long a request may wait until it misses a limit on what it waits for."""
    sent_s = requests.sent_s
    before = requests.ok & (sent_s < from_s) & (sent_s >= from_s - BEFORE_S)
    usual = before if before.sum() >= LEAST_ALONE else requests.ok & (sent_s >= from_s) & (sent_s < until_s)
    share = 0.5 if usual is before else ALONE
    slacks = []
    for target in slo.felt:
        if target.metric in LATENCIES and target.metric != "tpot":
            values: Array = getattr(requests, f"{target.metric}_s")[usual]
            values = values[np.isfinite(values)]
            slacks += [target.limit - float(np.quantile(values, share))] if len(values) else []
    slack = min(slacks, default=math.nan)
    return words.NO_WAIT_LIMIT if math.isnan(slack) else words.NEVER_FAST if slack <= 0 else slack


def _loads(facts: Facts, from_s: float, until_s: float) -> list[tuple[float, LoadPoint]]:
    """What was commanded from `from_s` on: (from when on, what)."""
    changes = [each for each in tuple(facts.changes) if each.t_s < until_s]
    first = max((i for i, each in enumerate(changes) if each.t_s <= from_s), default=0)
    return [(max(each.t_s, from_s), each.point) for each in changes[first:]]


def _gauge(facts: Facts, name: str) -> tuple[Array, Array]:
    size = len(facts.server)
    return column(facts.server, "t_s", size), column(facts.server, name, size)
