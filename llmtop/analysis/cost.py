"""What the capacity at the SLO costs: by the price that somebody stated, and by the power that was read.

The interval of a cost is that of the capacity: the loads between which it lies, and what an endpoint gives there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from llmtop.analysis.capacity import RUN_SD
from llmtop.analysis.supply import Served, Supply, supply_foreseen
from llmtop.domain.cost import HEADROOM, LOW_USE, MONTH_H, UNSTATED, Amount, Cost, CostRow, Costs
from llmtop.domain.foresight import Foresight
from llmtop.domain.load import Axis
from llmtop.domain.verdicts import Capacity
from llmtop.wording import cost as words

Use = Literal["slo", "autoscaled", "fixed", "third"]
MOST_SHARE = 1.05
"""More of the engine's time than there is, by more than rates are off: seconds of prefill hold waiting, or overlap."""
_Ends = tuple[float, float, float]
"""Loads: the capacity, and between what it lies."""


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
    powered = capacity.at_slo is not None and supply.knows("power_w", capacity.at_slo)
    if not stated and not powered:
        return None
    replicas = supply.replicas(capacity.at_slo)
    gpus = cost.gpus or (supply.gpus if replicas is None else replicas * supply.gpus_each) or 1
    told = Costs(
        price_per_hour=cost.gpu_price_per_hour,
        currency=cost.currency,
        gpus=gpus,
        replicas=replicas if replicas and gpus % replicas == 0 else 1,
        axis=axis,
        peak=cost.peak,
        void=void,
    )
    if not void and not capacity.at_slo:
        void = words.NO_CAPACITY if capacity.fails_at is not None else words.CAPACITY_UNKNOWN
    if not void and not len(supply.load):
        void = words.NO_LEVEL
    if void or capacity.at_slo is None:
        return replace(told, void=void) if stated else None
    return _Reckoner(supply, cost, capacity, gpus, told.replicas, axis).told(told)


def split_by_steps(costs: Costs, share: float | None) -> Costs:
    """The costs with the input's share as a model of the engine's steps has it; as they are where it has none.

    Args:
        share: of the engine's time, what is spent on prompts; None: not known.
    """
    if share is None or costs.split == "whole":
        return costs
    rows = tuple(_with_parts(row, share, costs.output_tokens_per_s, costs.input_tokens_per_s) for row in costs.rows)
    return replace(costs, rows=rows, input_share=share, output_share=1 - share, split="steps")


def _with_parts(row: CostRow, share: float, output: float | None, prompt: float | None) -> CostRow:
    whole = row.per_million_output
    if whole is None or not output or not prompt:
        return row
    return replace(row, input_part=_times(whole, share * output / prompt), output_part=_times(whole, 1 - share))


def _times(amount: Amount, factor: float) -> Amount:
    low, high = (None if end is None else factor * end for end in (amount.low, amount.high))
    return Amount(factor * amount.value, low, high)


@dataclass(frozen=True, slots=True)
class _Reckoner:
    """Reckons each figure at the capacity and at both ends of its interval."""

    supply: Supply
    cost: Cost
    capacity: Capacity
    gpus: int
    replicas: int
    """Of the endpoint, in which what is needed comes."""
    axis: Axis

    def told(self, told: Costs) -> Costs:
        cost, supply = self.cost, self.supply
        at = self._ends()[0]
        here = supply.at(at)
        share = self._input_share(at)
        power_w = _known(supply.mean("power_w", at)) if supply.knows("power_w", at) else None
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

    def _input_share(self, load: float) -> float | None:
        """Of the engine's time; None: not known, or at the capacity more than there is."""
        supply, at = self.supply, self._ends()[0]
        if not supply.knows("input_share", at) or supply.mean("input_share", at) > MOST_SHARE:
            return None
        return min(1.0, supply.mean("input_share", load))

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
                share = self._input_share(served.load)
                whole = part(math.nan if share is None else share)
                return whole * self._hour * self._paid(use, served) / (3600 * _some(getattr(served, rate))) * 1e6

            return figure

        return CostRow(
            use=use,
            per_million_output=self._amount(per_million("output_per_s", lambda _: 1.0)),
            input_part=self._amount(per_million("input_per_s", lambda share: share)),
            output_part=self._amount(per_million("output_per_s", lambda share: 1 - share)),
            per_user_month=self._amount(lambda served: self._user_month(use, served)),
            per_month=self._amount(lambda served: self._month(use, served)),
        )

    def _paid(self, use: Use, served: Served) -> float:
        """Endpoint-hours that are paid over those that are used."""
        if use == "third":
            return 1 / LOW_USE
        if use == "slo":
            return 1.0
        needed = [share * (self.cost.peak or 0.0) / _some(self._carried(served)) for share in self.cost.traffic]
        return self._endpoints(use, served) / (sum(needed) / len(needed))

    def _month(self, use: Use, served: Served) -> float:
        return self._hour * MONTH_H * self._endpoints(use, served)

    def _endpoints(self, use: Use, served: Served) -> float:
        """How many are paid, on the mean of a day; of several replicas parts of one."""
        if use in ("slo", "third"):
            return 1.0
        needed = [self._needed(share * (self.cost.peak or 0.0), served) for share in self.cost.traffic]
        return (max(needed) if use == "fixed" else sum(needed) / len(needed)) / self.replicas

    def _user_month(self, use: Use, served: Served) -> float:
        users = served.users(self.axis, self.cost.think_time_s)
        month = self._month(use, served)
        if use in ("slo", "third"):
            return month / _some(users) / (LOW_USE if use == "third" else 1.0)
        return month / _some(users * (self.cost.peak or 0.0) / _some(self._carried(served)))

    def _carried(self, served: Served) -> float:
        """What one endpoint carries at the SLO, as the peak counts: real users, or requests/s."""
        return served.users(self.axis, self.cost.think_time_s) if self.axis == "concurrency" else served.load

    def _needed(self, load: float, served: Served) -> float:
        """Endpoints or, where it scales by one, replicas."""
        carried = (1 - HEADROOM) * self._carried(served) / self.replicas
        return float(math.ceil(load / carried - 1e-9)) if carried > 0 else math.nan

    def _gpus_at_peak(self, served: Served) -> float:
        return self.gpus / self.replicas * (self._needed(self.cost.peak or 0.0, served) + 1)

    def _joules(self, served: Served) -> float:
        return self.supply.mean("power_w", served.load) / _some(served.output_per_s)

    def _missing(self, priced: bool, here: Served) -> list[str]:
        if self.cost == UNSTATED:
            return []
        if not priced:
            return [words.NO_PRICE]
        missing = [] if self.cost.peak is not None else [words.NO_PEAK]
        missing += [] if self.cost.traffic else [words.NO_TRAFFIC]
        if math.isnan(here.output_per_s) and math.isnan(here.input_per_s):
            missing.append(words.NO_TOKENS)
        if math.isnan(here.users(self.axis, self.cost.think_time_s)):
            missing.append(words.NO_THINK_TIME)
        return missing


def _some(rate: float) -> float:
    """What can be divided by; NaN for nothing."""
    return rate if rate > 0 else math.nan


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
