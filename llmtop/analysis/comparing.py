"""One side beside another, load by load: by how much each figure differs, and whether that is more than chance.

To what is known of the figures of both is added what two runs of one server differ by although nothing was changed. The
intervals of one comparison hold together: each is so wide that all of them cover with 95 % (Bonferroni), as otherwise
one of thirty equal figures would be called different nearly every time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from llmtop.analysis.capacity import RUN_SD
from llmtop.analysis.compared import capacity_change, gain_of
from llmtop.analysis.cost import costs_of
from llmtop.analysis.paired import METRICS, Figure, Metric, Pair, Row, common_rows, steadied_rows, student
from llmtop.analysis.sides import Side
from llmtop.analysis.stats import LEVEL
from llmtop.analysis.supply import supply_of
from llmtop.domain.compared import Compared, Delta, Difference, LevelDelta, Verdict
from llmtop.domain.cost import UNSTATED, Cost, Costs
from llmtop.domain.gain import Gain
from llmtop.domain.verdicts import Capacity, CliffVerdict
from llmtop.errors import UsageError
from llmtop.wording.chapters import LENGTHS, SHARED, START_OF_USERS, WITHOUT
from llmtop.wording.compared import (
    CARRIED,
    client_was_late,
    compared_sentence,
    held_to_the_end,
    interpolated,
    no_common_load,
)
from llmtop.wording.figures import TEXT
from llmtop.wording.sentences import CLIENT_SLOW

_RUNS = (2 * RUN_SD**2, math.inf)
ALIKE = 0.10
"""Figures that are surely no further apart are the same, where no difference is proven."""
LEAST_POINTS, ALIKE_POINTS = 0.001, 0.01
"""The same for a share of requests."""
KV_POINTS = 0.08
"""The use of a KV cache differs by as much from scrape to scrape; where requests come by themselves, by any measure."""

SHARE_POINTS = 0.05
"""By so much the share of prefix hits, or of seconds in which the client was late, must differ to be told."""
WORKLOAD = ("model", LENGTHS, SHARED, "prompts", "spread of lengths", "api", "think time", START_OF_USERS, *CARRIED)
"""What makes it other requests, by the names of a side's traits."""


def compare(before: Side, after: Side, cost: Cost = UNSTATED) -> Compared:
    """What changed from one side to the other; the other way round it is the opposite.

    Args:
        cost: what is stated of both in place of what their profiles say.

    Raises UsageError: they have no load in common, measured or between two that were.
    """
    if before.axis != after.axis:
        raise UsageError(f"{before.name} was driven by {before.axis}, {after.name} by {after.axis}: nothing to compare")
    rows = steadied_rows(common_rows(before, after))
    if not rows:
        raise UsageError(no_common_load(before.name, _loads(before), after.name, _loads(after), before.axis))
    tests = len(METRICS) + sum(_tested(pair) for row in rows for pair in row.pairs)
    share = 1 - (1 - LEVEL) / (2 * tests)
    levels = tuple(
        LevelDelta(
            load=row.load,
            n=row.n,
            deltas=tuple(_delta(metric, pair, share) for metric, pair in zip(METRICS, row.pairs, strict=True)),
        )
        for row in rows
    )
    over_all = tuple(
        _over_all(metric, [row.pairs[at] for row in rows], share)
        for at, metric in enumerate(METRICS)
        if metric.kind != "gauge"
    )
    gain = gain_of(before.capacity, after.capacity)
    capacity = _of_capacity(before.capacity, after.capacity, gain)
    differs = _differences(before, after)
    paid, currency = _of_cost(before, after, cost)
    told = Compared(
        before=before.name,
        after=after.name,
        axis=before.axis,
        differs=differs,
        unequal=tuple(each for each in differs if each.name in WORKLOAD),
        levels=levels,
        over_all=over_all,
        capacity=capacity,
        cliff=_of_cliff(before.cliff, after.cliff),
        cost=paid,
        currency=currency,
        gain=gain,
        verdict=_whole([*over_all, *_felt(levels), capacity], over_all),
        notes=_notes(before, after, rows),
    )
    return replace(told, sentence=compared_sentence(told))


# -- differences ------------------------------------------------------------------------------------------------------


def _tested(pair: Pair) -> bool:
    return all(figure is not None and figure.se is not None for figure in pair)


def _delta(metric: Metric, pair: Pair, share: float) -> Delta:
    """One figure of both; `share`: of Student's t below the upper end of an interval."""
    one, other = pair
    told = Delta(
        metric=metric.name, before=None if one is None else one.value, after=None if other is None else other.value
    )
    if one is None or other is None:
        return told
    if not metric.relative:
        return _points(metric, told, one, other, share)
    if one.value <= 0 or other.value <= 0:
        return told
    apart = math.log(other.value / one.value)
    if one.se is None or other.se is None:
        return replace(told, change=math.expm1(apart))
    return _judged(metric, told, apart, _half(share, (one.se**2, one.freedom), (other.se**2, other.freedom), _RUNS))


def _half(share: float, *parts: tuple[float, float]) -> float:
    """Half the width of an interval of a sum whose parts have these variances and degrees of freedom.

    Welch and Satterthwaite (Biometrics Bulletin 2, 1946).
    """
    variance = sum(part for part, _ in parts)
    spread = sum(part**2 / freedom for part, freedom in parts)
    return student(share, variance**2 / spread if spread else math.inf) * math.sqrt(variance)


def _judged(metric: Metric, told: Delta, apart: float, half: float) -> Delta:
    low, high = apart - half, apart + half
    if low > 0 or high < 0:
        verdict = Verdict.BETTER if apart * metric.sign > 0 else Verdict.WORSE
    else:
        alike = math.log1p(ALIKE)
        verdict = Verdict.SAME if -alike <= low and high <= alike else Verdict.UNKNOWN
    return replace(told, change=math.expm1(apart), low=math.expm1(low), high=math.expm1(high), verdict=verdict)


def _points(metric: Metric, told: Delta, one: Figure, other: Figure, share: float) -> Delta:
    apart = other.value - one.value
    told = replace(told, change=apart)
    if one.se is None or other.se is None:
        differs = Verdict.BETTER if apart < 0 else Verdict.WORSE
        unproven = Verdict.UNKNOWN if one.by_chance or other.by_chance else differs
        verdict = Verdict.SAME if abs(apart) <= KV_POINTS else unproven
        return replace(told, verdict=verdict)
    half = _half(share, (one.se**2, one.freedom), (other.se**2, other.freedom))
    low, high = apart - half, apart + half
    if (low > 0 or high < 0) and abs(apart) >= LEAST_POINTS:
        verdict = Verdict.BETTER if apart < 0 else Verdict.WORSE
    else:
        verdict = Verdict.SAME if low >= -ALIKE_POINTS and high <= ALIKE_POINTS else Verdict.UNKNOWN
    return replace(told, low=low, high=high, verdict=verdict)


def _over_all(metric: Metric, pairs: Sequence[Pair], share: float) -> Delta:
    """All levels together, each by how well it is known. What runs differ by does not shrink with their number.

    Where one level surely differs otherwise than the others there is no change over all.
    """
    told = Delta(metric=metric.name)
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    tested = [(one, other, one.se, other.se) for one, other in known if one.se is not None and other.se is not None]
    tested = [each for each in tested if not metric.relative or (each[0].value > 0 and each[1].value > 0)]
    if not tested:
        return told
    variances = [max(se**2 + other_se**2, 1e-12) for _, _, se, other_se in tested]
    freedom = [min(one.freedom, other.freedom) for one, other, *_ in tested]
    total = sum(1 / variance for variance in variances)
    if not metric.relative:
        apart = (
            sum((other.value - one.value) / v for (one, other, *_), v in zip(tested, variances, strict=True)) / total
        )
        mean = Figure(0.0, 0.0), Figure(apart, math.sqrt(1 / total))
        return replace(_points(metric, told, *mean, share), before=None, after=None)
    logs = [math.log(other.value / one.value) for one, other, *_ in tested]
    apart = sum(each / variance for each, variance in zip(logs, variances, strict=True)) / total
    for each, variance, known_by in zip(logs, variances, freedom, strict=True):
        if abs(each - apart) > _half(share, (variance, known_by), _RUNS):
            return told
    return _judged(metric, told, apart, _half(share, (1 / total, sum(freedom)), _RUNS))


# -- the whole --------------------------------------------------------------------------------------------------------

_OF_GAIN = {Gain.MORE: Verdict.BETTER, Gain.FEWER: Verdict.WORSE, Gain.SAME: Verdict.SAME, Gain.OPEN: Verdict.UNKNOWN}


def _of_capacity(before: Capacity, after: Capacity, gain: Gain) -> Delta:
    """With the interval that the intervals of both leave. Of two of which one has no end, only what is proven."""
    told = Delta(metric="capacity", before=before.at_slo, after=after.at_slo, verdict=_OF_GAIN[gain])
    endless = before.fails_at is None or after.fails_at is None
    change = None if endless and gain is Gain.OPEN else capacity_change(before, after)
    return told if change is None else replace(told, change=change.share, low=change.low, high=change.high)


def _of_cliff(before: CliffVerdict, after: CliffVerdict) -> Delta:
    """Further out is better; where the intervals overlap it is the same place."""
    told = Delta(metric="cliff", before=before.at, after=after.at)
    if before.at is None or after.at is None:
        return told
    told = replace(told, change=after.at / before.at - 1)
    ends = (before.low, before.high, after.low, after.high)
    if any(each is None for each in ends):
        return told
    low, high, after_low, after_high = (float(each or 0.0) for each in ends)
    verdict = Verdict.BETTER if after_low > high else Verdict.WORSE if after_high < low else Verdict.SAME
    return replace(told, verdict=verdict)


def _of_cost(before: Side, after: Side, cost: Cost) -> tuple[Delta, str]:
    """What 1M output tokens cost at the capacity of both, and in which currency; nothing where one is not known."""
    was, now = (_costs(side, cost) for side in (before, after))
    if was is None or now is None or was.currency != now.currency:
        return Delta(metric="cost"), ""
    rows = [each.row("slo") for each in (was, now)]
    one, other = (None if row is None else row.per_million_output for row in rows)
    if one is None or other is None:
        return Delta(metric="cost"), ""
    told = Delta(metric="cost", before=one.value, after=other.value, change=other.value / one.value - 1)
    if None in (one.low, one.high, other.low, other.high):
        return told, was.currency
    low, high, after_low, after_high = (float(end or 0.0) for end in (one.low, one.high, other.low, other.high))
    alike = Verdict.SAME if abs(other.value / one.value - 1) <= ALIKE else Verdict.UNKNOWN
    verdict = Verdict.BETTER if after_high < low else Verdict.WORSE if after_low > high else alike
    return replace(told, low=after_low / high - 1, high=after_high / low - 1, verdict=verdict), was.currency


def _costs(side: Side, cost: Cost) -> Costs | None:
    stated = cost.over(UNSTATED if side.meta is None else side.meta.profile.stated_cost)
    return costs_of(
        supply_of(side.levels, gpus=side.gpus),
        stated,
        side.capacity,
        side.axis,
        CLIENT_SLOW if side.client_bound else "",
    )


def _felt(levels: Sequence[LevelDelta]) -> list[Delta]:
    """What users feel: a fuller cache is none of it."""
    gauges = {metric.name for metric in METRICS if metric.kind == "gauge"}
    return [delta for level in levels for delta in level.deltas if delta.metric not in gauges]


def _whole(deltas: Sequence[Delta], over_all: Sequence[Delta]) -> Verdict:
    found = {delta.verdict for delta in deltas}
    if {Verdict.BETTER, Verdict.WORSE} <= found:
        return Verdict.MIXED
    if differing := found & {Verdict.BETTER, Verdict.WORSE}:
        return differing.pop()
    known = {delta.metric for delta in over_all if delta.verdict is Verdict.SAME}
    return Verdict.SAME if known & {"tpot_p50", "e2e_p50", "ttft_p50"} else Verdict.UNKNOWN


# -- what else was not the same ---------------------------------------------------------------------------------------


def _differences(before: Side, after: Side) -> tuple[Difference, ...]:
    """What is told of both and differs, and what was set on one side only; the workload first."""
    names = [name for name in dict.fromkeys((*before.traits, *after.traits)) if _differs(name, before, after)]
    was, now = ({**WITHOUT, **side.traits} for side in (before, after))
    found = [Difference(name, was.get(name), now.get(name)) for name in names]
    shares = (
        ("prefix cache hits", before.prefix_hits, after.prefix_hits),
        ("client late", before.client_late, after.client_late),
    )
    for name, share, later in shares:
        if share is not None and later is not None and abs(later - share) >= SHARE_POINTS:
            found.append(Difference(name, TEXT.percent(share), TEXT.percent(later)))
    return tuple(sorted(found, key=lambda each: each.name not in WORKLOAD))


def _differs(name: str, before: Side, after: Side) -> bool:
    """What another tool's file does not say is no difference."""
    was, now = before.traits.get(name), after.traits.get(name)
    both_said = was is not None and now is not None
    return was != now and (both_said or (before.meta is not None and after.meta is not None))


def _loads(side: Side) -> list[float]:
    return [level.load for level in side.levels]


def _notes(before: Side, after: Side, rows: Sequence[Row]) -> tuple[str, ...]:
    notes = []
    if between := [row.load for row in rows if 0 in row.n]:
        notes.append(interpolated(between, before.axis))
    for side in (before, after):
        if side.client_late is not None and side.client_late >= SHARE_POINTS:
            notes.append(client_was_late(side.name, side.client_late))
    for side in (before, after):
        held = side.capacity.at_slo
        most = max(_loads(side))
        last = math.floor(most) if side.axis == "concurrency" else most  # users of a capacity are whole
        if held is not None and side.capacity.fails_at is None and held >= last:
            notes.append(held_to_the_end(side.name, held, side.axis))
    return tuple(dict.fromkeys(notes))
