"""What a capacity costs: a table reckoned by hand, and laws that hold whatever the figures are."""

from __future__ import annotations

import math
from dataclasses import replace as replaced

import numpy as np
import pytest
from msgspec.structs import replace
from test_analysis_ledger import drive, laptop

from llmtop.analysis import Level, assess
from llmtop.analysis.cost import costs_foreseen, costs_of
from llmtop.analysis.predicted import assess_prediction
from llmtop.analysis.supply import supply_of
from llmtop.domain.cost import UNSTATED, Amount, Cost, Costs
from llmtop.domain.foresight import ForeseenPoint, Foresight, Interval
from llmtop.domain.load import Axis
from llmtop.domain.run import FactBatch
from llmtop.domain.samples import GpuSnapshot, ServerSnapshot
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Capacity
from llmtop.host.judging import Judge
from llmtop.meter.facts import Facts
from llmtop.simulator.engine import load_preset, predict
from llmtop.wording import cost as words
from llmtop.wording.figures import TEXT
from llmtop.wording.sentences import CLIENT_SLOW

CAPACITY = Capacity(at_slo=20.0, fails_at=24.0, low=18.0, high=24.0)
PRICE = Cost(gpu_price_per_hour=3.60, gpus=2, currency="EUR")
DAY = replace(PRICE, peak=100.0, traffic=(0.1, 0.5, 1.0, 0.4))


def level(
    load: float, requests_per_s: float, *, errors: int = 0, power_w: float | None = 500.0, **more: float
) -> Level:
    """Of requests with 500 prompt and 100 output tokens, 100 of which ended well."""
    return Level(
        load=load,
        ttft_s=np.full(100, 2.0),
        tpot_s=np.full(100, 0.03),
        e2e_s=np.full(100, 5.0),
        errors=errors,
        requests_per_s=requests_per_s,
        output_tokens_per_s=100 * requests_per_s,
        prompt_tokens=500.0,
        output_tokens=100.0,
        power_w=power_w,
        **{"prefill_s": 0.08, **more},
    )


LEVELS = (level(10.0, 3.0), level(20.0, 4.0), level(40.0, 4.8))


def told(
    cost: Cost = DAY, capacity: Capacity = CAPACITY, levels: tuple[Level, ...] = LEVELS, axis: Axis = "concurrency"
) -> Costs:
    found = costs_of(supply_of(levels), cost, capacity, axis)
    assert found is not None
    return found


def value(amount: Amount | None) -> float:
    assert amount is not None
    return amount.value


def test_the_table_is_the_one_that_is_reckoned_by_hand() -> None:
    """Two GPUs at 3.60 an hour are 7.20 an hour, 0.002 a second. 20 users get 4 requests/s: 400 output and 2 000 input
    tokens/s; 4 prompts a second, each of 80 ms less a step of 30 ms, are a fifth of an
    engine's time.

    per 1M output           0.002 / 400 x 1e6                              5.00
    input, output part      0.2 x 0.002 / 2000 x 1e6, 0.8 x 5.00           0.20, 4.00
    at 30 % use             / 0.3                                          16.667, 0.667, 13.333
    user and month          7.20 x 730 / 20                                262.80
    endpoints over the day  10, 50, 100, 40 users, 16 to each              1, 4, 7, 3: 3.75 on the mean, 7 at most
    of them used            50 users on the mean / 20                      2.5
    autoscaled, fixed       5.00 x 3.75 / 2.5, 5.00 x 7 / 2.5              7.50, 14.00
    month                   7.20 x 730 x 3.75, x 7                         19 710, 36 792
    user and month          / 100 users at the peak                        197.10, 367.92
    GPUs at the peak        100 users, 16 to each: 7 endpoints and 1 more  16
    """
    costs = told()
    rows = {
        row.use: tuple(
            value(amount)
            for amount in (
                row.per_million_output,
                row.input_part,
                row.output_part,
                row.per_user_month,
                row.per_month,
            )
        )
        for row in costs.rows
    }
    assert rows["slo"] == pytest.approx((5.0, 0.2, 4.0, 262.8, 5256.0))
    assert rows["third"] == pytest.approx((50 / 3, 2 / 3, 40 / 3, 876.0, 5256.0))
    assert rows["autoscaled"] == pytest.approx((7.5, 0.3, 6.0, 197.1, 19710.0))
    assert rows["fixed"] == pytest.approx((14.0, 0.56, 11.2, 367.92, 36792.0))
    assert value(costs.gpus_at_peak) == 16
    assert "as many as its peak needs, without a spare" in words.lines(costs)[3]
    assert "with 20 % headroom and a spare endpoint" in words.peak_text(costs)
    assert costs.split == "server"
    assert value(costs.joules_per_output_token) == pytest.approx(500 / 400)
    assert costs.missing == ()


def test_what_scales_by_one_replica_is_reckoned_in_replicas() -> None:
    """Of the same two GPUs, one of each replica: 8 of 10 users to each, 3.60 an hour.

    replicas over the day   10, 50, 100, 40 users                          2, 7, 13, 5: 6.75 on the mean, 13 at most
    of them used            50 users on the mean / 10                      5
    autoscaled, fixed       5.00 x 6.75 / 5, 5.00 x 13 / 5                 6.75, 13.00
    month                   3.60 x 730 x 6.75, x 13                        17 739, 34 164
    GPUs at the peak        13 replicas and 1 more                         14
    """
    supply = replaced(supply_of(LEVELS, engines=lambda level: 1.0 if level.load < 20 else 2.0), scaled=True)
    costs = costs_of(supply, DAY, CAPACITY, "concurrency")
    whole = told()
    assert costs is not None
    assert (costs.replicas, costs.gpus) == (2, 2)
    for use, per_million, month in (("autoscaled", 6.75, 17739.0), ("fixed", 13.0, 34164.0)):
        row = costs.row(use)
        assert row is not None
        assert value(row.per_million_output) == pytest.approx(per_million)
        assert value(row.per_month) == pytest.approx(month)
        assert value(row.per_user_month) == pytest.approx(month / 100)
    for use in ("slo", "third"):
        own, other = costs.row(use), whole.row(use)
        assert own is not None
        assert other is not None
        for name in ("per_million_output", "per_user_month", "per_month"):
            assert getattr(own, name) == getattr(other, name), "what was measured costs the same"
    assert value(costs.gpus_at_peak) == 14
    assert "at 20 users on 2 replicas of 1 GPU at 3.60 EUR an hour each" in words.lines(costs)[0]
    assert "a spare replica" in words.peak_text(costs)
    odd = costs_of(supply, replace(DAY, gpus=3), CAPACITY, "concurrency")
    assert odd is not None
    assert odd.replicas == 1, "three GPUs are not of two replicas"
    untold = costs_of(replaced(supply, gpus=12, gpus_each=4), replace(DAY, gpus=None), CAPACITY, "concurrency")
    assert untold is not None
    assert untold.gpus == 8, "of those that carried it, not of those that were there at the end"


def test_the_interval_is_that_of_the_capacity() -> None:
    """At 18 users a straight line from 300 to 400 gives 380 tokens/s, at 24 one from 400 to 480 gives 416."""
    costs = told()
    slo = costs.row("slo")
    assert slo is not None
    assert slo.per_million_output == Amount(pytest.approx(5.0), pytest.approx(2000 / 416), pytest.approx(2000 / 380))
    assert slo.per_user_month == Amount(pytest.approx(262.8), pytest.approx(5256 / 24), pytest.approx(5256 / 18))
    # 24 users: 19.2 to each, 6 endpoints; 18: 14.4 to each, 7
    assert costs.gpus_at_peak == Amount(16, 14, 16)


def test_a_capacity_that_is_sure_costs_what_runs_of_one_server_differ_by() -> None:
    """Two standard deviations of 1.5 %: 388 to 412 of 400 tokens/s."""
    slo = told(capacity=Capacity(at_slo=20, fails_at=20, low=20, high=20)).row("slo")
    assert slo is not None
    assert slo.per_million_output == Amount(pytest.approx(5.0), pytest.approx(2000 / 412), pytest.approx(2000 / 388))


@pytest.mark.parametrize("axis", ["concurrency", "rate"])
@pytest.mark.parametrize("traffic", [(), (0.2, 1.0), tuple(np.random.default_rng(1).random(24))])
def test_every_interval_holds_its_value_and_a_larger_capacity_costs_less(
    axis: Axis, traffic: tuple[float, ...]
) -> None:
    cost = replace(DAY, traffic=traffic, think_time_s=3.0)
    before: dict[tuple[str, str], float] = {}
    for at in (10.0, 12.0, 20.0, 30.0, 40.0):
        costs = told(cost, Capacity(at_slo=at, fails_at=at + 2, low=0.9 * at, high=at + 2), axis=axis)
        for row in costs.rows:
            for name in ("per_million_output", "per_user_month"):
                amount = getattr(row, name)
                assert amount.low <= amount.value <= amount.high
                if not traffic or row.use in ("slo", "third"):  # whole endpoints come in steps
                    assert amount.value <= before.get((row.use, name), math.inf) * (1 + 1e-9)
                before[row.use, name] = amount.value
        assert costs.gpus_at_peak is not None
        low, high = costs.gpus_at_peak.low, costs.gpus_at_peak.high
        assert low is not None
        assert high is not None
        assert low <= costs.gpus_at_peak.value <= high


@pytest.mark.parametrize("share", [0.0, 0.2, 0.73, 1.0])
def test_the_parts_of_input_and_output_are_all_of_the_cost(share: float) -> None:
    levels = tuple(level(each, 4.0, prefill_s=0.03 + max(share, 1e-9) / 4) for each in (10.0, 20.0))
    costs = told(levels=levels)
    assert costs.input_share is not None
    assert costs.output_share is not None
    assert costs.input_share + costs.output_share == pytest.approx(1)
    assert costs.requests_per_s is not None
    for row in costs.rows:
        paid = value(row.input_part) * 500 + value(row.output_part) * 100
        assert paid == pytest.approx(value(row.per_million_output) * 100)


def test_low_use_costs_what_is_idle_and_a_traffic_never_less_than_full_use() -> None:
    costs = told(replace(DAY, peak=6.0, traffic=(1.0,)))
    rows = {row.use: value(row.per_million_output) for row in costs.rows}
    assert rows["third"] == pytest.approx(rows["slo"] / 0.3)
    assert rows["fixed"] == rows["autoscaled"]
    # one endpoint for 6 of the 20 users that it carries is 30 % use
    assert rows["autoscaled"] == pytest.approx(rows["third"])
    assert min(rows.values()) == rows["slo"]


def test_what_failed_is_paid_for_and_not_sold() -> None:
    # 480 tokens/s were streamed, 80 of them of requests that failed
    broken = replaced(level(20.0, 4.0, errors=20), output_tokens_per_s=480.0)
    silent = replaced(level(20.0, 4.0, errors=20), output_tokens_per_s=400.0)
    for each in (level(20.0, 4.0), broken, silent):
        assert told(levels=(each,)).output_tokens_per_s == 400.0


def test_without_a_price_there_are_the_gpus_of_a_peak_and_the_energy_alone() -> None:
    costs = told(Cost(peak=100.0, gpus=2))
    assert costs.rows == ()
    assert value(costs.gpus_at_peak) == 16
    assert value(costs.joules_per_output_token) == 1.25
    assert costs.missing == (words.NO_PRICE,)
    dark = tuple(level(each.load, each.requests_per_s or 0.0, power_w=None) for each in LEVELS)
    assert costs_of(supply_of(dark), UNSTATED, CAPACITY, "concurrency") is None
    powered = costs_of(supply_of(LEVELS), UNSTATED, CAPACITY, "concurrency")
    assert powered is not None
    assert (powered.rows, powered.gpus_at_peak, powered.missing) == ((), None, ())
    assert value(powered.joules_per_output_token) == 1.25


@pytest.mark.parametrize(
    ("capacity", "void", "says"),
    [
        (CAPACITY, "the client was the bottleneck", "the client was the bottleneck"),
        (Capacity(), "", words.CAPACITY_UNKNOWN),
        (Capacity(fails_at=1.0), "", words.NO_CAPACITY),
    ],
)
def test_a_capacity_of_nothing_costs_nothing_that_can_be_told(capacity: Capacity, void: str, says: str) -> None:
    costs = costs_of(supply_of(LEVELS), DAY, capacity, "concurrency", void)
    assert costs is not None
    assert costs.void == says
    assert costs.rows == ()
    assert costs.gpus_at_peak is None
    assert costs.joules_per_output_token is None
    assert words.lines(costs) == [f"not told: {says}"]
    assert costs_of(supply_of(LEVELS), UNSTATED, capacity, "concurrency", void or "late") is None


def test_a_capacity_that_no_level_of_this_server_shows_has_the_reason_and_no_cost() -> None:
    assert told(levels=()).void == words.NO_LEVEL
    assert told(levels=(), capacity=Capacity()).void == words.CAPACITY_UNKNOWN


def test_a_capacity_that_is_at_least_so_much_costs_at_most_so_much() -> None:
    costs = told(capacity=Capacity(at_slo=20.0, low=18.0))
    assert costs.at_most
    slo = costs.row("slo")
    assert slo is not None
    assert slo.per_million_output is not None
    assert slo.per_million_output.low is None
    assert "at most 5.00 EUR per 1M output tokens" in words.lines(costs)[0]
    assert any(line.startswith("at most 16 GPUs for a peak") for line in words.lines(costs))


def test_users_who_think_are_more_than_those_in_flight() -> None:
    """N (1 + Z / R): 20 in flight with an E2E of 5 s, who pause for 15 s, are 80 users."""
    costs = told(replace(DAY, think_time_s=15.0))
    assert costs.users == pytest.approx(80)
    slo = costs.row("slo")
    assert slo is not None
    assert value(slo.per_user_month) == pytest.approx(262.8 / 4)
    # 64 to each: two endpoints for 100 users, and one to spare
    assert value(costs.gpus_at_peak) == 6
    thinking = tuple(
        Level(
            load=80.0,
            ttft_s=each.ttft_s,
            e2e_s=each.e2e_s,
            requests_per_s=4.0,
            output_tokens_per_s=400.0,
            thinking=0.75,
        )
        for each in LEVELS[:1]
    )
    driven = told(replace(DAY, think_time_s=15.0), Capacity(at_slo=80.0, fails_at=90.0), thinking)
    assert driven.users == pytest.approx(80), "users who were driven with that pause are that many"


def test_in_open_loop_a_peak_is_a_rate_and_a_user_needs_a_pause() -> None:
    levels = (level(2.0, 2.0), level(4.0, 4.0), level(8.0, 5.0))
    capacity = Capacity(at_slo=4.0, fails_at=5.0, low=3.6, high=5.0)
    costs = told(replace(PRICE, peak=32.0), capacity, levels, "rate")
    assert value(costs.gpus_at_peak) == 22  # 3.2 requests/s to each of 10, and one more
    slo = costs.row("slo")
    assert slo is not None
    assert slo.per_user_month is None
    assert words.NO_THINK_TIME in costs.missing
    known = told(replace(PRICE, peak=32.0, think_time_s=20.0), capacity, levels, "rate")
    assert known.users == pytest.approx(4.0 * 25)  # 4 requests/s, one of each user in 5 + 20 s


def test_where_the_server_tells_no_prefill_ttft_stands_for_it() -> None:
    levels = tuple(
        Level(load=load, ttft_s=np.full(100, ttft_s), e2e_s=np.full(100, 5.0), requests_per_s=4.0, prompt_tokens=500.0)
        for load, ttft_s in ((1.0, 0.1), (20.0, 2.0))
    )
    costs = told(levels=levels)
    assert (costs.split, costs.input_share) == ("ttft", pytest.approx(0.4)), "4 a second, of 100 ms"
    late = costs_of(supply_of(levels, by_ttft=False), DAY, CAPACITY, "concurrency")
    assert late is not None
    assert (late.split, late.input_share) == (None, None)


def test_more_of_the_engines_time_than_there_is_is_no_split() -> None:
    """4 prompts a second that add 300 ms each are 1.2 s of prefill a second."""
    costs = told(levels=(level(10.0, 3.0, prefill_s=0.33), level(20.0, 4.0, prefill_s=0.33)))
    assert (costs.split, costs.input_share, costs.output_share) == (None, None, None)
    slo = costs.row("slo")
    assert slo is not None
    assert (slo.input_part, slo.output_part) == (None, None)
    assert value(slo.per_million_output) == pytest.approx(5.0)
    assert words.split_text(costs) == ""
    full = told(levels=(level(10.0, 4.0, prefill_s=0.285), level(20.0, 4.0, prefill_s=0.285)))
    assert full.input_share == 1, "2 % more are rates that are off"


def test_by_the_server_by_ttft_and_by_the_steps_of_the_engine_the_parts_are_about_the_same() -> None:
    """By hand: 0.77 GB are 0.385e9 weights of two bytes, and a prompt of 192 tokens is two operations of each by each:
    1.48e11, at 60 % of 5e12 a second 49 ms. Prompts come 11.4 times a second while the slots are full.
    """
    by_hand = 2 * 192 * 0.385e9 / (0.6 * 5e12) * 11.4
    assert by_hand == pytest.approx(0.56, abs=0.005)
    model = load_preset("laptop").step_model
    predicted = predict(load_preset("laptop"), concurrency=[4, 8, 16, 32, 40], requests_per_level=200, seed=1)
    session = drive(laptop(4), (4, 20), (8, 20), (16, 20), (32, 20), (40, 20))
    meta = session.end(SLO)
    meta = replace(meta, profile=replace(meta.profile, cost=PRICE))
    deaf = drive(laptop(4, gauges=False), (4, 20), (8, 20), (16, 20), (32, 20), (40, 20))
    told = {
        "steps": assess_prediction(predicted, SLO, PRICE, model).costs,
        "server": assess(session.facts, meta, SLO, now_s=session.facts.t_s).costs,
        "ttft": assess(deaf.facts, meta, SLO, now_s=deaf.facts.t_s).costs,
    }
    for split, costs in told.items():
        assert costs is not None
        assert (costs.split, costs.at) == (split, 40)
        assert costs.input_share == pytest.approx(by_hand, rel=1 / 3), split


def test_replicas_share_the_time_that_prompts_take_and_of_how_many_is_to_be_known() -> None:
    def share(*names: tuple[float, str]) -> float | None:
        session = drive(laptop(4), (8, 10), (16, 12))
        rows = tuple(
            ServerSnapshot(t_s=t_s, replicas=tuple((name, 1.0, 0.0, 0.1) for from_s, name in names if t_s >= from_s))
            for t_s in session.facts.server.column("t_s")
        )
        told = Facts()
        told.extend(FactBatch(t_s=0.0, server=rows))
        session.facts.replicas, session.facts.replica_names = told.replicas, told.replica_names
        meta = replace(session.meta, profile=replace(session.meta.profile, cost=PRICE), ended_s=session.facts.t_s)
        costs = assess(session.facts, meta, SLO, now_s=session.facts.t_s).costs
        assert costs is not None
        return costs.input_share

    alone, shared = share(), share((0.0, "a"), (0.0, "b"))
    assert alone is not None
    assert shared == pytest.approx(alone / 2)
    assert share((0.0, "a"), (16.0, "b")) is None, "it came in the midst of the level"


def test_levels_that_tell_no_tokens_have_the_cost_of_a_user_alone() -> None:
    bare = (Level(load=20.0, ttft_s=np.full(100, 2.0), e2e_s=np.full(100, 5.0)),)
    costs = told(levels=bare)
    assert words.NO_TOKENS in costs.missing
    slo = costs.row("slo")
    assert slo is not None
    assert (slo.per_million_output, slo.input_part, slo.output_part) == (None, None, None)
    assert words.lines(costs)[0].startswith("263 EUR (219 to 292) per user and month at 20 users on 2 GPUs")
    assert not any("--" in line.replace("--gpu", "") for line in words.lines(costs))


def test_embeddings_are_all_input() -> None:
    levels = (
        Level(load=20.0, e2e_s=np.full(100, 5.0), ttft_s=np.full(100, np.nan), requests_per_s=4.0, prompt_tokens=500.0),
    )
    costs = told(levels=levels)
    slo = costs.row("slo")
    assert slo is not None
    assert slo.per_million_output is None
    assert value(slo.input_part) == pytest.approx(1.0)  # 0.002 a second for 2 000 tokens
    assert "1.00 EUR" in words.lines(costs)[0]
    assert "per 1M input tokens" in words.lines(costs)[0]


def test_what_a_twin_foresees_has_a_cost_and_what_it_does_not_has_none() -> None:
    def interval(value: float) -> Interval:
        return Interval(value, value, value)

    point = ForeseenPoint(
        load=20.0,
        ttft_p50_ms=interval(90.0),
        ttft_p95_ms=interval(90.0),
        tpot_p50_ms=interval(40.0),
        tpot_p95_ms=interval(40.0),
        output_tokens_per_s=interval(400.0),
        requests_per_s=interval(4.0),
    )
    foreseen = Foresight(
        users=Interval(20.0, 18.0, 22.0), points=(point,), prompt_tokens=500.0, output_tokens=101.0, off=0.05
    )
    costs = costs_foreseen(foreseen, PRICE)
    assert costs is not None
    slo = costs.row("slo")
    assert slo is not None
    assert value(slo.per_million_output) == pytest.approx(5.0)
    assert costs.input_share == pytest.approx(0.2)  # 4 a second, of 90 ms less a step of 40 ms
    unknown = costs_foreseen(replace(foreseen, users=None), PRICE)
    assert unknown is not None
    assert unknown.void == words.NOT_FORESEEN


# -- of a run ---------------------------------------------------------------------------------------------------------

SLO = parse_slo("ttft_p95<2s,tpot_p95<50ms")


def _assessed(power: dict[float, tuple[float | None, ...]] | None = None, cost: Cost = PRICE) -> Costs | None:
    session = drive(laptop(4), (8, 10), (16, 12))
    for t_s, each in (power or {}).items():
        gpus = tuple(GpuSnapshot(t_s=t_s, index=at, power_w=watts) for at, watts in enumerate(each))
        session.facts.extend(FactBatch(t_s=session.facts.t_s, gpu=gpus))
    meta = replace(session.meta, profile=replace(session.meta.profile, cost=cost), ended_s=session.facts.t_s)
    return assess(session.facts, meta, SLO, now_s=session.facts.t_s).costs


def test_a_run_of_which_nothing_was_stated_and_no_power_read_has_no_costs() -> None:
    assert _assessed(cost=UNSTATED) is None


def test_power_is_the_mean_of_the_sums_while_the_level_was_held() -> None:
    seconds = [float(t_s) for t_s in range(1, 23)]
    costs = _assessed({t_s: (100.0, 50.0) if t_s < 12 else (200.0, 100.0) for t_s in seconds}, UNSTATED)
    assert costs is not None
    assert costs.at == 16
    assert costs.power_w == pytest.approx(300.0, rel=0.03)
    assert (costs.gpus_read, costs.gpus_seen) == (2, 2)
    assert costs.output_tokens_per_s is not None
    assert value(costs.joules_per_output_token) == pytest.approx(costs.power_w / costs.output_tokens_per_s)
    assert "of the 2 GPUs that are read" in words.energy_text(costs, TEXT)


def test_power_of_some_gpus_alone_is_said_to_be_theirs() -> None:
    costs = _assessed({float(t_s): (100.0, None) for t_s in range(1, 23)}, UNSTATED)
    assert costs is not None
    assert (costs.gpus_read, costs.gpus_seen) == (1, 2)
    assert "of the 1 GPU that tells it, of 2" in words.energy_text(costs, TEXT)


def test_a_second_in_which_one_gpu_is_silent_is_no_lower_power() -> None:
    each = {float(t_s): (100.0, 100.0) if t_s % 3 else (100.0, None) for t_s in range(1, 23)}
    costs = _assessed(each, UNSTATED)
    assert costs is not None
    assert costs.power_w == pytest.approx(200.0)


def test_power_that_nobody_tells_any_more_is_not_known() -> None:
    assert _assessed({float(t_s): (None,) for t_s in range(1, 23)}, UNSTATED) is None
    assert _assessed({1.0: (100.0,)}, UNSTATED) is None, "read once at the start, and not while it was driven"


def test_costs_of_a_run_are_those_of_its_capacity() -> None:
    costs = _assessed()
    assert costs is not None
    slo = costs.row("slo")
    assert slo is not None
    assert costs.output_tokens_per_s is not None
    assert value(slo.per_million_output) == pytest.approx(7.2e6 / 3600 / costs.output_tokens_per_s)
    assert costs.at_most, "no load failed"


def test_a_run_whose_client_was_the_bottleneck_has_a_reason_and_no_cost() -> None:
    session = laptop(8, client=True)
    session.run_until(5.0)
    session.late = True
    session.run_until(20.0)
    meta = session.end(SLO)
    meta = replace(meta, profile=replace(meta.profile, cost=DAY))
    opinion = assess(session.facts, meta, SLO, now_s=session.facts.t_s)
    assert opinion.judgement.void
    assert opinion.costs is not None
    assert opinion.costs.void == CLIENT_SLOW
    assert (opinion.costs.rows, opinion.costs.gpus_at_peak) == ((), None)


def test_the_gpus_are_those_that_were_stated_else_those_that_the_server_tells_else_one() -> None:
    session = drive(laptop(4), (8, 10))
    meta = session.end(SLO)
    assert meta.info is not None

    def gpus(cost: Cost, *flags: tuple[str, str]) -> int:
        assert meta.info is not None
        told = replace(meta, info=replace(meta.info, flags=flags), profile=replace(meta.profile, cost=cost))
        found = assess(session.facts, told, SLO, now_s=session.facts.t_s).costs
        assert found is not None
        return found.gpus

    alone = Cost(gpu_price_per_hour=2.0)
    assert gpus(alone) == 1
    assert gpus(alone, ("tensor_parallel_size", "4")) == gpus(alone, ("tp_size", "4")) == 4
    assert gpus(alone, ("tensor_parallel_size", "none")) == 1
    assert gpus(replace(alone, gpus=8), ("tensor_parallel_size", "4")) == 8
    two = (("a", 1.0, 0.0, 0.1), ("gone", None, None, None), ("b", 0.0, 0.0, 0.0))
    session.facts.extend(
        FactBatch(t_s=session.facts.t_s, server=(ServerSnapshot(t_s=session.facts.t_s, replicas=two),))
    )
    assert gpus(alone) == 2, "one of each replica that is there"
    assert gpus(alone, ("tensor_parallel_size", "4")) == 8


def test_input_and_output_are_told_apart_by_the_steps_of_the_engine_where_a_twin_knows_them() -> None:
    """What the twin has found out of the run is held against the step time of the very engine that was driven."""
    session = drive(laptop(4), (4, 30), (8, 30), (16, 30), (24, 30), (32, 30))
    meta = session.end(SLO)
    meta = replace(meta, profile=replace(meta.profile, cost=PRICE))
    plain = assess(session.facts, meta, SLO, now_s=session.facts.t_s).costs
    costs = Judge(SLO)(session.facts, meta, full=True).costs
    assert plain is not None
    assert costs is not None
    assert costs.split == "steps"
    assert costs.input_share is not None
    assert costs.output_share == 1 - costs.input_share
    slo, was = costs.row("slo"), plain.row("slo")
    assert slo is not None
    assert was is not None
    assert slo.per_million_output == was.per_million_output
    assert costs.input_tokens_per_s is not None
    assert costs.output_tokens_per_s is not None
    paid = value(slo.input_part) * costs.input_tokens_per_s + value(slo.output_part) * costs.output_tokens_per_s
    assert paid == pytest.approx(value(slo.per_million_output) * costs.output_tokens_per_s)
    predicted = predict(load_preset("laptop"), concurrency=[32], requests_per_level=100, seed=1)
    engine = assess_prediction(predicted, SLO, PRICE, load_preset("laptop").step_model).costs
    assert engine is not None
    assert engine.split == "steps"
    assert engine.input_share is not None
    assert costs.input_share == pytest.approx(engine.input_share, rel=0.2)
    several = tuple((name, 1.0, 0.0, 0.1) for name in "ab")
    rows = tuple(ServerSnapshot(t_s=t_s, replicas=several) for t_s in session.facts.server.column("t_s"))
    shown = Facts.of([FactBatch(t_s=0.0, server=rows)])
    session.facts.replicas, session.facts.replica_names = shown.replicas, shown.replica_names
    shared = Judge(SLO)(session.facts, meta, full=True).costs
    assert shared is not None
    assert shared.split == "server", "a twin knows the steps of one engine"
