"""What the capacity at the SLO costs: by the price that somebody stated, and by the power that was read.

What one endpoint gives at a load is interpolated between the levels that were measured, never beyond them. The interval
of a cost is that of the capacity: the loads between which it lies, and what they give.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from msgspec.structs import replace

from llmtop.analysis.capacity import RUN_SD
from llmtop.analysis.fits import Array
from llmtop.analysis.levels import MIN_REQUESTS, Level, are_embeddings
from llmtop.domain.bounds import GPUS
from llmtop.domain.cost import UNSTATED, Cost
from llmtop.domain.load import Axis
from llmtop.domain.verdicts import Amount, Capacity, CostRow, Costs, Foresight
from llmtop.meter.facts import Facts
from llmtop.wording import cost as words

HEADROOM = 0.8
"""Endpoints are filled up to this share of their capacity at the SLO: 20 % are left for bursts."""
LOW_USE = 0.3
"""What is used of paid GPUs in practice is 30 to 60 %."""
MONTH_H = 730.0
Split = Literal["server", "ttft", "whole"]
Use = Literal["slo", "autoscaled", "fixed", "third"]
_Ends = tuple[float, float, float]
"""Loads: the capacity, and between what it lies."""


@dataclass(frozen=True, slots=True)
class Served:
    """What one endpoint gives at one load; NaN: not known."""

    load: float
    requests_per_s: float
    output_per_s: float
    """Tokens of requests that ended well, as the next."""
    input_per_s: float
    e2e_s: float
    thinking: float
    """Share of the users who think."""

    def times(self, factor: float) -> Served:
        """The same at rates so many times as high."""
        rates = ("requests_per_s", "output_per_s", "input_per_s")
        return dataclasses.replace(self, **{rate: factor * getattr(self, rate) for rate in rates})

    def users(self, axis: Axis, think_time_s: float | None) -> float:
        """Real users: N (1 + Z / R) for N requests in flight, an E2E of R and a pause of Z."""
        if think_time_s is None:
            return self.load if axis == "concurrency" else math.nan
        in_flight = self.load * (1 - self.thinking) if axis == "concurrency" else self.load * self.e2e_s
        return in_flight * (1 + think_time_s / self.e2e_s)


@dataclass(frozen=True, slots=True, eq=False)
class Supply:
    """What one endpoint gives over its loads, as columns, the lowest load first; NaN: not known."""

    load: Array
    requests_per_s: Array
    output_per_s: Array
    input_per_s: Array
    e2e_s: Array
    thinking: Array
    input_share: Array
    """Of the time of a request, what its prefill takes."""
    split: Split | None = None
    power_w: Array = field(default_factory=lambda: np.empty(0))
    gpus: int | None = None
    """That the server tells; None: it does not."""
    gpus_read: int = 0
    gpus_seen: int = 0
    cached: float | None = None

    def at(self, load: float) -> Served:
        """Rates go up from nothing in a straight line, and are flat past the highest load that was measured."""
        columns = (self.requests_per_s, self.output_per_s, self.input_per_s)
        requests, output, prompt = (self._rate(column, load) for column in columns)
        return Served(load, requests, output, prompt, self.mean("e2e_s", load), self.mean("thinking", load))

    def _rate(self, column: Array, load: float) -> float:
        known = np.isfinite(column)
        if not known.any():
            return math.nan
        return float(np.interp(load, np.append(0.0, self.load[known]), np.append(0.0, column[known])))

    def has_power(self, load: float) -> bool:
        """Whether power was read at the level nearest to a load."""
        known = np.isfinite(self.power_w)
        return bool(len(known) and known[np.argmin(np.abs(self.load - load))])

    def mean(self, name: str, load: float) -> float:
        """What is no rate, on the straight line between the levels around."""
        column: Array = getattr(self, name)
        known = np.isfinite(column)
        return float(np.interp(load, self.load[: len(column)][known], column[known])) if known.any() else math.nan


_GPUS_TOLD = ("tensor_parallel_size", "tp_size")
"""Flags by which servers tell over how many GPUs each layer lies."""


def gpus_told(facts: Facts, traits: Sequence[tuple[str, str]]) -> int | None:
    """How many GPUs a server tells that it runs on, all its replicas together; None: it does not.

    A replica that does not say so runs on one.
    """
    told = next((text for name, text in traits if name in _GPUS_TOLD), "")
    each = int(told) if told.isascii() and told.isdecimal() and GPUS.holds(int(told)) else None
    return facts.replicas * (each or 1) if each is not None or facts.replicas > 1 else None


def supply_of_run(facts: Facts, levels: Sequence[Level], gpus: int | None, *, by_ttft: bool = True) -> Supply:
    """What the levels of one configuration of a run tell.

    Args:
        gpus: that the server tells; None: it does not.
        by_ttft: whether TTFT is that of the server.
    """
    read, seen = (int(facts.power.column(name).max(initial=0)) for name in ("read", "gpus"))
    return supply_of(levels, gpus=gpus, by_ttft=by_ttft, cached=_cached(facts), read=(read, seen))


def supply_of(
    levels: Sequence[Level],
    *,
    gpus: int | None = None,
    by_ttft: bool = True,
    cached: float | None = None,
    read: tuple[int, int] = (0, 0),
) -> Supply:
    """What the levels of one configuration tell.

    Args:
        read: how many GPUs told their power, and of how many.
    """
    own = sorted((level for level in levels if level.n >= MIN_REQUESTS), key=lambda level: level.load)
    embeds = are_embeddings(own)
    split, shares = _shares(own, embeds, by_ttft)
    return Supply(
        load=np.array([level.load for level in own]),
        requests_per_s=_column([level.requests_per_s for level in own]),
        output_per_s=_column([None if embeds else _sold(level) for level in own]),
        input_per_s=_column([_product(level.requests_per_s, level.prompt_tokens) for level in own]),
        e2e_s=_column([level.mean("e2e") for level in own]),
        thinking=np.array([level.thinking or 0.0 for level in own]),
        input_share=shares,
        split=split,
        power_w=_column([level.power_w for level in own]),
        gpus=gpus,
        gpus_read=read[0],
        gpus_seen=read[1],
        cached=cached,
    )


def _sold(level: Level) -> float | None:
    """Output tokens/s of requests that ended well: what a failed one has streamed is among those that were counted."""
    good = _product(level.requests_per_s, level.output_tokens)
    told = level.output_tokens_per_s
    if told is None or good is None or not level.errors:
        return told if told is not None else good
    return min(told, good)


def _shares(levels: Sequence[Level], embeds: bool, by_ttft: bool) -> tuple[Split | None, Array]:
    """By what the cost is split, and the share of the input at each level."""
    if embeds:
        return "whole", np.ones(len(levels))
    told = [
        level.prefill_s / (level.prefill_s + level.decode_s) if level.prefill_s and level.decode_s else None
        for level in levels
    ]
    if any(share is not None for share in told):
        return "server", _column(told)
    times = [(level.mean("ttft"), level.mean("e2e")) for level in levels] if by_ttft else []
    shares = [min(1.0, ttft_s / e2e_s) if ttft_s is not None and e2e_s else None for ttft_s, e2e_s in times]
    return ("ttft" if any(share is not None for share in shares) else None), _column(shares)


def _cached(facts: Facts) -> float | None:
    """Share of the input tokens that came from the prefix cache: by the usage of requests, else as the server shows."""
    prompts, cached, ok = (facts.requests.column(name) for name in ("prompt_tokens", "cached_tokens", "ok"))
    known = (ok > 0) & np.isfinite(cached) & (prompts > 0)
    if known.any():
        return float(cached[known].sum() / prompts[known].sum())
    shown = facts.server.column("prefix_hit_ratio")
    shown = shown[np.isfinite(shown)]
    return float(shown.mean()) if len(shown) else None


def supply_foreseen(told: Foresight, gpus: int | None) -> Supply:
    """The same of what a twin foresees: of figures that nobody has measured."""
    points = sorted(told.points, key=lambda point: point.load)
    output = told.output_tokens or 0.0
    waits = [None if point.ttft_p50_ms is None else point.ttft_p50_ms.value / 1e3 for point in points]
    paces = [(output - 1) * point.tpot_p50_ms.value / 1e3 for point in points]
    e2es = [None if wait is None else wait + pace for wait, pace in zip(waits, paces, strict=True)]
    rates = [point.requests_per_s.value for point in points]
    return Supply(
        load=np.array([point.load for point in points]),
        requests_per_s=np.array(rates),
        output_per_s=np.array([point.output_tokens_per_s.value for point in points]),
        input_per_s=_column([_product(rate, told.prompt_tokens) for rate in rates]),
        e2e_s=_column(e2es),
        thinking=np.zeros(len(points)),
        input_share=_column(
            [wait / e2e if wait is not None and e2e else None for wait, e2e in zip(waits, e2es, strict=True)]
        ),
        split="ttft",
        gpus=gpus,
    )


def costs_foreseen(told: Foresight, cost: Cost, gpus: int | None = None) -> Costs | None:
    """What the users that a twin foresees at the SLO cost."""
    users = told.users
    capacity = Capacity()
    if users is not None and users.value > 0:
        capacity = Capacity(at_slo=users.value, fails_at=users.high, low=users.low, high=users.high)
    return costs_of(supply_foreseen(told, gpus), cost, capacity, told.axis, "" if users else words.NOT_FORESEEN)


def costs_of(supply: Supply, cost: Cost, capacity: Capacity, axis: Axis, void: str = "") -> Costs | None:
    """What the capacity costs; None: nothing was stated, and no power was read.

    Args:
        void: why the capacity is that of nothing; empty: it counts.
    """
    stated = cost != UNSTATED
    powered = capacity.at_slo is not None and supply.has_power(capacity.at_slo)
    if not stated and not powered:
        return None
    gpus = cost.gpus or supply.gpus or 1
    told = Costs(
        price_per_hour=cost.gpu_price_per_hour, currency=cost.currency, gpus=gpus, axis=axis, peak=cost.peak, void=void
    )
    if not void and not capacity.at_slo:
        void = words.NO_CAPACITY if capacity.fails_at is not None else words.CAPACITY_UNKNOWN
    if not void and not len(supply.load):
        void = words.CAPACITY_UNKNOWN
    if void or capacity.at_slo is None:
        return replace(told, void=void) if stated else None
    return _Reckoner(supply, cost, capacity, gpus, axis).told(told)


@dataclass(frozen=True, slots=True)
class _Reckoner:
    """Reckons each figure at the capacity and at both ends of its interval."""

    supply: Supply
    cost: Cost
    capacity: Capacity
    gpus: int
    axis: Axis

    def told(self, told: Costs) -> Costs:
        cost, supply = self.cost, self.supply
        at = self._ends()[0]
        here = supply.at(at)
        share = _known(supply.mean("input_share", at))
        power_w = _known(supply.mean("power_w", at)) if supply.has_power(at) else None
        rows = () if cost.gpu_price_per_hour is None else tuple(map(self._row, self._uses()))
        return replace(
            told,
            at=at,
            at_most=self._endless,
            users=_known(here.users(self.axis, cost.think_time_s)),
            requests_per_s=_known(here.requests_per_s),
            output_tokens_per_s=_known(here.output_per_s),
            input_tokens_per_s=_known(here.input_per_s),
            input_share=share,
            output_share=None if share is None else 1 - share,
            split=None if share is None else supply.split,
            cached=supply.cached,
            rows=rows,
            gpus_at_peak=None if cost.peak is None else self._amount(self._gpus_at_peak),
            joules_per_output_token=None if power_w is None else self._amount(self._joules),
            power_w=power_w,
            gpus_read=supply.gpus_read,
            gpus_seen=supply.gpus_seen,
            missing=tuple(self._missing(bool(rows), here)),
        )

    @property
    def _endless(self) -> bool:
        return self.capacity.fails_at is None

    def _ends(self) -> _Ends:
        at = self.capacity.at_slo or 0.0
        low, high = self.capacity.low, self.capacity.high
        return at, min(at, at if low is None else low), max(at, at if high is None else high)

    def _amount(self, figure: Callable[[Served], float]) -> Amount | None:
        """A figure that falls as an endpoint gives more; what it gives at one load differs from run to run, too."""
        at, low, high = self._ends()
        here, least, most = (self.supply.at(load) for load in (at, low, high))
        values = [figure(here)]
        for end, sign in ((least, -1), (most, 1)):
            values.append(figure(end))
            if self.axis == "concurrency":
                values.append(figure(here.times(1 + sign * 2 * RUN_SD)))
        known = [value for value in values if math.isfinite(value)]
        if not math.isfinite(values[0]):
            return None
        return Amount(values[0], None if self._endless else min(known), max(known))

    # -- what is paid -------------------------------------------------------------------------------------------------

    @property
    def _hour(self) -> float:
        """Of one endpoint."""
        return (self.cost.gpu_price_per_hour or 0.0) * self.gpus

    def _uses(self) -> list[Use]:
        traffic = self.cost.traffic and self.cost.peak is not None
        return ["slo", "autoscaled", "fixed", "third"] if traffic else ["slo", "third"]

    def _row(self, use: Use) -> CostRow:
        def per_million(rate: str, part: Callable[[float], float]) -> Callable[[Served], float]:
            def figure(served: Served) -> float:
                share = part(self.supply.mean("input_share", served.load))
                return share * self._hour * self._paid(use, served) / (3600 * _some(getattr(served, rate))) * 1e6

            return figure

        return CostRow(
            use=use,
            per_million_output=self._amount(per_million("output_per_s", lambda _: 1.0)),
            input_part=self._amount(per_million("input_per_s", lambda share: share)),
            output_part=self._amount(per_million("output_per_s", lambda share: 1 - share)),
            per_user_month=self._amount(lambda served: self._user_month(use, served)),
            per_month=self._amount(lambda served: self._hour * MONTH_H * self._endpoints(use, served)),
        )

    def _paid(self, use: Use, served: Served) -> float:
        """Endpoint-hours that are paid over those that are used."""
        if use == "third":
            return 1 / LOW_USE
        if use == "slo":
            return 1.0
        needed = [share * (self.cost.peak or 0.0) / _some(self._carried(served)) for share in self.cost.traffic]
        return self._endpoints(use, served) / (sum(needed) / len(needed))

    def _endpoints(self, use: Use, served: Served) -> float:
        """How many are paid, on the mean of a day."""
        if use in ("slo", "third"):
            return 1.0
        replicas = [self._replicas(share * (self.cost.peak or 0.0), served) for share in self.cost.traffic]
        return max(replicas) if use == "fixed" else sum(replicas) / len(replicas)

    def _user_month(self, use: Use, served: Served) -> float:
        users = served.users(self.axis, self.cost.think_time_s)
        month = self._hour * MONTH_H * self._endpoints(use, served)
        if use in ("slo", "third"):
            return month / _some(users) / (LOW_USE if use == "third" else 1.0)
        return month / _some(users * (self.cost.peak or 0.0) / _some(self._carried(served)))

    def _carried(self, served: Served) -> float:
        """What one endpoint carries at the SLO, as the peak counts: real users, or requests/s."""
        return served.users(self.axis, self.cost.think_time_s) if self.axis == "concurrency" else served.load

    def _replicas(self, load: float, served: Served) -> float:
        carried = HEADROOM * self._carried(served)
        return float(math.ceil(load / carried - 1e-9)) if carried > 0 else math.nan

    def _gpus_at_peak(self, served: Served) -> float:
        return self.gpus * (self._replicas(self.cost.peak or 0.0, served) + 1)

    def _joules(self, served: Served) -> float:
        return self.supply.mean("power_w", served.load) / _some(served.output_per_s)

    def _missing(self, priced: bool, here: Served) -> list[str]:
        if self.cost == UNSTATED:
            return []
        if not priced:
            return [words.NO_PRICE]
        missing = [] if self.cost.peak is not None else [words.NO_PEAK]
        missing += [] if self.cost.traffic else [words.NO_TRAFFIC]
        if math.isnan(here.users(self.axis, self.cost.think_time_s)):
            missing.append(words.NO_THINK_TIME)
        return missing


def _some(rate: float) -> float:
    """What can be divided by; NaN for nothing."""
    return rate if rate > 0 else math.nan


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _product(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other


def _column(values: Sequence[float | None]) -> Array:
    return np.array([math.nan if value is None else value for value in values], dtype=float)
