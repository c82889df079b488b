"""What canaries felt, summed up: for the newest frame and for a whole run alike."""

from __future__ import annotations

from collections.abc import Iterable

from llmtop.domain.frame import NewUser
from llmtop.domain.run import Canary
from llmtop.meter.quantiles import quantile


def ended_s(canary: Canary) -> float | None:
    """When its token came, in seconds of the run; None: none came."""
    return None if canary.ttft_s is None else canary.t_s + canary.ttft_s


def new_user(canaries: Iterable[Canary]) -> NewUser | None:
    """None: there are no canaries."""
    told = tuple(canaries)
    if not told:
        return None
    felt_ms = sorted(each.ttft_s * 1e3 for each in told if each.ttft_s is not None)
    return NewUser(
        n=len(told),
        failed=len(told) - len(felt_ms),
        p50_ms=quantile(felt_ms, 0.5) if felt_ms else None,
        max_ms=felt_ms[-1] if felt_ms else None,
    )
