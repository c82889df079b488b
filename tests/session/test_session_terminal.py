"""A terminal whose screen was killed is given back; one that a shell has again keeps the shell's settings."""

from __future__ import annotations

import os
import pty
import select
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmtop.domain.terminal import RESET
from llmtop.session.terminal import LOCAL, give_back, state_of


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    shows, takes = pty.openpty()
    yield shows, takes
    os.close(shows)
    os.close(takes)


def came(shows: int) -> bytes:
    return os.read(shows, 65536) if select.select((shows,), (), (), 1.0)[0] else b""


def test_raw_mode_and_every_other_mode_are_ended(ends: tuple[int, int]) -> None:
    shows, takes = ends
    before, state = termios.tcgetattr(takes), state_of(takes)
    assert state is not None
    tty.setraw(takes)
    assert termios.tcgetattr(takes) != before
    give_back(state)
    assert termios.tcgetattr(takes) == before
    assert came(shows) == RESET.encode()


def test_a_shell_that_has_it_again_keeps_its_settings(ends: tuple[int, int]) -> None:
    shows, takes = ends
    state = state_of(takes)
    assert state is not None
    editing = termios.tcgetattr(takes)
    editing[LOCAL] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(takes, termios.TCSANOW, editing)
    give_back(state)
    assert termios.tcgetattr(takes)[LOCAL] == editing[LOCAL]
    assert came(shows) == RESET.encode()


def test_what_is_no_terminal_or_gone_is_left_alone(ends: tuple[int, int], tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert state_of(file.fileno()) is None
    state = state_of(ends[1])
    assert state is not None
    give_back(type(state)(str(tmp_path / "none"), state.flags, state.characters))
