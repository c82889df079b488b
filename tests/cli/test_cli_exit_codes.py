"""What the exit code says of a judgement."""

from __future__ import annotations

import pytest

from llmtop.cli.exits import exit_code
from llmtop.domain.run import Ending
from llmtop.domain.verdicts import Judgement


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1), (None, 5)])
def test_yes_is_0_no_is_1_and_not_known_is_5(ok: bool | None, code: int) -> None:
    assert exit_code(Judgement(ok=ok)) == code


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1), (None, 0)])
def test_who_takes_not_known_for_good_still_hears_a_no(ok: bool | None, code: int) -> None:
    assert exit_code(Judgement(ok=ok), unknown_ok=True) == code


@pytest.mark.parametrize("ending", [Ending.RESTART, Ending.HANG, Ending.GONE])
@pytest.mark.parametrize("ok", [False, None])
def test_a_server_that_fell_away_is_neither_a_yes_nor_a_no(ending: Ending, ok: bool | None) -> None:
    assert exit_code(Judgement(ok=ok, ending=ending), unknown_ok=True) == 3


@pytest.mark.parametrize("unknown_ok", [False, True])
def test_void_figures_are_never_good(unknown_ok: bool) -> None:
    assert exit_code(Judgement(ok=None, void=True), unknown_ok=unknown_ok) == 4
