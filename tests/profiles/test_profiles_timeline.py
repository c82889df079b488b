"""A hand-driven run, saved as a profile, commands the same load at the same times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Hold, LoadPlan, LoadPoint, Replay, Stage
from llmtop.domain.profile import Profile, Question
from llmtop.domain.run import LoadChange, RunMeta
from llmtop.profiles import profile_from_run

META = RunMeta(
    llmtop_version="0.1.0",
    started_at=0.0,
    endpoint=Endpoint(base_url="http://127.0.0.1:8000", model="tiny"),
    profile=Profile(name="cockpit"),
    ended_s=100.0,
)
PLANNED = structs.replace(
    META,
    profile=Profile(name="p", plan=LoadPlan(stages=(Stage(name="a", duration_s=50, shape=Hold(concurrency=4)),))),
)


def at(points: list[tuple[float, LoadPoint]], t_s: float) -> LoadPoint:
    return [point for start_s, point in points if start_s <= t_s][-1]


@given(st.lists(st.tuples(st.floats(0, 99), st.integers(0, 200)), max_size=20), st.floats(0, 100))
def test_the_replay_commands_what_the_hand_did(moves: list[tuple[float, int]], t_s: float) -> None:
    timeline = [(move_s, LoadPoint(concurrency=users, prompt_tokens=100 + users)) for move_s, users in sorted(moves)]
    profile = profile_from_run(META, [LoadChange(move_s, point) for move_s, point in timeline])
    (stage,) = profile.plan.stages
    assert stage.duration_s == 100
    assert isinstance(stage.shape, Replay)
    driven = [(0.0, META.profile.plan.base), *timeline]
    assert at(list(stage.shape.points), t_s) == at(driven, t_s)


def test_a_run_that_kept_to_its_plan_gives_its_own_profile_back() -> None:
    change = LoadChange(0.0, LoadPoint(concurrency=4), "stage", "a")
    assert profile_from_run(PLANNED, [change, LoadChange(50.0, LoadPoint(concurrency=0), "stop")]) == PLANNED.profile
    by_hand = LoadChange(10.0, LoadPoint(concurrency=9))
    assert isinstance(profile_from_run(PLANNED, [change, by_hand]).plan.stages[0].shape, Replay)


def test_a_run_that_left_its_plan_is_not_asked_what_the_plan_was() -> None:
    asked = structs.replace(PLANNED.profile, question=Question.PEAK, peak=4, peak_from_slots=True, at_least=3)
    by_hand = [LoadChange(10.0, LoadPoint(concurrency=9))]
    saved = profile_from_run(structs.replace(PLANNED, profile=asked), by_hand)
    assert (saved.asks, saved.peak, saved.peak_from_slots, saved.at_least) == (Question.CLIFF, None, False, None)


def test_a_run_that_was_cut_off_holds_its_last_load_for_a_while() -> None:
    meta = structs.replace(META, ended_s=None, label="before the fix")
    profile = profile_from_run(meta, [LoadChange(30.0, LoadPoint(concurrency=4))])
    assert profile.plan.duration_s == 40
    assert profile.name == "before the fix"
