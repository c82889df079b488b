"""Advice is a prediction: all walls together, the number that carries the most at the SLO, and no number unfounded."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from facts_by_hand import facts_of, record
from msgspec import structs

from llmtop.analysis import Level, Limits
from llmtop.analysis.advice import advised, exhausted
from llmtop.analysis.capacity import capacity_of
from llmtop.analysis.judge import judge, kv_full
from llmtop.analysis.walls import Walls, forecast, walls_of
from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect
from llmtop.domain.request import Outcome
from llmtop.domain.run import Chapter
from llmtop.domain.slo import Slo, SloTarget, parse_slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Diagnosis, Forecast, Kind
from llmtop.wording.advice import turned

SLO = parse_slo("ttft_p95<2s,tpot_p95<50ms")
PROMPT_S, TOKENS = 0.1, 65
KV = {"kv_capacity_tokens": 80 * 200.0, "prompt_tokens": 150.0, "output_tokens": 100.0}


def server(loads: list[int], *, most: int, tpot_ms: float = 1.0, kv: float = 80.0, gauges: bool = True) -> list[Level]:
    """Levels of a server that runs `most` at once, with TPOT 10 ms + `tpot_ms` for each, and `kv` fit its cache."""
    levels = []
    for load in loads:
        running = min(load, most)
        tpot_s = (10 + tpot_ms * running) / 1e3
        slot_s = PROMPT_S + (TOKENS - 1) * tpot_s
        rate = running / slot_s
        wait_s = (load - running) / rate
        near = np.linspace(0.97, 1.03, 80)
        levels.append(
            Level(
                float(load),
                ttft_s=wait_s * near + PROMPT_S,
                tpot_s=tpot_s * near,
                e2e_s=wait_s * near + slot_s,
                requests_per_s=rate,
                running=float(running) if gauges else None,
                waiting=float(load - running) if gauges else None,
                kv_usage=running / kv if gauges else None,
                preemptions=0.0 if gauges else None,
            )
        )
    return levels


def walls(levels: list[Level], limits: Limits, bound: Bound = Bound.QUEUE) -> Walls:
    found = walls_of(levels, limits, SLO, bound=bound)
    assert isinstance(found, Walls)
    return found


def advice(
    levels: list[Level],
    limits: Limits,
    bound: Bound = Bound.QUEUE,
    slo: Slo = SLO,
    dialect: Dialect = Dialect.VLLM,
) -> Diagnosis:
    cliff = judge(levels, limits=limits, replicates=0)
    capacity = capacity_of(levels, slo, cliff, limits, None)
    return advised(Diagnosis(bound=bound), levels, limits, slo, cliff, capacity, dialect)


def true_capacity(most: int, tpot_ms: float = 1.0) -> int:
    """Users at the SLO by trying each."""
    held = 0
    for users in range(1, 300):
        (level,) = server([users], most=most, tpot_ms=tpot_ms)
        if np.quantile(level.ttft_s, 0.95) <= 2.0 and np.quantile(level.tpot_s, 0.95) <= 0.05:
            held = users
    return held


@pytest.mark.parametrize("most", [8, 16, 24, 36])
def test_the_present_capacity_is_that_of_the_server(most: int) -> None:
    found = walls(server([2, 4, 8, 16, 32, 64], most=most), Limits(max_num_seqs=most))
    assert found.carried(found.running).load == pytest.approx(true_capacity(most), abs=1.5)


@pytest.mark.parametrize(("slots", "then"), [(8, 16), (16, 32), (24, 35), (48, 38), (64, 38)])
def test_the_advised_slots_carry_what_is_promised(slots: int, then: int) -> None:
    """TPOT reaches 50 ms at 39: more slots than that lose the queue's users, and fewer lose slots."""
    levels = server([2, 4, 8, 16, 24, 32, 48, 72, 100], most=slots)
    found = forecast(walls(levels, Limits(max_num_seqs=slots)), Limits(max_num_seqs=slots))
    (turn,) = found.turns
    assert (turn.knob, turn.now) == ("slots", slots)
    assert turn.then == pytest.approx(then, abs=1)
    assert found.capacity_then == pytest.approx(true_capacity(int(turn.then)), rel=0.07)
    assert true_capacity(int(turn.then)) > true_capacity(slots)


@pytest.mark.parametrize("bound", [Bound.QUEUE, Bound.COMPUTE, Bound.TOKEN_BUDGET])
@pytest.mark.parametrize("limit_ms", [5, 9, 10, 11, 12])
def test_a_limit_that_not_even_one_request_keeps_is_no_number_of_slots(limit_ms: int, bound: Bound) -> None:
    """One request alone has a TPOT of 11 ms, and none of 10."""
    limits = Limits(max_num_seqs=24, max_num_batched_tokens=2048)
    slo = parse_slo(f"ttft_p95<20s,tpot_mean<{limit_ms}ms")
    found = walls_of(server([1, 2, 3, 4, 6], most=4), limits, slo, bound=bound)
    assert isinstance(found, Walls)
    assert all(turn.then >= 1 for turn in forecast(found, limits).turns)


def test_slots_that_are_right_are_kept_and_the_wall_behind_them_is_named() -> None:
    told = advice(server([2, 4, 8, 16, 32, 48, 64], most=37), Limits(max_num_seqs=37))
    assert told.prediction is not None
    assert told.prediction.turns == ()
    assert str(told.advice) == "keep --max-num-seqs at 37: TTFT binds; for more add a replica"


def test_the_sentence_says_what_the_slots_give_and_what_binds_then() -> None:
    told = advice(server([2, 4, 8, 16, 24, 32, 48, 72], most=24), Limits(max_num_seqs=24))
    assert str(told.advice).startswith("raise --max-num-seqs to about 3")
    assert "concurrent users at the SLO (" in str(told.advice)
    assert str(told.advice).endswith("then TPOT binds; more loses users")
    lower = advice(server([2, 4, 8, 16, 24, 32, 48, 72, 100], most=64), Limits(max_num_seqs=64), Bound.COMPUTE)
    assert str(lower.advice).startswith("lower --max-num-seqs to about 3")


def test_slots_that_stand_empty_are_not_raised() -> None:
    loads = [2, 4, 8, 16, 24, 32, 48]
    told = advice(server(loads, most=16), Limits(max_num_seqs=64))
    assert told.prediction is None
    assert told.advice == "--max-num-seqs gives no more: 16 run at once of 64 slots"
    near = advice(server(loads, most=16), Limits(max_num_seqs=20))
    assert str(near.advice).startswith("raise --max-num-seqs to about 3"), (
        "20 it may be, at so few requests of a length"
    )


def test_what_is_carried_now_is_told_only_where_that_is_no_second_capacity() -> None:
    levels = server([2, 4, 8, 16, 24, 32, 48], most=16)
    cliff = judge(levels, limits=Limits(max_num_seqs=16), replicates=0)
    for measured, told in ((Capacity(low=30, high=34), True), (Capacity(low=33, high=40), False), (Capacity(), True)):
        found = advised(Diagnosis(bound=Bound.QUEUE), levels, Limits(max_num_seqs=16), SLO, cliff, measured, None)
        assert found.prediction is not None
        assert 32 <= found.prediction.capacity_now < 33
        assert ("(~32 now)" in str(found.advice)) is told
    above = advised(Diagnosis(bound=Bound.QUEUE), levels, Limits(), SLO, cliff, Capacity(low=20, high=31), None)
    assert " now)" not in str(above.advice)


def test_beyond_twice_what_was_measured_nothing_is_promised() -> None:
    told = advice(server([2, 4, 8, 16, 24], most=8), Limits(max_num_seqs=8))
    assert told.prediction is not None
    assert [turn.then for turn in told.prediction.turns] == [16.0]
    assert str(told.advice).endswith("then measure again")


def test_the_kv_cache_ends_what_slots_can_give() -> None:
    told = advice(server([2, 4, 8, 16, 24, 32], most=16, kv=22.0), Limits(max_num_seqs=16))
    assert told.prediction is not None
    assert [turn.then for turn in told.prediction.turns] == [20.0], "95 % of 22, in whole requests"
    assert str(told.advice).endswith("then KV cache binds")


def test_a_full_cache_is_halved_and_the_slots_stay_below_tpot() -> None:
    told = advice(server([2, 4, 8, 16, 32, 48, 64], most=24, kv=25.0), Limits(max_num_seqs=64, **KV), Bound.KV)
    assert told.prediction is not None
    kv, slots = told.prediction.turns
    assert (kv.knob, kv.then, slots.knob) == ("kv", 48.0, "slots")
    assert 35 <= slots.then <= 38
    assert "--kv-cache-dtype fp8 and lower --max-num-seqs to about 3" in str(told.advice)
    for other in ("--gpu-memory-utilization", "--max-model-len", "replica"):
        assert other in str(told.advice)


def test_a_token_budget_is_raised_to_what_tpot_bears() -> None:
    limits = Limits(max_num_seqs=256, max_num_batched_tokens=64)
    told = advice(server([2, 4, 8, 16, 32, 48, 64], most=24), limits, Bound.TOKEN_BUDGET)
    assert told.prediction is not None
    (turn,) = told.prediction.turns
    assert turn.knob == "token_budget"
    assert turn.then == pytest.approx(64 * 37 / 24, rel=0.06)
    assert str(told.advice).startswith("raise --max-num-batched-tokens to about ")


def test_the_best_number_is_the_same_however_far_the_load_went() -> None:
    near = advice(server([2, 4, 8, 16, 24, 32, 48], most=24), Limits(max_num_seqs=24)).prediction
    far = advice(server([2, 4, 8, 16, 24, 32, 48, 96, 192], most=24), Limits(max_num_seqs=24)).prediction
    assert near is not None
    assert far is not None
    assert far.turns[0].then == pytest.approx(near.turns[0].then, abs=1)


def test_slots_that_are_not_shown_are_those_that_it_runs() -> None:
    told = advice(server([2, 4, 8, 16, 24, 32, 48], most=16), Limits())
    assert told.prediction is not None
    assert told.prediction.turns[0].now == 16.0
    blind = advice(server([2, 4, 8, 16, 24, 32, 48], most=16, gauges=False), Limits())
    assert blind.prediction is not None
    assert blind.prediction.turns[0].then == pytest.approx(told.prediction.turns[0].then, abs=2)
    unsure = advice(server([8, 16, 24, 48], most=16, gauges=False), Limits())
    assert "it shows no gauges, and no cliff is sure" in str(unsure.advice)


@pytest.mark.parametrize(
    ("loads", "missing"),
    [([32], "how latency grows"), ([30, 32, 34], "measure a level at"), ([], "no level has 10 requests")],
)
def test_without_levels_the_missing_measurement_is_named_and_no_number_is_given(loads: list[int], missing: str) -> None:
    told = advice(server(loads, most=24), Limits(max_num_seqs=24))
    assert told.prediction is None
    assert str(told.advice).startswith("raise --max-num-seqs (how far is not known: ")
    assert missing in str(told.advice)


@pytest.mark.parametrize(
    ("tpot_ms", "start"),
    [
        (0.96, "raise --max-num-seqs (how far is not known: "),
        (1.0, "keep --max-num-seqs: TPOT p95 takes 86.3 % of its limit at 48; for more add a replica"),
        (1.2, "keep --max-num-seqs: TPOT p95 takes 99.4 % of its limit at 48"),
        (1.3, "lower --max-num-seqs (how far is not known: "),
    ],
)
def test_more_slots_are_not_advised_where_decoding_has_no_room_for_them(tpot_ms: float, start: str) -> None:
    """The TPOT p95 of 32 running is 10 ms + 32 times that much, and 2.7 % more."""
    loads = [40, 44, 48]
    assert str(advice(server(loads, most=32, tpot_ms=tpot_ms), Limits(max_num_seqs=32)).advice).startswith(start)
    decoding = parse_slo(f"ttft_p95<9s,e2e_p95<{64 * 49}ms")
    levels = server(loads, most=32, tpot_ms=tpot_ms)
    told = advice(levels, Limits(max_num_seqs=32), slo=decoding)
    assert str(told.advice).startswith(start.replace("TPOT", "E2E").partition(" takes")[0]), "whatever it waits"


def test_slots_that_are_not_told_are_at_least_what_ran() -> None:
    """A full KV cache ends at 60 running what nobody limits; TPOT would end it at 33."""
    levels = server([4, 8, 16, 32, 48, 64, 80], most=60, tpot_ms=1.15, kv=61.0)
    told = advice(levels, Limits(), Bound.KV)
    assert told.prediction is not None
    assert [(turn.knob, turn.now) for turn in told.prediction.turns] == [("slots", None)]
    assert str(told.advice).startswith("lower --max-num-seqs to about 3")
    assert turned("--max-num-seqs", None, 31, 55) == "lower --max-num-seqs to about 31"
    assert turned("--max-num-seqs", None, 55, 55) == "set --max-num-seqs to about 55", "there or below, nobody knows"
    assert turned("--max-num-seqs", 31, 55, 60) == "raise --max-num-seqs to about 55"


def test_walls_that_miss_what_was_measured_are_not_believed() -> None:
    levels = server([2, 4, 8, 16, 24, 32, 48], most=16)
    cliff = judge(levels, limits=Limits(max_num_seqs=16), replicates=0)
    now = walls(levels, Limits(max_num_seqs=16)).carried(16.0).load
    edges = (
        (Capacity(at_slo=1.14 * now), True),
        (Capacity(at_slo=1.16 * now), False),
        (Capacity(fails_at=now / 1.14), True),
        (Capacity(fails_at=now / 1.16), False),
        (Capacity(at_slo=60.0), False),
    )
    for measured, known in edges:
        told = advised(Diagnosis(bound=Bound.QUEUE), levels, Limits(max_num_seqs=16), SLO, cliff, measured, None)
        assert (told.prediction is not None) is known
    assert "the walls give 32 where 60 held" in str(told.advice)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ((2,), "about "),
        ((24, 32, 48), "requests fail from 24 on"),
        ((2, 4, 8, 16, 24, 32, 48), "requests fail at every level"),
    ],
)
def test_failures_are_no_wall_of_latency_but_end_what_is_promised(broken: tuple[int, ...], said: str) -> None:
    """A fault, a gateway that refuses from 24 on, and failures whatever the load."""
    slo = Slo((*SLO.targets, SloTarget("error_ratio", 0.01)))
    levels = [
        dataclasses.replace(each, errors=20 * (each.load in broken))
        for each in server([2, 4, 8, 16, 24, 32, 48], most=16)
    ]
    found = advice(levels, Limits(max_num_seqs=16), slo=slo)
    assert said in str(found.advice)
    assert "the walls give" not in str(found.advice)
    assert (found.prediction is None) is (said != "about ")


def test_an_slo_without_a_latency_gives_no_number() -> None:
    told = advice(server([2, 4, 8, 16, 32], most=8), Limits(max_num_seqs=8), slo=parse_slo("error_ratio<1%"))
    assert "the SLO has no latency limit" in str(told.advice)


@pytest.mark.parametrize("dialect", Dialect)
def test_the_advice_names_the_servers_own_flags(dialect: Dialect) -> None:
    def told(bound: Bound) -> str:
        nothing = CliffVerdict(kind=Kind.INSUFFICIENT)
        return str(advised(Diagnosis(bound=bound), (), Limits(), SLO, nothing, Capacity(), dialect).advice)

    flags = DIALECTS[dialect].advice
    assert told(Bound.QUEUE).startswith(f"raise {flags.more_slots or 'the server'}")
    assert (flags.more_kv or "KV cache") in told(Bound.KV)
    assert (flags.smaller_kv or "fp8") in told(Bound.KV)
    assert (flags.token_budget or "the tokens a step") in told(Bound.TOKEN_BUDGET)
    assert told(Bound.CLIENT) == told(Bound.NETWORK) == "None"


def test_what_slots_divide_is_raised_with_them() -> None:
    """llama.cpp's --parallel divides --ctx-size: more slots alone are shorter contexts."""
    bound = advice(server([2, 4, 8, 16, 32], most=8), Limits(max_num_seqs=8), dialect=Dialect.LLAMACPP)
    assert str(bound.advice).startswith("raise --parallel to about ")
    assert " and --ctx-size in proportion: " in str(bound.advice)
    nothing = CliffVerdict(kind=Kind.INSUFFICIENT)
    for dialect, told in ((Dialect.LLAMACPP, "raise --parallel and --ctx-size in proportion ("), (Dialect.VLLM, "(")):
        said = advised(Diagnosis(bound=Bound.QUEUE), (), Limits(), SLO, nothing, Capacity(), dialect)
        assert told in str(said.advice)
        assert ("in proportion" in str(said.advice)) == (dialect is Dialect.LLAMACPP)


@pytest.mark.parametrize(
    ("full", "others", "bound", "named"),
    [
        (2, 1, Bound.FAILED, True),
        (1, 0, Bound.FAILED, False),
        (2, 2, Bound.FAILED, False),
        (9, 0, Bound.QUEUE, True),
        (9, 0, Bound.REFUSED, False),
        (9, 0, Bound.CLIENT, False),
    ],
)
def test_failures_that_say_that_the_pool_is_full_name_the_kv_cache(
    full: int, others: int, bound: Bound, named: bool
) -> None:
    """llama.cpp with --kv-unified: all slots share one pool, and the streams that find it full break off."""
    broken = record(1.0, outcome=Outcome.STREAM_ERROR)
    told = structs.replace(broken, error="Context size has been exceeded.")
    facts = facts_of(requests=[record(0.0), *[told] * full, *[broken] * others])
    found = exhausted(Diagnosis(bound=bound), facts, Dialect.LLAMACPP)
    assert found.bound is (Bound.KV if named else bound)
    assert found.advice == ("raise --ctx-size, or fewer in flight" if named else None)
    facts.chapters = [Chapter(2.0, "a larger pool", "k")]
    assert exhausted(Diagnosis(bound=bound), facts, Dialect.LLAMACPP).bound is bound


def test_a_flag_that_a_server_has_not_is_not_made_up() -> None:
    nothing = CliffVerdict(kind=Kind.INSUFFICIENT)
    spent = Diagnosis(bound=Bound.TOKEN_BUDGET)
    for dialect, start in ((Dialect.OLLAMA, "Ollama has no flag for the tokens"), (None, "raise the tokens a step")):
        assert str(advised(spent, (), Limits(), SLO, nothing, Capacity(), dialect).advice).startswith(start)


def test_a_cache_of_large_requests_is_full_before_ninety_percent() -> None:
    assert kv_full(Limits()) == 0.9
    assert kv_full(Limits(kv_capacity_tokens=80_000, prompt_tokens=512)) == 0.9
    quarter = Limits(kv_capacity_tokens=6600, prompt_tokens=1536, block_tokens=16)
    assert kv_full(quarter) == pytest.approx(1 - (1536 + 15) / 6600)
    assert kv_full(Limits(kv_capacity_tokens=6600, prompt_tokens=1536, prompt_cv=0.5)) < kv_full(quarter)


def test_what_a_request_holds_counts_blocks_and_longer_answers() -> None:
    assert Limits(**KV).kv_requests == 80.0
    assert Limits(**KV, block_tokens=17).kv_requests == pytest.approx(16000 / 208)
    assert Limits(**KV, output_cv=1.0).kv_requests == pytest.approx(16000 / 250)


def test_a_gain_that_is_not_worth_a_restart_is_no_advice() -> None:
    for slots, worth in ((28, True), (36, False)):
        found = forecast(walls(server([2, 4, 8, 16, 32, 48, 64], most=slots), Limits(max_num_seqs=slots)), Limits())
        assert isinstance(found, Forecast)
        assert bool(found.turns) is worth, found


def test_levels_of_too_few_requests_or_too_close_to_each_other_make_no_line() -> None:
    few = [shortened(level, 9) for level in server([2, 4, 8, 16, 32], most=8)]
    assert walls_of(few, Limits(max_num_seqs=8), SLO) == "no level has 10 requests"
    thin = [shortened(level, 10) for level in server([2, 4, 8], most=8)] + server([16, 32], most=8)
    assert isinstance(walls_of(thin, Limits(max_num_seqs=8), SLO), Walls), "a search stays at low levels for so long"
    close = server([20, 29], most=64)
    assert "how latency grows" in str(walls_of(close, Limits(max_num_seqs=64), SLO))
    assert isinstance(walls_of(server([20, 30], most=64), Limits(max_num_seqs=64), SLO), Walls)


def test_a_plateau_near_the_slots_is_that_of_the_slots() -> None:
    """Requests of one length end together, and their slots stand empty for a moment: running reads a little low."""
    levels = server([2, 4, 8, 16, 24, 32, 48], most=16)
    assert walls(levels, Limits(max_num_seqs=20)).slots == 20
    assert walls(levels, Limits(max_num_seqs=21)).slots == 16


def shortened(level: Level, n: int) -> Level:
    """The level with its first `n` requests only."""
    return dataclasses.replace(level, ttft_s=level.ttft_s[:n], tpot_s=level.tpot_s[:n], e2e_s=level.e2e_s[:n])
