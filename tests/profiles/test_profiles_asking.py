"""A profile at another peak: every load in proportion, and never more in flight than is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llmtop.domain.load import Caps, Hold, LoadPlan, LoadPoint, Ramp, Replay, Shape, Sine, Spike, Stage, Steps
from llmtop.domain.profile import Profile, Question
from llmtop.domain.slo import parse_slo
from llmtop.profiles import at_slots, load_profile, shipped_folder
from llmtop.profiles.asking import at_peak, unanswerable

RAMP = load_profile(shipped_folder() / "ramp.toml")
SHAPES: list[tuple[Shape, Shape]] = [
    (Hold(concurrency=8), Hold(concurrency=12)),
    (Hold(rate_rps=3.0), Hold(rate_rps=4.5)),
    (Ramp(0, 64), Ramp(0, 96)),
    (Steps((4.0, 8.0), "rate_rps"), Steps((6.0, 12.0), "rate_rps")),
    (Spike(16, 96, 0.25, 0.5), Spike(24, 144, 0.25, 0.5)),
    (Sine(2, 4, 9.0), Sine(3, 6, 9.0)),
    (
        Replay(((1.0, LoadPoint(concurrency=2, prompt_tokens=9)),)),
        Replay(((1.0, LoadPoint(concurrency=3, prompt_tokens=9)),)),
    ),
]


@pytest.mark.parametrize(("shape", "scaled"), SHAPES)
def test_every_load_of_a_shape_follows_the_peak_and_nothing_else_does(shape: Shape, scaled: Shape) -> None:
    stage = Stage(name="a", duration_s=60, shape=shape, prompt_tokens=7)
    profile = Profile(name="p", peak=32, plan=LoadPlan(stages=(stage,), base=LoadPoint(concurrency=5)))
    moved = at_peak(profile, 48)
    assert moved.plan.stages == (structs.replace(stage, shape=scaled),)
    assert (moved.peak, moved.plan.base) == (48, profile.plan.base)


@given(st.none() | st.integers(1, 3000), st.integers(1, 3000))
def test_the_slots_are_the_peak_but_no_load_is_above_what_is_allowed(slots: int | None, most: int) -> None:
    profile = structs.replace(RAMP, caps=Caps(max_concurrency=most))
    moved = at_slots(profile, slots)
    assert moved.plan.top == 2 * (moved.peak or 0)
    assert moved.plan.top <= max(2, most)
    wanted = 32 if slots is None else slots
    assert moved.peak == wanted or most // 2 <= (moved.peak or 0) < wanted
    assert moved.asks is Question.PEAK
    assert not moved.peak_from_slots, "what the run was, not what it would be on another server"


def test_a_profile_that_does_not_ask_for_the_slots_stays_as_it_is() -> None:
    asked = load_profile(shipped_folder() / "ramp.toml", peak=20)
    assert at_slots(asked, 64) is asked
    with pytest.raises(ValueError, match="no peak"):
        at_peak(Profile(name="p"), 3)


def test_a_search_needs_a_limit_on_all_requests() -> None:
    search = Profile(name="x", question=Question.CAPACITY, slo=parse_slo("answer.ttft_p95<1s"))
    refusal = unanswerable(search)
    assert refusal is not None
    assert refusal[0] == "slo"
    assert unanswerable(structs.replace(search, slo=parse_slo("ttft_p95<5s,answer.ttft_p95<1s"))) is None
    assert unanswerable(structs.replace(search, question=None)) is None
