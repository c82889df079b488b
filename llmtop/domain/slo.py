"""Service level objectives, as a user writes them: `ttft_p95<2s,error_ratio<1%,answer.ttft_p95<500ms`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, get_args

from msgspec import Struct

from llmtop.domain.alike import meant
from llmtop.domain.bounds import LATENCY_S, LIMIT_QUEUE, LIMIT_SHARE
from llmtop.domain.plain import plain
from llmtop.errors import UsageError

Latency = Literal["ttft", "tpot", "e2e"]
Metric = Literal[Latency, "error_ratio", "queue", "kv"]
Stat = Literal["mean", "p50", "p90", "p95", "p99"]
METRICS: tuple[Metric, ...] = get_args(Metric)
LATENCIES: tuple[Latency, ...] = get_args(Latency)
STATS: tuple[Stat, ...] = get_args(Stat)
WARN_SHARE = 0.8
"""A figure turns yellow from this share of its limit."""

MOST_LIMIT = 200
"""Characters of one limit; a float with all its digits has fewer."""
SHOWN = 60
"""Characters of a limit that are shown in an error."""
_QUANTITIES = {"error_ratio": LIMIT_SHARE, "kv": LIMIT_SHARE, "queue": LIMIT_QUEUE}
_SCALES = {"ms": 1e-3, "s": 1.0, "min": 60.0, "%": 1e-2, "": 1.0}
_LIKE = "ttft_p95<2s, tpot_p95<50ms, error_ratio<1%, queue<10 or kv<80%"
NUMBER = r"((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)"
_TARGET = re.compile(rf"^\s*(?:([^<]+)\.)?\s*([a-z0-9_]+)\s*<=?\s*{NUMBER}\s*(ms|s|min|%|)\s*$")
_NAMES: dict[str, tuple[Metric, Stat | None]] = {
    **{metric: (metric, "p95" if metric in LATENCIES else None) for metric in METRICS},
    **{f"{metric}_{stat}": (metric, stat) for metric in LATENCIES for stat in STATS},
}
"""What a limit may be called."""
FIGURES = frozenset(_NAMES)


def metric_of(name: str) -> Metric:
    """The metric in the name of a target: `ttft` of `ttft_p95`, and of `answer.ttft_p95`."""
    name = name.rpartition(".")[2]
    return next(metric for metric in METRICS if name == metric or name.startswith(f"{metric}_"))


class SloTarget(Struct, frozen=True):
    """One limit. `limit` is in seconds, in requests (queue) or a share (error_ratio, kv)."""

    metric: Metric
    limit: float
    stat: Stat | None = None
    """Of a latency."""
    warn: float | None = None
    """From where it turns yellow; None: `WARN_SHARE` of the limit."""
    kind: str = ""
    """The name of the requests that it is of alone; empty: of all."""

    @property
    def name(self) -> str:
        figure = f"{self.metric}_{self.stat}" if self.stat else self.metric
        return f"{self.kind}.{figure}" if self.kind else figure

    @property
    def warn_at(self) -> float:
        return self.limit * WARN_SHARE if self.warn is None else self.warn

    def __str__(self) -> str:
        if self.metric in LATENCIES:
            value = f"{self.limit * 1e3:g}ms" if self.limit < 1 else f"{self.limit:g}s"
        elif self.metric == "queue":
            value = f"{self.limit:g}"
        else:
            value = f"{self.limit * 100:g}%"
        return f"{self.name}<{value}"


class Slo(Struct, frozen=True):
    """A set of limits, all of which must hold.

    The default error limit is 1 % (the run fails), yellow from 0.1 % (the objective itself).
    """

    targets: tuple[SloTarget, ...] = (
        SloTarget("ttft", 2.0, "p95"),
        SloTarget("tpot", 0.050, "p95"),
        SloTarget("error_ratio", 0.01, warn=0.001),
        SloTarget("queue", 10),
        SloTarget("kv", 0.80, warn=0.70),
    )
    named: tuple[SloTarget, ...] = ()
    """Limits on the requests of one name alone, which the answer of a run and a capacity must keep, too. A load or a
    level is judged by `targets`, and searches steer by them."""

    @property
    def limits(self) -> tuple[SloTarget, ...]:
        return (*self.targets, *self.named)

    @property
    def felt(self) -> tuple[SloTarget, ...]:
        """The limits that users feel: latencies and errors. Queue and KV limits are causes."""
        return tuple(target for target in self.targets if target.metric in (*LATENCIES, "error_ratio"))

    def felt_by(self, kind: str) -> tuple[SloTarget, ...]:
        """The same of the requests of one name: a limit on them alone stands in the place of that on all."""
        own = tuple(target for target in self.named if target.kind == kind)
        return (*(target for target in self.felt if target.metric not in {each.metric for each in own}), *own)

    def target(self, metric: Metric) -> SloTarget | None:
        """The first limit on `metric`, or None."""
        return next((target for target in self.targets if target.metric == metric), None)

    def __str__(self) -> str:
        return ",".join(map(str, self.limits))


_EMBEDDINGS = Slo(
    (
        SloTarget("e2e", 1.0, "p95"),
        SloTarget("error_ratio", 0.01, warn=0.001),
        SloTarget("queue", 10),
        SloTarget("kv", 0.80, warn=0.70),
    )
)
"""Whoever waits for a vector goes on only when all of it is there: half of what an answer may take to begin."""


def usual_slo(api: str, own: Slo | None = None) -> Slo:
    """What a run of this API is judged by where nobody says otherwise.

    Args:
        own: the user's default, which holds where this API has what it limits.
    """
    if own is not None and without_meaning(own, api) is None:
        return own
    return _EMBEDDINGS if api == "embeddings" else Slo()


def without_meaning(slo: Slo, api: str) -> SloTarget | None:
    """A limit on what this API does not have; None: there is none."""
    if api != "embeddings":
        return None
    return next((target for target in slo.limits if target.metric in ("ttft", "tpot")), None)


NOT_OF_EMBEDDINGS = "embeddings have no first token and no pace: limit e2e, such as e2e_p95<1s"


def parse_slo(text: str) -> Slo:
    """Read `ttft_p95<2s,tpot_p95<50ms,error_ratio<1%,queue<10,kv<80%`, and `answer.ttft_p95<2s` of one name's requests.

    A latency without a statistic means p95. Raises UsageError naming the part that cannot be read.
    """
    targets: dict[str, SloTarget] = {}
    for part in map(str.strip, text.split(",")):
        if part:
            target = _target(part)
            if target.name in targets:
                raise UsageError(f"SLO {plain(part, SHOWN)!r}: a second limit on {target.name}; keep one")
            targets[target.name] = target
    if not targets:
        raise UsageError(f"SLO: no limit given; write it like {_LIKE}")
    return slo_of(targets.values())


def slo_of(targets: Iterable[SloTarget]) -> Slo:
    """All limits, those of one name and those of all requests."""
    told = tuple(targets)
    return Slo(tuple(each for each in told if not each.kind), tuple(each for each in told if each.kind))


def parse_target(name: str, limit: str) -> SloTarget:
    """Read one limit, `2s`, of the figure that is called `name`. Raises UsageError."""
    return _target(f"{name}<{limit}")


def _target(part: str) -> SloTarget:
    match = _TARGET.match(part) if len(part) < MOST_LIMIT else None
    shown = plain(part, SHOWN)
    if match is None:
        raise UsageError(f"SLO {shown!r}: {_faulty(part)}")
    kind, name, number, unit = match.groups()
    if name not in _NAMES:
        raise UsageError(f"SLO {shown!r}: {_unknown(name)}")
    try:
        return target_of(kind, name, number, unit)
    except ValueError as error:
        raise UsageError(f"SLO {shown!r}: {error}") from None


def target_of(kind: str | None, name: str, number: str, unit: str) -> SloTarget:
    """The limit of a figure whose name is known, its number and unit as they were written.

    Raises ValueError: which unit the figure wants, or between what its limit must lie.
    """
    metric, stat = _NAMES[name]
    if kind is not None and metric in ("queue", "kv"):
        raise ValueError(f"{metric} is the server's, of all requests together: leave out the name")
    wants = ("ms", "s", "min") if metric in LATENCIES else ("",) if metric == "queue" else ("%", "")
    if unit not in wants:
        raise ValueError(f"{metric} wants {' or '.join(w or 'a bare number' for w in wants)}")
    limit = float(number) * _SCALES[unit]
    quantity = _QUANTITIES.get(metric, LATENCY_S)
    if not quantity.holds(limit):
        raise ValueError(f"the limit must be {quantity.allowed}")
    return SloTarget(metric, limit, stat, kind=plain((kind or "").strip()))


def _faulty(part: str) -> str:
    """Which part of a limit cannot be read, why, and how limits are written."""
    like = f"; write it like {_LIKE}"
    if len(part) >= MOST_LIMIT:
        return f"is longer than {MOST_LIMIT} characters{like}"
    name, sign, limit = (piece.strip() for piece in part.partition("<"))
    name = name.rpartition(".")[2].strip() if sign else name
    other = next((each for each in ">=:" if each in name), "")
    if other:
        return f"{other!r} stands where '<' must: a limit is what a figure stays below{like}"
    if name not in _NAMES:
        return _unknown(name)
    if not sign:
        return f"it has no limit (in a shell, put the whole into quotes: < is a sign of its own there){like}"
    limit = limit.removeprefix("=").strip()
    if "<" in limit:
        return f"it has two limits: put a comma between them{like}"
    number = re.match(r"\d+\.?\d*|\.\d+", limit)
    if number is not None:
        return f"{plain(limit[number.end() :].strip(), SHOWN)!r} is no unit{like}"
    return f"{plain(limit, SHOWN)!r} is no number{like}"


def _unknown(name: str) -> str:
    use = "use error_ratio, queue or kv, or ttft, tpot or e2e with _mean, _p50, _p90, _p95 or _p99"
    return f"{plain(name, SHOWN)!r} is not known; {meant(name.lower()[:SHOWN], _NAMES)}{use}"
