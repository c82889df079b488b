"""What one measurement says beside another: differences, what they come to, and what else was not the same."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from llmtop.domain.gain import Gain
from llmtop.domain.load import Axis


class Verdict(StrEnum):
    """What a figure of the one is beside that of the other."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    """No difference beyond what two runs of one server differ by, and measured well enough to say so."""
    UNKNOWN = "not known"
    """Not measured on both sides, or too wide apart to tell."""
    MIXED = "better and worse"
    """Of a whole: some figures are better, others worse."""


class Delta(Struct, frozen=True, kw_only=True):
    """One figure on both sides."""

    metric: str
    """`ttft_p50`, `tpot_p95`, `e2e_p50`, `output_tokens_per_s`, `error_ratio`, `kv_usage`, `capacity`, `cliff`,
    `cost`."""
    before: float | None = None
    """Latencies in milliseconds, shares 0 to 1, capacity and cliff in users or requests/s, cost for 1M output
    tokens."""
    after: float | None = None
    change: float | None = None
    """after / before - 1; of a share after - before. None: one of them is not known."""
    low: float | None = None
    high: float | None = None
    """Between which the change lies: 95 % for all changes of a comparison together."""
    verdict: Verdict = Verdict.UNKNOWN


class LevelDelta(Struct, frozen=True, kw_only=True):
    """One load on both sides."""

    load: float
    n: tuple[int, int] = (0, 0)
    """Requests, before and after; 0: it was not measured there, and lies between two that were."""
    deltas: tuple[Delta, ...] = ()

    @property
    def interpolated(self) -> bool:
        return 0 in self.n


class Difference(Struct, frozen=True):
    """Something besides the figures that was not the same. None: not there, or not told."""

    name: str
    before: str | None
    after: str | None


class Compared(Struct, frozen=True, kw_only=True):
    """One side beside another; the changes are those from `before` to `after`."""

    before: str
    after: str
    axis: Axis = "concurrency"
    differs: tuple[Difference, ...] = ()
    unequal: tuple[Difference, ...] = ()
    """Those of `differs` that make it another workload: the figures are not of the same requests."""
    levels: tuple[LevelDelta, ...] = ()
    over_all: tuple[Delta, ...] = ()
    """Over all levels together, for each metric that has an interval."""
    capacity: Delta = Delta(metric="capacity")
    cliff: Delta = Delta(metric="cliff")
    cost: Delta = Delta(metric="cost")
    """Of 1M output tokens at the SLO capacity, where a price of both is known."""
    currency: str = ""
    """Of the cost."""
    gain: Gain = Gain.OPEN
    """Of the capacity at the SLO."""
    verdict: Verdict = Verdict.UNKNOWN
    sentence: str = ""
    notes: tuple[str, ...] = ()
