"""What to turn: the advice to a finding, with what it is expected to give at the SLO where the walls are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from llmtop.analysis.capacity import judge_level
from llmtop.analysis.gate import configured_s
from llmtop.analysis.judge import Limits
from llmtop.analysis.levels import Level
from llmtop.analysis.service import MIN_SAMPLES, statistic
from llmtop.analysis.walls import Walls, forecast, walls_of
from llmtop.dialects import DIALECTS, DialectTable
from llmtop.domain.endpoint import Dialect
from llmtop.domain.load import Axis
from llmtop.domain.over_time import Drift
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Confidence, Diagnosis, Forecast, Turn
from llmtop.meter.facts import Facts
from llmtop.wording import advice as words
from llmtop.wording.gate import FLAG

AGREES = 0.15
"""How far the present capacity by the walls may lie outside of what was measured before they are not believed."""
CLOSE = 0.85
"""Share of its limit that decoding takes from which more slots are not advised: the rest allows but a few of them, and
what they give is less than runs of one server differ by."""
POOL_FULL_FROM = 2
"""Requests that found the KV cache full, most of all that failed: one may have been another's doing."""
_SERVER = (Bound.QUEUE, Bound.KV, Bound.TOKEN_BUDGET, Bound.COMPUTE, Bound.MEMORY)
_QUEUES = (Bound.QUEUE, Bound.KV, Bound.TOKEN_BUDGET)
_FASTER = {
    Bound.COMPUTE: "shorter prompts, quantised weights or more GPUs",
    Bound.MEMORY: "quantised weights or KV cache, shorter contexts, or GPUs with more bandwidth",
}
_FASTER_HERE = {
    Bound.COMPUTE: "shorter prompts or quantised weights",
    Bound.MEMORY: "quantised weights or KV cache, or shorter contexts",
}
"""Of a server on this machine, which is shared with what drives it: nobody buys hardware by such figures."""


def advised(
    diagnosis: Diagnosis,
    levels: Sequence[Level],
    limits: Limits,
    slo: Slo,
    cliff: CliffVerdict,
    capacity: Capacity,
    dialect: Dialect | None,
    *,
    here: bool = False,
) -> Diagnosis:
    """The diagnosis with its advice: of now or of a finished run, by the same walls.

    A finding about the client, the network or nothing at all keeps the advice it has.

    Args:
        levels: of the current curve.
        capacity: as measured over them: walls that contradict it give no number.
        dialect: whose flags are named; None: not known.
        here: the server is on this machine.
    """
    if diagnosis.bound not in _SERVER:
        return diagnosis
    table = _turned(DIALECTS[dialect or Dialect.OPENAI], limits)
    faster = (_FASTER_HERE if here else _FASTER).get(diagnosis.bound, "")
    queue = next((each for each in (diagnosis.bound, cliff.cause) if each in _QUEUES), Bound.NONE)
    knee = cliff.at if cliff.confidence is Confidence.FIRM else None
    walls = walls_of(levels, limits, slo, cliff.axis, bound=queue, knee=knee)
    if isinstance(walls, str):
        text = _without_number(diagnosis.bound, walls, table, faster, levels, slo)
        return msgspec.structs.replace(diagnosis, advice=text)
    found = forecast(walls, limits)
    doubt = _doubt(found, capacity, levels, slo, cliff.axis)
    if doubt is not None:
        text = _without_number(diagnosis.bound, doubt, table, faster, levels, slo)
        return msgspec.structs.replace(diagnosis, advice=text)
    free = next((turn for turn in found.turns if _has_more(turn, limits)), None)
    if free is not None:
        text = words.slots_free(slots_flag(table), free.now or 0.0, limits.max_num_seqs or 0.0)
        return msgspec.structs.replace(diagnosis, advice=text)
    text = _with_number(faster, found, walls, cliff.axis, table, capacity)
    return msgspec.structs.replace(diagnosis, advice=text, prediction=found)


def _turned(table: DialectTable, limits: Limits) -> DialectTable:
    """The server's flags; while a gate in the client stands for its slots, it is the gate that is turned."""
    if limits.gate is None:
        return table
    return msgspec.structs.replace(
        table, advice=msgspec.structs.replace(table.advice, more_slots=FLAG, slots_divide=None)
    )


def explained(diagnosis: Diagnosis, leak: Drift | None) -> Diagnosis:
    """With a leak in place of a want: more of what is not given back only takes longer to fill."""
    if leak is None or diagnosis.bound is not Bound.KV:
        return diagnosis
    evidence = (leak.text, *diagnosis.evidence)
    return msgspec.structs.replace(diagnosis, evidence=evidence, advice=words.LEAK, prediction=None)


def exhausted(diagnosis: Diagnosis, facts: Facts, dialect: Dialect | None) -> Diagnosis:
    """With the KV cache in place of failures whose own words say that it was full.

    How far it is to be raised is not known: what such a server shows of its cache is each slot's claim to all of it.
    """
    since_s = configured_s(facts)
    recent = facts.requests.column("sent_s") >= since_s
    full, errors = (int(facts.requests.column(name)[recent].sum()) for name in ("pool_full", "error"))
    if diagnosis.bound in (Bound.REFUSED, Bound.CLIENT) or full < POOL_FULL_FROM or 2 * full <= errors:
        return diagnosis
    table = DIALECTS[dialect or Dialect.OPENAI]
    advice = f"{raised(table.advice.more_kv, 'the memory given to the KV cache', table)}, or fewer in flight"
    evidence = (words.pool_full(full, errors),)
    return Diagnosis(bound=Bound.KV, evidence=evidence, advice=advice, confidence=Confidence.FIRM)


def _doubt(found: Forecast, capacity: Capacity, levels: Sequence[Level], slo: Slo, axis: Axis) -> str | None:
    """Why the walls are not believed: they miss what was measured, or more than they know of refuses.

    A level that failed by errors alone is no wall of latency. With a level above that held, or none below, its errors
    are a fault, whatever the load.
    """
    now, at_slo, fails_at = found.capacity_now, capacity.at_slo, capacity.fails_at
    near = [judge_level(level, slo) for level in levels if fails_at is not None and abs(level.load - fails_at) < 1]
    if fails_at is not None and any(each.faulty for each in near):
        above = any(judge_level(level, slo).ok for level in levels if level.load > fails_at)
        if not above and at_slo is not None and found.capacity_then > fails_at:
            return words.failing(fails_at, axis)
        fails_at = None
    return words.disagree(now, at_slo, fails_at, axis) if misses(now, at_slo, fails_at) else None


def misses(now: float, at_slo: float | None, fails_at: float | None) -> bool:
    """Whether a capacity contradicts the loads that were measured to hold and to fail."""
    low = 0.0 if at_slo is None else at_slo
    return (1 + AGREES) * now < low or (fails_at is not None and now > (1 + AGREES) * fails_at)


def _with_number(
    faster: str, found: Forecast, walls: Walls, axis: Axis, table: DialectTable, capacity: Capacity
) -> str:
    if found.turns:
        gain = words.gives(found, axis, _measured_too(found.capacity_now, capacity))
        turns = " and ".join(_turn(turn, walls, table) for turn in found.turns)
        others = _other_kv(table) if found.turns[0].knob == "kv" else faster
        return f"{turns}: {gain}; or {others}" if others else f"{turns}: {gain}"
    held = "no flag gives more" if walls.slots is None else f"keep {slots_flag(table)} at {walls.slots:.0f}"
    held = f"{held}{words.kept(found)}"
    if faster:
        return f"{faster} ({held})"
    return f"{held}; for more {words.REPLICA}"


def _has_more(turn: Turn, limits: Limits) -> bool:
    """Whether slots are to be raised of which the server tells more than it runs: something else holds it there."""
    told = limits.max_num_seqs
    return turn.knob == "slots" and told is not None and turn.now is not None and turn.now < min(told, turn.then)


def _measured_too(now: float, capacity: Capacity) -> bool:
    """Whether what the walls give now lies within what was measured: else a page would tell two capacities."""
    low = 0.0 if capacity.low is None else capacity.low
    high = math.inf if capacity.high is None else capacity.high
    return round(low) <= math.floor(now + 1e-9) < high + 1  # as they are written


def _turn(turn: Turn, walls: Walls, table: DialectTable) -> str:
    if turn.knob == "slots":
        text = words.turned(slots_flag(table), turn.now, turn.then, math.floor(walls.service.most_running))
        return words.in_step(text, table.advice.slots_divide)
    if turn.knob == "token_budget":
        flag = table.advice.token_budget
        return raised(flag, "the tokens a step", table) if flag is None else words.turned(flag, turn.now, turn.then)
    return f"halve what a token takes of the KV cache with {table.advice.smaller_kv or 'an fp8 KV cache'}"


def _without_number(
    bound: Bound,
    missing: str,
    table: DialectTable,
    faster: str,
    levels: Sequence[Level] = (),
    slo: Slo | None = None,
) -> str:
    unknown = words.unknown(missing)
    if bound is Bound.QUEUE:
        flag = slots_flag(table)
        near = None if slo is None else _decode_share(levels, slo)
        if near is None or near[0] < CLOSE:
            return f"{words.in_step(f'raise {flag}', table.advice.slots_divide)} ({unknown})"
        share, target, load = near
        if share <= 1:
            return f"keep {flag}: {words.takes(target, share, load)}; for more {words.REPLICA}"
        return f"lower {flag} ({unknown}): {words.breaks_at(target, load)}"
    if bound is Bound.TOKEN_BUDGET:
        return f"{raised(table.advice.token_budget, 'the tokens a step', table)} ({unknown})"
    if bound is Bound.KV:
        return f"{relieve_kv(table)} ({unknown})"
    return f"fewer in flight ({unknown}), {faster}"


def _decode_share(levels: Sequence[Level], slo: Slo) -> tuple[float, str, float] | None:
    """(share of its limit, name of the limit, load) of what decoding takes at the busiest level, where it is nearest.

    TPOT, and E2E without the wait for the first token: more slots shorten the wait, and lengthen this.
    """
    busy = [level for level in levels if level.has_samples and level.n >= MIN_SAMPLES]
    level = max(busy, key=lambda each: each.load, default=None)
    shares = []
    for target in slo.targets:
        if level is None or target.metric not in ("tpot", "e2e"):
            continue
        values = level.samples(target.metric)
        if target.metric == "e2e":
            ttft_s = level.samples("ttft")
            values = values - ttft_s if len(ttft_s) == len(values) else values[:0]
        if len(values):
            shares.append((statistic(values, target) / target.limit, target.name, level.load))
    return max(shares, default=None)


def slots_flag(table: DialectTable) -> str:
    return table.advice.more_slots or "the server's limit of concurrent sequences"


def raised(flag: str | None, what: str, table: DialectTable) -> str:
    """`raise FLAG`; of a server whose flags are not known `raise WHAT`, of one that has no such flag just that."""
    if flag is None and table.dialect is not Dialect.OPENAI:
        return f"{table.title} has no flag for {what}"
    return f"raise {flag or what}"


def relieve_kv(table: DialectTable) -> str:
    """All that makes room in the KV cache."""
    return f"use {table.advice.smaller_kv or 'an fp8 KV cache'}, {_other_kv(table)}"


def _other_kv(table: DialectTable) -> str:
    larger = raised(table.advice.more_kv, "the memory given to the KV cache", table)
    shorter = f"shorter requests ({table.advice.max_model_len})" if table.advice.max_model_len else "shorter requests"
    return f"{larger}, {shorter} or {words.REPLICA}"
