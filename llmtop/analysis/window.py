"""One load, held until enough of it was seen: what a tune measures with.

Lengths are counted in E2E, which is as many ended requests as are in flight (Little's law). By the same law rates come
from how long requests live, not from how many ends or tokens fall into the window: where all answers are equally long,
users go in step, and a window holds one of their waves more or less, which is 10 % of it.
"""

from __future__ import annotations

import math

import numpy as np

from llmtop.analysis.serving import Seen
from llmtop.analysis.stats import share_floor
from llmtop.analysis.trial import statistic
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import LATENCIES, Slo
from llmtop.meter.facts import Facts

SETTLE_E2ES = 1.0
"""Requests of the load before, and users who came together, are let pass for so long."""
LEAST_S = 1.5
"""Six bins."""
THERE = 0.03
"""Share by which the requests in flight may differ from the load that is wanted."""
_MIN_ERRORS = 4


class Window:
    """One load from when it was wanted until enough of it was seen.

    Args:
        start_s: when it is wanted from.
        e2es: how long it is to be seen.
        requests: how many must have ended then, at least.
        settle: E2E that are let pass before.
        since_s: when the same load was wanted first, where it was there before: its requests count.
    """

    def __init__(
        self,
        point: LoadPoint,
        start_s: float,
        e2es: float,
        requests: int = 0,
        settle: float = 1.0,
        since_s: float | None = None,
    ) -> None:
        self.point = point
        self.start_s = start_s
        self.since_s = start_s if since_s is None else since_s
        self._need = max(e2es * self.load, float(requests))
        self._settle = math.ceil(settle * SETTLE_E2ES * self.load)
        self._arrived_s: float | None = None
        self._from_s: float | None = None

    @property
    def load(self) -> int:
        return max(1, int(self.point.value))

    def lengthen(self, e2es: float) -> None:
        """Let it last so long in all."""
        self._need = e2es * self.load

    def look(self, facts: Facts, slo: Slo, now_s: float) -> Seen | None:
        """What was measured; None: not enough yet."""
        if self._broken(facts, slo):
            return self._seen(facts, slo, self.start_s, now_s, broken=True)
        self._arrived_s = self._arrival(facts) if self._arrived_s is None else self._arrived_s
        if self._arrived_s is None:
            return None
        end_s = facts.requests.column("end_s")
        own = (end_s > self._arrived_s) & (facts.requests.column("dispatched_s") > self.since_s)
        ended_s = np.sort(end_s[own])
        if self._from_s is None:
            if len(ended_s) < self._settle:
                return None
            self._from_s = float(ended_s[self._settle - 1]) if self._settle else self._arrived_s
        clean = own & (end_s > self._from_s) & (facts.requests.column("client_limited") != 1)
        count = int(np.sum(clean))  # the client's own delays are none of the server's
        if count < self._need or now_s - self._from_s < LEAST_S:
            return None
        return self._seen(facts, slo, self._from_s, now_s)

    def _arrival(self, facts: Facts) -> float | None:
        """When as many were in flight as are wanted; None: they are not yet."""
        bins, room = facts.bins, max(1.0, THERE * self.load)
        inside = min(self.load, self.point.gate or self.load)
        in_flight = bins.column("in_flight")
        there = (bins.column("t_s") > self.start_s) & (in_flight <= self.load + room) & (in_flight >= inside - room)
        first = np.flatnonzero(there)
        return float(bins.column("t_s")[first[0]]) if len(first) else None

    def _broken(self, facts: Facts, slo: Slo) -> bool:
        """Whether more requests of this load fail than the SLO allows, or the brake has cut it."""
        if any(change.reason == "brake" and change.t_s > self.start_s for change in facts.changes):
            return True
        limit, table = slo.target("error_ratio"), facts.requests
        own = table.column("dispatched_s") > self.start_s
        errors, all_ = int(np.sum(own & (table.column("error") > 0))), int(np.sum(own))
        return limit is not None and errors >= _MIN_ERRORS and share_floor(errors, all_) > limit.limit

    def _seen(self, facts: Facts, slo: Slo, since_s: float, now_s: float, broken: bool = False) -> Seen:
        table = facts.requests
        own = table.column("dispatched_s") > self.since_s
        inside = own & (table.column("end_s") > since_s) & (table.column("end_s") <= now_s)
        rows = np.flatnonzero(inside & (table.column("ok") > 0) & (table.column("client_limited") != 1))
        tokens, lived_s = (float(np.nansum(table.column(name)[rows])) for name in ("output_tokens", "e2e_s"))
        figures = []
        for target in slo.targets:
            if target.metric in LATENCIES:
                values = table.column(f"{target.metric}_s")[rows]
                value = statistic(values[np.isfinite(values)], target.stat or "p95")
                figures += [] if value is None else [(target.name, value)]
        return Seen(
            load=self.load,
            gate=self.point.gate,
            e2es=max(0.25, int(inside.sum()) / self.load),
            requests_per_s=self.load * len(rows) / lived_s if lived_s else 0.0,
            tokens_per_s=self.load * tokens / lived_s if lived_s else 0.0,
            figures=tuple(figures),
            n=len(rows),
            errors=int(np.sum(inside & (table.column("error") > 0))),
            broken=broken,
        )
