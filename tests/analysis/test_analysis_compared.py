"""What a turned knob did to the capacity is said only as far as it was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_analysis_ledger import drive, laptop
from virtual import VirtualSession

from llmtop.analysis import assess
from llmtop.analysis.compared import gain_of
from llmtop.domain.assessment import Assessment
from llmtop.domain.gain import Comparison, Gain
from llmtop.domain.slo import parse_slo
from llmtop.domain.verdicts import Capacity
from llmtop.wording.chapters import LENGTHS, SHARED, START, TOLD, changed_text, compared_text

CLIMB = ((8, 8), (16, 10), (24, 10), (36, 12), (48, 14), (64, 16))
SLO = parse_slo("ttft_p95<2s,tpot_p95<60ms")


def after(*slots: int, climb: tuple[tuple[int, int], ...] = CLIMB, limits: bool = True) -> Comparison | None:
    session = drive(laptop(4, limits=limits), *CLIMB)
    for count in slots:
        session.turn(max_num_seqs=count)
        drive(session, *climb)
    return judged(session).compared


def judged(session: VirtualSession) -> Assessment:
    return assess(session.facts, session.meta, SLO, now_s=session.now_s)


def test_of_one_configuration_nothing_is_compared() -> None:
    assert after() is None


@pytest.mark.parametrize("limits", [True, False])
def test_fewer_slots_are_said_to_carry_fewer_users_whether_the_server_tells_them_or_not(limits: bool) -> None:
    found = after(12, limits=limits, climb=((4, 10), (8, 12), (16, 14), (24, 14), (36, 14)))
    assert found is not None
    assert found.gain is Gain.FEWER
    assert found.before is not None
    assert found.after is not None
    assert found.after < found.before
    told = "max_num_seqs 32 → 12: " if limits else "max_num_seqs=12: "
    assert found.text.startswith(told)
    assert f"{found.before:g} → {found.after:g} concurrent users at the SLO" in found.text
    assert found.text.endswith("binds now")


def test_a_server_that_was_only_started_again_is_no_other() -> None:
    session = drive(laptop(4), *CLIMB)
    session.restart()
    drive(session, (24, 12))
    assert judged(session).compared is None


def test_turned_back_it_is_compared_with_what_was_between() -> None:
    found = after(12, 32)
    assert found is not None
    assert found.gain is Gain.MORE
    assert found.changed == "max_num_seqs 12 → 32"


def test_before_anything_is_measured_it_says_how_far_to_drive() -> None:
    session = drive(laptop(4), *CLIMB)
    session.turn(max_num_seqs=12)
    found = judged(session).compared
    assert found is not None
    assert (found.gain, found.after) == (Gain.OPEN, None)
    assert found.text.endswith(f"drive to {found.before:g} to compare")


def capacity(low: float | None, at: float | None, fails: float | None, high: float | None) -> Capacity:
    return Capacity(at_slo=at, fails_at=fails, low=low, high=high, limited_by="TPOT p95 SLO")


BEFORE = capacity(46, 49, 52, 53)


@pytest.mark.parametrize(
    ("before", "now", "gain", "said"),
    [
        (BEFORE, capacity(33, 36, 40, 41), Gain.FEWER, "49 → 36 users, TPOT p95 binds now"),
        (BEFORE, capacity(54, 60, 66, 70), Gain.MORE, "49 → 60 users, TPOT p95 binds now"),
        (BEFORE, capacity(53, 60, 66, 70), Gain.OPEN, "49 → 60 users; drive between 49 and 66 to compare"),
        (BEFORE, capacity(50, 54, 58, 61), Gain.SAME, "49 → 54 users, no more than runs differ by, TPOT p95 binds now"),
        (BEFORE, capacity(56, 60, None, None), Gain.MORE, "49 → ≥ 60 users, TPOT p95 binds now"),
        (
            BEFORE,
            capacity(33, 36, None, None),
            Gain.OPEN,
            "49 → ≥ 36 users; drive past 49 to compare",
        ),
        (capacity(46, 49, None, None), capacity(33, 36, 40, 41), Gain.FEWER, "≥ 49 → 36 users, TPOT p95 binds now"),
        (
            capacity(46, 49, None, None),
            capacity(53, 60, 66, 70),
            Gain.OPEN,
            "≥ 49 → 60 users; drive past 60 to compare",
        ),
        (capacity(None, None, 8, None), capacity(9, 10, 12, 13), Gain.MORE, "below 8 → 10 users, TPOT p95 binds now"),
        (BEFORE, capacity(None, None, 64, None), Gain.OPEN, "49 → below 64 users; drive below 64 to compare"),
        (capacity(None, None, 64, None),) * 2 + (Gain.OPEN, "below 64 → below 64 users; drive below 64 to compare"),
        (BEFORE, capacity(None, None, 4, None), Gain.FEWER, "49 → below 4 users, TPOT p95 binds now"),
        (BEFORE, Capacity(), Gain.OPEN, "49 users before; drive to 49 to compare"),
    ],
)
def test_only_intervals_that_do_not_meet_are_a_difference(
    before: Capacity, now: Capacity, gain: Gain, said: str
) -> None:
    assert gain_of(before, now) is gain
    text = compared_text("x", gain, before, now, "concurrency")
    assert text.removeprefix("x: ").replace("concurrent users at the SLO", "users") == said


known = st.tuples(st.floats(1, 99), st.floats(1, 99), st.booleans()).map(
    lambda each: capacity(min(each[:2]), min(each[:2]), *((max(each[:2]),) * 2 if each[2] else (None, None)))
)


@given(known, known)
def test_what_is_more_one_way_is_fewer_the_other_way(one: Capacity, other: Capacity) -> None:
    opposite = {Gain.MORE: Gain.FEWER, Gain.FEWER: Gain.MORE}
    there = gain_of(one, other)
    assert gain_of(other, one) is opposite.get(there, there)


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        ({"max_num_seqs": "max_num_seqs 32"}, {"max_num_seqs": "max_num_seqs 46"}, "max_num_seqs 32 → 46"),
        ({LENGTHS: "192/64 tok"}, {LENGTHS: "512/64 tok"}, "192/64 → 512/64 tok"),
        ({}, {TOLD: "vLLM 0.9 -> vLLM 0.10"}, "vLLM 0.9 -> vLLM 0.10"),
        ({TOLD: "block_size=32"}, {}, "what was changed was changed back"),
        ({START: "start 1"}, {START: "start 2"}, "the server restarted"),
        ({SHARED: "50 % shared"}, {}, "50 % shared → nothing shared"),
        (
            {"max_num_seqs": "max_num_seqs 32", START: "start 1"},
            {"max_num_seqs": "max_num_seqs 46", START: "start 2"},
            "max_num_seqs 32 → 46 and the server restarted",
        ),
    ],
)
def test_what_differs_is_said_once(before: dict[str, str], now: dict[str, str], text: str) -> None:
    assert changed_text(before, now) == text
