"""The harness itself: it tells an end from a hang, and counts what is left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trying
from trying import Terminal, Tried, serving, tried, tried_here

SIGN = "import sys, time, subprocess; "


def test_a_command_that_ends_is_told_by_its_words_and_code(home: Path) -> None:
    ended = tried("-c", "print('out'); raise SystemExit(3)", home=home, command=(sys.executable,))
    ended.is_in_words(3)
    assert ended.out == "out\n"


def test_a_command_that_hangs_is_killed_and_said_so(home: Path) -> None:
    hung = tried("-c", SIGN + "time.sleep(60)", home=home, command=(sys.executable,), limit_s=1)
    with pytest.raises(AssertionError, match="not ended"):
        hung.is_in_words(0)


def test_a_process_that_is_left_is_counted_and_ended(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "LEFT_S", 0.2)
    code = SIGN + "subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3, start_new_session=True); time.sleep(0.5)"
    with pytest.raises(AssertionError, match="1 processes are left"):
        tried("-c", code, home=home, command=(sys.executable,)).is_in_words(0)


@pytest.mark.parametrize("how", [tried, tried_here])
def test_a_good_server_can_be_driven(home: Path, how: Callable[..., Tried]) -> None:
    with serving() as server:
        ended = how("doctor", server.url, home=home)
    ended.is_in_words(0)
    assert "vLLM 0.10.0" in ended.out
    assert 30 < ended.peak_mb < 150


def test_what_is_tried_here_has_an_exit_code_a_peak_and_a_home_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes(words: list[str]) -> int:
        print(os.environ["HOME"], len(b"x" * 200_000_000))
        raise SystemExit(2)

    monkeypatch.setattr(trying, "main", takes)
    before = dict(os.environ)
    ended = tried_here("x", home=home)
    ended.is_in_words(2)
    assert ended.out == f"{home} 200000000\n"
    if Path("/proc/self/clear_refs").exists():
        assert 200 < ended.peak_mb < 300
    assert dict(os.environ) == before


def test_a_terminal_that_is_not_given_back_is_told(home: Path) -> None:
    code = r"print('\x1b[?1049h', flush=True); time.sleep(60)"
    with Terminal("-c", SIGN + code, home=home, command=(sys.executable,)) as terminal:
        terminal.until(b"1049h")
        terminal.signal(signal.SIGKILL)
        assert terminal.code() == -signal.SIGKILL
        with pytest.raises(AssertionError, match="1049 is left on"):
            terminal.is_restored()
