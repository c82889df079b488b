"""Advice followed on simulated servers: what was promised comes true, and capacity at the SLO is never lost."""

from __future__ import annotations

import math

import pytest
from advising import SERVERS, Server, keeps, predicted, ramp, true_capacity, turned

from llmtop.domain.verdicts import Bound


def server(name: str) -> Server:
    return next(each for each in SERVERS if each.name == name)


@pytest.mark.parametrize(
    ("name", "bound", "gain"),
    [
        ("slots laptop 192/64 M16", Bound.QUEUE, 1.4),
        ("slots laptop 192/64 M46", Bound.QUEUE, 1.3),
        ("kv laptop 23 %", Bound.KV, 1.3),
    ],
)
def test_the_advice_gives_what_it_promises(name: str, bound: Bound, gain: float) -> None:
    """Too few slots, too many for TPOT, and a cache that one request fills by 23 % (and so never shows 90 %)."""
    found = ramp(server(name), {})
    forecast = found.diagnosis.prediction
    assert found.diagnosis.bound is bound
    assert forecast is not None
    now = true_capacity(server(name), {}, forecast.capacity_now)
    then = turned(server(name), {}, forecast)
    assert forecast.capacity_now == pytest.approx(now, rel=0.1)
    least, most = max(gain * now, forecast.capacity_then / 1.15), forecast.capacity_then / 0.85
    assert keeps(predicted(server(name), then, math.ceil(least)), server(name).limits)
    assert not keeps(predicted(server(name), then, math.ceil(most)), server(name).limits)


def test_where_the_slots_are_right_the_advice_is_to_keep_them() -> None:
    found = ramp(server("slots laptop 192/64 M32"), {})
    assert str(found.diagnosis.advice) == "keep --max-num-seqs at 32: TTFT binds; for more add a replica"
    assert found.capacity.limited_by == "max_num_seqs"
