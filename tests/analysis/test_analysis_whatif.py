"""What fewer slots give, from one curve: true of the smaller server, and never beside the advice another truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from advising import SERVERS, Server, predicted, ramp, true_capacity
from virtual import VirtualSession

from llmtop.analysis import Level, Limits, assess
from llmtop.analysis.advice import advised
from llmtop.analysis.capacity import capacity_of
from llmtop.analysis.foreseen import Seer, Wish
from llmtop.analysis.grounds import grounds_of_levels
from llmtop.analysis.judge import judge
from llmtop.analysis.service import WAIT_TAIL
from llmtop.analysis.whatif import NEAR, _seen, what_ifs
from llmtop.domain.assessment import Assessment
from llmtop.domain.foresight import WhatIf
from llmtop.domain.load import LoadPoint
from llmtop.domain.slo import Slo, parse_slo
from llmtop.domain.verdicts import Bound, Capacity, CliffVerdict, Diagnosis, Forecast, Kind, Turn
from llmtop.simulator.engine import load_preset

SLO = parse_slo("ttft_p95<2s,tpot_p95<50ms")
LOADS = (4, 8, 16, 24, 32, 48, 72)
PROMPT_S, TOKENS = 0.1, 65
NOTHING = Diagnosis(bound=Bound.NONE)


def levels_of(loads: Sequence[int], *, most: int, gauges: bool = True) -> list[Level]:
    """Levels of a server that runs `most` at once, with TPOT 10 ms + 1 ms for each: 50 ms with 39 of them."""
    found = []
    for load in loads:
        running = min(load, most)
        tpot_s = (10 + running) / 1e3
        slot_s = PROMPT_S + (TOKENS - 1) * tpot_s
        rate = running / slot_s
        wait_s = (load - running) / rate
        near = np.linspace(0.97, 1.03, 40 * load)
        found.append(
            Level(
                float(load),
                ttft_s=wait_s * near + PROMPT_S,
                tpot_s=tpot_s * near,
                e2e_s=wait_s * near + slot_s,
                requests_per_s=rate,
                output_tokens_per_s=TOKENS * rate,
                running=float(running) if gauges else None,
                waiting=float(load - running) if gauges else None,
            )
        )
    return found


def told(
    levels: Sequence[Level], limits: Limits, slo: Slo = SLO, diagnosis: Diagnosis | None = None
) -> tuple[WhatIf, ...]:
    cliff = judge(levels, limits=limits, replicates=0)
    capacity = capacity_of(levels, slo, cliff, limits, None)
    if diagnosis is None:
        diagnosis = advised(Diagnosis(bound=Bound.QUEUE), levels, limits, slo, cliff, capacity, None)
    return what_ifs(levels, limits, slo, "concurrency", cliff, capacity, diagnosis)


def users(slots: int) -> float:
    """At the SLO: the wait, whose tail lies 15 % over its mean, fills what TTFT leaves of 2 s."""
    slot_s = PROMPT_S + (TOKENS - 1) * (10 + slots) / 1e3
    return slots + slots / slot_s * (2.0 - PROMPT_S) / WAIT_TAIL


def test_each_smaller_server_that_a_level_is_near_is_told_with_what_it_carries() -> None:
    rows = told(levels_of(LOADS, most=64), Limits(max_num_seqs=64))
    measured = [row for row in rows if row.slots in LOADS]
    assert [row.slots for row in measured] == [4, 8, 16, 24, 32, 48]
    for row in measured[:5]:
        slot_s = PROMPT_S + (TOKENS - 1) * (10 + row.slots) / 1e3
        assert row.users.low <= users(row.slots) <= row.users.high
        assert row.tpot_p95_ms == pytest.approx((10 + row.slots) * 1.027, rel=0.01)
        assert row.output_tokens_per_s == pytest.approx(TOKENS * row.slots / slot_s, rel=0.01)
    assert measured[5].users.value == pytest.approx(39, rel=0.05), "48 break TPOT, whatever waits"


def test_what_the_advice_lowers_to_is_told_as_the_advice_promises_it() -> None:
    levels, limits = levels_of((*LOADS, 37), most=64), Limits(max_num_seqs=64)
    cliff = judge(levels, limits=limits, replicates=0)
    capacity = capacity_of(levels, SLO, cliff, limits, None)
    advice = advised(Diagnosis(bound=Bound.COMPUTE), levels, limits, SLO, cliff, capacity, None)
    assert advice.prediction is not None
    (turn,) = advice.prediction.turns
    rows = what_ifs(levels, limits, SLO, "concurrency", cliff, capacity, advice)
    (said,) = [row for row in rows if row.text]
    assert said.slots == turn.then
    assert said.users.value == advice.prediction.capacity_then
    assert said.users.low <= said.users.value <= said.users.high
    assert said.worth
    assert said.text.startswith(f"with {turn.then:.0f} slots: about {int(said.users.value)} users at the SLO (")
    assert said.text.endswith("% tokens/s")


def promises(then: float, users: float, now: float = 39.0) -> Diagnosis:
    turn = Turn(knob="slots", now=64.0, then=then)
    return Diagnosis(
        bound=Bound.COMPUTE,
        advice=f"lower --max-num-seqs to about {then:.0f}",
        prediction=Forecast(turns=(turn,), capacity_now=now, capacity_then=users),
    )


@pytest.mark.parametrize(("then", "near"), [(35, True), (36, False), (29, True), (28, False), (26, True)])
def test_of_a_number_that_no_level_is_near_nothing_is_said(then: int, near: bool) -> None:
    """A tenth around 24 and 32; and of another number than the advice's nothing is said either."""
    rows = told(levels_of((4, 8, 16, 24, 32, 72), most=64), Limits(max_num_seqs=64), diagnosis=promises(then, 60.0))
    assert [row.slots for row in rows if row.text] == ([then] if near else [])
    assert near is any(abs(then - row.slots) <= NEAR * row.slots for row in rows if row.slots in LOADS)


def test_where_the_advice_keeps_or_raises_the_slots_fewer_are_no_gain() -> None:
    few = told(levels_of((2, 4, 8, 12, 16, 24, 32), most=16), Limits(max_num_seqs=16))
    (said,) = [row for row in few if row.text]
    assert said.text.startswith("fewer slots carry no more than about ")
    assert ", as it stands: with 12 slots about 2" in said.text
    assert not said.worth
    keep = Diagnosis(
        bound=Bound.QUEUE, advice="keep --max-num-seqs", prediction=Forecast(capacity_now=30, capacity_then=30)
    )
    torn = told(levels_of(LOADS, most=64), Limits(max_num_seqs=64), diagnosis=keep)
    assert not any(row.text for row in torn), "one page has one opinion"


def test_where_nothing_is_advised_the_curve_speaks_for_itself() -> None:
    rows = told(levels_of(LOADS, most=64), Limits(max_num_seqs=64), diagnosis=NOTHING)
    (said,) = [row for row in rows if row.text]
    assert said.slots == 32
    assert said.users_change is not None
    assert said.users_change > 0.2


def test_as_far_as_nothing_breaks_no_gain_is_known() -> None:
    rows = told(levels_of((4, 8, 16), most=64), Limits(max_num_seqs=64), diagnosis=NOTHING)
    assert [row.slots for row in rows] == [4, 8, 16]
    assert all(row.users_change is None and row.tokens_change is None and not row.text for row in rows)


def test_slots_that_are_not_told_are_those_that_run_or_none_up_to_the_highest_load() -> None:
    levels = levels_of((4, 8, 16, 24, 32, 48), most=20)
    assert [row.slots for row in told(levels, Limits(), diagnosis=NOTHING)] == [4, 8, 16]
    free = levels_of((4, 8, 16), most=20)
    assert [row.slots for row in told(free, Limits(), diagnosis=NOTHING)] == [4, 8]
    held = levels_of((4, 8, 16, 24, 32, 48), most=20)
    assert [row.slots for row in told(held, Limits(max_num_seqs=64), diagnosis=NOTHING)] == [4, 8, 16], "a full cache"


def test_a_gate_is_told_as_one() -> None:
    limits = Limits(max_num_seqs=16, gate=16, own_slots=64)
    (said,) = [row for row in told(levels_of((2, 4, 8, 12, 16, 24, 32), most=16), limits) if row.text]
    assert "with a gate of 12 about" in said.text


@pytest.mark.parametrize(
    ("change", "slo"),
    [
        ({"thinking": 0.5}, SLO),
        ({"running": 40.0}, SLO),
        ({"n": 19}, SLO),
        ({"errors": 10_000}, SLO),
        ({}, parse_slo("tpot_p95<50ms")),
    ],
    ids=["users think", "others on the server", "too few requests", "requests fail", "no limit on the wait"],
)
def test_levels_that_are_no_measure_of_the_server_tell_nothing(change: dict[str, float], slo: Slo) -> None:
    levels = levels_of(LOADS, most=64)
    if "n" in change:
        n = int(change.pop("n"))
        cut = {"ttft_s", "tpot_s", "e2e_s"}
        levels = [dataclasses.replace(each, **{name: getattr(each, name)[:n] for name in cut}) for each in levels]
    levels = [dataclasses.replace(each, **change) for each in levels]  # type: ignore[arg-type]
    assert told(levels, Limits(max_num_seqs=64), slo, NOTHING) == ()


@pytest.mark.parametrize(("spread", "roots"), [(0.03, 0.9), (0.9, 3.0 * 0.52)])
def test_of_those_who_wait_so_many_roots_may_fail_and_more_where_answers_differ_in_length(
    spread: float, roots: float
) -> None:
    """Of E2E that lies evenly within 0.9 of its mean the standard deviation is 0.52 of it."""
    levels = [
        dataclasses.replace(each, e2e_s=each.e2e_s.mean() * np.linspace(1 - spread, 1 + spread, each.n))
        for each in levels_of(LOADS, most=64)
    ]
    row = next(row for row in told(levels, Limits(max_num_seqs=64), diagnosis=NOTHING) if row.slots == 24)
    waiting = row.users.value - 24
    assert row.users.value - row.users.low == pytest.approx(roots * waiting**0.5, rel=0.02)


def test_a_tail_of_few_in_flight_is_known_by_how_many_requests_ended() -> None:
    """Forty E2E of 32 in flight are that; of 4 they are 160 requests, as many as ten of 16 in flight."""
    few, many = (_seen(level, 64, SLO).e2es for level in levels_of((4, 32), most=64))
    assert few == pytest.approx(160 / 16)
    assert many == pytest.approx(40.0)


def odd_level(random: np.random.Generator) -> Level:
    """A load with few or many requests, times missing or zero, and gauges that are missing or contradict it."""
    n, load = int(random.choice([0, 20, 60, 200])), float(random.choice([0.4, 1, 2, 7.9, 8, 16, 64, 1000]))

    def column(scale: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        values = random.lognormal(0, random.choice([0, 0.1, 1]), n) * scale * random.choice([0, 1, 1, 1])
        return np.where(random.random(n) < random.choice([0, 0, 0.5]), np.nan, values)

    def maybe(*values: float) -> float | None:
        return None if random.random() < 0.3 else float(random.choice(values))

    return Level(
        load,
        ttft_s=column(0.1),
        tpot_s=column(0.02),
        e2e_s=column(1.0),
        errors=int(random.choice([0, 0, 0, 3])),
        output_tokens_per_s=maybe(0.0, 5.0, 100 * load),
        running=maybe(0.0, load / 2, load, load),
        waiting=maybe(0.0, 1.0, load / 2),
    )


def test_of_odd_levels_figures_are_ordered_and_finite_or_not_told() -> None:
    random, rows = np.random.default_rng(3), 0
    for _ in range(120):
        levels = [odd_level(random) for _ in range(int(random.integers(0, 9)))]
        limits = Limits(max_num_seqs=random.choice([None, 0.0, 1.0, 46.0]), max_concurrency=int(random.choice([1, 64])))
        advice = (
            promises(float(random.choice([0.5, 8, 30])), float(random.choice([0, 50])))
            if random.random() < 0.5
            else NOTHING
        )
        found = what_ifs(levels, limits, SLO, "concurrency", CliffVerdict(kind=Kind.NONE), Capacity(), advice)
        for row in found:
            figures = (row.tpot_p95_ms, row.output_tokens_per_s, row.users_change, row.tokens_change)
            assert row.users.low <= row.users.value <= row.users.high <= limits.max_concurrency
            assert all(figure is None or np.isfinite(figure) for figure in figures)
        assert [row.slots for row in found] == sorted({row.slots for row in found})
        assert sum(bool(row.text) for row in found) <= 1
        rows += len(found)
    assert rows > 20


@pytest.mark.parametrize("bound", [Bound.CLIENT, Bound.NETWORK])
def test_where_the_client_or_the_way_binds_nothing_is_told(bound: Bound) -> None:
    levels, limits = levels_of(LOADS, most=64), Limits(max_num_seqs=64)
    assert told(levels, limits, diagnosis=Diagnosis(bound=bound)) == ()
    by_curve = CliffVerdict(kind=Kind.CLIFF, cause=bound)
    assert what_ifs(levels, limits, SLO, "concurrency", by_curve, Capacity(), NOTHING) == ()
    none = CliffVerdict(kind=Kind.NONE)
    assert what_ifs(levels, limits, SLO, "rate", none, Capacity(), NOTHING) == ()


def test_levels_that_miss_what_held_are_not_believed() -> None:
    levels, limits, none = levels_of(LOADS, most=64), Limits(max_num_seqs=64), CliffVerdict(kind=Kind.NONE)
    for at_slo, known in ((44.0, True), (48.0, False)):
        found = what_ifs(levels, limits, SLO, "concurrency", none, Capacity(at_slo=at_slo), NOTHING)
        assert bool(found) is known


def test_nobody_is_promised_past_the_load_from_which_requests_fail() -> None:
    levels = [dataclasses.replace(each, errors=10_000 * (each.load >= 24)) for each in levels_of(LOADS, most=64)]
    rows = told(levels, Limits(max_num_seqs=64), diagnosis=NOTHING)
    assert [row.slots for row in rows] == [4, 8, 16]
    assert max(row.users.high for row in rows) <= 23
    fault = [dataclasses.replace(each, errors=10_000 * (each.load == 8)) for each in levels_of(LOADS, most=64)]
    assert max(row.users.high for row in told(fault, Limits(max_num_seqs=64), diagnosis=NOTHING)) > 40


def test_the_twin_of_the_same_levels_does_not_contradict_it() -> None:
    """One counts what was measured, the other fits it: their intervals meet wherever both speak."""
    levels = [
        dataclasses.replace(each, prompt_tokens=192.0, output_tokens=float(TOKENS))
        for each in levels_of(LOADS, most=64)
    ]
    grounds, seer = grounds_of_levels(levels, "concurrency", slots=64), Seer()
    rows = [row for row in told(levels, Limits(max_num_seqs=64), diagnosis=NOTHING) if row.slots >= 16]
    assert len(rows) == 4
    for row in rows:
        foreseen = seer.ask(grounds, Wish(settings=(("max_num_seqs", float(row.slots)),)), SLO).users
        assert foreseen is not None
        assert foreseen.low <= row.users.high + 1
        assert row.users.low <= foreseen.high + 1


@pytest.mark.parametrize("void", ["", "late", "fails", "rate"])
def test_void_figures_tell_nothing_of_fewer_slots(void: str) -> None:
    """The client late all the while, all requests failed, and an open loop, whose rate is asked for and not carried."""
    preset = load_preset("laptop").with_knobs({"max_num_seqs": 8})
    loads = (
        [LoadPoint(rate_rps=rate) for rate in (1, 2)] if void == "rate" else [LoadPoint(concurrency=n) for n in (4, 12)]
    )
    session = VirtualSession(preset, loads[0], client=True)
    session.late, session.fails = void == "late", 1.0 if void == "fails" else 0.0
    for point in loads:
        session.command(point)
        session.run_until(session.now_s + 15.0)
    found = assess(session.facts, session.end(SLO), SLO, now_s=session.now_s)
    assert [row.slots for row in found.what_if] == ([] if void else [4])


def server(name: str) -> Server:
    return next(each for each in SERVERS if each.name == name)


def agree_with_truth(server: Server, found: Assessment, least: int) -> tuple[int, int]:
    """(rows whose interval holds what the smaller server carries, all of them from `least` slots on)."""
    rows = [row for row in found.what_if if row.slots >= least]
    held = 0
    for row in rows:
        true = true_capacity(server, {"max_num_seqs": row.slots}, row.users.value)
        held += row.users.low - 1 <= true <= row.users.high + 1
    return held, len(rows)


def test_a_ramp_tells_what_the_simulated_server_carries_with_fewer_slots() -> None:
    tried = server("slots laptop 192/64 M46")
    found = ramp(tried, {})
    assert agree_with_truth(tried, found, 21) == (3, 3)
    said = found.fewer_slots
    assert said is not None
    assert found.diagnosis.prediction is not None
    assert said.users.value == found.diagnosis.prediction.capacity_then
    point = predicted(tried, {"max_num_seqs": said.slots}, said.users.value)
    assert said.output_tokens_per_s == pytest.approx(point.output_tokens_per_s, rel=0.05)
    assert said.tpot_p95_ms == pytest.approx(point.tpot_ms.p95, rel=0.05)


@pytest.mark.faults
@pytest.mark.parametrize(
    "name",
    [
        "slots laptop 192/64 M16",
        "slots laptop 64/32 M12",
        "slots a100-phi-4-mini 512/128 M96",
        "slots h100-llama-3.1-8b 512/128 M128",
        "slots rtx4090-llama-3.1-8b 256/128 M96",
        "slots rtx4090-qwen2.5-7b 256/256 M64",
        "kv laptop 300",
        "mixed laptop 192/64 M16",
    ],
)
def test_on_other_servers_too_what_is_told_of_fewer_slots_is_true(name: str) -> None:
    held, rows = agree_with_truth(server(name), ramp(server(name), {}), 8)
    assert rows >= 1
    assert held == rows
