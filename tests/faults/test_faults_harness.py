"""The harness itself: it tells an end from a hang, and counts what is left behind."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from trying import Terminal, serving, tried

SIGN = "import sys, time, subprocess; "


def test_a_command_that_ends_is_told_by_its_words_and_code(home: Path) -> None:
    ended = tried("-c", "print('out'); raise SystemExit(3)", home=home, command=(sys.executable,))
    ended.is_in_words(3)
    assert ended.out == "out\n"


def test_a_command_that_hangs_is_killed_and_said_so(home: Path) -> None:
    hung = tried("-c", SIGN + "time.sleep(60)", home=home, command=(sys.executable,), limit_s=1)
    with pytest.raises(AssertionError, match="not ended"):
        hung.is_in_words(0)


def test_a_process_that_is_left_is_counted_and_ended(home: Path) -> None:
    code = SIGN + "subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3, start_new_session=True); time.sleep(0.5)"
    with pytest.raises(AssertionError, match="1 processes are left"):
        tried("-c", code, home=home, command=(sys.executable,)).is_in_words(0)


def test_a_good_server_can_be_driven(home: Path) -> None:
    with serving() as server:
        ended = tried("doctor", server.url, home=home)
    ended.is_in_words(0)
    assert "vLLM 0.10.0" in ended.out


def test_a_terminal_that_is_not_given_back_is_told(home: Path) -> None:
    code = r"print('\x1b[?1049h', flush=True); time.sleep(60)"
    with Terminal("-c", SIGN + code, home=home, command=(sys.executable,)) as terminal:
        terminal.until(b"1049h")
        terminal.signal(signal.SIGKILL)
        assert terminal.code() == -signal.SIGKILL
        with pytest.raises(AssertionError, match="1049 is left on"):
            terminal.is_restored()
