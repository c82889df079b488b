"""What a spike of the load left behind: how long until all was as before, and how long the SLO was broken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from llmtop.analysis.debt import debt_of, sent_left_out_s
from llmtop.analysis.fits import Array
from llmtop.analysis.gate import at_gate
from llmtop.analysis.levels import EMPTY
from llmtop.analysis.sessions import Requests
from llmtop.analysis.work import alongside, middle
from llmtop.domain.load import LoadPlan, Replay, Shape, Spike
from llmtop.domain.over_time import Recovery
from llmtop.domain.run import LoadChange
from llmtop.domain.slo import Slo
from llmtop.meter.facts import Facts
from llmtop.wording.over_time import recovered

JUMP = 1.5
"""By hand, a load that rises by half at once is a spike if it comes back."""
BACK = 0.15
"""As near to where it was counts as back."""
LONGEST_S = 300.0
"""By hand, a load held longer is a level of its own."""
GROUP = 8
"""Requests in a row whose median is compared with what was usual before: a fifth of a second at 40 a second."""
_BEFORE_S = 10.0
"""Before the spike as long is looked at as the spike lasted, but at least so long."""
_SURE = 0.975
_LEAST = 0.03
"""Medians of groups before the spike are below the band in so many of a hundred; the band is at least so wide."""
_USUAL = 0.9
"""So many of a hundred requests before had no more prompts beside them; the others may have been the run's first, which
all come at once."""
_KV_SLACK = 0.02
_DRAWS = 400


@dataclass(frozen=True, slots=True)
class LoadSpike:
    """A jump of the commanded load and its return: base until `up_s`, peak until `down_s`, base until `until_s`."""

    up_s: float
    down_s: float
    base: float
    peak: float
    since_s: float = -math.inf
    """When the load came to its base."""
    until_s: float = math.inf


def spikes_of(changes: Sequence[LoadChange], plan: LoadPlan) -> tuple[LoadSpike, ...]:
    """Spikes that a spike stage of the plan commanded, or a hand (or what repeats one): a jump by half, soon back.

    The levels of a plan are none, however far apart: they are there to be measured.
    """
    shapes = {stage.name: stage.shape for stage in plan.stages}
    moves = [(before, later) for before, later in pairwise(changes) if before.point != later.point]
    found, i = [], 0
    while i < len(moves):
        before, up = moves[i]
        base = before.point
        staged = _by_stage(before, up, shapes)
        wanted = 1.0 if staged else JUMP
        i += 1
        if not (staged or _by_hand(up, shapes)) or base.axis != up.point.axis:
            continue
        if not 0 < wanted * base.value <= up.point.value:
            continue
        most = (1 + BACK + 1e-9) * base.value
        back = next((j for j in range(i, len(moves)) if moves[j][1].point.value <= most), None)
        if back is None:
            continue
        down, inside = moves[back][1], moves[i - 1 : back]
        begun_s = moves[i - 2][1].t_s if i >= 2 else changes[0].t_s
        i = back + 1
        is_back = down.point.value >= (1 - BACK) * base.value
        if is_back and (staged or (_by_hand(down, shapes) and down.t_s - up.t_s <= LONGEST_S)):
            until_s = moves[i][1].t_s if i < len(moves) else math.inf
            peak = max(later.point.value for _, later in inside)
            found.append(LoadSpike(up.t_s, down.t_s, base.value, peak, begun_s, until_s))
    return tuple(found)


def _by_stage(before: LoadChange, up: LoadChange, shapes: Mapping[str, Shape]) -> bool:
    """Whether a spike stage commanded this jump: the one out of its base, not the one into it."""
    shape = shapes.get(up.stage or "") if up.reason == "stage" else None
    return isinstance(shape, Spike) and (before.stage == up.stage or shape.rise == 0)


def _by_hand(change: LoadChange, shapes: Mapping[str, Shape]) -> bool:
    """Whether a hand moved the load, or what repeats one."""
    repeated = change.reason == "stage" and isinstance(shapes.get(change.stage or ""), Replay)
    return change.reason == "hand" or repeated


def recoveries_of(facts: Facts, plan: LoadPlan, slo: Slo, requests: Requests, now_s: float) -> tuple[Recovery, ...]:
    """The recovery from each spike of a run so far.

    Args:
        requests: from `finished_requests`.
    """
    server = facts.server
    shown_s = np.array(server.column("t_s"))
    waiting, kv = (np.array(server.column(name)[: len(shown_s)]) for name in ("waiting", "kv_usage"))
    waiting += at_gate(facts, shown_s)
    left_out_s = sent_left_out_s(facts)
    return tuple(
        recovery(spike, slo, requests, (shown_s, waiting), (shown_s, kv), now_s, left_out_s)
        for spike in spikes_of(facts.changes, plan)
    )


def recovery(
    spike: LoadSpike,
    slo: Slo,
    requests: Requests,
    waiting: tuple[Array, Array],
    kv_usage: tuple[Array, Array],
    now_s: float,
    left_out_s: Array = EMPTY,
) -> Recovery:
    """When TTFT and TPOT were as before the spike, the queue as short and the KV cache as empty.

    Latencies are as before when the median of `GROUP` requests in a row is one that as many requests of before might
    have: below the 97.5th percentile of such medians, drawn from them. A failed request took for ever.
    """
    until_s = min(spike.until_s, now_s)
    before_s = max(spike.since_s, spike.up_s - max(_BEFORE_S, spike.down_s - spike.up_s))
    before = requests.pick((requests.sent_s >= before_s) & (requests.sent_s < spike.up_s))
    after = requests.pick((requests.sent_s >= spike.down_s) & (requests.sent_s < until_s))
    alike = _alike(before, after, requests)
    back = {
        "TTFT": _latency_back(before.ttft_s, alike, alike.ttft_s),
        "TPOT": _latency_back(before.tpot_s, after, after.tpot_s),
    }
    for name, (t_s, values), slack in (("queue", waiting, 0.5), ("KV cache", kv_usage, _KV_SLACK)):
        back[name] = _gauge_back(t_s, values, (before_s, spike.up_s), (spike.down_s, until_s), slack)
    times = [each for each in back.values() if each is not None]
    comparable = back["TTFT"] is not None
    took_s = max(times) - spike.down_s if comparable and math.inf not in times else None
    end_s = until_s if took_s is None else spike.down_s + took_s
    debt = debt_of(requests, slo, spike.up_s, end_s, left_out_s)
    found = Recovery(
        up_s=spike.up_s,
        down_s=spike.down_s,
        base=spike.base,
        peak=spike.peak,
        took_s=took_s,
        seen_s=max(0.0, until_s - spike.down_s) if comparable else 0.0,
        end_s=end_s,
        debt_s=None if debt is None else debt.seconds,
        missed=None if debt is None else debt.missed,
        n=None if debt is None else debt.n,
        left_out=0 if debt is None else debt.left_out,
    )
    return recovered(found, [name for name, at_s in back.items() if at_s == math.inf])


def recovered_within(recoveries: Sequence[Recovery], within_s: float) -> bool | None:
    """Whether every spike was recovered from in time; None: there was none, or one was not seen for so long."""
    answers = [
        each.took_s <= within_s if each.took_s is not None else (False if each.seen_s >= within_s else None)
        for each in recoveries
    ]
    if False in answers:
        return False
    return None if None in answers or not answers else True


def _alike(before: Requests, after: Requests, among: Requests) -> Requests:
    """Those of `after` with no more prompts sent beside them than was usual before; all, if they are too few.

    A spike of equal answers leaves the users in step. Their prompts then wait for each other, at the same server.
    """
    if len(before.sent_s) == 0:
        return after
    near_s = middle(before.ttft_s)
    usual = float(np.quantile(alongside(before, among, near_s), _USUAL))
    chosen = np.flatnonzero(alongside(after, among, near_s) <= usual)
    return after.pick(chosen) if len(chosen) >= GROUP else after


def _latency_back(before: Array, after: Requests, values: Array) -> float | None:
    """When the requests that are sent take as long as before; inf: not yet; None: too few to compare."""
    values = np.where(after.error, math.inf, values)
    before, known = before[np.isfinite(before)], ~np.isnan(values)
    values, sent_s = values[known], after.sent_s[known]
    if len(before) < GROUP or len(values) < GROUP:
        return None
    draws = np.random.default_rng(len(before)).integers(0, len(before), (_DRAWS, GROUP))
    usual = float(np.quantile(np.median(before[draws], axis=1), _SURE))
    limit = max(usual, (1 + _LEAST) * float(np.median(before)))
    groups = np.lib.stride_tricks.sliding_window_view(values, GROUP)
    calm = np.flatnonzero(np.median(groups, axis=1) <= limit)
    if len(calm) == 0:
        return math.inf
    return float(sent_s[calm[0] + int(np.argmax(groups[calm[0]] <= limit))])


def _gauge_back(
    t_s: Array, values: Array, before: tuple[float, float], after: tuple[float, float], slack: float
) -> float | None:
    """When a gauge is not above what it was; inf: not yet; None: it was not seen."""
    usual = values[(t_s >= before[0]) & (t_s < before[1]) & np.isfinite(values)]
    later = (t_s >= after[0]) & (t_s < after[1]) & np.isfinite(values)
    if len(usual) == 0 or not later.any():
        return None
    calm = np.flatnonzero(later & (values <= float(usual.max()) + slack))
    return float(t_s[calm[0]]) if len(calm) else math.inf
