"""A hand-driven run, saved as a profile, commands the same load at the same times."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Replay, Spike, Stage
from llmtop.domain.profile import Profile, Question
from llmtop.domain.run import Chapter, LoadChange, RunMeta
from llmtop.errors import ProfileError
from llmtop.load.pacer import Pacer
from llmtop.profiles import files, load_profile, profile_from_run, save_profile
from llmtop.profiles.timeline import HOLD_S, PAUSE_S

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


@given(st.lists(st.tuples(st.floats(0, 99), st.integers(0, 200)), max_size=20))
def test_the_replay_commands_what_the_hand_held_in_its_order_and_nothing_else(moves: list[tuple[float, int]]) -> None:
    timeline = [(0.0, META.profile.plan.base)]
    timeline += [(move_s, LoadPoint(concurrency=users, prompt_tokens=100 + users)) for move_s, users in sorted(moves)]
    profile = profile_from_run(META, [LoadChange(move_s, point) for move_s, point in timeline[1:]])
    (stage,) = profile.plan.stages
    assert isinstance(stage.shape, Replay)
    ends = [move_s for move_s, _ in timeline[1:]] + [100.0]
    driven = [point for point, _ in groupby(point for _, point in timeline)]
    held = [point for (move_s, point), end_s in zip(timeline, ends, strict=True) if end_s - move_s > 1]
    replayed = [point for _, point in stage.shape.points]
    assert in_order(replayed, driven)
    assert in_order([point for point, _ in groupby(held)], replayed)
    starts = [at_s for at_s, _ in stage.shape.points]
    assert all(at_s == int(at_s) for at_s in (*starts, stage.duration_s))
    for point, began_s, end_s in zip(replayed, starts, (*starts[1:], stage.duration_s), strict=True):
        assert 1 <= end_s - began_s <= (HOLD_S if point.concurrency else PAUSE_S)
    assert profile.plan.base == replayed[0]


def in_order(some: list[LoadPoint], all_of: list[LoadPoint]) -> bool:
    """Whether `some` are among `all_of`, in the same order."""
    rest = iter(all_of)
    return all(any(each == other for other in rest) for each in some)


@pytest.mark.parametrize("gates", [(16, 16), (16, None), (None, 4)])
def test_a_gate_is_repeated_as_it_stood(gates: tuple[int | None, int | None], tmp_path: Path) -> None:
    changes = [LoadChange(20.0 * i, LoadPoint(concurrency=48, gate=gate)) for i, gate in enumerate(gates)]
    save_profile(profile_from_run(META, changes), tmp_path / "own.toml")
    pacer = Pacer(load_profile(tmp_path / "own.toml").plan)
    assert [getattr(pacer.target(at_s), "gate", 0) for at_s in (1.0, 25.0)] == list(gates)


def test_a_hold_is_cut_to_what_a_level_needs_and_times_are_round() -> None:
    loads = [(0.2, 4), (3.7, 8), (3.9, 9), (4.3, 16), (304.4, 0), (400.2, 32)]
    changes = [LoadChange(t_s, LoadPoint(concurrency=users)) for t_s, users in loads]
    meta = structs.replace(META, ended_s=420.3)
    (stage,) = profile_from_run(meta, changes).plan.stages
    assert isinstance(stage.shape, Replay)
    assert [(at_s, point.concurrency) for at_s, point in stage.shape.points] == [(0, 4), (4, 16), (64, 0), (74, 32)]
    assert stage.duration_s == 94
    assert (HOLD_S, PAUSE_S) == (60, 10), "59 requests of a p95 that is known; a server that has drained"


def test_a_load_that_was_stopped_ends_the_profile() -> None:
    changes = [LoadChange(0.0, LoadPoint(concurrency=4)), LoadChange(20.0, LoadPoint(concurrency=0), "stop")]
    (stage,) = profile_from_run(META, changes).plan.stages
    assert isinstance(stage.shape, Replay)
    assert ([point.concurrency for _, point in stage.shape.points], stage.duration_s) == ([4], 20)


def test_knobs_that_were_turned_stay_turned(tmp_path: Path) -> None:
    simulated = Endpoint(base_url="http://127.0.0.1:1", simulated=True)
    meta = structs.replace(META, endpoint=simulated, preset="laptop")
    changes = [LoadChange(0.0, LoadPoint(concurrency=4))]
    turned = [Chapter(9.0, "a", "start=1 vllm max_num_seqs=40"), Chapter(19.0, "b", "max_num_seqs=46 x=y=z odd=1e9")]
    saved = profile_from_run(meta, changes, turned)
    assert (saved.preset, saved.knobs) == ("laptop", (("max_num_seqs", 46.0),))
    path = tmp_path / "mine.toml"
    save_profile(saved, path)
    assert load_profile(path) == saved
    assert '[simulated]\npreset = "laptop"\nknobs = { max_num_seqs = 46 }' in path.read_text()
    assert profile_from_run(meta, changes).knobs == ()
    set_before = structs.replace(
        meta, settings=(("max_num_seqs", "8"), ("step_ms", "1.5"), ("prefix_caching", "false"))
    )
    assert profile_from_run(set_before, changes).knobs == (("max_num_seqs", 8.0), ("step_ms", 1.5)), "also from --set"
    assert profile_from_run(set_before, changes, turned).knobs == (("max_num_seqs", 46.0), ("step_ms", 1.5))
    assert profile_from_run(META, changes, turned).knobs == (), "a real server has none that turn from here"


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
