"""Capacity: how many users a configuration carries at the SLO, and which wall comes first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from llmtop.analysis import stats
from llmtop.analysis.cliff import sustained
from llmtop.analysis.judge import AGREEMENT, Limits
from llmtop.analysis.levels import EMPTY, Level, Stated, are_embeddings
from llmtop.analysis.slo import MISS_SHARES, Sample, holds, judge_target
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.slo import LATENCIES, Slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Kind
from llmtop.wording.figures import TEXT
from llmtop.wording.gate import FLAG
from llmtop.wording.names import bound_name, load_unit, target_name
from llmtop.wording.sentences import (
    CONTRADICTION,
    ERRORS,
    SCATTERED,
    advised,
    binds_then,
    breaks,
    broken_there,
    driven,
    felt,
    listed,
    pass_and_fail,
    supports,
)

SOAK_SHARE = 0.8
"""A long run is driven at this share of the recommended load: room for drift and for bursts."""
RUN_TO_RUN = 0.06
"""Share by which the capacity of one server differs from run to run: 20 seeds of six servers lie within it."""
RUN_SD = 0.015
"""Standard deviation of the logarithm of one figure between runs of one server, beyond what its requests tell: what is
smaller, the next run would not find again, however many requests say so."""
ONE_SIDED = 1.6449
"""Standard errors to a one-sided bound at 95 %."""
FLAT_GAIN = 1.05
"""A doubling of the load that gains less output tokens/s than this is past saturation."""


@dataclass(frozen=True, slots=True)
class LevelVerdict:
    """Whether one level met the limits that users feel: latencies and errors. `ok` None: too few requests to say."""

    load: float
    ok: bool | None
    failed: tuple[str, ...] = ()
    status: int | None = None
    """HTTP status of its errors."""

    @property
    def faulty(self) -> bool:
        """Whether it failed by errors alone."""
        return self.failed == (ERRORS,)


def judge_level(level: Level, slo: Slo) -> LevelVerdict:
    """Latency and error limits of one level. Queue and KV limits are causes and walls of their own, not service."""
    sample = Sample.of_level(level)
    answers = [(target, holds(sample, target)) for target in slo.felt]
    failed = tuple(target_name(target.name) for target, ok in answers if ok is False)
    if failed:
        return LevelVerdict(level.load, False, failed, level.status)
    unknown = any(ok is None for target, ok in answers if target.metric in LATENCIES)
    return LevelVerdict(level.load, None if unknown or not answers else True)


def capacity_of(
    levels: Sequence[Level],
    slo: Slo,
    cliff: CliffVerdict,
    limits: Limits,
    point: LoadPoint | None,
) -> Capacity:
    """The capacity of one curve at the SLO.

    `at_slo` is the largest level that held with no failed level below it, `limited_by` the first wall that was
    reached: the SLO that failed, or the knee, by the name of the server's own limit behind it.
    """
    levels = sorted(levels, key=lambda level: level.load)
    verdicts = [level.remembered(("held", slo), partial(judge_level, level, slo)) for level in levels]
    if cliff.axis == "rate" and cliff.kind is Kind.CLIFF and not cliff.fails:
        # Past its capacity an open loop has no latency, only a queue that grows: short runs hold by luck.
        edge = math.inf if cliff.at is None else sustained(cliff.at)
        verdicts = [LevelVerdict(each.load, False, each.failed) if each.load > edge else each for each in verdicts]
    fails = next((each for each in verdicts if each.ok is False), None)
    passed = [each.load for each in verdicts if each.ok and (fails is None or each.load < fails.load)]
    at_slo = max(passed, default=None)
    low, high = _interval(levels, slo, at_slo, fails, cliff.axis)
    knee = _knee(cliff)
    whole = cliff.axis == "concurrency" and not any(level.thinking for level in levels)
    limits = limits if whole else Limits(gpus=limits.gpus)  # what it serves at once is no number of users who think
    own = None if knee is None else _limit_at(knee, cliff.cause, limits)
    walls = _walls(at_slo, fails, cliff, own)
    recommended, soak = recommended_and_soak(at_slo, knee, cliff.axis, None if own is None else own[0])
    best = _most_tokens(levels)
    capacity = Capacity(
        at_slo=None if at_slo is None else _floor(at_slo, cliff.axis),
        fails_at=None if fails is None else _ceil(fails.load, cliff.axis),
        low=low,
        high=high,
        knee=knee,
        limited_by=min(walls, default=(0.0, None))[1],
        recommended=recommended,
        soak=soak,
        best_tokens_at=None if best is None else best[0],
    )
    why = _reason(capacity, None if own is None else own[1])
    broken = _broken_at(levels, slo, at_slo, cliff.axis)
    parts = (
        _sentence(capacity, verdicts, slo, cliff, driven(cliff.axis, point, _prompt_tokens(levels)), why),
        *broken,
        _tokens_sentence(levels, cliff.axis, limits.gpus),
    )
    return msgspec.structs.replace(capacity, sentence="; ".join(filter(None, parts)))


def _interval(
    levels: Sequence[Level], slo: Slo, at_slo: float | None, fails: LevelVerdict | None, axis: Axis
) -> tuple[float | None, float | None]:
    """Between which loads the SLO breaks, by the bounds of the levels' latencies.

    From where a straight line between levels says that it surely holds, as latency bends upwards and lies below such a
    line, to the lowest level that surely failed: by its latency, its errors, or past the cliff of an
    open loop. At the least as wide as runs of the same server differ. `high` None: no level failed.
    """
    if at_slo is None:
        return None, None
    told = [level for level in levels if level.given is None and level.n]
    bounds = [(level.load, *level.remembered(("worst", slo), partial(_worst, level, slo))) for level in told]
    low = _last_held([(load, high) for load, _, high in bounds])
    low = min(at_slo * (1 - RUN_TO_RUN), at_slo if low is None else low)
    if fails is None:
        return _floor(low, axis), None
    broken = next((load for load, share, _ in bounds if share > 1 and load >= fails.load), None)
    if not fails.failed or "errors" in fails.failed:
        broken = fails.load
    high = max(at_slo * (1 + RUN_TO_RUN), fails.load * (1 + RUN_TO_RUN) if broken is None else broken)
    return _floor(low, axis), _ceil(high, axis)


def _worst(level: Level, slo: Slo) -> tuple[float, float]:
    """Lowest and highest believable share of its limit that the latency nearest to it takes."""
    shares = [(0.0, 0.0)]
    if level.stated is not None:
        return _worst_stated(level.stated, slo)
    for target in slo.targets:
        values = level.samples(target.metric) if target.metric in LATENCIES else EMPTY
        if len(values) and target.stat != "mean":
            told = stats.quantile_with_bounds(values, 1 - MISS_SHARES[target.stat or "p95"])
            high = math.inf if told.high is None else told.high
            shares.append(((told.low or 0.0) / target.limit, high / target.limit))
    return max(low for low, _ in shares), max(high for _, high in shares)


def _worst_stated(stated: Stated, slo: Slo) -> tuple[float, float]:
    """The same of a level of which only statistics are told; what is not told may be anything."""
    shares = [(0.0, 0.0)]
    for target in slo.targets:
        if target.metric in LATENCIES and target.stat != "mean":
            told = stated.statistic(target.metric, target.stat or "p95")
            bounds = (0.0, math.inf)
            if told is not None:
                bounds = (told.y * math.exp(-ONE_SIDED * told.se), told.y * math.exp(ONE_SIDED * told.se))
            shares.append((bounds[0] / target.limit, bounds[1] / target.limit))
    return max(low for low, _ in shares), max(high for _, high in shares)


def _last_held(shares: Sequence[tuple[float, float]]) -> float | None:
    """Up to which load a share of the limit surely stays below all of it: a level that holds speaks for those below."""
    known = [(load, share) for load, share in shares if math.isfinite(share)]
    held = max((i for i, (_, share) in enumerate(known) if share <= 1), default=None)
    if held is None:
        return None
    return known[held][0] if held + 1 == len(known) else _reaches(known[held], known[held + 1])


def _reaches(below: tuple[float, float], above: tuple[float, float]) -> float:
    """Where a straight line between two levels reaches the limit."""
    share = max(0.0, 1 - below[1]) / (above[1] - below[1])
    return below[0] + (above[0] - below[0]) * min(1.0, share)


def _reason(capacity: Capacity, wall: str | None) -> str:
    """Why the recommended load is less than what is supported; empty: it is not."""
    if capacity.recommended is None or capacity.at_slo is None or capacity.recommended >= capacity.at_slo:
        return ""
    return wall or "the knee"


def _broken_at(levels: Sequence[Level], slo: Slo, at_slo: float | None, axis: Axis) -> tuple[str, ...]:
    """Limits on queue and KV cache that break at the load that is supported."""
    level = next((level for level in levels if level.load == at_slo), None)
    if level is None:
        return ()
    told = [(target, judge_target(Sample.of_level(level), target)) for target in slo.targets]
    return tuple(
        broken_there(level.load, axis, target, each.value)
        for target, each in told
        if target.metric in ("queue", "kv") and each.ok is False and each.value is not None
    )


def lowered_to(capacity: Capacity, at_slo: float | None, fails_at: float, axis: Axis, limited_by: str) -> Capacity:
    """One that ends earlier than the levels alone have it; without its sentence."""
    recommended, soak = recommended_and_soak(at_slo, capacity.knee, axis)
    low, high = (None if at_slo is None else at_slo * (1 - RUN_TO_RUN)), fails_at * (1 + RUN_TO_RUN)
    if axis == "concurrency":
        low, high = None if low is None else float(math.floor(low)), float(math.ceil(high))
    return msgspec.structs.replace(
        capacity,
        at_slo=at_slo,
        fails_at=fails_at,
        low=low,
        high=None if at_slo is None else high,
        limited_by=limited_by,
        lowered=True,
        recommended=recommended,
        soak=soak,
    )


def recommended_and_soak(
    at_slo: float | None, knee: float | None, axis: Axis, told: float | None = None
) -> tuple[float | None, float | None]:
    """(the load to run at, the load for a long run): what held the SLO, but not past the knee or the limit behind it.

    Args:
        told: the limit behind the knee where the server tells it.
    """
    if at_slo is None:
        return None, None
    rounded = None if knee is None else max(1.0, round(knee, 2 if axis == "rate" else 0))
    recommended = _whole(min(bound for bound in (at_slo, rounded, told) if bound is not None), axis)
    return recommended, _whole(SOAK_SHARE * recommended, axis)


def _limits_told(limits: Limits) -> list[tuple[float, Bound, str]]:
    slots = "max_num_seqs" if limits.gate is None else FLAG
    told = [(limits.max_num_seqs, Bound.QUEUE, slots), (limits.kv_requests, Bound.KV, "the KV cache")]
    return [(wall, cause, name) for wall, cause, name in told if wall is not None]


def _limit_at(knee: float, cause: Bound, limits: Limits) -> tuple[float, str] | None:
    """The limit that the server tells, if it is the measured knee: of the same cause, and there."""
    told = _limits_told(limits)
    return next(((wall, name) for wall, own, name in told if own == cause and _close(wall, knee)), None)


def _walls(
    at_slo: float | None,
    fails: LevelVerdict | None,
    cliff: CliffVerdict,
    own: tuple[float, str] | None,
) -> list[tuple[float, str]]:
    """(load, name) of each wall that was reached; `own` stands for the knee where the server tells the limit behind it.

    A limit that is only told is none: nobody has been there.
    """
    walls = []
    if fails is not None and fails.failed:
        walls.append((at_slo if at_slo is not None else fails.load, f"{listed(fails.failed)} SLO"))
    knee = _knee(cliff)
    if knee is not None:
        name = bound_name(cliff.cause)
        cause = "the cliff" if name is None else f"the cliff ({name})"
        walls.append(own if own is not None else (knee, cause))
    return walls


def _knee(cliff: CliffVerdict) -> float | None:
    """Where latency bends; requests that fail are no knee."""
    return cliff.at if cliff.kind in (Kind.CLIFF, Kind.GRADUAL) and not cliff.fails else None


def _close(wall: float, knee: float) -> bool:
    return abs(wall - knee) <= 1.5 * AGREEMENT * knee


def _floor(value: float, axis: Axis) -> float:
    """Users are whole; rates are as they were offered."""
    return float(math.floor(value + 1e-9)) if axis == "concurrency" else value


def _ceil(value: float, axis: Axis) -> float:
    return float(math.ceil(value - 1e-9)) if axis == "concurrency" else value


def _whole(value: float, axis: Axis) -> float:
    """Users are whole; rates keep two digits."""
    return float(max(1, math.floor(value + 1e-9))) if axis == "concurrency" else round(value, 2)


def _prompt_tokens(levels: Sequence[Level]) -> float | None:
    """Mean length of the prompts of all levels, where it is known."""
    told = [(level.prompt_tokens, level.n) for level in levels if level.prompt_tokens and level.n]
    return sum(mean * n for mean, n in told) / sum(n for _, n in told) if told else None


def _sentence(
    capacity: Capacity, verdicts: Sequence[LevelVerdict], slo: Slo, cliff: CliffVerdict, how: str, why: str
) -> str:
    if not any(verdict.ok is not None for verdict in verdicts):
        return ""
    axis, objective = cliff.axis, felt(slo)
    at_slo, fails = capacity.at_slo, capacity.fails_at
    if at_slo is not None:
        promise = supports(at_slo, fails, axis, objective=objective, how=how, low=capacity.low, high=capacity.high)
        first = next((each for each in verdicts if each.ok is False), LevelVerdict(0.0, None))
        then = binds_then(first.failed, () if first.status is None else (first.status,))
        parts = [f"{promise}{then}: {pass_and_fail(at_slo, fails, axis)}"]
    elif fails is not None and verdicts[0].ok is not None:
        parts = [breaks(fails, axis, objective=objective, how=how)]
    else:
        load = f"{TEXT.load(fails, axis)} {load_unit(axis, fails)}{f' ({how})' if how else ''}"
        parts = [f"{load} break {objective}; below, too few requests to prove that it holds"]
    undercut = [each for i, each in enumerate(verdicts) if each.ok is False and any(v.ok for v in verdicts[i + 1 :])]
    if undercut:
        parts.append(SCATTERED if all(each.faulty for each in undercut) else CONTRADICTION)
    if capacity.knee is not None:
        parts.append(f"knee {TEXT.load(capacity.knee, axis)} ({bound_name(cliff.cause) or 'cause unknown'})")
    if capacity.limited_by is not None and not _said(capacity, why):
        parts.append(f"limited by {capacity.limited_by}")
    if capacity.recommended is not None and capacity.soak is not None:
        parts.append(advised(capacity.recommended, capacity.soak, axis, why=why, share=SOAK_SHARE))
    return "; ".join(parts)


def _said(capacity: Capacity, why: str) -> bool:
    """Whether what limits is told already: by what binds next, by the knee, or by why less is recommended."""
    own = str(capacity.limited_by)
    if own.endswith(" SLO"):
        return capacity.at_slo is not None
    return own == why or own.startswith("the cliff")


def _rated(levels: Sequence[Level]) -> list[tuple[float, float]]:
    """(load, output tokens/s) where that is known, lowest load first; of embeddings, which have none, nothing."""
    return sorted((level.load, level.output_tokens_per_s) for level in levels if level.output_tokens_per_s)


def _answered(levels: Sequence[Level]) -> list[tuple[float, float]]:
    """(load, requests/s), lowest load first, where nothing else can be counted."""
    if not are_embeddings(levels):
        return []
    return sorted((level.load, level.requests_per_s) for level in levels if level.requests_per_s)


def _most_tokens(levels: Sequence[Level]) -> tuple[float, float] | None:
    """The lowest load that gives the most output tokens/s, and these."""
    return max(_rated(levels), key=lambda each: each[1], default=None)


def _tokens_sentence(levels: Sequence[Level], axis: Axis, gpus: int | None) -> str:
    """The level of the most output tokens/s, of embeddings of the most requests/s, and the one past which a doubling
    gains less than 5 %."""
    tokens = _rated(levels)
    rated, what = (tokens, "output tokens/s") if tokens else (_answered(levels), "requests/s")
    if len(rated) < 2:
        return ""
    best_at, best = max(rated, key=lambda each: each[1])
    share = f" ({TEXT.count(best / gpus)} a GPU)" if gpus else ""
    text = f"most {what} {TEXT.count(best)}{share} at {TEXT.load(best_at, axis)}"
    for load, rate in rated:
        doubled = [other for at, other in rated if at >= 2 * load]
        if doubled and max(doubled) < FLAT_GAIN * rate:
            return f"{text}, past {TEXT.load(load, axis)} a doubling gains < {TEXT.round_percent(FLAT_GAIN - 1)}"
    return text


def worth_trying(cliff: CliffVerdict, capacity: Capacity, failing: bool = False) -> CliffVerdict:
    """The verdict with no level to try above a load that fails already: in its place one between that and what held.

    Args:
        failing: nothing ends well now, so no level is worth a try.
    """
    if failing:
        return msgspec.structs.replace(cliff, next_levels=())
    failed, held = capacity.fails_at, capacity.at_slo or 0.0
    if failed is None or cliff.axis != "concurrency":
        return cliff
    levels = tuple(level for level in cliff.next_levels if level < failed)
    if cliff.next_levels and not levels:
        between = (round((held + failed) / 2),) if held else (round(failed / 2), round(failed / 4))
        levels = tuple(level for level in between if max(held, 0.5) < level < failed)
    return msgspec.structs.replace(cliff, next_levels=levels)
