"""[cost]: what GPUs cost, as a profile states it; the command line goes before it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.cost import UNSTATED, Cost, currency_problem
from llmtop.domain.profile import Profile
from llmtop.errors import ProfileError
from llmtop.profiles.reading import parse_profile
from llmtop.profiles.writing import profile_text

PATH = Path("mine.toml")
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=24).filter(lambda shares: max(shares) > 0)
COSTS = st.builds(
    Cost,
    gpu_price_per_hour=st.none() | st.floats(1e-4, 1e6),
    gpus=st.none() | st.integers(1, 100_000),
    currency=st.sampled_from(["", "EUR", "US$", "¥", "credits", '"', "\\"]),
    peak=st.none() | st.floats(0.001, 1e9),
    traffic=st.just(()) | SHARES.map(tuple),
    think_time_s=st.none() | st.floats(0, 86_400),
)


@settings(max_examples=60)
@given(COSTS)
def test_what_is_written_of_costs_reads_back_as_it_was(cost: Cost) -> None:
    profile = Profile(name="mine", cost=cost)
    assert parse_profile(profile_text(profile, PATH), PATH).cost == cost


@given(COSTS, COSTS)
def test_what_is_stated_goes_before_and_the_rest_stays(above: Cost, below: Cost) -> None:
    both = above.over(below)
    for name in Cost.__struct_fields__:
        stated = getattr(above, name)
        unstated = stated is None or stated in ("", ())
        assert getattr(both, name) == (getattr(below, name) if unstated else stated)
    assert UNSTATED.over(below) == below
    assert above.over(UNSTATED) == above


@pytest.mark.parametrize(
    ("line", "key", "says"),
    [
        ("gpu_price_per_hour = 0", "cost.gpu_price_per_hour", "0.0001 or more"),
        ("gpu_price_per_hour = -2.49", "cost.gpu_price_per_hour", "0.0001 or more"),
        ("gpu_price_per_hour = nan", "cost.gpu_price_per_hour", "number"),
        ("gpu_price_per_hour = inf", "cost.gpu_price_per_hour", "number"),
        ('gpu_price_per_hour = "2.49"', "cost.gpu_price_per_hour", "not text"),
        ("gpus = 0", "cost.gpus", "1 or more"),
        ("gpus = 1.5", "cost.gpus", "whole number"),
        ('currency = ""', "cost.currency", "as EUR"),
        ('currency = "ABCDEFGHIJKLMNOPQRSTUVWXYZABCD"', "cost.currency", "at most 8 characters"),
        ('currency = "E\\u001b[2J"', "cost.currency", "in one line"),
        ("peak = 0", "cost.peak", "0.001 or more"),
        ("traffic = [0.1, 1.2]", "cost.traffic[2]", "share"),
        ("traffic = [0.0, 0.0]", "cost.traffic", "no span with any load"),
        (f"traffic = [{', '.join(['0.5'] * 1441)}]", "cost.traffic", "at most 1440"),
        ("think_time = -1", "cost.think_time", "0 or more"),
        ("price = 2", "cost.price", "is not known"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_key(line: str, key: str, says: str) -> None:
    with pytest.raises(ProfileError) as refused:
        parse_profile(f"[cost]\n{line}", PATH)
    assert key in str(refused.value)
    assert says in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_the_expected_peak_is_what_is_carried_where_a_cost_names_none() -> None:
    cost = Cost(gpu_price_per_hour=2.0)
    assert Profile(name="a", peak=32, cost=cost).stated_cost.peak == 32
    assert Profile(name="a", peak=32, cost=Cost(peak=500.0)).stated_cost.peak == 500
    assert Profile(name="a", peak=32, peak_from_slots=True, cost=cost).stated_cost.peak is None
    assert Profile(name="a", peak=32).stated_cost == UNSTATED, "a peak alone asks for no costs"


def test_a_currency_is_short_and_plain() -> None:
    assert not any(map(currency_problem, ("EUR", "$", "credits", "GPU h")))
    assert all(map(currency_problem, ("", " EUR", "E\nR", "\x1b[2J", "x" * 30)))
