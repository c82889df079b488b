"""What is said of a run over time: what creeps in a soak, and what a spike left behind."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec.structs import replace

from llmtop.domain.over_time import Drift, Recovery
from llmtop.domain.scaling import Scaling
from llmtop.wording.figures import TEXT, clock
from llmtop.wording.sentences import CLIENT_SLOW, listed


class Figure(StrEnum):
    """What is followed over a soak, as it is called."""

    TTFT = "TTFT"
    TPOT = "TPOT"
    KV = "KV cache"
    MEMORY = "server memory"
    PREEMPTIONS = "preemptions"
    ERRORS = "errors"
    CLIENT_LAG = "client lag"
    CLIENT_CPU = "client CPU"


_SHARES: dict[str, str] = {
    Figure.KV: " of the cache",
    Figure.ERRORS: " of requests",
    Figure.PREEMPTIONS: " of requests",
    Figure.CLIENT_CPU: " of a core",
}
LEFT_OUT = 0.02
"""Where the client held up more than this share of the requests, an SLO debt is told as the least that it can be."""
_MOST = 0.8
"""A part of the run that is shorter than this share of it is named."""
_SLOWER = "something else slows the server"
_FASTER = "the server has become faster"
_STEPS: dict[str, tuple[str, str]] = {
    Figure.TTFT: (_SLOWER, _FASTER),
    Figure.TPOT: (_SLOWER, _FASTER),
    Figure.KV: ("the same requests hold more of it", "the same requests hold less of it"),
}
_CREEPS: dict[str, str] = {
    Figure.KV: "KV cache leaks: with as many requests running, blocks in use",
    Figure.MEMORY: "server memory leaks: its resident size",
    Figure.TTFT: "TTFT at equal load creeps:",
    Figure.TPOT: "TPOT at equal load creeps:",
    Figure.CLIENT_LAG: "the client's own receive lag creeps:",
    Figure.CLIENT_CPU: "the client's own CPU time creeps:",
}


def told(drift: Drift, *, filled: bool = False) -> Drift:
    """With its sentence: `TPOT +50.0 % from 03:20 on: something else slows the server`.

    Args:
        filled: the KV cache leaks, which is why everything else becomes slower.
    """
    return replace(drift, text=_sentence(drift, filled))


def _sentence(drift: Drift, filled: bool) -> str:
    change = _amount(drift.metric, drift.change)
    if drift.shape == "step" and drift.since_s is not None:
        worse, better = _STEPS.get(drift.metric, ("", ""))
        why = worse if drift.change > 0 else better
        if filled and worse == _SLOWER:
            why = "while the KV cache leaks"
        return f"{drift.metric} {change} from {clock(drift.since_s)} on" + (f": {why}" if why else "")
    if drift.shape == "levelling":
        return f"{drift.metric} {change}, then level: a warm-up, no drift"
    slope = _per_hour(drift) + ("" if drift.since_s is None else f" from {clock(drift.since_s)} on")
    if drift.shape == "none":
        return f"{drift.metric} {slope}: none proven"
    if drift.change < 0:
        return f"{drift.metric} falls: {slope}"
    return f"{_CREEPS.get(drift.metric, f'{drift.metric} creep:')} {slope}"


def _per_hour(drift: Drift) -> str:
    slope, low, high = (_number(drift.metric, each or 0.0) for each in (drift.per_hour, drift.low, drift.high))
    return f"{slope}{_of(drift.metric)}/h ({low} to {high})"


def _amount(metric: str, change: float) -> str:
    return _number(metric, change) + _of(metric)


def _number(metric: str, change: float) -> str:
    if metric == Figure.CLIENT_LAG:
        return ("+" if change > 0 else "-" if change < 0 else "") + TEXT.latency(abs(change))
    return TEXT.change(change)


def _of(metric: str) -> str:
    """What a change is a share of, where it is not the figure's level."""
    return _SHARES.get(metric, "")


def visible(drifts: Sequence[Drift], least_s: float, requests: int) -> str:
    """`from 01:00 to 1:01:00 a creep of TTFT above +8.00 %/h and of TPOT above +2.00 %/h would have been seen`.

    Args:
        least_s: how long one load must be held for anything to be told.
        requests: that must end meanwhile for latencies to be told.
    """
    need = f"hold one load for {TEXT.duration(least_s)} and {requests} requests after its warm-up"
    if not drifts:
        return f"too short to tell what creeps: {need}"
    seen = [
        f"{'' if i else 'a creep '}of {each.metric} above {_amount(each.metric, each.visible_per_hour or 0.0)}/h"
        for i, each in enumerate(drifts)
        if each.metric in (Figure.TTFT, Figure.TPOT, Figure.KV, Figure.MEMORY)
    ]
    text = f"from {clock(drifts[0].from_s)} to {clock(drifts[0].until_s)} {listed(seen)} would have been seen"
    return text if any(each.metric == Figure.TTFT for each in drifts) else f"{text}; for latencies, {need}"


def part(drifts: Sequence[Drift], run_s: float) -> str:
    """`what creeps is told of 05:15 to 10:00 alone: before or after, the load or the server was another`; often empty.

    Args:
        run_s: how long the run is.
    """
    if not drifts or drifts[0].until_s - drifts[0].from_s >= _MOST * run_s:
        return ""
    told = f"{clock(drifts[0].from_s)} to {clock(drifts[0].until_s)}"
    return f"what creeps is told of {told} alone: before or after, the load or the server was another"


def blocks(before: float, after: float, t_s: float, replica: bool) -> str:
    """`KV blocks 768 -> 1 536 from 05:00 on: a replica was added`"""
    why = "" if not replica else ": a replica was added" if after > before else ": a replica is gone"
    return f"KV blocks {TEXT.whole(before)} -> {TEXT.whole(after)} from {clock(t_s)} on{why}"


def recovered(recovery: Recovery, missing: Sequence[str]) -> Recovery:
    """With its sentence: `spike 16 to 96: recovered 12 s after it; SLO missed for 45 s, 40 of 900 requests`.

    Args:
        missing: what was not as before as long as it was seen.
    """
    if recovery.took_s is not None:
        what = f"recovered {TEXT.duration(recovery.took_s)} after it"
    elif recovery.seen_s > 0:
        what = f"not recovered in the {TEXT.duration(recovery.seen_s)} that were seen after it ({listed(missing)})"
    else:
        what = "recovery not known, too few requests before or after it"
    text = f"spike {TEXT.exact(recovery.base)} to {TEXT.exact(recovery.peak)}: {what}"
    return replace(recovery, text="; ".join(filter(None, (text, owed(recovery)))))


def owed(found: Recovery | Scaling) -> str:
    """`SLO missed for 97 s, 412 of 1 930 requests`; empty where it cannot be said.

    It is of requests alone: the queue and the KV cache may have been over their limits.
    """
    if found.debt_s is None:
        return ""
    requests = "" if not found.missed else f"{TEXT.whole(found.missed)} of {TEXT.whole(found.n)} requests"
    if _is_least(found):
        left_out = f"{TEXT.whole(found.left_out)} more left out: {CLIENT_SLOW}"
        return f"SLO missed for {missed_for(found)}, {requests or 'no request'} ({left_out})"
    if found.debt_s > 0:
        return ", ".join(filter(None, (f"SLO missed for {missed_for(found)}", requests)))
    return f"{requests} missed the SLO, no more than it allows" if requests else "no request missed the SLO"


def missed_for(found: Recovery | Scaling) -> str:
    """`97 s`; `at least 97 s`, where much is left out."""
    return f"{'at least ' if _is_least(found) else ''}{seconds(found.debt_s or 0.0)}"


def _is_least(found: Recovery | Scaling) -> bool:
    return bool(found.left_out) and found.n is not None and found.left_out > LEFT_OUT * found.n


def seconds(span_s: float) -> str:
    """`97 s`, `1 930 s`, `4.5 s`: of spans that are set against each other, never in minutes."""
    return f"{number(span_s)} s"


def number(span_s: float) -> str:
    return f"{span_s:.1f}".removesuffix(".0") if abs(span_s) < 9.95 else TEXT.whole(span_s)
