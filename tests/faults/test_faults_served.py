"""A server that the cockpit has started ends with it, however that ends; what goes wrong at a start is said."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from trying import Terminal

SERVER = Path(__file__).parents[1] / "session" / "own_server.py"
End = Callable[[Terminal], None]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def gone(port: int, limit_s: float = 12.0) -> bool:
    """Nobody answers there, and nobody is about to."""
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        named = [each for each in psutil.process_iter(["cmdline"]) if str(port) in " ".join(each.info["cmdline"] or [])]
        if not answers(port) and not named:
            return True
        time.sleep(0.1)
    return False


def command(port: int, misdeed: str = "") -> tuple[str, ...]:
    line = f"exec {sys.executable} -S {SERVER} {port} --slots {{slots}} --misdeed '{misdeed}'"
    return (f"http://127.0.0.1:{port}", "--serve", line, "--set", "slots=8", "--ascii")


def key(letters: bytes) -> End:
    return lambda terminal: terminal.send(letters)


def signalled(number: int) -> End:
    return lambda terminal: terminal.signal(number)


def session_killed(terminal: Terminal) -> None:
    terminal.child("llmtop.session.process").send_signal(signal.SIGKILL)
    terminal.read(1.0)
    terminal.send(b"q")


def keeper_killed(terminal: Terminal) -> None:
    terminal.child("llmtop.session.keeper").send_signal(signal.SIGKILL)
    terminal.read(1.0)
    terminal.send(b"q")


ENDS = {
    "q": key(b"q"),
    "ctrl-c": key(b"\x03"),
    "SIGTERM": signalled(signal.SIGTERM),
    "SIGKILL": signalled(signal.SIGKILL),
    "its terminal is gone": Terminal.hang_up,
    "its session is killed": session_killed,
    "its keeper is killed": keeper_killed,
}
PHASES = {"loading": ("never ready", b"loading"), "driven": ("", b"127.0.0.1"), "with a child": ("forks", b"127.0.0.1")}


@pytest.mark.faults
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("phase", PHASES)
def test_no_server_of_ours_outlives_the_cockpit(phase: str, end: str, home: Path, unused_port: int) -> None:
    if (phase, end) == ("with a child", "its keeper is killed"):
        pytest.skip("whoever is not there can end nobody's children")
    misdeed, sign = PHASES[phase]
    with Terminal(*command(unused_port, misdeed), home=home, size=(120, 40)) as terminal:
        until_s = time.monotonic() + 20
        while not answers(unused_port) and time.monotonic() < until_s:
            terminal.read(0.1)
        assert answers(unused_port)
        terminal.until(sign)
        terminal.read(1.5)
        terminal.family()
        ENDS[end](terminal)
        if end != "its terminal is gone":
            terminal.code()
        assert gone(unused_port)


@pytest.mark.faults
def test_ctrl_c_while_the_server_restarts_leaves_none(home: Path, unused_port: int) -> None:
    with Terminal(*command(unused_port), home=home, size=(120, 40)) as terminal:
        terminal.until(b"up ")
        terminal.send(b"k")
        terminal.read(1.0)
        terminal.send(b"16\r")
        terminal.until(b"restart the server with slots 16?")
        terminal.read(0.8)
        terminal.send(b"\r")
        terminal.until(b"starting the server with slots 16")
        terminal.send(b"\x03")
        terminal.code()
        assert gone(unused_port)


@pytest.mark.faults
def test_a_server_that_dies_at_its_first_start_is_an_exit_code_and_its_last_lines(home: Path, unused_port: int) -> None:
    with Terminal(*command(unused_port, "dies"), home=home, size=(120, 40)) as terminal:
        terminal.until(b"ended with exit code 1")
        terminal.send(b"q")
        assert terminal.code() == 3
        assert b"ValueError: \\x1b[31mno kernel image" in terminal.written
        assert gone(unused_port)


@pytest.mark.faults
def test_somebody_elses_server_is_not_driven_under_our_flags(home: Path, unused_port: int) -> None:
    other = subprocess.Popen([sys.executable, "-S", SERVER, str(unused_port)])
    try:
        while not answers(unused_port):
            time.sleep(0.05)
        with Terminal(*command(unused_port), home=home, size=(120, 40)) as terminal:
            terminal.until(b"the port is taken")
            terminal.send(b"q")
            assert terminal.code() == 3
            assert f"process {other.pid}".encode() in terminal.written
        assert answers(unused_port)
    finally:
        other.kill()
        other.wait()


@pytest.mark.faults
def test_a_command_sees_what_its_user_sees_and_nothing_of_ours(home: Path, unused_port: int) -> None:
    told = home / "told"
    url, serve, line, *rest = command(unused_port)
    more = {"HF_TOKEN": "mine", "LD_LIBRARY_PATH": "/x"}
    with Terminal(url, serve, f"env > {told}; {line}", *rest, home=home, more=more, size=(120, 40)) as terminal:
        terminal.until(b"up ")
        terminal.send(b"q")
        terminal.code()
    seen = dict(row.partition("=")[::2] for row in told.read_text().splitlines())
    assert (seen["HF_TOKEN"], seen["LD_LIBRARY_PATH"]) == ("mine", "/x")
    assert "OPENBLAS_NUM_THREADS" not in seen or "OPENBLAS_NUM_THREADS" in os.environ
