"""What creeps over a soak: at one load and one configuration, figure by figure, and what it is.

Only the longest stretch at one commanded load and one configuration is looked at, without its warm-up: what moves with
the load or with a knob is no drift. Every figure is asked what it does (`trend`); the figures share the chance of a
false alarm that a run may have, and what changes by less than `LEAST` is not spoken of however well it is known.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from llmtop.analysis.fits import Array
from llmtop.analysis.readings import finished_requests, flight
from llmtop.analysis.segments import replica_moved
from llmtop.analysis.sessions import Requests
from llmtop.analysis.trend import MAX_WINDOWS, MIN_WINDOWS, Trend, median_of_five, trend_of
from llmtop.analysis.work import all_ours, alongside, at_equal_work, middle, prefilled, tokens_held
from llmtop.domain.over_time import Drift
from llmtop.meter.facts import Facts, Table
from llmtop.wording import over_time as say
from llmtop.wording.over_time import Figure

FALSE_ALARMS = 0.005
"""Chance that a run in which nothing creeps is told of something, all figures together."""
LEAST = 0.03
"""A change over the run by a smaller share than this is not spoken of: no user and no operator would act on it."""
WINDOW_S = 12.0
"""Shortest window: so many seconds hold requests enough for a median at a few a second."""
_PER_WINDOW = 6
"""Values that a window should hold: it is longer where they are few."""
_FEWEST = 3
"""Values that a window must hold."""
_COUNTS = (MIN_WINDOWS, 24, 32, 40, 50, 64, 80, 100, MAX_WINDOWS)
"""So many windows: few different numbers, so that a run that grows asks for few simulations of noise."""
_WARM_SHARE = 0.05
_WARM_S = 15.0
_WARM_SERVICES = 2.0
"""The warm-up left out: two answers, at least so many seconds, and so large a share of the stretch."""
_EARLY = 1 / 3
"""What a token takes of the KV cache is told by so much of the stretch: later a leak may have filled it."""
_HOUR = 3600.0
_LEAST_OF = {
    Figure.KV: 0.01,
    Figure.ERRORS: 0.01,
    Figure.PREEMPTIONS: 0.03,
    Figure.CLIENT_LAG: 1.0,
    Figure.CLIENT_CPU: 0.10,
}
"""Figures that may be near zero where all is well have no level to be a share of: a hundredth of the KV cache, an error
in a hundred requests, three preemptions in a hundred, a millisecond of lag, a tenth of a core."""
MOST_REPLICAS = 8
_UNEQUAL = 0.02
"""Replicas have as many KV blocks as each other but for this share; of more than a few, a part is no sign of one."""
_CONFIG = ("max_num_seqs", "max_num_batched_tokens", "num_gpu_blocks", "block_size", "max_model_len")
_COUNTERS = ("generation_tokens_total", "prompt_tokens_total", "requests_total", "preemptions_total")
_TAKEN = (Figure.KV, Figure.MEMORY)
"""What can be taken and not given back."""
BY_ARRIVAL = frozenset({Figure.TTFT, Figure.TPOT})
"""What a path that keeps answers back makes void."""
_CLIENT = (Figure.CLIENT_LAG, Figure.CLIENT_CPU)


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    figure: Figure
    t_s: Array
    values: Array
    pick: Literal["median", "mean"]
    work: tuple[Array, ...] = ()
    """What the figure moves with by itself, each as long as `values`."""
    work_until_s: float = math.inf
    """What the work does is told by what came before."""


def stretch(facts: Facts, now_s: float) -> tuple[float, float]:
    """The longest time (from, until) in which neither the load nor the configuration was changed."""
    moves = [later.t_s for before, later in pairwise(facts.changes) if before.point != later.point]
    edges = [facts.changes[0].t_s if facts.changes else 0.0, *moves, *(chapter.t_s for chapter in facts.chapters)]
    edges = sorted({edge for edge in (*edges, *_server_edges(facts.server)) if edge < now_s})
    spans = list(zip(edges, [*edges[1:], now_s], strict=True))
    return max(spans, key=lambda span: span[1] - span[0]) if spans else (now_s, now_s)


def drifts_of(
    facts: Facts, now_s: float, requests: Requests | None = None, *, void: Collection[str] = ()
) -> tuple[Drift, ...]:
    """What each known figure does over the longest stretch; () where that is too short to tell anything.

    Args:
        now_s: seconds since the start of the run.
        requests: from `finished_requests`, where they are at hand.
        void: figures that say nothing of the server: they are not followed.
    """
    requests = finished_requests(facts) if requests is None else requests
    from_s, until_s = stretch(facts, now_s)
    members = requests.pick((requests.sent_s >= from_s) & (requests.end_s <= until_s))
    usual_s = float(np.quantile(members.e2e_s[members.ok], 0.95)) if members.ok.any() else 0.0
    from_s += max(_WARM_S, _WARM_SERVICES * usual_s, _WARM_SHARE * (until_s - from_s))
    told_s = until_s - usual_s
    known = []
    for series in _series(facts, members, from_s, told_s):
        if series.figure in void:
            continue
        count = min((until_s - from_s) / WINDOW_S, np.count_nonzero(np.isfinite(series.values)) / _PER_WINDOW)
        if count < MIN_WINDOWS:
            continue
        count = max(each for each in _COUNTS if each <= count)
        t_s, values = windowed(series, np.linspace(from_s, told_s, count + 1))
        if len(t_s) >= MIN_WINDOWS and values.any():
            known.append((series.figure, t_s, values))
    chance = FALSE_ALARMS / max(1, sum(bool(np.ptp(values)) for _, _, values in known))
    drifts: dict[str, Drift] = {}
    for figure, t_s, values in known:
        trend = trend_of(t_s, values, chance)
        if trend is not None:
            told = _drift(figure, trend, t_s, values, chance, (from_s, until_s))
            drifts[figure] = min(drifts.get(figure, told), told, key=lambda each: (each.significant, abs(each.change)))
    leaks = leak(tuple(drifts.values()))
    filled = leaks is not None and leaks.metric == Figure.KV
    return tuple(say.told(each, filled=filled) for each in drifts.values())


def creeping(drifts: Sequence[Drift]) -> tuple[Drift, ...]:
    """Those that make a soak fail, leaks first: the server's figures that have become worse, and have not levelled off.

    A step of the server's memory is none (something was loaded once), nor is what gets better, nor the client's own.
    """
    bad = [
        each
        for each in drifts
        if each.significant
        and each.change > 0
        and each.metric not in _CLIENT
        and (each.metric, each.shape) != (Figure.MEMORY, "step")
    ]
    return tuple(sorted(bad, key=lambda each: each.metric not in _TAKEN))


def leak(drifts: Sequence[Drift]) -> Drift | None:
    """What is taken and not given back: KV blocks before the server's memory; None: nothing that is known.

    Where KV blocks leak, a full cache is no want of memory: more of it only takes longer to fill.
    """
    found = [each for each in creeping(drifts) if each.metric in _TAKEN and each.shape == "slope"]
    return min(found, key=lambda each: each.metric != Figure.KV, default=None)


def long_enough(drifts: Sequence[Drift]) -> bool:
    """Whether there was time and requests enough at one load to tell what latency does; else a soak is not answered."""
    return any(each.metric == Figure.TTFT for each in drifts)


def visible(drifts: Sequence[Drift]) -> str:
    """What a creep would have to be to be seen, or why nothing could be."""
    return say.visible(drifts, MIN_WINDOWS * WINDOW_S, MIN_WINDOWS * _PER_WINDOW)


def windowed(series: _Series, edges_s: Array) -> tuple[Array, Array]:
    """Middles and values of the windows between `edges_s`, of those that hold enough; at equal work where it moves.

    The series is in order of time.
    """
    count = len(edges_s) - 1
    cell = np.searchsorted(edges_s, series.t_s, side="right") - 1
    values = at_equal_work(series.values, series.work, cell, series.work_until_s >= series.t_s)
    known = np.isfinite(values) & (cell >= 0) & (cell < count)
    values, cell = values[known], cell[known]
    sizes = np.bincount(cell, minlength=count)
    held = np.flatnonzero(sizes >= _FEWEST)
    if series.pick == "mean":
        result = np.bincount(cell, values, minlength=count)[held] / sizes[held]
    else:
        stops = np.cumsum(sizes)
        result = np.array([middle(values[stops[i] - sizes[i] : stops[i]]) for i in held])
    return ((edges_s[1:] + edges_s[:-1]) / 2)[held], result


def _series(facts: Facts, members: Requests, from_s: float, told_s: float) -> list[_Series]:
    """The figures from `from_s` to `told_s`: of requests sent later, those that took long are not known."""
    sent = members.pick((members.sent_s >= from_s) & (members.sent_s <= told_s))
    in_flight = flight(facts, members)
    load = () if in_flight is None else (in_flight.mean(sent.sent_s, sent.end_s),)
    near = alongside(sent, members, middle(sent.ttft_s))
    shown, client = _rows(facts.server, from_s, told_s), _rows(facts.client, from_s, told_s)
    t_s, kv, held = shown["t_s"], shown["kv_usage"], tokens_held(members, shown["t_s"])
    early_s = from_s + _EARLY * (told_s - from_s)
    preempted = np.diff(shown["preemptions_total"], prepend=math.nan)
    a_second = len(sent.sent_s) / (told_s - from_s) if len(sent.sent_s) else math.nan
    return [
        _Series(Figure.TTFT, sent.sent_s, sent.ttft_s, "median", (*load, sent.prompt_tokens, near)),
        _Series(Figure.TPOT, sent.sent_s, sent.tpot_s, "median", (*load, prefilled(sent, members))),
        _Series(Figure.ERRORS, sent.sent_s, sent.error.astype(float), "mean"),
        _Series(Figure.KV, t_s, kv, "mean", (held, shown["running"]), early_s),
        _Series(Figure.KV, t_s, all_ours(kv, held, t_s <= early_s), "mean"),
        _Series(Figure.MEMORY, t_s, shown["rss_bytes"], "median"),
        _Series(Figure.PREEMPTIONS, t_s, preempted / a_second, "mean"),
        _Series(Figure.CLIENT_LAG, client["t_s"], client["lag_p99_ms"], "median"),
        _Series(Figure.CLIENT_CPU, client["t_s"], client["cpu"], "median"),
    ]


def _rows(table: Table, from_s: float, until_s: float) -> dict[str, Array]:
    t_s = np.array(table.column("t_s"))
    inside = (t_s > from_s) & (t_s <= until_s)
    return {name: np.array(table.column(name)[: len(t_s)])[inside] for name in table.names}


def replicas(facts: Facts) -> tuple[str, ...]:
    """What is to be said of KV blocks that came or went by themselves: replicas, if as many as each of a few holds.

    Nothing of those that are known to have come or gone: they are told as replicas.
    """
    t_s, blocks = _values(facts.server, "num_gpu_blocks")
    turned = any("num_gpu_blocks" in chapter.text for chapter in facts.chapters)
    moves = [] if turned else np.flatnonzero(np.diff(blocks)).tolist()
    moves = [i for i in moves if not replica_moved(facts, float(t_s[i + 1]))]
    return tuple(say.blocks(blocks[i], blocks[i + 1], t_s[i + 1], _replica(blocks[i], blocks[i + 1])) for i in moves)


def _replica(before: float, after: float) -> bool:
    """Whether the larger is n + 1 of what the smaller has n of."""
    few, many = min(before, after), max(before, after)
    n = few / (many - few)
    return n < MOST_REPLICAS and abs(n - round(n)) <= _UNEQUAL * n


def _server_edges(server: Table) -> list[float]:
    """When the server's settings changed or it was started anew."""
    edges: list[float] = []
    for names, least in ((_CONFIG, 0.0), (("process_start_s",), 1.0)):
        for name in names:
            t_s, values = _values(server, name)
            edges += t_s[1:][np.abs(np.diff(values)) > least].tolist()
    for name in _COUNTERS:
        t_s, values = _values(server, name)
        edges += t_s[1:][np.diff(values) < 0].tolist()
    return edges


def _values(table: Table, name: str) -> tuple[Array, Array]:
    """Times and values of a column where it is known, without what lasts a scrape or two: one that missed a replica."""
    t_s = np.array(table.column("t_s"))
    values = np.array(table.column(name)[: len(t_s)])
    known = np.isfinite(values)
    return t_s[known], median_of_five(values[known])


def _drift(figure: Figure, trend: Trend, t_s: Array, values: Array, chance: float, part: tuple[float, float]) -> Drift:
    """A trend in the words of a verdict: as a share of the figure's level, where it has one."""
    level = float(np.median(np.abs(values))) or float(np.mean(np.abs(values)))
    if figure in _LEAST_OF:
        unit, least = 1.0, _LEAST_OF[figure]
    else:
        unit, least = (trend.first if trend.first > 0 else level) or 1.0, LEAST
    since = trend.since
    began_s = float(t_s[0] if since is None else (t_s[since - 1] + t_s[since]) / 2)
    change = trend.slope * (t_s[-1] - began_s) if trend.shape == "slope" else trend.change
    seen = trend.chance <= chance and abs(change) >= least * unit
    shape = trend.shape if seen else "none"
    has_slope = shape in ("slope", "none")
    return Drift(
        metric=figure,
        shape=shape,
        per_hour=_HOUR * trend.slope / unit if has_slope else None,
        low=_HOUR * trend.low / unit if has_slope else None,
        high=_HOUR * trend.high / unit if has_slope else None,
        change=float(change / unit),
        since_s=None if since is None or shape == "none" else began_s,
        from_s=part[0],
        until_s=part[1],
        visible_per_hour=max(_HOUR * trend.visible / unit, least * _HOUR / (part[1] - part[0])),
        significant=shape in ("slope", "step"),
    )
