"""The map of one configuration: what it carries by load and prompt length, measured where a load was held.

A row of the map is a prompt length; its levels are those of the curve with that length (`measured.Ledger`), so that
whatever was held, by hand, by a plan or by an exploration, is on it. Where a row meets the SLO lies between the highest
level that held and the lowest that failed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from msgspec.structs import replace

from llmtop.analysis.bracket import Bracket
from llmtop.analysis.capacity import judge_level
from llmtop.analysis.levels import Level
from llmtop.analysis.measured import MeasuredCurve
from llmtop.analysis.slo import Sample, holds
from llmtop.analysis.tested import MARGIN
from llmtop.analysis.trial import QUICK_REQUESTS, statistic
from llmtop.domain.foresight import Interval
from llmtop.domain.load import LoadPoint
from llmtop.domain.map import Map, MapCell, MapEdge, Stand
from llmtop.domain.run import JudgedLevel
from llmtop.domain.slo import LATENCIES, Slo, SloTarget
from llmtop.wording.chapters import LENGTHS, changed_text

FINER = 0.5
"""A straight line over half of a gap misses the contour by this share of what it misses over the whole gap: of a smooth
curve it is a quarter, where another wall takes over half, and that is in the half in which the contour falls most."""
NARROW = 1.3
"""A length over the next shorter one below which nothing is looked for between them."""
STEP = 0.10
"""Half of what the users of two such lengths differ by, as a share, from which the contour has a step there."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One prompt length, as it was measured."""

    point: LoadPoint
    curve: MeasuredCurve
    tested: tuple[JudgedLevel, ...]
    """What its levels say of the SLO, lowest load first; those of which that cannot be said are none."""

    @property
    def prompt_tokens(self) -> int:
        return self.point.prompt_tokens


def rows_of(curves: Sequence[MeasuredCurve], slo: Slo) -> tuple[Row, ...]:
    """The last curve and those that differ from it by their prompt length alone; the shortest length first."""
    if not curves:
        return ()
    now = _apart(curves[-1])
    own = [curve for curve in curves if curve.levels and _apart(curve) == now]
    rows = [Row(curve.point, curve, tested_of(curve.levels, slo)) for curve in own]
    return tuple(sorted(rows, key=lambda row: row.prompt_tokens))


def lengths_before(curves: Sequence[MeasuredCurve]) -> tuple[tuple[int, ...], str]:
    """(prompt lengths of the configuration before the last that had most of them, what was changed since); () of none.

    For a reader whose last configuration has fewer.
    """
    last: tuple[object, ...] = ()
    best: tuple[int, ...] = ()
    since = ""
    for at in range(len(curves), 0, -1):
        now = _apart(curves[at - 1])
        own = tuple(sorted({c.point.prompt_tokens for c in curves[:at] if c.levels and _apart(c) == now}))
        if at == len(curves):
            last = now
        elif now != last and len(own) > len(best):
            was, new = curves[at - 1].parts, curves[-1].parts
            same = {LENGTHS, *(name for name in was if was[name] == new.get(name))}
            of_both = ({name: text for name, text in parts.items() if name not in same} for parts in (was, new))
            best, since = own, changed_text(*of_both)
    return best, since


def _apart(curve: MeasuredCurve) -> tuple[object, ...]:
    """What tells a curve from others, whatever its load and the length of its prompts."""
    parts = tuple(sorted((name, text) for name, text in curve.parts.items() if name != LENGTHS))
    return replace(curve.point.at(curve.axis, 1), prompt_tokens=1), parts, curve.traits


def tested_of(levels: Sequence[Level], slo: Slo) -> tuple[JudgedLevel, ...]:
    """What levels say of the SLO, as a search would have noted it."""
    found = (level.remembered(("tested", slo), partial(_tested, level, slo)) for level in levels)
    return tuple(sorted((each for each in found if each is not None), key=lambda each: each.load))


def _tested(level: Level, slo: Slo) -> JudgedLevel | None:
    """None: too few requests. A statistic of less than proves a limit is taken at its word."""
    figures = {target.name: (target, _figure(level, target)) for target in slo.felt if target.metric in LATENCIES}
    known = {name: value for name, (_, value) in figures.items() if value is not None}
    sample = Sample.of_level(level)
    failed = [name for name, (target, value) in figures.items() if value is not None and value > target.limit]
    errors = slo.target("error_ratio")
    if errors is not None and holds(sample, errors) is False:
        failed.append(errors.name)
    if not failed and (level.n < QUICK_REQUESTS or len(known) < len(figures)):
        return None
    ttft, e2e = level.mean("ttft"), level.mean("e2e")
    served = None if ttft is None or not e2e else level.in_flight * (1 - ttft / e2e)
    return JudgedLevel(
        t_s=float(level.sent_s[-1]) if len(level.sent_s) else 0.0,
        load=max(1, round(level.load)),
        slo=str(slo),
        failed=tuple(failed),
        n=level.n,
        in_service=served,
        requests_per_s=level.requests_per_s,
        ttft_mean_s=ttft,
        worst=tuple(known.items()),
    )


def _figure(level: Level, target: SloTarget) -> float | None:
    """The statistic of one latency limit; None: too few requests have it. Answers of one token have no TPOT."""
    values = level.samples(target.metric)  # type: ignore[arg-type]
    if target.metric == "tpot" and len(values) == 0 and level.n >= QUICK_REQUESTS:
        return 0.0
    if target.metric == "ttft":
        values = np.concatenate([values, level.censored_s[level.censored_s > target.limit]])
    return statistic(values, target.stat or "p95") if len(values) >= QUICK_REQUESTS else None


def edge_of(row: Row, slo: Slo) -> MapEdge:
    """Where a row meets the SLO, by its levels. One of too few requests to prove that it holds bounds nothing below."""
    if row.curve.axis == "rate":
        return _rate_edge(row, slo)
    sure = _sure(row, slo)
    bracket = Bracket([each for each in row.tested if each.failed or each.load <= sure], slo)
    low, high = bracket.low, bracket.high
    held = None if low is None else float(low.load)
    if low is None or high is None:
        return MapEdge(prompt_tokens=row.prompt_tokens, held=held)
    value = max(float(low.load), math.floor(met_at(low, high, slo)))  # users are whole
    users = Interval(value, low.load * (1 - MARGIN), high.load * (1 + MARGIN))
    return MapEdge(prompt_tokens=row.prompt_tokens, users=users, measured=True, held=held)


def met_at(low: JudgedLevel | None, high: JudgedLevel, slo: Slo) -> float:
    """Where the limits that `high` breaks are just met, between a level that held, if there is one, and it.

    Latency bends upwards, so that it meets a limit above where a straight line between the two does. In a queue every
    user adds 1 / X to everybody's wait: by that a first token was in time X (TTFT - limit) users earlier.
    """
    floor = 0.0 if low is None else float(low.load)
    guesses = []
    for target in slo.targets:
        top, bottom = dict(high.worst).get(target.name), 0.0 if low is None else dict(low.worst).get(target.name, 0.0)
        if target.name not in high.failed or top is None or top <= target.limit:
            continue
        guess = floor + (high.load - floor) * (target.limit - bottom) / (top - bottom)
        if target.metric in ("ttft", "e2e") and high.requests_per_s:
            guess = max(guess, high.load - high.requests_per_s * (top - target.limit))
        guesses.append(guess)
    guess = min(guesses, default=math.sqrt(max(1.0, floor) * high.load))
    return min(max(guess, floor), float(high.load))


def _rate_edge(row: Row, slo: Slo) -> MapEdge:
    """In open loop loads are no whole numbers, and past the edge there is only a queue that grows: half-way between."""
    answers = [(level.load, judge_level(level, slo).ok) for level in row.curve.levels]
    fails = min((load for load, ok in answers if ok is False), default=math.inf)
    held = max((load for load, ok in answers if ok and load < fails), default=None)
    if held is None or math.isinf(fails):
        return MapEdge(prompt_tokens=row.prompt_tokens, held=held)
    users = Interval((held + fails) / 2, held * (1 - MARGIN), fails * (1 + MARGIN))
    return MapEdge(prompt_tokens=row.prompt_tokens, users=users, measured=True, held=held)


def joined(edges: Sequence[MapEdge]) -> tuple[MapEdge, ...]:
    """The edges, each with how well the contour is known between it and the next.

    By how far a straight line that leaves out a length would have missed it; and a longer prompt never carries more
    users, so that between two lengths no more can be missed than they differ by.
    """
    known = [edge for edge in edges if edge.users is not None]
    missed = {known[i].prompt_tokens: _missed(*known[i - 1 : i + 2]) for i in range(1, len(known) - 1)}
    steep = [_fall(below, above) for below, above in itertools.pairwise(known)]
    found = {}
    for at, (below, above) in enumerate(itertools.pairwise(known)):
        most = math.tanh(abs(steep[at] * math.log(above.prompt_tokens / below.prompt_tokens)) / 2)
        narrow = above.prompt_tokens < NARROW * below.prompt_tokens
        parts = []
        for inner, other in ((below, at - 1), (above, at + 1)):
            if inner.prompt_tokens in missed:
                share = FINER if steep[at] >= steep[other] else FINER / 2
                parts.append(missed[inner.prompt_tokens] * share)
        after = most if narrow else min(most, max(parts)) if parts else most if most <= STEP else None
        found[below.prompt_tokens] = replace(below, after=after, drops=narrow and most > STEP)
    return tuple(found.get(edge.prompt_tokens, edge) for edge in edges)


def _fall(below: MapEdge, above: MapEdge) -> float:
    """How steeply the contour falls from one length to a longer one, in logarithms."""
    assert below.users is not None
    assert above.users is not None
    users = math.log(max(1e-9, below.users.value) / max(1e-9, above.users.value))
    return users / math.log(above.prompt_tokens / below.prompt_tokens)


def _missed(below: MapEdge, inner: MapEdge, above: MapEdge) -> float:
    """By which share a straight line from the length below to that above misses the one between."""
    told = Map(contour=(below, above)).users_at(inner.prompt_tokens)
    assert told is not None
    assert inner.users is not None
    return abs(told.value / max(1e-9, inner.users.value) - 1)


def is_proven(row: Row, load: float, slo: Slo) -> bool:
    """Whether enough requests ended to say that a load holds, at it or above."""
    return load <= _sure(row, slo)


def _holds(level: Level, slo: Slo) -> bool | None:
    return level.remembered(("held", slo), partial(judge_level, level, slo)).ok


def _sure(row: Row, slo: Slo) -> float:
    """The highest load that is proven to hold below every one that fails; 0: none is."""
    answers = [(level.load, _holds(level, slo)) for level in row.curve.levels]
    fails = min((load for load, ok in answers if ok is False), default=math.inf)
    return max((load for load, ok in answers if ok and load < fails), default=0.0)


def cells_of(row: Row, slo: Slo) -> tuple[MapCell, ...]:
    """The levels of a row as cells. One with too few requests to prove that it holds does where a higher one did."""
    sure = _sure(row, slo)
    return tuple(
        level.remembered(
            ("cell", slo, row.prompt_tokens, level.load < sure),
            partial(_cell, row.prompt_tokens, level, slo, _holds(level, slo), level.load < sure),
        )
        for level in row.curve.levels
    )


def _cell(prompt_tokens: int, level: Level, slo: Slo, ok: bool | None, below: bool) -> MapCell:
    near = any(
        (value := _figure(level, target)) is not None and value > target.warn_at
        for target in slo.felt
        if target.metric in LATENCIES
    )
    stand: Stand | None = None
    if ok is False:
        stand = "broken"
    elif ok or below:
        stand = "near" if near else "ok"

    def tail_ms(target: SloTarget) -> float | None:
        value = _figure(level, target)
        return None if value is None else 1e3 * value

    return MapCell(
        load=level.load,
        prompt_tokens=prompt_tokens,
        n=max(1, level.n + level.errors),
        stand=stand,
        ttft_p95_ms=tail_ms(SloTarget("ttft", math.inf, "p95")),
        tpot_p95_ms=tail_ms(SloTarget("tpot", math.inf, "p95")),
        output_tokens_per_s=level.output_tokens_per_s,
    )
