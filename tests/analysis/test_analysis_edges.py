"""Edges without a bend: the capacity of an open loop by three rates, what it holds for long, where users share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_analysis_guards_told import NONE

from llmtop.analysis import Level, Limits, judge
from llmtop.analysis.bends import _with_crossover
from llmtop.analysis.capacity import capacity_of
from llmtop.analysis.cliff import SUSTAINED, Bend, prepare, provisional, sustained
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Bound, CliffVerdict, Confidence, Kind

RATES = [5.0, 8.0, 12.5]


def rates(
    delivered: list[float], ttft_s: list[float] | None = None, *, n: int = 400, more: tuple[float, ...] = ()
) -> tuple[Level, ...]:
    """Offered 5, 8 and 12.5 requests/s of which these shares are delivered."""
    slow = [0.1, 0.1, 2.0] if ttft_s is None else ttft_s
    return tuple(
        Level(rate, np.full(n, ttft), np.full(n, 0.02), np.full(n, ttft + 1), requests_per_s=share * rate)
        for rate, share, ttft in zip([*RATES, *more], delivered, slow, strict=True)
    )


def early(levels: tuple[Level, ...]) -> Bend:
    return provisional(prepare(levels, axis="rate", metric="ttft", stat="p50"))


def test_three_rates_tell_the_capacity_of_an_open_loop() -> None:
    found = judge(rates([1.0, 1.0, 0.8]), axis="rate", replicates=0)
    assert (found.kind, found.low, found.high) == (Kind.CLIFF, 8.0, 12.5)
    assert found.at == pytest.approx(10.0)
    assert found.confidence is Confidence.PROVISIONAL


@pytest.mark.parametrize(
    ("delivered", "ttft_s", "n", "kind"),
    [
        ([1.0, 1.0, 0.92], [0.1, 0.1, 2.0], 400, Kind.CLIFF),
        ([1.0, 1.0, 0.94], [0.1, 0.1, 2.0], 400, Kind.INSUFFICIENT),
        ([1.0, 1.0, 0.8], [0.1, 0.1, 0.19], 400, Kind.CLIFF),
        ([1.0, 1.0, 0.8], [0.1, 0.1, 0.17], 400, Kind.INSUFFICIENT),
        ([0.84, 0.84, 0.8], [0.1, 0.1, 2.0], 400, Kind.INSUFFICIENT),
        ([0.86, 0.86, 0.8], [0.1, 0.1, 2.0], 400, Kind.CLIFF),
        ([0.84, 0.84, 0.8], [0.1, 0.1, 2.0], 100, Kind.CLIFF),
    ],
)
def test_a_saturated_rate_is_slow_and_short_and_those_below_it_are_delivered(
    delivered: list[float], ttft_s: list[float], n: int, kind: Kind
) -> None:
    """n arrivals are so many give or take 2 / sqrt(n): a tenth of 400, a fifth of 100."""
    assert early(rates(delivered, ttft_s, n=n)).kind is kind


def test_rates_without_requests_a_second_tell_no_capacity() -> None:
    levels = tuple(dataclasses.replace(each, requests_per_s=None) for each in rates([1.0, 1.0, 0.8]))
    assert early(levels).kind is Kind.INSUFFICIENT


def test_no_open_loop_is_told_to_hold_a_rate_near_its_capacity() -> None:
    assert SUSTAINED == 0.95
    assert sustained(10.0) == pytest.approx(9.5)
    levels = rates([1.0, 1.0, 1.0, 0.8], [0.1, 0.1, 0.1, 9.0], more=(16.0,))
    for at, held in ((12.5, 8.0), (13.1, 8.0), (13.2, 12.5)):
        cliff = CliffVerdict(kind=Kind.CLIFF, axis="rate", at=at, low=at - 1, high=at + 9, cause=Bound.QUEUE)
        found = capacity_of(levels, parse_slo("ttft_p95<2s"), cliff, Limits(), None)
        assert found.at_slo == held


# ── Where users share ─────────────────────────────────────────────────────────────────────────────────────────────

SHARED = "half of the possible tokens/s is reached at 48: beyond, users share"


def tokens(fixed_s: float, user_s: float) -> CliffVerdict:
    """TPOT = fixed + N user, over 1 to 256."""
    rng = np.random.default_rng(1)
    levels = []
    for load in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0):
        tpot_s = (fixed_s + load * user_s) * rng.lognormal(0, 0.03, 60)
        levels.append(Level(load, np.full(60, 0.1), tpot_s, 0.1 + 64 * tpot_s))
    return judge(levels, metric="tpot", replicates=0)


def test_a_straight_line_of_tokens_tells_where_users_share() -> None:
    straight = tokens(0.005, 0.000104)
    assert (straight.kind, straight.at, straight.evidence) == (Kind.NONE, None, (SHARED,))
    assert tokens(0.005, 0.00001).evidence == (), "not reached"
    assert tokens(0.005, 0.1).evidence == (), "before the lowest load"


def test_a_run_without_a_wall_tells_it_and_one_with_a_wall_does_not() -> None:
    shared = CliffVerdict(kind=Kind.NONE, metric="tpot", evidence=(SHARED,))
    assert _with_crossover(NONE, (NONE, shared)).evidence == (SHARED,)
    assert _with_crossover(NONE, (NONE,)) is NONE
    walled = CliffVerdict(kind=Kind.CLIFF, at=9.0)
    assert _with_crossover(walled, (walled, shared)) is walled
