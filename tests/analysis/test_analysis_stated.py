"""Levels of which only statistics are told: what these prove, and what they leave unknown."""

from __future__ import annotations

import numpy as np
import pytest

from llmtop.analysis.levels import Level, Stated
from llmtop.analysis.slo import Sample, attainment, holds, judge_slo
from llmtop.domain.slo import Slo, Stat, parse_slo

ALL: tuple[Stat, ...] = ("mean", "p50", "p90", "p95", "p99")


def sample(n: int, **figures: float) -> Sample:
    return Sample.of_level(Level(load=1.0, stated=Stated(n, figures), errors=0))


def answer(text: str, n: int, **figures: float) -> bool | None:
    (target,) = parse_slo(text).targets
    return holds(sample(n, **figures), target)


@pytest.mark.parametrize("stat", ALL)
def test_the_error_of_a_statistic_is_that_of_as_many_log_normal_requests(stat: Stat) -> None:
    rng = np.random.default_rng(7)
    n, spread = 400, 0.5
    draws = np.exp(spread * rng.standard_normal((1500, n)))
    share = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
    found = draws.mean(axis=1) if stat == "mean" else np.quantile(draws, share[stat], axis=1)
    mean, sd = float(draws.mean()), float(draws.std())
    told = Stated(n, {f"ttft_{stat}": float(np.mean(found)), "ttft_mean": mean, "ttft_std": sd}).statistic("ttft", stat)
    assert told is not None
    assert told.se == pytest.approx(float(np.log(found).std()), rel=0.12)


def test_the_spread_comes_from_the_deviation_else_from_the_highest_tail_else_it_is_a_servers_usual_one() -> None:
    def se(**figures: float) -> float:
        told = Stated(100, {"ttft_p50": 1.0, **figures}).statistic("ttft", "p50")
        assert told is not None
        return told.se

    unit = 1.2533 / 10
    assert se(ttft_mean=1.0, ttft_std=0.5) == pytest.approx(unit * np.sqrt(np.log(1.25)))
    assert se(ttft_p95=np.exp(1.6449 * 0.4)) == pytest.approx(unit * 0.4)
    assert se(ttft_p95=9.0, ttft_p99=np.exp(2.3263 * 0.2)) == pytest.approx(unit * 0.2)
    assert se() == pytest.approx(unit * 0.3)
    assert se(ttft_mean=1.0, ttft_std=0.0) == pytest.approx(unit * 0.02), "nothing is known to the last digit"


def test_a_statistic_needs_its_requests() -> None:
    figures = {"ttft_p50": 1.0, "ttft_p95": 1.0}
    for n, p50, p95 in ((0, False, False), (3, False, False), (4, True, False), (59, True, False), (60, True, True)):
        told = Stated(n, figures)
        assert (told.statistic("ttft", "p50") is not None, told.statistic("ttft", "p95") is not None) == (p50, p95)
    assert Stated(900, {"ttft_p50": 1.0}).statistic("ttft", "p95") is None
    assert Stated(900, {"ttft_p50": 1.0}).statistic("tpot", "p50") is None


@pytest.mark.parametrize(
    ("n", "figures", "ok"),
    [
        (59, {"ttft_p95": 0.9}, True),
        (59, {"ttft_p95": 1.1}, False),
        (58, {"ttft_p95": 0.9}, None),
        (58, {"ttft_p95": 9.0}, None),
        (400, {"ttft_p99": 0.9}, True),
        (400, {"ttft_p99": 1.1}, None),
        (400, {"ttft_p50": 1.1}, False),
        (400, {"ttft_p90": 0.9, "ttft_mean": 0.1}, None),
        (400, {"e2e_p95": 0.1}, None),
        (0, {"ttft_p95": 0.9}, None),
    ],
)
def test_a_limit_holds_by_its_statistic_or_by_a_higher_and_breaks_by_a_lower(
    n: int, figures: dict[str, float], ok: bool | None
) -> None:
    assert answer("ttft_p95<1s", n, **figures) is ok


def test_the_mean_is_proven_by_itself_alone() -> None:
    assert answer("ttft_mean<1s", 50, ttft_p99=0.5) is None
    assert answer("ttft_mean<1s", 50, ttft_mean=0.5) is True


def test_no_share_of_good_requests_is_made_of_statistics() -> None:
    slo = parse_slo("ttft_p95<1s")
    told = sample(100, ttft_p95=0.5)
    assert attainment(told, slo) is None
    verdict = judge_slo(told, slo)
    assert (verdict.ok, verdict.attainment, verdict.targets[0].text) == (
        True,
        None,
        "TTFT p95 500 ms of 1 s, as stated",
    )
    assert judge_slo(sample(100), slo).targets[0].text == "TTFT p95: not known"
    assert judge_slo(sample(100), Slo()).ok is None


def test_errors_are_a_share_of_all_that_ended() -> None:
    level = Level(load=1.0, stated=Stated(96, {}), errors=4)
    assert level.error_ratio == 0.04
    assert Sample.of_level(level).ended == 100
    assert level.n == 96
    assert not level.has_samples
