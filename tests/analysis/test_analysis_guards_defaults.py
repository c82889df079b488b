"""What is taken where nothing is told: nothing was seen, nothing is known, and the numbers that the docs promise."""

from __future__ import annotations

import numpy as np
from facts_by_hand import bins_of, facts_of
from test_analysis_guards_cliff import NINE, series

from llmtop.analysis import CapacitySearch, Level, Limits
from llmtop.analysis.cliff import REPLICATES, find
from llmtop.analysis.diagnosis import Recent, diagnose, trust_notes
from llmtop.analysis.fits import Shape
from llmtop.analysis.recent import recent_of
from llmtop.analysis.sessions import Gauges, Progress, Requests, session_levels
from llmtop.analysis.slo import Sample, attainment
from llmtop.analysis.stats import Sprt
from llmtop.analysis.steps import StepFunction
from llmtop.analysis.trial import Trial
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Bound
from llmtop.meter.facts import Facts


def test_of_seconds_in_which_nothing_was_seen_nothing_is_said() -> None:
    blank = Recent()
    assert (blank.polls, blank.waiting_share, blank.shared_prefix, blank.red_share) == (0, 0.0, 0.0, 0.0)
    assert blank.ttft_s().tolist() == []
    assert diagnose(blank, Limits(), (), None).bound is Bound.NONE
    assert trust_notes(blank) == ()
    seen = recent_of(facts_of(bins=bins_of(10, 3)), _none(), LoadPoint(concurrency=3), 10.0)
    assert (seen.polls, seen.waiting_share, seen.red_share, seen.running, seen.requests) == (0, 0.0, 0.0, None, None)


def _none() -> Requests:
    empty = np.empty(0)
    return Requests(*(empty for _ in range(6)), empty > 0, empty > 0, empty, empty)


def test_a_level_of_nothing_has_no_figures() -> None:
    blank = Level(8.0)
    assert (blank.n, blank.errors, blank.error_ratio, blank.broken) == (0, 0, 0.0, False)
    assert (blank.mean("ttft"), blank.mean("e2e"), blank.mean("tpot"), blank.little_residual) == (None,) * 4
    assert blank.statistic("ttft", "p50") is None
    assert Sample(np.ones(3), np.ones(3), np.ones(3)).errors == 0
    assert attainment(Sample(np.ones(3), np.ones(3), np.ones(3)), parse_slo("ttft_p95<2s")) == 1.0
    assert session_levels(_none(), StepFunction(np.zeros(1), np.ones(1)), gauges=Gauges(), progress=Progress()) == ()


def test_a_mean_that_is_given_stands_for_samples() -> None:
    given = Level(8.0, ttft_mean_s=1.0, e2e_mean_s=4.0, requests_per_s=1.0)
    assert (given.mean("ttft"), given.mean("e2e"), given.little_residual) == (1.0, 4.0, 0.5)
    both = Level(8.0, np.full(4, 3.0), ttft_mean_s=1.0)
    assert both.mean("ttft") == 3.0


def test_a_search_starts_at_four_and_promises_ten_minutes() -> None:
    search = CapacitySearch(parse_slo("ttft_p95<2s"), LoadPoint(concurrency=0))
    step = search.next(Facts(), 0.0)
    assert step.point == LoadPoint(concurrency=4)
    assert (search._requests, search._least_s, step.left_s) == (900, 90.0, 600.0)
    assert (search._max, step.done_levels, step.learned) == (1024, 0, ())
    search.stop()
    assert search.next(Facts(), 0.0).left_s == 0.0


def test_a_trial_starts_with_nothing() -> None:
    trial = Trial(load=8, before=4, start_s=0.0)
    assert (trial.sent, trial.errors, trial.ended, trial.warm_up, trial.lived) == (0, 0, 0, 0, 0.9)
    assert (trial.pool, trial.standing, trial.failed(Slo(), True)) == ((), False, None)


def test_a_sequential_test_is_of_a_p95_and_ends_at_400() -> None:
    test = Sprt()
    assert (test.share, test.cap, test.inflation, test.score, test.n, test.misses) == (0.05, 400, 1.0, 0.0, 0, 0)
    assert Sprt(n=399, misses=20).verdict is None
    assert Sprt(n=400, misses=20).verdict is True


def test_limits_and_shapes_that_are_not_known_are_none() -> None:
    assert (Limits().kv_requests, Limits().max_num_seqs, Limits().max_concurrency) == (None, None, 1024)
    known = {"kv_capacity_tokens": 2000.0, "prompt_tokens": 90.0, "output_tokens": 20.0}
    assert Limits(**known).kv_requests == 20.0  # type: ignore[arg-type]
    for name in known:
        assert Limits(**known | {name: None}).kv_requests is None  # type: ignore[arg-type]
    shape = Shape(1.0, 2.0, 3.0)
    assert (shape.extra, shape.at, shape.index) == (0.0, 0.0, 0)


def test_an_interval_rests_on_as_many_draws_as_are_promised() -> None:
    curve = series(NINE[:7], [1.0, 1, 1, 1, 1, 9, 18], se=0.12)
    assert find(curve) == find(curve, replicates=REPLICATES, seed=0) != find(curve, replicates=0)
    assert REPLICATES == 120
