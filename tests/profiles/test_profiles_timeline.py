"""A hand-driven run, saved as a profile, commands the same load at the same times."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Replay, Spike, Stage
from llmtop.domain.profile import Profile, Question
from llmtop.domain.run import LoadChange, RunMeta
from llmtop.errors import ProfileError
from llmtop.profiles import files, load_profile, profile_from_run, save_profile

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


SPIKE = Stage(name="s", duration_s=30, shape=Spike(1, 64))


@pytest.mark.parametrize(
    "profile",
    [
        PLANNED.profile,
        structs.replace(PLANNED.profile, caps=Caps(max_concurrency=2)),
        Profile(name="p", plan=LoadPlan(stages=(SPIKE,)), recover_within_s=7.5),
        Profile(name="p", plan=LoadPlan(stages=(SPIKE,)), recover_within_s=25.0, caps=Caps(max_concurrency=3)),
        Profile(name="p", plan=LoadPlan(stages=(), base=LoadPoint(concurrency=2000))),
        Profile(name="p", question=Question.CAPACITY, at_least=8),
    ],
)
@pytest.mark.parametrize("by", ["stage", "hand"])
def test_whatever_was_driven_can_be_saved_and_read_again(profile: Profile, by: str, tmp_path: Path) -> None:
    """Also a run that was cut by its caps, squeezed in time, or driven by hand after a plan with a question."""
    changes = [LoadChange(3.0, LoadPoint(concurrency=5000 if by == "hand" else 4), by)]
    path = tmp_path / "again.toml"
    saved = profile_from_run(structs.replace(META, profile=profile), changes)
    save_profile(saved, path)
    assert load_profile(path) == saved


def test_what_could_not_be_read_again_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "again.toml"
    for profile in (
        structs.replace(PLANNED.profile, name="half a pair \ud800"),
        structs.replace(PLANNED.profile, plan=LoadPlan(stages=(), base=LoadPoint(rate_rps=1e9))),
    ):
        with pytest.raises(ProfileError):
            save_profile(profile, path)
    monkeypatch.setattr(files, "MOST_BYTES", 50)
    with pytest.raises(ProfileError, match="moved too often"):
        save_profile(structs.replace(PLANNED.profile, description="x" * 50), path)
    assert not path.exists()
