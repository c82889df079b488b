"""What a run's exit code says, on both sides of each border."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llmtop.cli.run import CLIENT_BOUND, exit_code
from llmtop.domain.verdicts import Assessment, Capacity, SloVerdict


def result(red: int = 0, *, interrupted: bool = False, **fields: Any) -> Any:
    """A run of 100 seconds, so many of them red."""
    seconds = np.array([1.0] * red + [0.0] * (100 - red))
    facts = SimpleNamespace(client=SimpleNamespace(column=lambda name: seconds))
    return SimpleNamespace(interrupted=interrupted, facts=facts, assessment=Assessment(**fields))


@pytest.mark.parametrize(("red", "code"), [(0, 0), (19, 0), (20, CLIENT_BOUND), (100, CLIENT_BOUND)])
def test_a_fifth_of_red_seconds_voids_the_figures(red: int, code: int) -> None:
    assert exit_code(result(red), search=False) == code
    assert exit_code(result(red, slo=SloVerdict(ok=False)), search=False) == (code or 1)


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (None, 0), (False, 1)])
def test_a_plan_fails_with_its_slo(ok: bool | None, code: int) -> None:
    assert exit_code(result(slo=SloVerdict(ok=ok)), search=False) == code


@pytest.mark.parametrize(("at_slo", "code"), [(4.0, 0), (None, 1)])
def test_a_search_fails_where_no_load_held(at_slo: float | None, code: int) -> None:
    assert exit_code(result(capacity=Capacity(at_slo=at_slo)), search=True) == code


def test_an_interrupted_run_says_so_before_all_else() -> None:
    assert exit_code(result(50, interrupted=True), search=False) == 130
