"""The cockpit: whatever becomes of it, its terminal or its processes, the load ends and the terminal is as before."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from busy import TOKENS, Busy
from trying import COMMAND, Terminal, serving, tried_here

OFF_S = 10.0
"""Far less than what ends load that nobody sees."""
USERS = 3
EARLY = b"\x1b[5~" * 3 + b"99c64\r"
"""Keys for far more load, typed before there is a screen."""


@contextlib.contextmanager
def loaded(home: Path, *words: str, **options: bool) -> Iterator[tuple[Terminal, Busy]]:
    """The cockpit with three requests under way, and keys that were typed before there was a screen."""
    busy = Busy()
    with serving({"/v1/chat/completions": busy.answer}) as server:
        busy.asked = server.asked
        load = ("--concurrency", str(USERS), "--output-tokens", str(TOKENS), "--record", str(home / "run.llmtop"))
        arguments = (server.url, *load, *words)
        with Terminal(*arguments, home=home, **options) as terminal:
            terminal.send(EARLY)
            terminal.until(b"TTFT")
            deadline = time.monotonic() + 30
            while busy.running < USERS:
                terminal.read(0.05)
                assert time.monotonic() < deadline, f"{busy.running} of {USERS} requests run"
            terminal.read(0.5)
            terminal.family()
            yield terminal, busy


def ended_of(home: Path) -> tuple[float | None, str | None]:
    """`ended_s` and the ending that the run file tells."""
    import json

    with contextlib.closing(sqlite3.connect(home / "run.llmtop")) as file:
        (text,) = file.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()
    meta = json.loads(text)
    return meta.get("ended_s"), meta.get("ending")


def is_in_order(home: Path, *endings: str | None) -> None:
    """The run file is closed and tells of no load but what was asked for, and no log tells of a bug."""
    ended_s, ending = ended_of(home)
    assert ended_s is not None
    assert ending in endings
    with contextlib.closing(sqlite3.connect(home / "run.llmtop")) as file:
        (most,) = file.execute("SELECT max(concurrency) FROM load_change").fetchone()
    assert most == USERS, "what was typed before the screen is no command to it"
    for log in home.rglob("*.log"):
        assert "Traceback" not in log.read_text()


LEAVES: dict[str, int | bytes] = {
    "SIGTERM": signal.SIGTERM,
    "SIGHUP": signal.SIGHUP,
    "SIGINT": signal.SIGINT,
    "SIGQUIT": signal.SIGQUIT,
    "ctrl+backslash": b"\x1c",
    "ctrl+c": b"\x03",
    "q": b"q",
}


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=() if how == "SIGTERM" else pytest.mark.faults) for how in LEAVES]
)
def test_a_signal_or_a_key_ends_the_load_and_gives_the_terminal_back(how: str, home: Path) -> None:
    with loaded(home) as (terminal, busy):
        asked = LEAVES[how]
        terminal.send(asked) if isinstance(asked, bytes) else terminal.signal(asked)
        assert busy.off_after(OFF_S, lambda: terminal.read(0.02)) is not None
        assert terminal.code() == (0 if isinstance(asked, bytes) else 130)
        assert terminal.gone()
        terminal.is_restored()
        assert b"Traceback" not in terminal.written
    is_in_order(home, "hand")


@pytest.mark.parametrize("controlling", [True, pytest.param(False, marks=pytest.mark.faults)])
def test_a_terminal_that_is_gone_takes_load_and_processes_with_it(controlling: bool, home: Path) -> None:
    with loaded(home, controlling=controlling) as (terminal, busy):
        terminal.hang_up()
        assert busy.off_after(OFF_S) is not None
        assert terminal.gone()
    is_in_order(home, "hand")


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_the_session_ends_the_load_and_the_screen_says_so(number: signal.Signals, home: Path) -> None:
    with loaded(home) as (terminal, busy):
        os.kill(terminal.child("session.process").pid, number)
        assert busy.off_after(OFF_S, lambda: terminal.read(0.02)) is not None
        terminal.until(b"session")
        terminal.send(b"q")
        terminal.read(0.5)
        terminal.send(b"q")
        assert terminal.code() is not None
        assert terminal.gone()
        terminal.is_restored()
    if number != signal.SIGKILL:
        is_in_order(home, "hand")


@pytest.mark.faults
def test_kill_nine_of_the_screen_ends_the_load_and_the_run_file_is_closed(home: Path) -> None:
    with loaded(home) as (terminal, busy):
        terminal.signal(signal.SIGKILL)
        assert busy.off_after(OFF_S, lambda: terminal.read(0.02)) is not None
        assert terminal.gone()
        terminal.read(0.3)
        terminal.is_restored()
    is_in_order(home, None)


@pytest.mark.faults
def test_kill_nine_of_the_simulated_engine_is_said_and_leaves_nothing(home: Path) -> None:
    with Terminal("--sim", home=home) as terminal:
        terminal.until(b"TTFT")
        terminal.read(1.0)
        terminal.child("simulator.server").kill()
        terminal.until(b"down")
        terminal.send(b"q")
        assert terminal.code() == 0
        assert terminal.gone()
        terminal.is_restored()


@pytest.mark.faults
def test_a_session_that_was_stopped_is_ended_all_the_same(home: Path) -> None:
    with loaded(home) as (terminal, busy):
        os.kill(terminal.child("session.process").pid, signal.SIGSTOP)
        terminal.read(1.0)
        terminal.signal(signal.SIGTERM)
        assert busy.off_after(OFF_S, lambda: terminal.read(0.02)) is not None
        assert terminal.code() == 130
        assert terminal.gone()
        terminal.is_restored()
    is_in_order(home, "hand")


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP])
def test_stopped_and_gone_on_with_the_screen_is_there_again_and_given_back_as_it_was(
    number: signal.Signals, home: Path
) -> None:
    with loaded(home) as (terminal, busy):
        terminal.signal(number)
        terminal.read(3.0)
        if number == signal.SIGTSTP:
            terminal.is_restored()
        assert busy.running == USERS, "the load goes on while it is stopped for less than a minute"
        before = len(terminal.written)
        terminal.signal(signal.SIGCONT)
        terminal.read(2.0)
        again = terminal.written[before:]
        for sign in (b"\x1b[?1049h", b"\x1b[?1003h", b"\x1b[?2004h", b"\x1b[?25l", b"TTFT"):
            assert sign in again, sign
        terminal.send(b"x")
        assert busy.off_after(OFF_S, lambda: terminal.read(0.02)) is not None, "keys come one by one: the mode is raw"
        terminal.send(b"q")
        assert terminal.code() == 0
        assert terminal.gone()
        terminal.is_restored()
    is_in_order(home, "hand")


@pytest.mark.faults
def test_without_a_shell_to_go_back_to_nothing_is_suspended(home: Path) -> None:
    with Terminal("--sim", home=home) as terminal:
        terminal.until(b"TTFT")
        terminal.send(b"\x1a")
        terminal.until(b"not suspended")
        terminal.send(b"q")
        assert terminal.code() == 0
        terminal.is_restored()


@pytest.mark.faults
def test_suspended_in_a_shell_it_comes_back_with_fg(home: Path) -> None:
    asked = "'\"$@\" --sim; echo back; fg; echo done'"
    line = f"exec bash --norc --noprofile -i -c {asked} bash {shlex.join(COMMAND)}"
    with Terminal(home=home, command=("bash", "-c", line)) as terminal:
        terminal.until(b"TTFT")
        terminal.send(b"\x1a")
        terminal.until(b"back")
        assert b"is suspended" in terminal.written
        before = len(terminal.written)
        terminal.read(3.0)
        assert b"TTFT" in terminal.written[before:]
        terminal.send(b"q")
        terminal.until(b"done")
        assert terminal.code() == 0
        terminal.is_restored()


@pytest.mark.faults
def test_a_signal_is_heard_while_nobody_reads_the_terminal(home: Path) -> None:
    with loaded(home, "--fps", "20") as (terminal, busy):
        time.sleep(10)  # all that waits to be written stands still
        terminal.signal(signal.SIGTERM)
        assert busy.off_after(OFF_S) is not None
        assert terminal.gone()
        terminal.read(0.5)
        terminal.is_restored()
    is_in_order(home, "hand")


@pytest.mark.faults
def test_load_ends_after_a_minute_in_which_nobody_reads_the_terminal(home: Path) -> None:
    begun = time.monotonic()
    with loaded(home) as (terminal, busy):
        time.sleep(45)
        assert busy.running == USERS, "a line may stutter"
        assert busy.off_after(30) is not None
        assert time.monotonic() - begun > 55
        assert terminal.gone(15)
        terminal.read(0.5)
        terminal.is_restored()
        assert b"nobody could see the load" in terminal.written
        assert terminal.process.returncode == 130
    is_in_order(home, "unseen")


@pytest.mark.faults
def test_load_ends_after_a_minute_in_which_the_screen_is_stopped(home: Path) -> None:
    with loaded(home) as (terminal, busy):
        terminal.signal(signal.SIGSTOP)
        assert busy.off_after(70) is not None
        terminal.signal(signal.SIGCONT)
        terminal.until(b"nobody could see the load")
        terminal.send(b"q")
        assert terminal.code() == 130
        assert terminal.gone()
        terminal.is_restored()
    is_in_order(home, "unseen")


@pytest.mark.faults
def test_a_frozen_display_is_seen(home: Path) -> None:
    with loaded(home) as (terminal, busy):
        terminal.send(b" ")
        terminal.read(70)
        assert busy.running == USERS
        terminal.send(b"q")
        assert terminal.code() == 0


# ── Before there is a screen ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "term", ["dumb", *(pytest.param(term, marks=pytest.mark.faults) for term in ("", "unknown", None))]
)
def test_a_terminal_that_cannot_draw_is_refused_in_words_before_anything_is_started(
    term: str | None, home: Path
) -> None:
    with serving() as server, Terminal(server.url, home=home, more={"TERM": term}) as terminal:
        terminal.until(b"llmtop run")
        assert terminal.code() == 2
        assert terminal.gone(1)
        terminal.is_restored()
        assert b"TERM" in terminal.written
        assert server.asked == []


@pytest.mark.faults
@pytest.mark.parametrize("term", ["xterm", "screen", "linux", "tmux-256color", "vt100", "no-such-terminal"])
def test_other_terminals_are_drawn_on_and_given_back(term: str, home: Path) -> None:
    with Terminal("--sim", home=home, more={"TERM": term}) as terminal:
        terminal.until(b"TTFT")
        terminal.send(b"q")
        assert terminal.code() == 0
        assert terminal.gone()
        terminal.is_restored()


@pytest.mark.faults
@pytest.mark.parametrize(
    "more", [{"LC_ALL": "C"}, {"LANG": "C"}, {"PYTHONIOENCODING": "ascii"}, {"LANG": "de_DE.ISO-8859-1"}]
)
def test_without_utf_8_ascii_is_drawn(more: dict[str, str], home: Path) -> None:
    plain = {"LC_ALL": None, "LC_CTYPE": None, "LANG": None, **more}
    with Terminal("--sim", home=home, more=plain) as terminal:
        terminal.until(b"TTFT")
        terminal.read(2.0)
        assert all(byte < 128 for byte in terminal.written), bytes(b for b in terminal.written if b > 127)[:40]
        terminal.send(b"q")
        assert terminal.code() == 0
        terminal.is_restored()
        assert b"Traceback" not in terminal.written


@pytest.mark.faults
@pytest.mark.parametrize("size", [(1, 1), (0, 0), (2, 1), (1000, 3)])
def test_a_window_of_any_size_can_be_left(size: tuple[int, int], home: Path) -> None:
    with Terminal("--sim", home=home, size=size) as terminal:
        terminal.until(b"\x1b[?1049h")
        terminal.read(3.0)
        terminal.send(b"q")
        assert terminal.code() == 0
        assert terminal.gone()
        terminal.is_restored()
        assert b"Traceback" not in terminal.written


REDIRECTED = {
    "<somefile": "stdin",
    "</dev/null": "stdin",
    "<&-": "stdin",
    ">out": "stdout",
    ">&-": "stdout",
    "2>err": "stderr",
    "| cat": "stdout",
}


@pytest.mark.faults
@pytest.mark.parametrize("where", REDIRECTED)
def test_without_a_terminal_on_each_stream_the_cockpit_is_refused_in_words(where: str, home: Path) -> None:
    (home / "somefile").write_text("q")
    line = f'cd {home}; set -o pipefail; "$@" --sim {where}'
    shell = ("bash", "-c", line, "bash", *COMMAND)
    with Terminal(home=home, command=shell) as terminal:
        assert terminal.code() == 2
        assert terminal.gone(1)
        terminal.is_restored()
        said = terminal.written + (home / "err").read_bytes() if (home / "err").exists() else terminal.written
        assert b"terminal" in said
        assert b"Traceback" not in said


@pytest.mark.faults
@pytest.mark.parametrize("key", [b"q", b"\x03"])
@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.2, 0.3, 0.4, 0.6])
def test_a_key_to_leave_is_heard_however_early_it_comes(key: bytes, after_s: float, home: Path) -> None:
    with Terminal("--sim", home=home) as terminal:
        terminal.read(after_s)
        terminal.send(key)
        code = terminal.code()
        assert code in (0, 130) or (code == -signal.SIGINT and after_s < 0.2)
        assert terminal.gone()
        terminal.is_restored()
        assert b"Traceback" not in terminal.written or after_s < 0.1, terminal.written[-2000:]


@pytest.mark.parametrize(("word", "says"), [("reprot", "report"), ("nosuchcmd", "llmtop --help"), ("Doctor", "doctor")])
def test_a_word_that_is_neither_command_nor_url_is_said_so(word: str, says: str, home: Path) -> None:
    ended = tried_here(word, home=home)
    ended.is_in_words(2)
    assert f"{word!r} is no command" in ended.err
    assert says in ended.err
    assert "terminal" not in ended.err
