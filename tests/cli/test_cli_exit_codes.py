"""What the exit code says of a judgement."""

from __future__ import annotations

import pytest

from llmtop.cli.exits import cockpit_exit_code, exit_code
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.judgement import Judgement
from llmtop.domain.run import Ended, Ending


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


@pytest.mark.parametrize("state", EndpointState)
def test_a_cockpit_that_is_left_by_hand_ends_with_0_whatever_became_of_an_endpoint_that_answered(
    state: EndpointState,
) -> None:
    assert cockpit_exit_code(Ended(), {EndpointState.UP, state, None}, answered=True) == 0


@pytest.mark.parametrize("state", EndpointState)
def test_an_endpoint_that_never_answered_is_3_once_that_is_known(state: EndpointState) -> None:
    refused = state in (EndpointState.DOWN, EndpointState.AUTH_FAILED)
    assert cockpit_exit_code(Ended(), {EndpointState.CONNECTING, state}, answered=False) == (3 if refused else 0)


@pytest.mark.parametrize("code", [2, 3, 4, 130])
@pytest.mark.parametrize("answered", [True, False])
def test_what_ended_the_session_is_the_cockpits_end(answered: bool, code: int) -> None:
    assert cockpit_exit_code(Ended("so it was", code), {EndpointState.DOWN}, answered) == code


def test_a_cockpit_that_is_left_before_anything_is_known_ends_with_0() -> None:
    assert cockpit_exit_code(Ended(), set(), answered=False) == 0
