"""Guards of what is told over time: windows of an open loop, what the screen keeps, statistics at their edges."""

from __future__ import annotations

import numpy as np
import pytest
from facts_by_hand import requests_of
from test_analysis_session import verdict

from llmtop.analysis.display import settled
from llmtop.analysis.openloop import Offered, rate_levels
from llmtop.analysis.sessions import Progress
from llmtop.analysis.stats import (
    Sprt,
    binomial_cdf,
    effective_size,
    quantile_with_bounds,
    share_bound,
    share_floor,
)
from llmtop.domain.verdicts import Kind, Quantile


def windows(in_flight: np.ndarray, rate: float = 5.0) -> tuple[object, ...]:
    n = len(in_flight)
    t_s = np.arange(1.0, n + 1)
    sent_s = np.arange(0.0, n, 1 / rate)
    return rate_levels(
        requests_of(sent_s, e2e_s=1.0),
        Offered(t_s, np.ones(n), np.full(n, rate), in_flight),
        progress=Progress(t_s, np.ones(n), np.full(n, rate), np.full(n, 10 * rate)),
    )


def test_an_open_loops_level_is_what_was_offered_and_what_was_delivered() -> None:
    (found,) = windows(np.full(61, 5.0))
    assert found.load == 5.0
    assert found.requests_per_s == pytest.approx(5.0, rel=0.02)
    assert found.output_tokens_per_s == pytest.approx(50.0, rel=0.02)
    assert found.n == pytest.approx(300, abs=6)


def test_a_window_in_which_a_queue_drains_is_no_level() -> None:
    """It drains if in-flight falls by a fifth and two."""
    assert windows(np.geomspace(400, 10, 30)) == ()
    assert len(windows(np.linspace(24, 20, 30))) == 1


def test_a_window_is_five_seconds_at_least() -> None:
    """Nine seconds are one window, in which 28 of 100 drain; in halves neither would be seen to."""
    assert windows(np.linspace(100, 72, 10)) == ()
    assert len(windows(np.linspace(100, 80, 10))) == 1


def test_a_window_behind_a_backlog_counts_once_little_of_it_is_left() -> None:
    """At 5 requests/s and a second each, 7.5 are in flight after half as long again, and three may be chance."""
    for before, seconds in ((10.4, 10), (10.6, 5)):
        (found,) = windows(np.array([4.0] * 5 + [before] * 6))
        assert found.n == pytest.approx(5 * seconds, abs=1)  # type: ignore[attr-defined]


def test_a_rate_of_three_requests_is_no_level() -> None:
    sent_s = np.arange(20.0, 30.0, 3.0)
    t_s = np.arange(1.0, 61.0)
    offered = Offered(t_s, np.ones(60), np.full(60, 0.3), np.ones(60))
    assert len(rate_levels(requests_of(sent_s), offered)) == 1
    assert rate_levels(requests_of(sent_s[:3]), offered) == ()
    assert rate_levels(requests_of([]), offered) == ()
    assert rate_levels(requests_of(sent_s), Offered(*(np.empty(0) for _ in range(4)))) == ()
    whole = Offered(*(np.array([each]) for each in (60.0, 60.0, 0.3, 1.0)))
    assert [level.load for level in rate_levels(requests_of(sent_s), whole)] == [0.3], "a single bin"


def test_a_shown_place_moves_only_out_of_its_interval_or_with_half_of_it() -> None:
    shown = verdict(Kind.CLIFF, 32.0)
    unknown = verdict(Kind.INSUFFICIENT)
    assert settled(unknown, shown, shown) is shown, "anything says more than nothing"
    assert settled(unknown, unknown, verdict(Kind.NONE)).kind is Kind.NONE
    assert settled(shown, shown, verdict(Kind.CLIFF, 34.0)).at == 32.0, "the end of the interval is inside"
    assert settled(shown, shown, verdict(Kind.CLIFF, 34.1)).at == 34.1
    assert settled(shown, shown, verdict(Kind.CLIFF, 30.0)).at == 32.0
    assert settled(shown, shown, verdict(Kind.CLIFF, 29.9)).at == 29.9
    assert settled(shown, shown, verdict(Kind.CLIFF, 33.0, half=1.0)).at == 33.0
    assert settled(shown, shown, verdict(Kind.CLIFF, 33.0, half=1.1)).at == 32.0
    kept = settled(shown, shown, verdict(Kind.CLIFF, 33.0))
    assert (kept.low, kept.high) == (30.0, 34.0)


# -- statistics at their edges ----------------------------------------------------------------------------------------


def test_binomial_tails_at_their_edges() -> None:
    assert binomial_cdf(-1, 5, 0.5) == 0.0
    assert binomial_cdf(5, 5, 0.5) == 1.0
    assert binomial_cdf(2, 5, 0.0) == 1.0
    assert binomial_cdf(2, 5, 1.0) == 0.0
    assert binomial_cdf(100, 2000, 0.05) == pytest.approx(binomial_cdf(100, 2001, 0.05), abs=0.01)


def test_bounds_of_a_share_at_their_edges() -> None:
    assert share_bound(0, 0) == share_bound(5, 5) == 1.0
    assert share_floor(0, 9) == 0.0
    assert share_floor(9, 9) == pytest.approx(0.05 ** (1 / 9), rel=1e-6)
    assert share_bound(0, 9) == pytest.approx(1 - 0.05 ** (1 / 9), rel=1e-6)


def test_a_median_has_bounds_from_five_samples_on() -> None:
    assert quantile_with_bounds(np.arange(4.0), 0.5) == Quantile(1.5)
    assert quantile_with_bounds(np.arange(5.0), 0.5) == Quantile(2.0, 0.0, 4.0)
    assert quantile_with_bounds(np.arange(8.0), 0.5) == Quantile(3.5, 1.0, 6.0)


def test_so_many_samples_count() -> None:
    assert effective_size(np.arange(19.0)) == 19.0, "batches of one say nothing"
    assert effective_size(np.arange(20.0)) == pytest.approx(20 / (110 / 3 * 2 / 33.25)), "batches of two do"
    assert effective_size(np.ones(100)) == 100.0
    assert effective_size(np.empty(0)) == 0.0
    assert effective_size(np.repeat([0.0, 1.0], 50)) == pytest.approx(100 / (10 / 36 * 10 / 0.25), rel=1e-9)
    assert effective_size(np.tile([0.0, 1.0], 50)) == 100.0


def test_a_sequential_test_ends_on_the_line_by_its_ratio() -> None:
    assert Sprt(0.05, cap=100, n=99, misses=5).verdict is None
    assert Sprt(0.05, cap=100, n=100, misses=5).verdict is True
    assert Sprt(0.05, cap=100, n=100, misses=6).verdict is False
