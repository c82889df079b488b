"""What another tool has measured at one load: what every format of theirs is read into and written from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from llmtop.analysis.levels import Level, Stated
from llmtop.analysis.sides import Side, side_of_levels
from llmtop.domain.bounds import Quantity
from llmtop.domain.load import Axis, LoadPoint
from llmtop.domain.slo import LATENCIES, Latency, Slo
from llmtop.exchange.fields import MOST
from llmtop.wording.chapters import LENGTHS
from llmtop.wording.sentences import lengths

LEVEL = Quantity("load", 0.001, 1e9)
"""Requests in flight, or a second, of any tool on any machine."""
STATS = ("mean", "std", "p50", "p90", "p95", "p99")
"""Statistics of a latency that are taken over where a file states them; `std` is the standard deviation."""
_PARTS: dict[str, tuple[Latency, str]] = {f"{metric}_{stat}": (metric, stat) for metric in LATENCIES for stat in STATS}
NAMES = tuple(_PARTS)
_SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Seconds; None: not known, or it never came to that."""

    start_s: float | None = None
    """When it was sent, on whatever clock the tool has."""
    ttft_s: float | None = None
    tpot_s: float | None = None
    """(last token - first token) / (tokens - 1); None for an answer of one token."""
    e2e_s: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    """Why it failed; None: it ended well."""
    status: int | None = None
    """HTTP status of a request that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """One load, as another tool has measured it. Definitions are ours; None, "" and a missing figure: not known."""

    tool: str
    version: str = ""
    """Of the tool."""
    when: str = ""
    """When it was measured, as the tool writes it."""
    model: str = ""
    server: str = ""
    axis: Axis = "concurrency"
    load: float | None = None
    """As it was commanded: requests in flight, or requests/s."""
    prompt_tokens: float | None = None
    """Mean, as the next."""
    output_tokens: float | None = None
    ok: int | None = None
    failed: int | None = None
    duration_s: float | None = None
    output_tokens_per_s: float | None = None
    requests_per_s: float | None = None
    """That ended well."""
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    """A share."""
    stated: Mapping[str, float] = field(default_factory=dict)
    """Seconds by the names of `NAMES`, as the file states them."""
    samples: tuple[Sample, ...] = ()
    """Of every request that ended well, where the file has them all, and of what it has of those that failed."""
    traits: Mapping[str, str] = field(default_factory=dict)
    """What else the file says of the configuration, by the tool's own names."""

    def __post_init__(self) -> None:
        """What was reckoned of odd figures and comes to more than any file may say is not known."""
        for name in ("duration_s", "requests_per_s", "output_tokens_per_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MOST:
                object.__setattr__(self, name, None)

    def figure(self, name: str) -> float | None:
        """A statistic in seconds by its name in `NAMES`, of the requests where they are there; None: not known."""
        if not self.samples:
            return self.stated.get(name)
        metric, stat = parted(name)
        told = (getattr(each, f"{metric}_s") for each in self.samples if each.error is None)
        values = [value for value in told if value is not None]
        return statistic(values, stat) if values else self.stated.get(name)

    @property
    def delivered(self) -> float | None:
        """Requests in flight by Little's law."""
        mean = self.figure("e2e_mean")
        if mean is None or self.requests_per_s is None:
            return None
        load = self.requests_per_s * mean
        return load if LEVEL.holds(load) else None


def parted(name: str) -> tuple[Latency, str]:
    """Metric and statistic of a name in `NAMES`."""
    return _PARTS[name]


def statistic(values: Sequence[float], stat: str) -> float:
    """A statistic of `STATS`; percentiles lie on straight lines between values, as NumPy and these tools have it."""
    if stat == "mean":
        return float(np.mean(values))
    return float(np.std(values)) if stat == "std" else float(np.quantile(values, _SHARES[stat]))


def stated_of(samples: Sequence[Sample]) -> dict[str, float]:
    """All statistics of the requests that ended well."""
    found = {}
    for metric in LATENCIES:
        told = [getattr(each, f"{metric}_s") for each in samples if each.error is None]
        values = [value for value in told if value is not None]
        if values:
            found.update({f"{metric}_{stat}": statistic(values, stat) for stat in STATS})
    return found


def level_of(run: Foreign) -> Level | None:
    """The level; None: the file neither says its load nor what tells it."""
    load = run.load if run.load is not None else run.delivered if run.axis == "concurrency" else None
    if load is None:
        return None
    level = Level(
        load=load,
        errors=run.failed or 0,
        requests_per_s=run.requests_per_s,
        output_tokens_per_s=run.output_tokens_per_s,
        running=run.running,
        waiting=run.waiting,
        kv_usage=run.kv_usage,
        prompt_tokens=run.prompt_tokens,
        output_tokens=run.output_tokens,
    )
    well = sorted((each for each in run.samples if each.error is None), key=lambda each: each.start_s or 0.0)
    if not well:
        figures = {name: value for name, value in run.stated.items() if name in NAMES}
        # Of how many requests those that failed are a share is not known where nobody says how many ended well.
        return replace(level, stated=Stated(run.ok or 0, figures), errors=level.errors if run.ok is not None else 0)

    def column(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        values = [getattr(each, name) for each in well]
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)

    statuses = [each.status for each in run.samples if each.error is not None and each.status is not None]
    return replace(
        level,
        ttft_s=column("ttft_s"),
        tpot_s=column("tpot_s"),
        e2e_s=column("e2e_s"),
        status=max(statuses, key=statuses.count) if statuses else None,
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Levels of one configuration, lowest load first; of several at one load the last counts."""

    name: str
    axis: Axis
    runs: tuple[Foreign, ...]
    levels: tuple[Level, ...]
    notes: tuple[str, ...] = ()

    @property
    def traits(self) -> dict[str, str]:
        """What tells it from others, by the names that a run of ours has for it."""
        first = self.runs[-1]
        point = self.point
        told = {
            "model": first.model,
            "server": first.server,
            LENGTHS: "" if point is None else lengths(point, unit="tok"),
            "measured by": f"{first.tool} {first.version}".strip(),
            **first.traits,
        }
        return {name: text for name, text in told.items() if text}

    @property
    def point(self) -> LoadPoint | None:
        """The requests, by their mean lengths; None where these are not known."""
        load = self.levels[-1].load
        told = [(run.prompt_tokens, run.output_tokens, run.ok or 1) for run in self.runs]
        known = [(prompt, output, n) for prompt, output, n in told if prompt is not None and output is not None]
        if not known:
            return None
        total = sum(n for _, _, n in known)
        prompt, output = (round(sum(each[i] * each[2] for each in known) / total) for i in (0, 1))
        if self.axis == "rate":
            return LoadPoint(rate_rps=load, prompt_tokens=prompt, output_tokens=output)
        return LoadPoint(concurrency=max(1, round(load)), prompt_tokens=prompt, output_tokens=output)

    def side(self, slo: Slo) -> Side:
        return side_of_levels(self.name, self.levels, slo, axis=self.axis, point=self.point, traits=self.traits)


def grouped(name: str, runs: Sequence[Foreign]) -> tuple[Group, ...]:
    """Runs by configuration: the tool, what it says of server and model, and whether users or a rate were driven."""
    by_key: dict[tuple[object, ...], list[Foreign]] = {}
    for run in runs:
        key = (run.tool, run.version, run.model, run.server, run.axis, tuple(sorted(run.traits.items())))
        by_key.setdefault(key, []).append(run)
    found = (_group(name, own) for own in by_key.values())
    groups = [group for group in found if group is not None]
    if len(groups) == 1:
        return tuple(groups)
    return tuple(replace(group, name=f"{name}@{at}") for at, group in enumerate(groups, 1))


def _group(name: str, runs: Sequence[Foreign]) -> Group | None:
    by_load: dict[float, tuple[Foreign, Level]] = {}
    notes = []
    for run in runs:
        level = level_of(run)
        if level is None:
            notes.append(f"{run.tool}: an entry does not say its load, and is left out: give it with --load")
            continue
        if run.load is None:
            notes.append(f"{run.tool}: the load is not told; {level.load:.3g} were in flight by Little's law")
        if level.load in by_load:
            notes.append(f"{run.tool}: load {level.load:g} is there more than once: the last counts")
        by_load[level.load] = (run, level)
    if not by_load:
        return None
    kept = [by_load[load] for load in sorted(by_load)]
    axis = kept[0][0].axis
    return Group(
        name, axis, tuple(run for run, _ in kept), tuple(level for _, level in kept), tuple(dict.fromkeys(notes))
    )
