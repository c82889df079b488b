"""The twin: true to what it was fitted to, a band from a level left out, and no number where it does not know."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import fields, replace
from math import inf, isfinite, isnan

import pytest
from twinning import h100_levels, known_of, measured

from llmtop.domain.foresight import Interval
from llmtop.simulator.engine import Lengths, load_preset
from llmtop.simulator.engine.twin import FIRST_BAND, Asked, Foreseen, Known, Measured, Outside, Twin, fit
from llmtop.simulator.engine.twin_case import fewer_may_wait
from llmtop.simulator.engine.twin_levels import ready, shape_of
from llmtop.simulator.engine.twin_serving import First, Server, asked_of
from llmtop.simulator.engine.twin_steps import StepTime, Work

CARD = StepTime(constant_s=2e-3, weights_s=5e-3, token_s=30e-6, context_s=6e-8, budget=8192.0)
"""A server like those that are measured: 7 ms a step, and a knee at some 170 tokens."""
FRONT = First(away_s=4e-3, rest=1.0, prompt=1.0)
KNOWN = Known(slots=256, kv_tokens=450_000, budget_tokens=8192, prompt_cv=0.4, output_cv=0.4)
LOADS = (4, 8, 16, 32)


def level(
    load: float, known: Known = KNOWN, *, prompt: float = 512, output: float = 128, slots: int | None = None
) -> Measured:
    """A level of that server, without noise."""
    shape = shape_of(prompt, output, 0.0, known, output - 1)
    by_kv = known.kv_tokens / shape.held if known.kv_tokens else inf
    card = replace(CARD, budget=known.budget_tokens or inf)
    state = asked_of(Server(card, FRONT, min(slots or known.slots or inf, by_kv), shape), load, known.axis)
    ttft_s = state.first_s + (state.wait_s if isfinite(state.wait_s) else 5.0)
    return Measured(
        load=load,
        n=400,
        prompt_tokens=prompt,
        output_tokens=output,
        tpot_s=state.tpot_s,
        ttft_s=ttft_s,
        e2e_s=ttft_s + (output - 1) * state.tpot_s,
        requests_per_s=state.requests_per_s,
        output_tokens_per_s=output * state.requests_per_s,
        ttft_p95_s=1.3 * ttft_s,
        tpot_p95_s=1.1 * state.tpot_s,
        slots=slots,
    )


def levels_of(loads: Sequence[float] = LOADS, known: Known = KNOWN) -> list[Measured]:
    return [level(load, known) for load in loads]


def slower(one: Measured, factor: float) -> Measured:
    """The level, had every step of it taken so many times as long."""
    seconds = {name: factor * getattr(one, name) for name in ("tpot_s", "ttft_s", "e2e_s", "ttft_p95_s", "tpot_p95_s")}
    rates = {name: getattr(one, name) / factor for name in ("requests_per_s", "output_tokens_per_s")}
    return replace(one, **seconds, **rates)


def twin_of(levels: Sequence[Measured], known: Known = KNOWN) -> Twin:
    twin = fit(levels, known)
    assert isinstance(twin, Twin), twin
    return twin


def at(twin: Twin, load: float, asked: Asked | None = None) -> Foreseen:
    found = twin.at(load, asked)
    assert isinstance(found, Foreseen), found
    return found


def band(found: Interval | Outside | None) -> Interval:
    assert isinstance(found, Interval), found
    return found


def reason(found: object) -> str:
    assert isinstance(found, Outside), found
    assert found.try_this
    return found.reason


def wide(found: Foreseen) -> float:
    return found.tpot_p50_s.high / found.tpot_p50_s.value - 1.0


def proven(yes: bool) -> list[Measured]:
    """Levels of which the busiest is, or is not, foretold by those with half as many at once."""
    *rest, top = levels_of()
    return [*rest, top if yes else slower(top, 1.12)]


class TestWhatItWasFittedTo:
    def test_levels_come_back_with_a_queue_and_behind_gates_too(self) -> None:
        levels = [*levels_of((2, 8, 32)), level(48, slots=24), level(40, slots=12)]
        twin = twin_of(levels)
        assert twin.off < 0.03
        for one in levels:
            found = at(twin, one.load, Asked(slots=one.slots))
            for figure, true, near in (
                (found.tpot_p50_s, one.tpot_s, 0.01),
                (found.tpot_p95_s, one.tpot_p95_s, 0.01),
                (found.output_tokens_per_s, one.output_tokens_per_s, 0.01),
                (found.requests_per_s, one.requests_per_s, 0.01),
                (found.ttft_p50_s, one.ttft_s, 0.05),
            ):
                assert band(figure).value == pytest.approx(true, rel=near)
                assert band(figure).low < (true or 0.0) < band(figure).high

    def test_other_slots_loads_and_lengths_are_those_of_the_same_server(self) -> None:
        levels = levels_of() + [level(load, prompt=2048) for load in (4, 16)]
        twin = twin_of(levels)
        for load, slots, prompt in ((64, 256, 512), (60, 40, 512), (24, 10, 2048), (16, 256, 1024)):
            true = level(load, prompt=prompt, slots=slots)
            found = at(twin, load, Asked(slots=slots, prompt_tokens=prompt))
            assert found.tpot_p50_s.value == pytest.approx(true.tpot_s, rel=0.06)
            assert found.output_tokens_per_s.value == pytest.approx(true.output_tokens_per_s, rel=0.06)

    def test_requests_per_second_are_fitted_by_littles_law(self) -> None:
        known = replace(KNOWN, axis="rate", slots=96)
        twin = twin_of(levels_of((2, 8, 16, 40), known), known)
        peak = band(twin.wall()).value
        assert peak == pytest.approx(level(1e9, known).requests_per_s, rel=0.05)
        below, past = at(twin, 0.5 * peak), at(twin, 1.5 * peak)
        assert below.requests_per_s.value == 0.5 * peak
        assert below.waiting == 0
        assert past.requests_per_s.value == pytest.approx(peak)
        assert (past.ttft_p50_s, past.ttft_p95_s, past.waiting) == (None, None, inf)
        assert at(twin, 0.97 * peak).ttft_p50_s is None, "at the slower edge of the band it does not keep up"

    def test_a_measured_server_comes_back_within_5_percent(self) -> None:
        levels = h100_levels()
        for given in (levels, levels[:4]):
            twin = twin_of(given, Known(slots=128, axis="rate"))
            for one in levels:
                found = at(twin, one.load)
                assert found.tpot_p50_s.value == pytest.approx(one.tpot_s, rel=0.05)
                assert found.output_tokens_per_s.value == pytest.approx(one.output_tokens_per_s, rel=0.05)
            assert 104 < band(twin.wall(Asked(slots=192))).value < 118

    def test_a_simulated_server_at_twice_the_load_within_10_percent(self) -> None:
        preset = load_preset("laptop").with_knobs({"max_num_seqs": 64})
        lengths = Lengths(prompt_tokens=192, output_tokens=64, prompt_cv=0.4, output_cv=0.4)
        levels = [measured(preset, users, lengths, count=216, seed=users) for users in (3, 6, 12)]
        true = measured(preset, 24, lengths, count=300)
        found = at(twin_of(levels, known_of(preset, lengths)), 24)
        assert found.tpot_p50_s.value == pytest.approx(true.tpot_p50_s, rel=0.10)
        assert found.output_tokens_per_s.value == pytest.approx(true.output_tokens_per_s, rel=0.10)

    def test_the_same_levels_give_the_same_twin(self) -> None:
        assert twin_of(levels_of()).curve() == twin_of(levels_of()).curve()


class TestLaws:
    def test_more_slots_or_kv_never_lower_the_wall_or_the_users(self) -> None:
        twin = twin_of(levels_of())
        limit = [("ttft", "p95", 1.0)]
        for asks in (
            [Asked(slots=slots) for slots in (4, 16, 31, 48, 64)],
            [Asked(kv_tokens=tokens) for tokens in (4e3, 16e3, 24e3, 36e3)],
        ):
            for found in ([twin.wall(ask) for ask in asks], [twin.users_at(limit, ask) for ask in asks]):
                values = [band(one).value for one in found]
                assert values == sorted(values)
                assert all(band(one).low <= band(one).value <= band(one).high for one in found)

    def test_latency_and_tokens_rise_with_the_load(self) -> None:
        twin = twin_of(levels_of())
        rows = [at(twin, users, Asked(slots=24)) for users in range(1, 200, 7)]
        for figures in (
            [band(row.ttft_p50_s).value for row in rows],
            [row.tpot_p50_s.value for row in rows],
            [row.output_tokens_per_s.value for row in rows],
        ):
            assert all(after >= before * (1 - 1e-4) for before, after in itertools.pairwise(figures))

    def test_littles_law_holds_past_the_wall(self) -> None:
        found = at(twin_of(levels_of()), 100, Asked(slots=24))
        stay_s = band(found.ttft_p50_s).value + 127 * found.tpot_p50_s.value
        assert found.requests_per_s.value * stay_s == pytest.approx(100, rel=0.01)
        assert found.running == pytest.approx(24, rel=1e-3)
        assert found.waiting == pytest.approx(76, abs=1)

    def test_the_wall_is_the_slots_or_what_the_kv_cache_holds(self) -> None:
        twin = twin_of(levels_of())
        held = 512 + 64 * 1.16 + 8
        by_kv = band(twin.wall(Asked(kv_tokens=20 * held)))
        assert by_kv.value == pytest.approx(20, rel=0.02)
        assert by_kv.high / by_kv.value == pytest.approx(1.10)
        assert band(twin.wall(Asked(slots=20))).high == pytest.approx(20, rel=0.02)
        assert band(twin.wall(Asked(slots=200))).value == 200, "users at a wall need no step time"
        assert at(twin, 10, Asked(kv_tokens=20 * held)).kv_usage == pytest.approx(0.5, rel=0.03)

    def test_prompts_that_fill_the_token_budget_are_a_wall_as_well(self) -> None:
        tight = replace(KNOWN, budget_tokens=256)
        twin = twin_of(levels_of(known=tight), tight)
        most = 127 * 256 / (512 + 127)
        for users in (64, 100):
            true = level(users, tight)
            assert (1 - true.ttft_s / true.e2e_s) * users <= most * 1.02
            assert true.ttft_s > 8 * level(users).ttft_s
            found = at(twin, users)
            assert found.output_tokens_per_s.value == pytest.approx(true.output_tokens_per_s, rel=0.05)
            assert band(found.ttft_p50_s).value == pytest.approx(true.ttft_s, rel=0.2)

    def test_what_the_prefix_cache_holds_is_not_computed(self) -> None:
        cold = level(32)
        half = [replace(one, cached=0.5) for one in levels_of()]
        held = 256 + 64 * 1.16 + 8
        assert band(twin_of(half).wall(Asked(kv_tokens=20 * held))).value == pytest.approx(20, rel=0.02)
        assert at(twin_of(half), 32).tpot_p50_s.value == pytest.approx(cold.tpot_s, rel=0.02)

    def test_a_limit_is_met_up_to_the_users_and_not_by_more(self) -> None:
        twin = twin_of(levels_of())
        for limits, asked in (
            ([("ttft", "p95", 1.0)], Asked(slots=24)),
            ([("ttft", "p50", 0.5), ("tpot", "p95", 0.030)], Asked(slots=24)),
            ([("tpot", "p50", 0.013)], None),
        ):
            found = band(twin.users_at(limits, asked))
            for load, holds in ((found.value, True), (found.value + 1, False)):
                row = at(twin, load, asked)
                seen = [band(getattr(row, f"{metric}_{name}_s")).value <= limit for metric, name, limit in limits]
                assert all(seen) == holds
        assert band(twin.users_at([("ttft", "p50", 1e-4)])).value == 0

    def test_a_ladder_goes_from_one_to_past_the_wall_or_to_the_edge(self) -> None:
        twin = twin_of(proven(False))
        walled, open_ended = twin.curve(Asked(slots=24)), twin.curve()
        assert isinstance(walled, tuple)
        assert isinstance(open_ended, tuple)
        assert walled[0].load == open_ended[0].load == 1
        assert walled[-1].load == pytest.approx(36, abs=1)
        assert walled[-1].waiting > 10
        assert open_ended[-1].load == 64
        chosen = twin.curve(loads=[8, 16, 1000])
        assert isinstance(chosen, tuple)
        assert [row.load for row in chosen] == [8, 16]


class TestBands:
    def test_the_band_is_twice_what_the_left_out_level_misses_by(self) -> None:
        twin = twin_of(proven(False))
        assert 0.08 < twin.off < 0.14
        assert wide(at(twin, 32)) == pytest.approx(2 * twin.off) == twin.band

    def test_every_level_lies_in_the_band_however_bad_the_fit(self) -> None:
        for factor in (0.85, 0.9, 1.1, 1.15):
            levels = levels_of((2, 4, 8, 16, 32))
            levels[2] = slower(levels[2], factor)
            twin = twin_of(levels)
            for one in levels:
                found = at(twin, one.load)
                assert found.tpot_p50_s.low <= one.tpot_s <= found.tpot_p50_s.high
                assert found.output_tokens_per_s.low <= one.output_tokens_per_s <= found.output_tokens_per_s.high

    def test_and_never_less_than_a_tenth(self) -> None:
        twin = twin_of(proven(True))
        assert twin.off < 0.03
        assert wide(at(twin, 32)) == pytest.approx(0.10)

    def test_up_to_four_times_the_measured_is_told_with_a_wider_band_where_a_level_left_out_proves_it(self) -> None:
        twin = twin_of(proven(True))
        assert wide(at(twin, 64)) == pytest.approx(0.10)
        assert wide(at(twin, 66)) == pytest.approx(0.20)
        assert "more than 4 times the 32" in reason(twin.at(130))
        assert "more than twice the 32" in reason(twin_of(proven(False)).at(66))

    @pytest.mark.parametrize(("factor", "far"), [(1.03, True), (1.08, False)])
    def test_proof_is_a_miss_of_at_most_5_percent(self, factor: float, far: bool) -> None:
        *rest, top = levels_of()
        assert isinstance(twin_of([*rest, slower(top, factor)]).at(100), Foreseen) == far

    @pytest.mark.parametrize(("loads", "proof"), [((20, 25, 32), True), ((21, 26.5, 32), False)])
    def test_no_proof_without_two_loads_well_below_the_busiest(self, loads: tuple[float, ...], proof: bool) -> None:
        assert isinstance(twin_of(levels_of(loads)).at(100), Foreseen) == proof

    @pytest.mark.parametrize(("least", "proof"), [(17, False), (18, True)])
    def test_those_at_half_of_it_come_first(self, least: float, proof: bool) -> None:
        low = [slower(one, 0.9) for one in levels_of((12, least))]
        twin = twin_of([*low, *levels_of((24, 32))])
        assert isinstance(twin.at(100), Foreseen) == proof

    def test_the_time_to_the_first_token_is_less_sure_where_more_run_than_were_measured(self) -> None:
        twin = twin_of(levels_of())
        seen, more = band(at(twin, 32).ttft_p50_s), band(at(twin, 48).ttft_p50_s)
        assert seen.high / seen.value == pytest.approx(1.10, abs=0.02)
        assert more.high / more.value == pytest.approx(1.0 + FIRST_BAND) == 1.35

    def test_it_is_less_sure_between_the_lengths_that_were_measured_as_well(self) -> None:
        twin = twin_of([*levels_of(), level(4, prompt=2048), level(16, prompt=2048)])
        for prompt, wide_one in ((512, False), (1000, True), (2048, False)):
            found = band(at(twin, 8, Asked(prompt_tokens=prompt)).ttft_p50_s)
            assert (found.high > 1.3 * found.value) == wide_one

    def test_requests_per_second_come_by_chance(self) -> None:
        known = replace(KNOWN, axis="rate")
        found = at(twin_of(levels_of((2, 8, 16), known), known), 12)
        assert found.output_tokens_per_s.high == pytest.approx(1.1 * found.output_tokens_per_s.value)
        assert found.requests_per_s.low == pytest.approx(found.requests_per_s.value / 1.1)

    @pytest.mark.parametrize(("cv", "in_step"), [(0.0, True), (0.15, True), (0.25, False)])
    def test_users_whose_answers_are_alike_may_march_in_step(self, cv: float, in_step: bool) -> None:
        twin = twin_of(levels_of(), replace(KNOWN, output_cv=cv))
        near, far = (band(at(twin, users).ttft_p50_s) for users in (60, 120))
        assert (near.high > 1.6 * near.value) == in_step
        assert (far.high > 4.0 * far.value) == in_step

    def test_what_a_kv_cache_holds_sways_and_slots_do_not(self) -> None:
        twin, held = twin_of(levels_of()), 512 + 64 * 1.16 + 8
        slots, kv = Asked(slots=24), Asked(kv_tokens=24.4 * held)
        by_slots, by_kv = at(twin, 23, slots), at(twin, 23, kv)
        assert band(by_slots.ttft_p95_s).value < 0.1 < 0.3 < band(by_kv.ttft_p95_s).value
        assert band(by_kv.ttft_p50_s).high > 2 * band(by_kv.ttft_p50_s).value, "it may hold a tenth less"
        limit = [("ttft", "p95", 0.5)]
        sure, unsure = band(twin.users_at(limit, slots)), band(twin.users_at(limit, kv))
        assert unsure.value < sure.value
        assert unsure.high - unsure.low > sure.high - sure.low


class TestOutside:
    @pytest.mark.parametrize("load", [0, -1, inf, float("nan")])
    def test_no_load(self, load: float) -> None:
        assert "is no load" in reason(twin_of(levels_of()).at(load))

    def test_more_at_once_than_twice_what_was_measured(self) -> None:
        twin = twin_of(proven(False))
        assert isinstance(twin.at(64), Foreseen)
        found = twin.at(200)
        assert reason(found) == "200 running is more than twice the 32 that were measured"
        assert isinstance(found, Outside)
        assert found.try_this == "hold 100 users for 10 s"
        assert at(twin, 200, Asked(slots=64)).waiting > 130, "more users only queue"

    def test_slots_that_have_to_be_raised_first_are_said(self) -> None:
        found = twin_of(proven(False), replace(KNOWN, slots=48)).at(200, Asked(slots=192))
        assert isinstance(found, Outside)
        assert found.try_this == "set max_num_seqs to 96 and hold 96 users for 10 s"

    def test_a_length_that_was_not_measured(self) -> None:
        twin = twin_of(levels_of())
        for asked, tokens in ((Asked(prompt_tokens=2048), 2048), (Asked(prompt_tokens=300), 300)):
            for found in (twin.at(8, asked), twin.curve(asked), twin.wall(asked), twin.users_at([], asked)):
                assert reason(found) == f"prompt of {tokens} tokens lies outside of what was measured (512)"
                assert isinstance(found, Outside)
                assert found.try_this == f"drag prompt to {tokens} for 10 s"
        assert "output of 256 tokens" in reason(twin.at(8, Asked(output_tokens=256)))

    @pytest.mark.parametrize(("tokens", "inside"), [(490, True), (536, True), (480, False), (545, False)])
    def test_a_length_may_lie_5_percent_beyond(self, tokens: float, inside: bool) -> None:
        assert isinstance(twin_of(levels_of()).at(8, Asked(prompt_tokens=tokens)), Foreseen) == inside

    @pytest.mark.parametrize(("other", "inside"), [(600, True), (680, False)])
    def test_means_that_differ_by_a_quarter_are_two_lengths(self, other: float, inside: bool) -> None:
        twin = twin_of([*levels_of(), level(8, prompt=other)])
        assert isinstance(twin.at(8, Asked(prompt_tokens=other)), Foreseen) == inside, "one load tells nothing"

    def test_a_length_counts_with_two_loads(self) -> None:
        once = [*levels_of(), level(8, prompt=2048)]
        assert "outside of what was measured (512)" in reason(twin_of(once).at(8, Asked(prompt_tokens=1024)))
        twice = twin_of([*once, level(16, prompt=2048)])
        assert isinstance(twice.at(8, Asked(prompt_tokens=1024)), Foreseen)
        assert "(512 to 2048)" in reason(twice.at(8, Asked(prompt_tokens=4096)))
        each = twin_of([level(load, prompt=prompt) for load, prompt in ((4, 512), (12, 1024), (32, 2048))])
        assert reason(each.at(8)) == "no prompt length was measured with two loads"

    def test_longer_requests_fill_the_box_sooner(self) -> None:
        *short, top = levels_of()
        twin = twin_of([*short, slower(top, 1.12), level(4, prompt=2048), level(8, prompt=2048)])
        assert isinstance(twin.at(60, Asked(prompt_tokens=512)), Foreseen)
        assert isinstance(twin.at(60, Asked(prompt_tokens=2048)), Outside)

    def test_a_kv_cache_of_which_nothing_is_known(self) -> None:
        twin = twin_of(levels_of(), replace(KNOWN, kv_tokens=None))
        assert "KV cache is not known" in reason(twin.at(8, Asked(kv_tokens=20_000)))

    def test_settings_with_which_nothing_runs(self) -> None:
        twin = twin_of(levels_of())
        for slots in (0, -4):
            assert reason(twin.at(8, Asked(slots=slots))) == "without slots nothing runs"
        for tokens in (0.0, -1.0, 600.0, float("nan")):
            assert "holds no request of 640" in reason(twin.at(8, Asked(kv_tokens=tokens)))
        assert isinstance(twin.at(8, Asked(kv_tokens=700.0)), Foreseen)

    def test_a_wall_of_which_nothing_is_known(self) -> None:
        twin = twin_of(levels_of(), replace(KNOWN, kv_tokens=None, slots=None))
        assert "neither slots nor KV cache" in reason(twin.wall())
        assert at(twin, 16).assumed is None
        assert at(twin, 48).assumed == "if slots and KV cache suffice, which are not known"
        assert at(twin, 48, Asked(slots=60)).assumed == "if the KV cache suffices, whose size is not known"
        assert at(twin_of(levels_of(), replace(KNOWN, slots=None)), 48).assumed == (
            "if the slots suffice, of which the number is not known"
        )
        assert at(twin_of(levels_of()), 48).assumed is None

    def test_a_wall_in_requests_per_second_needs_a_step_time(self) -> None:
        known = replace(KNOWN, axis="rate", slots=512, kv_tokens=None)
        found = twin_of(levels_of((2, 4, 8), known), known).wall()
        assert "more than" in reason(found)
        assert isinstance(found, Outside)
        assert "set" not in found.try_this
        assert "requests/s for 10 s" in found.try_this

    def test_of_a_queue_fewer_may_be_right_and_fewer_still_where_answers_differ(self) -> None:
        assert fewer_may_wait(4.0, 0.2) == pytest.approx(1.8)
        assert fewer_may_wait(4.0, 1.0) == pytest.approx(6.0)
        assert fewer_may_wait(-1.0, 1.0) == 0.0
        found = [
            twin_of(levels_of(), replace(KNOWN, output_cv=cv)).users_at([("ttft", "p95", 2.0)], Asked(slots=16))
            for cv in (0.3, 1.0)
        ]
        assert all(isinstance(each, Interval) and 16.0 <= each.low < each.value for each in found)
        assert found[1].low < found[0].low  # type: ignore[union-attr]

    def test_limits_that_hold_as_far_as_is_seen(self) -> None:
        twin = twin_of(proven(False))
        assert reason(twin.users_at([("tpot", "p50", 1.0)])) == "the limits hold as far as is foreseen: at 64 users"
        known = replace(KNOWN, axis="rate", slots=48)
        rates = twin_of(levels_of((4, 8, 16, 24), known), known)
        assert rates.users_at([("tpot", "p50", 1.0)]) == rates.wall(), "past the wall the wait has no end"

    def test_a_limit_on_what_is_not_foreseen(self) -> None:
        twin = twin_of(levels_of())
        assert reason(twin.users_at([("ttft", "p99", 1.0)])) == "p99 of ttft is not foreseen"
        assert reason(twin.users_at([("e2e", "p50", 1.0)])) == "p50 of e2e is not foreseen"

    def test_a_server_that_speculates(self) -> None:
        assert "speculates" in reason(fit(levels_of(), replace(KNOWN, speculates=True)))

    def test_fewer_than_three_loads(self) -> None:
        assert reason(fit([], KNOWN)) == "no load was measured, a fit takes 3"
        assert reason(fit(levels_of((8,)), KNOWN)) == "one number of requests at once was measured, a fit takes 3"
        assert reason(fit(levels_of((8, 16)), KNOWN)) == "2 numbers of requests at once were measured, a fit takes 3"
        assert isinstance(fit(levels_of((8, 16, 32)), KNOWN), Twin)

    def test_two_lengths_with_two_loads_each_are_enough(self) -> None:
        levels = [level(load, prompt=prompt) for prompt in (512, 2048) for load in (4, 16)]
        twin = twin_of(levels)
        true = level(12, prompt=1024)
        found = at(twin, 12, Asked(prompt_tokens=1024))
        assert found.tpot_p50_s.value == pytest.approx(true.tpot_s, rel=0.05)
        assert found.output_tokens_per_s.value == pytest.approx(true.output_tokens_per_s, rel=0.05)
        flat = [level(8, prompt=prompt) for prompt in (512, 1024, 2048)]
        assert "one number of requests at once was measured" in reason(fit(flat, KNOWN))

    @pytest.mark.parametrize(("third", "enough"), [(17, False), (20, True)])
    def test_loads_close_together_are_one(self, third: float, enough: bool) -> None:
        assert isinstance(fit(levels_of((8, 16, third)), KNOWN), Twin) == enough

    def test_levels_past_the_wall_are_one_load(self) -> None:
        queued = [level(load, slots=16) for load in (32, 64, 128)]
        behind = fit([level(8, slots=16), *queued], replace(KNOWN, slots=16))
        assert isinstance(behind, Outside)
        assert behind.reason == (
            "2 numbers of requests at once were measured, a fit takes 3: "
            "users who wait behind the slots or a gate of 16 add none"
        )
        assert behind.try_this == "hold 1 more load below 16 at once, unlike those that were held, for 10 s"
        assert "one number of requests at once was measured" in reason(fit(queued, replace(KNOWN, slots=16)))

    @pytest.mark.parametrize(("factor", "explained"), [(1.3, True), (1.8, False)])
    def test_figures_that_no_step_time_explains(self, factor: float, explained: bool) -> None:
        first, second, *rest = levels_of((4, 8, 16, 24, 32))
        found = fit([first, slower(second, factor), *rest], KNOWN)
        assert isinstance(found, Twin) if explained else "contradict each other" in reason(found)

    @pytest.mark.parametrize(("factor", "foretold"), [(1.2, True), (1.35, False)])
    def test_a_busiest_level_that_the_others_do_not_foretell(self, factor: float, foretold: bool) -> None:
        *rest, top = levels_of()
        found = fit([*rest, slower(top, factor)], KNOWN)
        assert isinstance(found, Twin) if foretold else "foretell the busiest one" in reason(found)
        assert isinstance(found, Twin) or found.try_this == "hold each longer, 20 s and more"

    def test_a_busiest_level_without_two_others_to_foretell_it(self) -> None:
        found = fit([level(4, prompt=512), level(16, prompt=512), level(4, prompt=2048)], KNOWN)
        assert isinstance(found, Outside)
        assert found.reason == "no two others differ enough in what ran at once to foretell the busiest level"
        assert found.try_this.startswith("hold 1 more load that differs")

    @pytest.mark.parametrize("name", ["tpot_s", "ttft_s", "e2e_s", "requests_per_s", "prompt_tokens", "n", "load"])
    @pytest.mark.parametrize("figure", [0.0, inf, float("nan"), -1.0])
    def test_levels_without_figures_are_left_out(self, name: str, figure: float) -> None:
        broken = replace(level(64), **{name: figure})
        assert twin_of([*levels_of(), broken]).curve() == twin_of(levels_of()).curve()
        assert isinstance(fit([broken] * 3, KNOWN), Outside)


class TestWhatLevelsShow:
    def test_slots_are_where_more_load_is_given_no_more_tokens(self) -> None:
        unknown = replace(KNOWN, slots=None, kv_tokens=None)
        for shown in (None, 24.0):
            queued = [replace(level(load, slots=24), slots=None, running=shown) for load in (32, 64)]
            twin = twin_of([*levels_of((4, 8, 16)), *queued], unknown)
            assert band(twin.wall()).value == pytest.approx(24, rel=0.06)
            assert band(at(twin, 64).ttft_p50_s).value == pytest.approx(queued[1].ttft_s, rel=0.06)

    @pytest.mark.parametrize(("usage", "told"), [(0.35, True), (0.25, False)])
    def test_a_kv_cache_a_third_full_tells_its_size(self, usage: float, told: bool) -> None:
        held = 512 + 64 * 1.16 + 8
        *rest, top = levels_of()
        twin = twin_of([*rest, replace(top, kv_usage=usage)], replace(KNOWN, kv_tokens=None))
        assert twin.known.kv_tokens == (pytest.approx(32 * held / usage) if told else None)

    @pytest.mark.parametrize(("usage", "queued"), [(0.98, True), (0.96, False)])
    def test_a_full_kv_cache_makes_requests_wait(self, usage: float, queued: bool) -> None:
        assert ready([replace(level(30), kv_usage=usage)], KNOWN)[0].queued == queued

    @pytest.mark.parametrize(("over", "queued"), [(1.15, True), (1.05, False)])
    def test_more_users_than_the_kv_cache_may_hold_wait(self, over: float, queued: bool) -> None:
        held = 512 + 64 * 1.16 + 8
        known = replace(KNOWN, kv_tokens=32 / over * held + 256)
        assert ready([level(32)], known)[0].queued == queued

    @pytest.mark.parametrize(
        ("more", "tokens", "queued"), [(1.25, 1.02, True), (1.15, 1.02, False), (1.25, 1.08, False)]
    )
    def test_a_load_more_by_a_fifth_that_is_given_no_more_tokens_waits(
        self, more: float, tokens: float, queued: bool
    ) -> None:
        low = replace(level(20), ttft_s=0.5, tpot_s=0.01, e2e_s=1.77, requests_per_s=20 / 1.77)
        e2e_s = 1.77 * more / tokens
        high = replace(low, load=20 * more, ttft_s=e2e_s - 1.27, e2e_s=e2e_s, requests_per_s=20 * more / e2e_s)
        assert ready([low, high], replace(KNOWN, slots=None))[1].queued == queued

    @pytest.mark.parametrize(("later", "queued"), [(2.6, True), (2.4, False)])
    def test_first_tokens_that_come_much_later_wait(self, later: float, queued: bool) -> None:
        first, second = level(16), level(24)
        late_s = later * 1.5 * first.ttft_s
        late = replace(second, ttft_s=late_s, e2e_s=late_s + 127 * second.tpot_s)
        late = replace(late, requests_per_s=24 / late.e2e_s)
        assert ready([first, late], replace(KNOWN, slots=None))[1].queued == queued

    def test_a_rate_that_is_offered_and_one_that_is_answered_differ_by_what_clients_do(self) -> None:
        known = replace(KNOWN, axis="rate")
        levels = [replace(one, load=1.06 * one.load) for one in levels_of((2, 8, 20, 28), known)]
        twin = twin_of(levels, known)
        for one in levels:
            found = at(twin, one.load)
            assert found.requests_per_s.value == pytest.approx(one.requests_per_s, rel=0.01)
            assert found.tpot_p50_s.value == pytest.approx(one.tpot_s, rel=0.02)

    def test_users_who_march_in_step_are_seen_by_their_first_tokens(self) -> None:
        alike = replace(KNOWN, prompt_cv=0.0, output_cv=0.0)
        marching = []
        for one in levels_of((1, 2, 4, 8, 16), alike):
            ttft_s = 0.03 + 0.015 * (one.load - 1)
            e2e_s = ttft_s + 127 * one.tpot_s
            rate = one.load / e2e_s
            marching.append(
                replace(one, ttft_s=ttft_s, e2e_s=e2e_s, requests_per_s=rate, output_tokens_per_s=128 * rate)
            )
        twin = twin_of(marching, alike)
        assert band(at(twin, 32).ttft_p50_s).value == pytest.approx(0.03 + 0.015 * 31, rel=0.25)

    @pytest.mark.parametrize(("pause", "users"), [(0.1, 32), (0.3, 32 * 0.7)])
    def test_of_users_who_think_those_in_flight_count(self, pause: float, users: float) -> None:
        *rest, top = levels_of()
        thinking = replace(top, requests_per_s=(1 - pause) * top.requests_per_s)
        twin = fit([*rest, thinking], KNOWN)
        assert isinstance(twin, Twin)
        assert twin.measured == pytest.approx(users, rel=0.02)


@pytest.mark.parametrize("others", [0.0, 1e-300, 1e-17, 1e-9])
def test_a_request_with_hardly_another_beside_it_has_the_steps_of_one_that_is_alone(others: float) -> None:
    with_budget, without = (replace(CARD, budget=budget) for budget in (CARD.budget, inf))
    alone = CARD.seconds(Work(others=0.0, prompt=192.0, context=224.0, output=64.0))
    for steps in (with_budget, without):
        beside = steps.seconds(Work(others=others, prompt=192.0, context=224.0, output=64.0))
        assert beside == pytest.approx(alone, rel=1e-6)


def figures(answer: object) -> list[float]:
    """Every number of an answer."""
    if isinstance(answer, Interval):
        assert 0 <= answer.low <= answer.value * (1 + 1e-9) <= answer.high * (1 + 2e-9)
        return [answer.low, answer.value, answer.high]
    if isinstance(answer, Foreseen):
        return [number for field in fields(answer) for number in figures(getattr(answer, field.name))]
    if isinstance(answer, tuple):
        return [number for each in answer for number in figures(each)]
    return [answer] if isinstance(answer, float) else []


def test_whatever_is_measured_and_asked_gives_numbers_or_a_reason() -> None:
    chance = random.Random(2)

    def between(low: float, high: float) -> float:
        return low * (high / low) ** chance.random()

    twins = 0
    for _ in range(12):
        prompt, output, base = between(1, 2e4), between(2, 4e3), between(1e-3, 0.2)
        slope = between(1e-6, base)
        levels = []
        for users in sorted(between(0.1, 500) for _ in range(chance.randint(1, 6))):
            tpot_s, ttft_s = (base + slope * users) * between(0.9, 1.1), between(1e-3, 1.0)
            e2e_s = ttft_s + (output - 1) * tpot_s
            rate = users / e2e_s * between(0.7, 1.3)
            levels.append(
                Measured(
                    load=users,
                    n=chance.randint(1, 1000),
                    prompt_tokens=prompt,
                    output_tokens=output,
                    tpot_s=tpot_s,
                    ttft_s=ttft_s,
                    e2e_s=e2e_s,
                    requests_per_s=rate,
                    output_tokens_per_s=rate * output,
                    running=chance.choice((None, 0.0, users)),
                    kv_usage=chance.choice((None, 0.0, 0.5, 1.0)),
                    cached=chance.choice((0.0, 1.0)),
                    slots=chance.choice((None, None, 16)),
                )
            )
        known = Known(
            slots=chance.choice((None, 1, 256)),
            kv_tokens=chance.choice((None, 10.0, 1e6)),
            budget_tokens=chance.choice((None, 1, 8192)),
            output_cv=chance.choice((0.0, 5.0)),
            axis=chance.choice(("concurrency", "rate")),
        )
        twin = fit(levels, known)
        if isinstance(twin, Outside):
            assert twin.reason
            assert twin.try_this
            continue
        twins += 1
        for asked in (Asked(), Asked(slots=5)):
            limits = [("ttft", "p95", between(1e-3, 10)), ("tpot", "p50", between(1e-3, 1))]
            answers = (twin.at(between(1e-2, 1e4), asked), twin.wall(asked), twin.users_at(limits, asked))
            assert not any(isnan(number) for number in figures(answers))
    assert twins >= 2
