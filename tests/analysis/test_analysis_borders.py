"""Thresholds, on both sides of each: one number for one notion, whoever asks."""

from __future__ import annotations

import numpy as np
import pytest

from llmtop.analysis import stats
from llmtop.analysis.bracket import Bracket
from llmtop.analysis.diagnosis import Recent, diagnose, is_client_bound
from llmtop.analysis.judge import Limits
from llmtop.analysis.recent import overloaded_now
from llmtop.analysis.sessions import Requests
from llmtop.analysis.slo import MISS_SHARES, Sample, holds
from llmtop.analysis.trial import _mean_answer
from llmtop.domain.run import JudgedLevel as Judged
from llmtop.domain.slo import Slo, SloTarget
from llmtop.domain.verdicts import Bound
from llmtop.meter.facts import Facts


@pytest.mark.parametrize(("red_share", "bound"), [(0.19, False), (0.2, True), (0.25, True)])
def test_a_fifth_of_the_seconds_makes_a_run_the_clients(red_share: float, bound: bool) -> None:
    assert is_client_bound(red_share) is bound
    found = diagnose(Recent(red_share=red_share), Limits(), (), None).bound
    assert (found is Bound.CLIENT) is bound


def eight_first_tokens(ttft_s: float, e2e_s: float) -> Requests:
    sent_s = np.arange(8.0)
    times = [sent_s, sent_s + ttft_s, sent_s + e2e_s, np.full(8, ttft_s), np.full(8, 0.01), np.full(8, e2e_s)]
    tokens = np.full(8, 64.0)
    return Requests(*times, np.ones(8, dtype=bool), np.zeros(8, dtype=bool), tokens, tokens)


@pytest.mark.parametrize(("share", "overloaded"), [(0.119, False), (0.121, True)])
def test_the_same_share_of_queue_is_overload_now_and_in_a_search(share: float, overloaded: bool) -> None:
    base_s, ttft_s = 0.3, 1.0
    e2e_s = (ttft_s - base_s) / share
    assert overloaded_now(Facts(), eight_first_tokens(ttft_s, e2e_s), base_s, 9.0, False, 5.0) is overloaded
    calm, busy = (
        Judged(t_s=1.0, load=load, slo="", requests_per_s=load / e2e_s, ttft_mean_s=mean_s)
        for load, mean_s in ((1, base_s), (20, ttft_s))
    )
    assert Bracket([calm], Slo()).queues(busy) is overloaded


@pytest.mark.parametrize("stat", ["p90", "p95", "p99"])
def test_a_percentile_is_believed_from_where_its_largest_sample_bounds_it(stat: str) -> None:
    fewest, share = stats.FEWEST[stat], MISS_SHARES[stat]
    assert (1 - share) ** fewest <= 0.05 < (1 - share) ** (fewest - 1)
    assert stats.quantile_with_bounds(np.arange(float(fewest)), 1 - share).high == fewest - 1
    assert stats.quantile_with_bounds(np.arange(fewest - 1.0), 1 - share).high is None


def test_a_median_is_believed_from_where_its_second_largest_sample_bounds_it_at_99_percent() -> None:
    fewest = stats.FEWEST["p50"]
    assert stats.binomial_cdf(1, fewest, 0.5) <= 0.01 < stats.binomial_cdf(1, fewest - 1, 0.5)
    assert stats.FEWEST["mean"] == fewest


@pytest.mark.parametrize("stat", list(stats.FEWEST))
def test_a_limit_holds_from_that_many_clean_requests_on(stat: str) -> None:
    target = SloTarget("ttft", 2.0, stat)
    for n, answer in ((stats.FEWEST[stat] - 1, None), (stats.FEWEST[stat], True)):
        clean = np.full(n, 0.5)
        assert holds(Sample(clean, clean, clean), target) is answer


@pytest.mark.parametrize(("n", "answer"), [(14, None), (15, True)])
def test_fifteen_requests_show_a_clear_pass_while_the_load_is_doubled(n: int, answer: bool | None) -> None:
    assert _mean_answer(np.full(n, 0.5), 2.0, quick=True) is answer
