"""A profile of a service's traffic drives such traffic: rates, bursts and lengths come out as they went in."""

from __future__ import annotations

import numpy as np
import pytest
from made import SERVICES, made, made_again, off, profile_of

from llmtop.domain.load import Hold
from llmtop.domain.profile import Question
from llmtop.errors import FileError
from llmtop.profiles import from_traffic
from llmtop.profiles.from_traffic import profile_from_traffic
from llmtop.traffic.figures import characterise, correlation
from llmtop.traffic.sample import MOST_PAIRS, thinned
from llmtop.traffic.table import Traffic


@pytest.mark.parametrize(("name", "lasts_s"), [("Azure conversation", 1200.0), ("ServeGen m-mid", 2500.0)])
def test_a_load_made_again_is_as_it_was(name: str, lasts_s: float) -> None:
    """With seeds and lengths at which chance is well below the bars; `bench_regenerate.py` tells of more."""
    service = SERVICES[name]._replace(mean_rps=8.0)
    far = off(made(service, 1.5, 1), 5, lasts_s, MOST_PAIRS)
    assert far.rate <= 0.02
    assert far.peak <= 0.05
    assert far.cv <= 0.15
    assert far.lengths <= 0.05
    assert far.means <= 0.02
    assert far.rank <= 0.05


def test_a_thin_sample_keeps_both_lengths_and_what_ties_them() -> None:
    traffic = made(SERVICES["ServeGen m-large"], 1.0, 2)
    pairs = np.array(thinned(traffic))
    assert len(pairs) == MOST_PAIRS == 2000
    for side, column in zip(pairs.T, (traffic.prompt, traffic.output), strict=True):
        assert side.mean() == pytest.approx(column.mean(), rel=0.002)
        shares = (0.5, 0.9, 0.95, 0.99)
        assert np.quantile(side, shares) == pytest.approx(np.quantile(column, shares), rel=0.02)
    tied = correlation(traffic.prompt, traffic.output)
    assert correlation(pairs[:, 0], pairs[:, 1]) == pytest.approx(tied, abs=0.03)
    assert thinned(traffic) == thinned(traffic)


@pytest.mark.parametrize("count", [1, 1999, 2000, 2001, 2500, 3000, 4001])
def test_a_sample_of_few_is_all_of_them_or_nearly(count: int) -> None:
    rng = np.random.default_rng(count)
    prompt, output = np.maximum(1, rng.lognormal(5, 1, (2, count))).astype(np.int64)
    pairs = np.array(thinned(Traffic(source="x", start_s=np.arange(float(count)), prompt=prompt, output=output)))
    assert len(pairs) == min(count, MOST_PAIRS)
    for side, column in zip(pairs.T, (prompt, output), strict=True):
        assert np.quantile(side, (0.5, 0.9)) == pytest.approx(np.quantile(column, (0.5, 0.9)), rel=0.03)


def test_requests_that_tell_one_length_only_are_in_no_pair() -> None:
    prompt, output = np.array([5, 0, 7, 9]), np.array([1, 2, 0, 3])
    assert thinned(Traffic(source="x", start_s=np.arange(4.0), prompt=prompt, output=output)) == ((5, 1), (9, 3))


def test_two_kinds_of_prompts_stay_two() -> None:
    rng = np.random.default_rng(1)
    long = rng.random(20_000) < 0.5
    prompt = np.where(long, rng.integers(9000, 10_000, 20_000), rng.integers(90, 100, 20_000))
    output = np.where(long, rng.integers(10, 20, 20_000), rng.integers(800, 900, 20_000))
    pairs = np.array(thinned(Traffic(source="x", start_s=np.arange(2e4), prompt=prompt, output=output)))
    between = (pairs[:, 0] > 100) & (pairs[:, 0] < 9000) | (pairs[:, 1] > 20) & (pairs[:, 1] < 800)
    assert between.sum() <= 2, "each border is in one slice"
    swapped = (pairs[:, 0] > 5000) == (pairs[:, 1] > 500)
    assert swapped.mean() < 0.02


def test_the_stages_are_the_mean_the_peak_and_a_quarter_more() -> None:
    figures, profile = profile_of(made(SERVICES["ServeGen m-large"]._replace(mean_rps=2.0), 3.0, 3))
    assert profile.asks is Question.PEAK
    shapes = [stage.shape for stage in profile.plan.stages]
    rates = [shape.rate_rps for shape in shapes if isinstance(shape, Hold)]
    assert figures.peak is not None
    assert rates == pytest.approx([figures.mean_rps, figures.peak.rate_rps, 1.25 * figures.peak.rate_rps], rel=1e-3)
    assert profile.peak == rates[1]
    assert profile.plan.base.burstiness == pytest.approx(1 / (figures.cv or 0) ** 2, rel=0.01)
    assert all(from_traffic.LEAST_S <= stage.duration_s <= from_traffic.MOST_S for stage in profile.plan.stages)


@pytest.mark.parametrize(("cv", "shape"), [(None, 1.0), (1.0, 1.0), (2.0, 0.25), (100.0, 0.01), (0.0, 1000.0)])
def test_bursts_are_bounded(cv: float | None, shape: float) -> None:
    assert from_traffic._burstiness(cv) == shape


def test_without_a_peak_the_mean_is_driven_and_more() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.exponential(0.5, 400))
    traffic = Traffic(source="x", start_s=times - times[0], prompt=np.full(400, 9), output=np.full(400, 8))
    figures, profile = profile_of(traffic)
    assert figures.peak is None
    assert [stage.name for stage in profile.plan.stages] == ["mean", "beyond the peak"]
    assert profile.peak == pytest.approx(figures.mean_rps, rel=1e-3)


def test_a_prefix_that_was_shared_is_shared_again() -> None:
    count = 100
    traffic = Traffic(
        source="x",
        start_s=np.arange(float(count)),
        prompt=np.full(count, 400),
        output=np.full(count, 8),
        cached=np.full(count, 100),
    )
    _, profile = profile_of(traffic)
    assert profile.plan.base.shared_prefix == 0.25
    again = made_again(profile, "mean", 20.0, 1, 20)
    assert len(again) > 10


def test_no_profile_is_made_without_answers_or_rates() -> None:
    times = np.arange(100.0)
    no_answers = Traffic(source="x", start_s=times, prompt=np.full(100, 9), output=np.zeros(100, dtype=np.int64))
    with pytest.raises(FileError, match="has no answer lengths, and a profile needs them"):
        profile_from_traffic(characterise(no_answers), "x", source="log.json")
    at_once = Traffic(source="x", start_s=times * 0, prompt=np.full(100, 9), output=np.full(100, 9))
    with pytest.raises(FileError, match="there is no rate"):
        profile_from_traffic(characterise(at_once), "x", source="log.json")


def test_lengths_of_tables_stand_where_there_are_no_pairs() -> None:
    traffic = made(SERVICES["ServeGen m-large"]._replace(mean_rps=2.0), 1.0, 3)
    figures = characterise(traffic)
    profile = profile_from_traffic(figures, "x")
    assert figures.prompt is not None
    assert profile.plan.base.prompt_tokens == round(figures.prompt.mean)
    again = made_again(profile, profile.plan.stages[0].name, 1500.0, 4, 4000)
    assert np.quantile(again.prompt[:3000], 0.9) == pytest.approx(figures.prompt.p90, rel=0.1)
