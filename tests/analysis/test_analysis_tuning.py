"""The plan of a tune: what it tries, in which order, for how many restarts, and what it says of it."""

from __future__ import annotations

import math

import pytest

from llmtop.analysis import race, serving, steady, tuning, window
from llmtop.analysis.race import Raced
from llmtop.analysis.serving import Seen, carried, tokens_at
from llmtop.analysis.tuning import Outcome, Task, Tuning, candidates
from llmtop.domain import tuning as words
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import parse_slo
from llmtop.domain.tuning import Carried, Tune, named
from llmtop.errors import UsageError

SLO = parse_slo("ttft_p95<2s,tpot_p95<50ms")
SIX = [("max_num_seqs", ("4", "8", "16", "32", "64", "128"))]


def seen(load: int, gate: int | None = None, *, rate: float = 10.0, ttft: float = 0.2, tpot: float = 0.03) -> Seen:
    """A level that was measured for long."""
    return Seen(load, gate, 64.0, rate, 100 * rate, (("ttft_p95", ttft), ("tpot_p95", tpot)), 6400)


# ── What a server would carry with fewer slots ────────────────────────────────────────────────────────────────────────


def test_users_are_the_slots_and_those_who_wait_until_the_limit() -> None:
    found = carried(16, [seen(16)], SLO, 1024)
    assert found is not None
    assert found.value == pytest.approx(16 + 10 * (2 - 0.2) / 1.15)
    assert found.low < found.value < found.high


def test_a_level_nearer_to_the_limit_says_more_than_the_ramp() -> None:
    found = carried(16, [seen(16), seen(30, 16, ttft=1.9)], SLO, 1024)
    assert found is not None
    assert found.value == pytest.approx(31, abs=0.5)


def test_where_tokens_come_too_slowly_slots_above_the_edge_carry_no_more() -> None:
    levels = [seen(16), seen(32, tpot=0.04), seen(64, tpot=0.08)]
    found = carried(64, levels, SLO, 1024)
    assert found is not None
    assert found.value == pytest.approx(40)
    assert found.high <= 64
    assert carried(128, levels, SLO, 1024) == carried(64, levels, SLO, 1024)


def test_slots_that_nothing_was_measured_with_are_not_known() -> None:
    assert carried(8, [seen(16)], SLO, 1024) is None
    assert tokens_at(40, 8, [seen(16)]) is None


def test_no_more_users_are_said_than_may_be_driven() -> None:
    found = carried(16, [seen(16)], SLO, 20)
    assert found is not None
    assert found.value == found.high == 20


def test_without_a_limit_on_the_wait_users_are_as_many_as_may_be_driven() -> None:
    found = carried(16, [seen(16)], parse_slo("tpot_p95<50ms"), 100)
    assert found is not None
    assert found.value == 100


def test_a_level_without_a_figure_says_nothing_of_the_wait() -> None:
    blind = Seen(16, None, 2.0, 10.0, 1000.0, (("tpot_p95", 0.03),), 32)
    assert carried(16, [blind], SLO, 1024) is None


def test_a_level_at_which_requests_fail_holds_nobody() -> None:
    broken = Seen(8, None, 2.0, 0.0, 0.0, (), 0, errors=9, broken=True)
    found = carried(8, [broken], SLO, 1024)
    assert found is not None
    assert found.value == 0
    assert math.isfinite(found.high)


# ── Candidates ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_combination_is_a_candidate_and_the_first_values_come_first() -> None:
    found = candidates([("parallel", ("8", "4")), ("kv_cache_dtype", ("auto", "fp8"))])
    assert [each.name for each in found] == [
        "parallel=8 kv_cache_dtype=auto",
        "parallel=8 kv_cache_dtype=fp8",
        "parallel=4 kv_cache_dtype=auto",
        "parallel=4 kv_cache_dtype=fp8",
    ]
    assert [each.slots for each in found] == [8, 8, 4, 4]


@pytest.mark.parametrize(
    ("tries", "said"),
    [
        ([("max_num_seqs", ("4", "x"))], "whole numbers"),
        ([("max_num_seqs", ("0", "4"))], "whole numbers"),
        ([("max_num_seqs", ("4", "4"))], "each value once"),
        ([("a", ("1",)), ("a", ("2",))], "named twice"),
        ([("parallel", ("1",)), ("slots", ("2",))], "the same setting"),
        ([("a", tuple(map(str, range(65))))], "64 are the most"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(tries: list[tuple[str, tuple[str, ...]]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        candidates(tries)


# ── The order ─────────────────────────────────────────────────────────────────────────────────────────────────────────

USERS = {4: 9, 8: 18, 16: 31, 32: 51, 64: 35, 128: 35}


def raced(slots: tuple[int, ...], users: dict[int, int] | None = None) -> Outcome:
    table = USERS if users is None else users
    told = tuple((each, Carried(table[each], 0.97 * table[each], 1.03 * table[each])) for each in slots)
    tokens = tuple((each, Carried(10.0 * each, 9.9 * each, 10.1 * each)) for each in slots)
    return Outcome(raced=Raced((), told, tokens), point=LoadPoint(concurrency=50), tokens_per_s=700.0, restarts=1)


def searched(users: float, restarts: int = 1) -> Outcome:
    return Outcome(users=Carried(users, users - 3, users + 4), tokens_per_s=720.0, restarts=restarts)


def play(plan: Tuning, answers: dict[str, Outcome]) -> list[str]:
    """The keys of all tasks, each answered by what begins with its kind and its values."""
    done = []
    while (task := plan.next()) is not None:
        done.append(f"{task.kind} {named(task.values)}")
        assert len(done) < 20
        plan.told(task, _answer(task, answers))
    return done


def _answer(task: Task, answers: dict[str, Outcome]) -> Outcome:
    own = f"{task.kind} {task.values[0][1]}"
    if own in answers:
        return answers[own]
    if task.kind == "race":
        return raced(task.slots)
    if task.kind == "search":
        return searched(USERS[int(dict(task.values)["max_num_seqs"])])
    return Outcome(point=LoadPoint(concurrency=50), tokens_per_s=700.0, restarts=1)


def test_six_numbers_of_slots_take_three_starts() -> None:
    plan = Tuning(candidates(SIX))
    assert plan.most_restarts == 3
    assert play(plan, {}) == ["race max_num_seqs=128", "search max_num_seqs=32", "again max_num_seqs=128"]
    result = plan.result
    assert result.winner == (("max_num_seqs", "32"),)
    assert result.restarts == 3
    assert result.gain == pytest.approx(51 / 9 - 1)
    assert not result.void


def test_a_server_that_runs_already_is_measured_first_and_again_at_the_end() -> None:
    plan = Tuning(candidates(SIX), live=True)
    assert play(plan, {"first 4": Outcome(point=LoadPoint(concurrency=4), tokens_per_s=700.0)}) == [
        "first max_num_seqs=4",
        "race max_num_seqs=128",
        "search max_num_seqs=32",
        "again max_num_seqs=4",
    ]
    assert plan.result.restarts == 3


def test_each_value_of_another_setting_costs_a_start_and_its_slots_are_raced_against_the_best_so_far() -> None:
    plan = Tuning(candidates([("max_num_seqs", ("16", "32")), ("kv_cache_dtype", ("auto", "fp8"))]))
    assert plan.most_restarts == 4
    first = plan.next()
    assert first is not None
    assert first.beat is None
    plan.told(first, raced(first.slots))
    second = plan.next()
    assert second is not None
    assert dict(second.values) == {"max_num_seqs": "32", "kv_cache_dtype": "fp8"}
    assert second.beat == Carried(51, 0.97 * 51, 1.03 * 51)


def test_without_slots_every_candidate_is_searched_and_nothing_more() -> None:
    plan = Tuning(candidates([("kv_cache_dtype", ("auto", "fp8"))]))
    point = LoadPoint(concurrency=40)
    answers = {
        "search auto": Outcome(users=Carried(40, 38, 44), tokens_per_s=700.0, point=point, restarts=1),
        "search fp8": Outcome(users=Carried(44, 42, 47), tokens_per_s=750.0, point=point, restarts=1),
    }
    assert play(plan, answers) == [
        "search kv_cache_dtype=auto",
        "search kv_cache_dtype=fp8",
        "again kv_cache_dtype=auto",
    ]
    assert plan.result.winner == (("kv_cache_dtype", "fp8"),)
    assert plan.result.gain == pytest.approx(0.1)


def test_a_configuration_that_does_not_start_leaves_the_rest_to_the_next_one() -> None:
    plan = Tuning(candidates(SIX))
    done = play(plan, {"race 128": Outcome(problem="exit code 1\n    out of memory", restarts=1)})
    assert done[:2] == ["race max_num_seqs=128", "race max_num_seqs=64"]
    rows = {row.values[0][1]: row for row in plan.result.rows}
    assert rows["128"].how == "failed"
    assert "out of memory" in rows["128"].note
    assert plan.result.winner == (("max_num_seqs", "32"),)


def test_a_winner_that_is_not_applied_is_no_result_and_the_next_best_is_searched() -> None:
    plan = Tuning(candidates(SIX))
    play(plan, {"search 32": Outcome(problem="not applied", applied=False, restarts=1)})
    rows = {row.values[0][1]: row for row in plan.result.rows}
    assert rows["32"].how == "not applied"
    assert rows["32"].users is None
    assert plan.result.winner == (("max_num_seqs", "64"),)


def test_a_search_that_finds_less_than_the_next_best_carries_has_that_searched_too() -> None:
    plan = Tuning(candidates(SIX))
    done = play(plan, {"search 32": searched(20)})
    assert "search max_num_seqs=64" in done
    assert plan.result.winner == (("max_num_seqs", "64"),)


def test_a_gate_says_where_in_a_wide_bracket_and_a_search_is_right_where_they_contradict() -> None:
    gate = Carried(50.0, 49.0, 51.0)
    wide = tuning.both(Carried(42.0, 40.0, 61.0), gate)
    assert 48 < wide.value < 50
    assert (wide.low, wide.high) == (40.0, 61.0)
    assert tuning.both(Carried(51.0, 50.0, 52.0), gate).value == pytest.approx(51, abs=0.2)
    assert tuning.both(Carried(33.0, 32.0, 36.0), gate) == Carried(33.0, 32.0, 36.0)


def test_with_users_the_winner_gives_most_tokens_of_those_that_carry_them() -> None:
    plan = Tuning(candidates(SIX), users=34)
    play(plan, {})
    assert plan.result.winner == (("max_num_seqs", "128"),)
    assert plan.result.holds is True
    short = Tuning(candidates(SIX), users=400)
    play(short, {})
    assert short.result.winner == (("max_num_seqs", "32"),)
    assert short.result.holds is False


def test_a_first_configuration_that_changed_voids_all() -> None:
    plan = Tuning(candidates(SIX))
    play(plan, {"again 128": Outcome(tokens_per_s=700.0 * (1 - words.DRIFT - 0.001), restarts=1)})
    assert plan.result.void
    kept = Tuning(candidates(SIX))
    play(kept, {"again 128": Outcome(tokens_per_s=700.0 * (1 - words.DRIFT + 0.001), restarts=1)})
    assert not kept.result.void


def test_the_best_at_an_end_of_the_list_says_so() -> None:
    plan = Tuning(candidates([("max_num_seqs", ("8", "16", "32"))]))
    play(plan, {})
    assert plan.result.edge == "largest"
    plan = Tuning(candidates([("max_num_seqs", ("32", "64", "128"))]))
    play(plan, {})
    assert plan.result.edge == "smallest"


def test_a_row_of_the_ramp_tells_no_wait_that_its_users_would_not_have() -> None:
    figures = (("ttft_p95", 0.261), ("tpot_p95", 0.022))
    ramp = tuple(serving.Seen(each, None, 4.0, 5.0, 300.0, figures, 60) for each in (8, 16))
    gated = serving.Seen(31, 16, 4.0, 5.0, 300.0, (("ttft_p95", 1.9), ("tpot_p95", 0.03)), 60)
    told = tuple((each, Carried(USERS[each], USERS[each] - 1, USERS[each] + 1)) for each in (8, 16))
    race_of = Raced((*ramp, gated), told, (), dropped=(8,))
    plan = Tuning(candidates([("max_num_seqs", ("8", "16"))]))
    task = plan.next()
    assert task is not None
    plan.told(task, Outcome(raced=race_of, point=LoadPoint(concurrency=16), tokens_per_s=700.0, restarts=1))
    dropped, by_gate = plan.result.rows
    assert (dropped.how, dropped.figures) == ("dropped", (("tpot_p95", 0.022),))
    assert (by_gate.how, dict(by_gate.figures)["ttft_p95"]) == ("by gate", 1.9)


def test_what_was_not_measured_is_in_the_table_and_no_result() -> None:
    result: Tune = Tuning(candidates(SIX)).result
    assert [row.how for row in result.rows] == ["not tried"] * 6
    assert result.winner is None


@pytest.mark.parametrize(
    ("value", "is_now"),
    [
        (words.DRIFT, 0.05),
        (race.RUNGS, (2.0, 4.0, 8.0)),
        (race.RAMP_E2ES, 2.0),
        (race.RAMP_REQUESTS, 20),
        (race.ALONE, 4.0),
        (race.MOST_S, 100.0),
        (race.RIVAL, 0.85),
        (race.LEAP, 4),
        (race.PAST, 1.25),
        (race.SAME, 0.03),
        (serving.NOISE, 0.042),
        (serving.TAIL_NOISE, 0.05),
        (serving.SURE, 2.0),
        (steady.OVER, 1.3),
        (steady.SCRAPES, 4),
        (steady.NEAR, 0.1),
        (steady.AGAIN_E2ES, (4.0, 16.0)),
        (tuning.GATE, 0.06),
        (tuning.MOST_CANDIDATES, 64),
        (window.SETTLE_E2ES, 1.0),
        (window.LEAST_S, 1.5),
        (window.THERE, 0.03),
    ],
)
def test_a_threshold_that_moves_is_noticed(value: object, is_now: object) -> None:
    assert value == is_now


def test_every_run_that_was_driven_is_named_in_its_order() -> None:
    plan = Tuning(candidates(SIX))
    driven = []
    while (task := plan.next()) is not None and len(driven) < 3:
        driven.append((task.key, f"{len(driven)}.llmtop"))
        plan.told(task, Outcome(problem="it died", run_file=driven[-1][1]))
    assert plan.result.runs == tuple(driven)
    assert len(driven) > 1
