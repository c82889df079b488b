"""Commands without a screen: a signal is heard wherever it comes and said, nothing is left, the file is whole."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from busy import TOKENS, Busy
from trying import Misdeed, Tried, family, says, serving, tried

from llmtop.recording.reader import RunReader

HEARD_S = 1.0
LOAD = ("--output-tokens", str(TOKENS))
BUSY_S = 1.0
"""Allowed on top on a machine that does other work."""


def drips(connection: socket.socket) -> None:
    """A byte a second, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(1)


def hangs(connection: socket.socket) -> None:
    time.sleep(120)


class Signals:
    """Sent to a command while it runs; `heard_s` after the last of them it had ended."""

    def __init__(self, *numbers: int, after_s: float = 0.0, when: Callable[[], bool] = lambda: True) -> None:
        self._numbers, self._after_s, self._when = numbers, after_s, when
        self._heard_s: float | None = None
        self._over = threading.Event()

    @property
    def heard_s(self) -> float:
        assert self._over.wait(5)
        assert self._heard_s is not None
        return self._heard_s

    def __call__(self, process: subprocess.Popen[bytes]) -> None:
        while not self._when() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(self._after_s)
        for place, number in enumerate(self._numbers):
            time.sleep(0.4 if place else 0.0)
            if process.poll() is None:
                os.kill(process.pid, number)
        sent_s = time.monotonic()
        while process.poll() is None:
            time.sleep(0.01)
        self._heard_s = time.monotonic() - sent_s
        self._over.set()


def closed(path: Path) -> bool:
    with RunReader(path) as run:
        return run.complete


def run(home: Path, *words: str, during: Callable[[subprocess.Popen[bytes]], None], limit_s: float = 40.0) -> Tried:
    record = str(home / "run.llmtop")
    return tried("run", *words, "--json", "--record", record, home=home, during=during, limit_s=limit_s)


def has_load(home: Path) -> Callable[[], bool]:
    """Whether the run file tells of load."""

    def look() -> bool:
        with contextlib.suppress(Exception), RunReader(home / "run.llmtop") as reader:
            return any(bin_.in_flight for batch in reader.batches() for bin_ in batch.bins)
        return False

    return look


def interrupted(ended: Tried, home: Path) -> None:
    """In words, and everything that it wrote says so."""
    ended.is_in_words(130)
    assert "interrupted" in ended.err + ended.out
    if ended.out:
        told = json.loads(ended.out)
        assert told["interrupted"]
        assert (told["ending"], told["exit_code"]) == ("hand", 130)
    if (home / "run.llmtop").exists():
        assert closed(home / "run.llmtop")
    for log in home.rglob("*.log"):
        assert "Traceback" not in log.read_text()


# ── A run ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=() if number == signal.SIGTERM else pytest.mark.faults, id=number.name)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    ],
)
def test_a_signal_ends_a_run_in_order(number: signal.Signals, home: Path) -> None:
    busy = Busy()
    with serving({"/v1/chat/completions": busy.answer, "/metrics": says(404, b"")}) as server:
        busy.asked = server.asked
        asked = Signals(number, when=lambda: busy.running > 0)
        interrupted(run(home, "smoke", server.url, *LOAD, during=asked), home)
    assert asked.heard_s < HEARD_S + BUSY_S
    assert busy.off_after(1.0) is not None


@pytest.mark.faults
def test_a_hang_up_that_is_to_be_ignored_stays_so(home: Path) -> None:
    asked = Signals(signal.SIGHUP, signal.SIGHUP, when=has_load(home))
    record = str(home / "run.llmtop")
    words = ("run", "smoke", "--sim", "--duration", "4", "--unknown-ok", "--record", record)
    ended = tried(*words, home=home, during=asked, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None)
    ended.is_in_words(0, 1, 4)
    assert "interrupted" not in ended.said


@pytest.mark.faults
def test_the_second_interrupt_does_not_wait_for_the_server(home: Path) -> None:
    busy = Busy()
    with serving({"/v1/chat/completions": busy.answer}) as server:  # its own count never comes back to 0
        busy.asked = server.asked
        asked = Signals(signal.SIGINT, signal.SIGINT, when=lambda: busy.running > 0)
        ended = run(home, "smoke", server.url, *LOAD, during=asked)
    ended.is_in_words(130)
    assert asked.heard_s < HEARD_S
    assert closed(home / "run.llmtop"), "its session ends it in order all the same"


@pytest.mark.faults
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/version", "/v1/chat/completions"])
@pytest.mark.parametrize("misdeed", [hangs, drips])
@pytest.mark.parametrize("command", ["run", "doctor"])
def test_an_interrupt_is_heard_while_a_probe_waits(command: str, misdeed: Misdeed, path: str, home: Path) -> None:
    with serving({path: misdeed}) as server:
        asked = Signals(
            signal.SIGINT, after_s=1.0, when=lambda: any(path.encode() + b" " in head for head in server.asked)
        )
        words = ("run", "smoke", server.url, "--record", str(home / "run.llmtop"))
        ended = tried(*(words if command == "run" else ("doctor", server.url)), home=home, during=asked)
    if ended.code != 130:  # it had answered before
        ended.is_in_words(0)
    ended.is_in_words(130, 0)
    assert asked.heard_s < HEARD_S + BUSY_S + (0 if command == "doctor" else 1)


MOMENTS_S = sorted(random.Random(7).uniform(0.0, 4.0) for _ in range(20))


@pytest.mark.faults
@pytest.mark.parametrize("moment_s", [0.02, 0.04, 0.06, 0.08, 0.1, *MOMENTS_S])
def test_an_interrupt_at_any_moment_leaves_no_traceback_and_no_process(moment_s: float, home: Path) -> None:
    asked = Signals(signal.SIGINT, after_s=moment_s)
    ended = run(home, "smoke", "--sim", "--duration", "8", during=asked)
    if ended.code == -signal.SIGINT or "KeyboardInterrupt" in ended.err:
        assert moment_s < 0.2, "only the interpreter's own start is not ours"
        return
    interrupted(ended, home)


@pytest.mark.faults
@pytest.mark.parametrize("module", ["session.process", "simulator.server"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_ends_by_itself_when_a_part_of_it_was_killed(module: str, number: signal.Signals, home: Path) -> None:
    def kill(process: subprocess.Popen[bytes]) -> None:
        while not has_load(home)():
            time.sleep(0.05)
        for each in family(process.pid):
            with contextlib.suppress(psutil.Error):
                if any(module in word for word in each.cmdline()):
                    each.send_signal(number)

    ended = run(home, "smoke", "--sim", "--duration", "6", during=kill)
    ended.is_in_words(3, 130)
    assert ended.wall_s < 35
    with RunReader(home / "run.llmtop") as reader:
        assert list(reader.batches())


@pytest.mark.faults
@pytest.mark.parametrize("all_of_them", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP])
def test_workers_that_are_killed_are_said_and_none_is_left(
    number: signal.Signals, all_of_them: bool, home: Path
) -> None:
    def kill(process: subprocess.Popen[bytes]) -> None:
        while not has_load(home)():
            time.sleep(0.05)
        workers = [each for each in family(process.pid) if "llmtop.load.worker" in " ".join(each.cmdline())]
        assert len(workers) == 2
        for worker in workers if all_of_them else workers[:1]:
            worker.send_signal(number)

    ended = run(home, "smoke", "--sim", "--duration", "6", "--workers", "2", during=kill, limit_s=110)
    ended.is_in_words(0, 1, 3, 4, 5)
    if number in (signal.SIGKILL, signal.SIGTERM):
        with RunReader(home / "run.llmtop") as reader:
            events = [event.text for batch in reader.batches() for event in batch.events]
        assert any("died by signal" in text for text in events) or "died by signal" in ended.err
        assert (ended.code == 3) is all_of_them


# ── Other commands ────────────────────────────────────────────────────────────────────────────────────────────────────

COMMANDS = {
    "predict": ("predict", "laptop"),
    "selftest": ("selftest", "--seconds", "5"),
    "sim": ("sim",),
    "report": ("report", "run.llmtop"),
    "assess": ("assess", "run.llmtop"),
    "profiles": ("profiles",),
    "replay": ("replay", "run.llmtop"),
}


@pytest.mark.faults
@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_at_any_moment_of_other_commands_is_one_word(name: str, home: Path) -> None:
    if "run.llmtop" in COMMANDS[name]:
        made = run(home, "smoke", "--sim", "--duration", "3", during=lambda process: None)
        assert made.code is not None
    random_s = random.Random(name)
    for moment_s in sorted(random_s.uniform(0.1, 1.5) for _ in range(5)):
        asked = Signals(signal.SIGINT, after_s=moment_s)
        ended = tried(*COMMANDS[name], home=home, cwd=home, during=asked)
        if "KeyboardInterrupt" in ended.err and moment_s < 0.2:
            continue
        ended.is_in_words(130, *((0, 2) if name not in ("sim", "selftest") else (0,) if name == "sim" else ()))
        if ended.code == 130:
            assert ended.err == "llmtop: interrupted\n"
            assert asked.heard_s < HEARD_S


@pytest.mark.faults
def test_a_simulated_server_ends_as_servers_do(home: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):

        def ask(process: subprocess.Popen[bytes], number: int = number) -> None:
            server = psutil.Process(process.pid)
            while not any(each.status == psutil.CONN_LISTEN for each in server.net_connections()):
                time.sleep(0.02)
            process.send_signal(number)

        tried("sim", home=home, during=ask).is_in_words(0)
