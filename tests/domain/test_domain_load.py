"""Laws of what a load is."""

from __future__ import annotations

import msgspec
import pytest

from llmtop.domain.load import Axis, LoadPoint


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
