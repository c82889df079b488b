"""What recorded requests are like: each figure against traffic that was made to have it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.traffic import FEWEST_IN_WINDOW
from llmtop.traffic import figures
from llmtop.traffic.figures import burstiness, busiest, characterise
from llmtop.traffic.table import Blocks, Floats, Traffic


def gamma_times(cv: float, rate: float, count: int, seed: int = 1) -> Floats:
    """Arrivals of a renewal process with Gamma gaps, the first at 0."""
    gaps = np.random.default_rng(seed).gamma(1 / cv**2, cv**2 / rate, count)
    times: Floats = np.cumsum(gaps) - gaps[0]
    return times


def table(times: Sequence[float] | Floats, prompt: object = 100, output: object = 20, **more: object) -> Traffic:
    start_s = np.asarray(times, dtype=np.float64)
    prompts, outputs = (np.broadcast_to(np.asarray(each, dtype=np.int64), start_s.shape) for each in (prompt, output))
    return Traffic(source="made", start_s=start_s, prompt=prompts, output=outputs, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 5.6])
def test_the_cv_of_gamma_gaps_is_found(cv: float) -> None:
    found, counted, tick_s = burstiness(gamma_times(cv, 20, 200_000))
    assert (counted, tick_s) == ("gaps", None)
    assert found == pytest.approx(cv, rel=0.08)


def test_a_day_that_swings_is_no_burst() -> None:
    rng = np.random.default_rng(3)
    rate = 5 + 4.5 * np.sin(np.arange(86_400) / 86_400 * 2 * np.pi)
    counts = rng.poisson(rate)
    times = np.sort(np.repeat(np.arange(86_400.0), counts) + rng.random(counts.sum()))
    found, _, _ = burstiness(times - times[0])
    gaps = np.diff(times)
    assert found == pytest.approx(1.0, abs=0.03)
    assert gaps.std() / gaps.mean() > 1.3, "over the whole day it would look like bursts"


@pytest.mark.parametrize("tick", [1.0, 3.0])
@pytest.mark.parametrize("cv", [1.0, 2.0])
def test_a_clock_of_whole_seconds_makes_no_bursts(tick: float, cv: float) -> None:
    times = np.floor(gamma_times(cv, 20, 200_000) / tick) * tick
    found, counted, seen = burstiness(times)
    assert (counted, seen) == ("counts", tick)
    assert found == pytest.approx(cv, rel=0.1)


def test_a_clock_of_milliseconds_is_fine_enough_for_gaps() -> None:
    found, counted, _ = burstiness(np.floor(gamma_times(5.6, 20, 200_000) * 1e3) / 1e3)
    assert counted == "gaps"
    assert found == pytest.approx(5.6, rel=0.08)


@pytest.mark.parametrize("times", [[], [0.0], [0.0] * 50, np.arange(FEWEST_IN_WINDOW), np.arange(100) * 700.0], ids=str)
def test_the_cv_of_too_few_gaps_is_not_known(times: Sequence[float]) -> None:
    assert burstiness(np.asarray(times, dtype=np.float64))[0] is None


def test_so_many_gaps_in_a_window_are_enough() -> None:
    assert burstiness(np.arange(FEWEST_IN_WINDOW + 1.0))[0] == pytest.approx(0.0, abs=1e-6)


def test_the_busiest_ten_minutes_are_found_wherever_they_begin() -> None:
    times = np.sort(np.concatenate((np.arange(0, 7200, 10.0), 1000.5 + np.arange(300.0))))
    peak = busiest(times, 600.0)
    assert peak is not None
    assert peak.requests == 300 + 60
    assert peak.rate_rps == pytest.approx(0.6)
    assert 700 <= peak.begins_s <= 1001


def test_no_peak_is_told_of_less_than_ten_minutes_or_of_a_handful() -> None:
    assert busiest(np.arange(0, 599.0), 600.0) is None
    assert FEWEST_IN_WINDOW == 30
    assert busiest(np.arange(0, 36_000, 21.0), 600.0) is None, "29 in any ten minutes"
    assert busiest(np.arange(0, 36_000, 20.0), 600.0) is not None


def test_rates_are_of_gaps_and_of_the_peak() -> None:
    told = characterise(table(np.arange(0, 3601, 2.0)))
    assert told.mean_rps == pytest.approx(0.5)
    assert told.peak_to_mean == pytest.approx(1.0)
    assert told.span_s == 3600
    assert told.busiest_hour is not None
    assert told.busiest_hour.requests == 1800


@pytest.mark.parametrize("times", [[], [0.0], [0.0, 0.0, 0.0]], ids=["none", "one", "one instant"])
def test_of_no_span_there_is_no_rate(times: list[float]) -> None:
    told = characterise(table(times))
    assert (told.mean_rps, told.peak, told.cv, told.peak_to_mean) == (None, None, None, None)
    assert told.requests == len(times)


def test_lengths_that_are_not_told_are_in_no_figure() -> None:
    told = characterise(table(range(6), prompt=[100, 0, 300, 0, 200, 400], output=0))
    assert told.prompt is not None
    assert (told.prompt.requests, told.prompt.mean, told.prompt.p50) == (4, 250, 250)
    assert told.output is None
    assert told.correlation is None


def test_the_histogram_has_every_length_in_its_octave() -> None:
    lengths = figures.lengths_of(np.array([1, 2, 3, 4, 7, 8, 1024, 2047]))
    assert lengths is not None
    assert [(each.least, each.requests) for each in lengths.histogram if each.requests] == [
        (1, 1), (2, 2), (4, 2), (8, 1), (1024, 2),
    ]  # fmt: skip
    assert len(lengths.histogram) == 11
    assert lengths.histogram[-1].below == 2048


def test_the_correlation_is_of_ranks_and_knows_ties() -> None:
    prompt = np.array([1, 10, 100, 1000, 10_000, 1, 10, 100, 1000, 10_000])
    assert figures.correlation(prompt, prompt**3 + 1) == pytest.approx(1.0)
    assert figures.correlation(prompt, 100_001 - prompt) == pytest.approx(-1.0)
    assert figures.correlation(prompt, np.full(10, 7)) is None
    assert figures.correlation(prompt[:9], prompt[:9]) is None


def test_shared_prefixes_are_what_the_cache_had() -> None:
    told = characterise(table(range(4), prompt=[100, 100, 200, 0], cached=np.array([50, 500, -1, 9])))
    assert (told.shared_prefix, told.shared_from) == (150 / 200, "cached")


def test_shared_prefixes_follow_from_blocks_that_were_there_before() -> None:
    blocks = Blocks(ids=np.array([1, 2, 3, 1, 2, 9, 1, 7, 3]), ends=np.array([3, 3, 6, 9]), tokens=16)
    told = characterise(table(range(4), prompt=[48, 5, 40, 48], blocks=blocks))
    assert told.shared_prefix == pytest.approx((0 + 0 + 32 + 16) / 141)
    assert told.shared_from == "blocks"


@given(
    rows=st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=20).filter(any),
    apart=st.sampled_from([1, 10**12]),
    at_once=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
@settings(max_examples=50)
def test_what_a_row_begins_with_is_as_a_set_of_ids_says(
    rows: list[list[int]], apart: int, at_once: tuple[int, int]
) -> None:
    seen: set[int] = set()
    begun = []
    for row in rows:
        begun.append(next((place for place, each in enumerate(row) if each not in seen), len(row)))
        seen |= set(row)
    ids = np.array([each for row in rows for each in row]) * apart
    blocks = Blocks(ids=ids, ends=np.cumsum([len(row) for row in rows]))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "ROWS_AT_ONCE", at_once[0])
        patched.setattr(figures, "IDS_AT_ONCE", at_once[1])
        assert figures._begun_before(blocks).tolist() == begun


def test_ids_that_lie_far_apart_are_found_as_well() -> None:
    blocks = Blocks(ids=np.array([1, 2**60, 1, 2**60, 5]), ends=np.array([2, 5]), tokens=16)
    told = characterise(table(range(2), prompt=[32, 48], blocks=blocks))
    assert told.shared_prefix == pytest.approx(32 / 80)


def test_in_flight_is_swept_and_told_with_its_latency() -> None:
    e2e_s = np.array([10.0, 10.0, 10.0, 1.0, math.nan])
    told = characterise(table([0, 1, 2, 11.5, 2000], e2e_s=e2e_s)).in_flight
    assert told is not None
    assert (told.most, told.at_s, told.e2e_p50_s, told.known) == (3, 2.0, 10.0, 0.8)


def test_a_request_that_ends_as_another_begins_is_not_in_flight_with_it() -> None:
    told = characterise(table([0, 1, 2], e2e_s=np.ones(3))).in_flight
    assert told is not None
    assert told.most == 1


def test_without_ends_nothing_is_in_flight() -> None:
    assert characterise(table([0, 1])).in_flight is None
    assert characterise(table([0, 1], e2e_s=np.full(2, math.nan))).in_flight is None
