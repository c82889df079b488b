"""Guards of what is told over time: drift, recovery after a spike, windows of an open loop, what the screen keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from facts_by_hand import requests_of
from test_analysis_session import verdict

from llmtop.analysis.display import settled
from llmtop.analysis.drift import LoadSpike, drift_of, recovery_text, windowed
from llmtop.analysis.openloop import Offered, rate_levels
from llmtop.analysis.sessions import Progress
from llmtop.analysis.stats import (
    Sprt,
    binomial_cdf,
    effective_size,
    quantile_with_bounds,
    share_bound,
    share_floor,
    theil_sen,
)
from llmtop.domain.verdicts import Kind, Quantile

HOUR = 3600.0
NONE = (np.empty(0), np.empty(0))


def test_drift_wants_ten_windows_over_two_minutes() -> None:
    t_s = np.linspace(0, 120, 10)
    assert drift_of("TTFT", t_s, t_s + 100) is not None
    assert drift_of("TTFT", t_s[:9] * 2, t_s[:9] + 100) is None
    assert drift_of("TTFT", t_s * 0.99, t_s + 100) is None
    holes = np.where(np.arange(10) == 4, math.nan, t_s + 100)
    assert drift_of("TTFT", t_s, holes) is None


def test_drift_is_a_share_of_the_level_an_hour() -> None:
    t_s = np.linspace(0, HOUR, 61)
    found = drift_of("TTFT", t_s, 90 + 20 * t_s / HOUR)
    assert found is not None
    assert found.per_hour == pytest.approx(0.2)
    assert found.low == pytest.approx(0.2)
    assert found.significant
    falling = drift_of("TTFT", t_s, 110 - 20 * t_s / HOUR)
    assert falling is not None
    assert falling.significant
    wild = drift_of("TTFT", t_s, 100 + 50 * (-1.0) ** np.arange(61))
    assert wild is not None
    assert not wild.significant
    assert drift_of("preemptions", t_s, np.zeros(61)) is None


def test_a_figure_that_is_mostly_zero_is_measured_against_its_mean() -> None:
    t_s = np.linspace(0, HOUR, 61)
    rare = np.where(np.arange(61) % 6 == 5, 6.0, 0.0)
    found = drift_of("preemptions", t_s, rare)
    assert found is not None
    assert found.per_hour == 0.0
    assert not found.significant


def test_windows_are_of_twelve_seconds_and_ten_to_120_of_them() -> None:
    for stop_s, count in ((60.0, 10), (240.0, 20), (7200.0, 120)):
        t_s, values = windowed(np.arange(0, stop_s, 1.0), np.arange(0, stop_s, 1.0), "median", 0.0, stop_s)
        assert len(t_s) == len(values) == count
        assert t_s[0] == pytest.approx(stop_s / count / 2)
        assert values[0] == pytest.approx(np.median(np.arange(0, stop_s / count)))


def test_a_window_of_two_values_has_no_median_but_a_sum() -> None:
    t_s = np.array([1.0, 2.0, 13.0, 14.0, 15.0, -5.0, 500.0])
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 99.0, 99.0])
    for pick, expected in (("median", [math.nan, 4.0]), ("sum", [3.0, 12.0]), ("low", [math.nan, 3.2])):
        found = windowed(t_s, values, pick, 0.0, 120.0)[1]
        assert found[:2] == pytest.approx(expected, nan_ok=True)
        assert np.isnan(found[2:]).all()
    assert np.isnan(windowed(t_s, np.full(7, math.nan), "sum", 0.0, 120.0)[1]).all()


SPIKE = LoadSpike(up_s=20.0, down_s=40.0, base=10.0, peak=30.0)


def recovered(after_s: np.ndarray, *, waiting: object = NONE, kv: object = NONE, before: int = 20) -> str | None:
    """One request a second: `before` of them of 1 s each until the spike, 9 s within it, then as given."""
    sent_s = np.arange(20.0 - before, 40 + len(after_s))
    ttft_s = np.concatenate([np.full(before, 1.0), np.full(20, 9.0), after_s])
    return recovery_text(SPIKE, requests_of(sent_s, ttft_s=ttft_s, e2e_s=ttft_s + 1), waiting, kv)  # type: ignore[arg-type]


def test_recovery_is_when_the_median_of_five_first_tokens_is_back_within_a_tenth() -> None:
    """Those of the spike come until 48.9 s; 40 to 44 are back at 41.05 to 45.05 s."""
    text = recovered(np.full(20, 1.05))
    assert text is not None
    assert text.startswith("spike 10 to 30: recovered ")
    assert ", TTFT +5.00 % after it" in text
    assert recovered(np.full(20, 1.15)) == "spike 10 to 30: not recovered by the end"
    assert recovered(np.full(20, 1.05), before=4) is None


def test_recovery_waits_for_the_queue_and_the_cache() -> None:
    t_s = np.arange(0.0, 60.0)
    queue = np.where((t_s >= 20) & (t_s < 50), 5.0, 0.0)
    cache = np.where((t_s >= 20) & (t_s < 55), 0.9, 0.5)
    quick = recovered(np.full(20, 1.0))
    assert quick is not None
    took = [recovered(np.full(20, 1.0), **more) for more in ({"waiting": (t_s, queue)}, {"kv": (t_s, cache)})]
    assert [text.split(": ")[1][:15] for text in took if text] == ["recovered 10 s ", "recovered 15 s "]
    later = recovered(np.append(np.full(15, 1.08), np.full(20, 0.9)), kv=(t_s, cache))
    assert later is not None
    assert later.endswith(", TTFT -10.0 % after it"), "once everything is back"
    stuck = np.where(t_s >= 20, 1.0, 0.0)
    assert recovered(np.full(20, 1.0), waiting=(t_s, stuck)) == "spike 10 to 30: not recovered by the end"
    near = np.where(t_s >= 20, 0.56, 0.5)
    assert "not recovered" not in str(recovered(np.full(20, 1.0), kv=(t_s, near))), "a tenth and 2 % over 50 %"
    assert "not recovered" in str(recovered(np.full(20, 1.0), kv=(t_s, near + 0.02 * (t_s >= 20))))


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
    assert Sprt(0.05, cap=100, n=99, misses=5).remaining == 1
    assert Sprt(0.05, inflation=2.0).remaining == pytest.approx(2 * 56, abs=2)


def test_sens_interval_is_kendalls() -> None:
    """Ten points: 45 slopes, z sqrt(125) = 21.9 apart."""
    t = np.arange(10.0)
    y = np.array([0.0, 3.0, 1.0, 4.0, 9.0, 5.0, 8.0, 6.0, 12.0, 7.0])
    slopes = np.sort([(y[j] - y[i]) / (j - i) for i in range(10) for j in range(i + 1, 10)])
    assert theil_sen(t, y) == pytest.approx((np.median(slopes), slopes[11], slopes[34]))
