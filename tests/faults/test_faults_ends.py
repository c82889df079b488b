"""Every kind of terminal and every way to lose it, beside a server that counts: neither load nor process stays."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import termios
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from busy import TOKENS, Busy
from trying import COMMAND, Terminal, environment, serving, tried

pytestmark = pytest.mark.faults

OFF_S = 3.0
USERS = 3
HOWS = ("lost", "SIGTERM", "SIGHUP")
BUSY_S = 1.5
"""Allowed on top on a machine that does other work."""


class Counting:
    """`llmtop sim`; `running` is its own count of requests, those that wait with it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def running(self) -> int:
        with self._opener.open(f"{self.url}/metrics", timeout=5) as answer:
            page = answer.read().decode()
        counts = re.findall(r"^vllm:num_requests_(?:running|waiting)\S* (\S+)$", page, re.MULTILINE)
        assert len(counts) >= 2
        return sum(round(float(count)) for count in counts)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counting]:
    words = [*COMMAND, "sim", "--port", "0"]
    home = environment(tmp_path_factory.mktemp("sim"))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=home, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield Counting(found.group(0))
                break
        process.kill()


def processes_of(home: Path) -> list[int]:
    """All whose home this is, whoever their parent has become."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = f"HOME={home}".encode() in (folder / "environ").read_bytes()
            if ours and (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(folder.name))
    return found


def words_of(server: Counting) -> tuple[str, ...]:
    return (server.url, "--concurrency", str(USERS), "--output-tokens", "20000")


def is_loaded(terminal: Terminal, server: Counting) -> None:
    deadline = time.monotonic() + 20
    while server.running < USERS:
        assert time.monotonic() < deadline
        terminal.read(0.05)
    terminal.read(1.0)
    terminal.family()


def is_over(home: Path, server: Counting, terminal: Terminal | None = None) -> None:
    """Within the time that is promised there is neither load nor process; the terminal, if given, is read along."""
    begun = time.monotonic()
    off_s: float | None = None
    left: list[int] = []
    while (passed_s := time.monotonic() - begun) < OFF_S + BUSY_S:
        off_s = passed_s if off_s is None and server.running == 0 else off_s
        if terminal is not None:
            terminal.process.poll()
        left = [pid for pid in processes_of(home) if terminal is None or pid != terminal.process.pid]
        alive = terminal is not None and terminal.process.poll() is None
        if off_s is not None and not left and not alive:
            return
        time.sleep(0.05) if terminal is None else terminal.read(0.05)
    raise AssertionError(f"load off after {off_s} s, left after {passed_s:.1f} s: {left}")


def end(how: str, terminal: Terminal) -> None:
    terminal.hang_up() if how == "lost" else terminal.signal(signal.Signals[how])


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("term", ["xterm", "screen"])
def test_a_cockpit_that_loses_its_terminal_or_is_told_to_end_leaves_neither_load_nor_process(
    term: str, how: str, server: Counting, home: Path
) -> None:
    with Terminal(*words_of(server), home=home, more={"TERM": term}) as terminal:
        is_loaded(terminal, server)
        end(how, terminal)
        is_over(home, server)
        if how != "lost":
            assert terminal.code() == 130
            terminal.is_restored()


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_draw_never_has_load_to_lose(term: str, how: str, server: Counting, home: Path) -> None:
    with Terminal(*words_of(server), home=home, more={"TERM": term}) as terminal:
        terminal.read(0.15)
        end(how, terminal)
        is_over(home, server)
        assert server.running == 0


@pytest.mark.parametrize("term", ["dumb", "unknown", "xterm", "screen"])
def test_without_a_terminal_nothing_is_started_whatever_term_says(term: str, server: Counting, home: Path) -> None:
    ended = tried(*words_of(server), home=home, more={"TERM": term})
    ended.is_in_words(2)
    assert "needs a terminal" in ended.err
    assert server.running == 0


DOES: dict[str, bytes] = {
    "help": b"?",
    "palette": b"\x10",
    "search": b"s",
    "export": b"e",
    "typing": b"c12",
    "quit": b"q",
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("does", DOES)
def test_whatever_the_screen_does_it_goes(does: str, how: str, server: Counting, home: Path) -> None:
    with Terminal(*words_of(server), home=home) as terminal:
        is_loaded(terminal, server)
        terminal.send(DOES[does])
        terminal.read(0.15)
        end(how, terminal)
        is_over(home, server)


@pytest.mark.parametrize("how", HOWS)
def test_a_terminal_that_takes_nothing_keeps_no_process(how: str, server: Counting, home: Path) -> None:
    """Neither the screen nor the words after it find room on it."""
    with Terminal(*words_of(server), "--fps", "20", home=home) as terminal:
        is_loaded(terminal, server)
        time.sleep(6)
        end(how, terminal)
        is_over(home, server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("stopped_by", [signal.SIGSTOP, signal.SIGTSTP])
def test_a_stopped_cockpit_is_woken_to_end(
    stopped_by: signal.Signals, number: signal.Signals, server: Counting, home: Path
) -> None:
    with Terminal(*words_of(server), home=home) as terminal:
        is_loaded(terminal, server)
        terminal.signal(stopped_by)
        terminal.read(0.5)
        terminal.signal(number)
        is_over(home, server, terminal)
        terminal.is_restored()


ASKS = {
    "kill %1": "kill %1",
    "kill -HUP %1": "kill -HUP %1",
    "in the background": "bg; sleep 1; kill $(jobs -p)",
    "by its number": "env kill $(jobs -p)",
    "stopped by force": "",
    "exit": "exit; exit",
}


@pytest.mark.parametrize("how", ASKS)
def test_a_suspended_job_that_is_told_to_end_leaves_the_shell_as_it_is(how: str, server: Counting, home: Path) -> None:
    """A shell edits its line in modes of its own: those of before the cockpit would take its echo."""
    shell = ("bash", "-c", "exec bash --norc --noprofile -i")
    with Terminal(home=home, command=shell) as terminal:
        terminal.until(b"bash")
        terminal.send(shlex.join([*COMMAND, *words_of(server)]).encode() + b"\n")
        is_loaded(terminal, server)
        before = [pid for pid in processes_of(home) if pid != terminal.process.pid]
        if how == "stopped by force":
            os.kill(min(before), signal.SIGSTOP)
            terminal.read(1.5)
            os.kill(min(before), signal.SIGTERM)
        else:
            terminal.send(b"\x1a")
            terminal.until(b"is suspended")
            terminal.read(1.0)
        modes = termios.tcgetattr(terminal.slave)
        terminal.send(ASKS[how].encode() + b"\n")
        limit = time.monotonic() + OFF_S + BUSY_S + 1.0
        while server.running or any(pid in processes_of(home) for pid in before):
            assert time.monotonic() < limit, (server.running, before, terminal.written[-500:])
            terminal.read(0.05)
        terminal.read(0.5)
        if how != "exit":
            assert termios.tcgetattr(terminal.slave) == modes
        for mode in (b"1049", b"1000", b"1003"):
            assert terminal.written.rfind(b"\x1b[?%bh" % mode) <= terminal.written.rfind(b"\x1b[?%bl" % mode)


@pytest.mark.parametrize("words", [(), ("--skip-checks", "--model", "m")])
def test_the_code_of_a_cockpit_tells_an_endpoint_that_never_answered(words: tuple[str, ...], home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with Terminal(f"http://127.0.0.1:{port}", *words, home=home) as terminal:
        terminal.until(b"TTFT")
        terminal.read(4.0)
        terminal.send(b"q")
        assert terminal.code() == 3
        terminal.is_restored()
    assert b"Traceback" not in terminal.written


@pytest.mark.parametrize("module", ["session.process", "simulator.server"])
def test_the_code_of_a_cockpit_tells_a_session_that_was_lost(module: str, home: Path) -> None:
    with Terminal("--sim", home=home) as terminal:
        terminal.until(b"TTFT")
        terminal.read(2.0)
        terminal.child(module).kill()
        terminal.read(3.0)
        terminal.send(b"q")
        terminal.read(0.5)
        if terminal.process.poll() is None:
            terminal.send(b"q")
        assert terminal.code() == (3 if module == "session.process" else 0)
        terminal.is_restored()


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGHUP, b"q", b"\x03"])
def test_who_waits_no_longer_for_a_server_that_does_not_drain_still_gets_the_summary(
    asked: signal.Signals | bytes, home: Path
) -> None:
    busy = Busy()
    with serving({"/v1/chat/completions": busy.answer}) as here:  # its own count never comes back to 0
        busy.asked = here.asked
        words = (here.url, "--concurrency", str(USERS), "--output-tokens", str(TOKENS))
        with Terminal(*words, home=home) as terminal:
            terminal.until(b"TTFT")
            while busy.running < USERS:
                terminal.read(0.05)
            terminal.send(b"q")
            terminal.until(b"DRAINING")
            begun = time.monotonic()
            terminal.send(asked) if isinstance(asked, bytes) else terminal.signal(asked)
            assert terminal.code() == (0 if isinstance(asked, bytes) else 130)
            assert time.monotonic() - begun < OFF_S
            assert b"run file:" in terminal.written
            terminal.is_restored()


@pytest.mark.parametrize("size", [(2000, 1000), (65535, 65535)])
def test_a_window_beyond_all_displays_is_drawn_on_in_part_and_left_as_any_other(
    size: tuple[int, int], home: Path
) -> None:
    with Terminal("--sim", home=home, size=size) as terminal:
        terminal.until(b"cells are drawn on")
        terminal.send(b"q")
        assert terminal.code() == 0
        terminal.is_restored()


FIRST_WORD_S = 0.15


def test_the_first_word_comes_at_once_and_is_gone_when_the_screen_has_been(server: Counting, home: Path) -> None:
    took = []
    for _ in range(3):
        begun = time.monotonic()
        with Terminal(server.url, home=home) as terminal:
            while b"starting" not in terminal.written and time.monotonic() < begun + 10:
                terminal.read(0.005)
            took.append(time.monotonic() - begun)
            terminal.until(b"TTFT")
            terminal.send(b"q")
            assert terminal.code() == 0
            said = terminal.written
            assert said.index(b"starting") < said.index(b"\x1b[K") < said.index(b"\x1b[?1049h")
    assert min(took) < FIRST_WORD_S, took


def test_after_a_minute_in_a_shell_the_run_is_over_and_fg_says_so_without_new_load(
    server: Counting, home: Path
) -> None:
    shell = ("bash", "-c", "exec bash --norc --noprofile -i")
    with Terminal(home=home, command=shell) as terminal:
        terminal.until(b"bash")
        terminal.send(shlex.join([*COMMAND, *words_of(server)]).encode() + b"\n")
        is_loaded(terminal, server)
        terminal.send(b"\x1a")
        terminal.until(b"is suspended")
        begun = time.monotonic()
        while server.running and time.monotonic() < begun + 70:
            terminal.read(0.2)
        assert 50 < time.monotonic() - begun < 70
        terminal.send(b"fg\n")
        terminal.until(b"nobody could see the load")
        terminal.send(b"c9\r")
        terminal.read(3.0)
        assert server.running == 0
        terminal.send(b"q")
        terminal.until(b"run file:")
        terminal.send(b"echo code $?\n")
        terminal.until(b"code 130")
