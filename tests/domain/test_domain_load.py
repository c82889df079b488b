"""Laws of what a load is."""

from __future__ import annotations

import msgspec
import pytest

from llmtop.domain.load import Axis, Hold, LoadPlan, LoadPoint, Ramp, Replay, Shape, Sine, Spike, Stage, Steps


@pytest.mark.parametrize("load", [{}, {"concurrency": 4, "rate_rps": 2.0}])
def test_a_load_is_a_concurrency_or_a_rate_wherever_it_comes_from(load: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="one of the two"):
        LoadPoint(**load)  # type: ignore[arg-type]
    with pytest.raises(msgspec.ValidationError, match="one of the two"):
        msgspec.json.decode(msgspec.json.encode(load), type=LoadPoint)


@pytest.mark.parametrize(("axis", "value"), [("concurrency", 12), ("rate", 0.4), ("concurrency", 0), ("rate", 0.0)])
def test_a_load_that_is_moved_keeps_its_requests(axis: Axis, value: float) -> None:
    for before in (LoadPoint(concurrency=3, prompt_tokens=7), LoadPoint(rate_rps=3.0, prompt_tokens=7)):
        moved = before.at(axis, value)
        assert (moved.axis, moved.value, moved.prompt_tokens) == (axis, value, 7)


@pytest.mark.parametrize(
    ("shape", "top"),
    [
        (Hold(concurrency=8), 8),
        (Hold(rate_rps=2.5), 2.5),
        (Ramp(9.0, 3.0), 9),
        (Steps((1.0, 7.0, 2.0)), 7),
        (Spike(2.0, 11.0), 11),
        (Spike(12.0, 11.0), 12),
        (Sine(1.0, 6.0, 9.0), 6),
        (Replay(((0.0, LoadPoint(concurrency=5)), (1.0, LoadPoint(concurrency=4)))), 5),
    ],
)
def test_the_top_of_a_plan_is_the_largest_load_that_any_stage_commands(shape: Shape, top: float) -> None:
    stages = (Stage(name="a", duration_s=1, shape=shape), Stage(name="b", duration_s=1, shape=Hold(concurrency=1)))
    assert LoadPlan(stages=stages, base=LoadPoint(concurrency=99)).top == top
    assert LoadPlan(stages=(), base=LoadPoint(concurrency=99)).top == 99
