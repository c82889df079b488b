"""A server of ours is started by its command, proven, and gone with all that it has started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.server_command import Kind, ServerCommand
from llmtop.errors import ServeError
from llmtop.session.kept import LOGS_KEPT, Log
from llmtop.session.served import Limits, Served

SERVER = Path(__file__).with_name("own_server.py")
QUICK = Limits(ready_s=60.0, grace_s=1.0, release_s=2.0, settle_s=1.0)
Start = Callable[..., Served]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def start(unused_port: int) -> Iterator[Start]:
    """Makes a `Served` of the server of these tests, or of another command."""
    made: list[Served] = []

    def make(misdeed: str = "", *, command: str | None = None, kind: Kind = "serve", limits: Limits = QUICK) -> Served:
        line = command or f"exec {sys.executable} -S {SERVER} {unused_port} --slots {{slots}} --misdeed '{misdeed}'"
        endpoint = Endpoint(base_url=f"http://127.0.0.1:{unused_port}")
        made.append(Served(ServerCommand(line, kind), endpoint, limits=limits))
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert not answers(unused_port)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_is_ready_and_proven_and_then_none_is_left(start: Start, unused_port: int) -> None:
    served = start()
    proof = served.put({"slots": "8"})
    assert (proof.ok, proof.restarted, proof.knobs) == (True, True, (("slots", "8", "8"),))
    assert served.died is None
    served.close()
    served.close()
    assert not answers(unused_port)


def test_a_server_that_dies_at_its_start_is_told_with_its_last_lines(start: Start) -> None:
    served, began_s = start("dies"), time.monotonic()
    with pytest.raises(ServeError, match="ended with exit code 1 before it was ready") as caught:
        served.put({"slots": "8"})
    assert caught.value.tail == ("loading weights", r"ValueError: \x1b[31mno kernel image\x1b[0m")
    assert caught.value.exit_code == 3
    assert time.monotonic() - began_s < QUICK.ready_s


def test_a_command_that_applies_is_told_with_its_exit_code_and_words(start: Start) -> None:
    with pytest.raises(ServeError, match="the command ended with exit code 7") as caught:
        start(command="echo no such service >&2; exit 7", kind="apply").put({})
    assert caught.value.tail == ("no such service",)


def test_a_log_shows_what_a_terminal_would_have_shown_last() -> None:
    log = Log()
    since = log.mark()
    os.write(log.fileno(), b"10%\r50%\r100%\r\n\n\xff\x00 binary\n")
    assert log.tail(since=since) == ("100%", "\ufffd\\x00 binary")
    assert log.tail(1) == ("\ufffd\\x00 binary",)
    log.close()


def test_only_the_newest_logs_are_kept(tmp_path: Path) -> None:
    for _ in range(LOGS_KEPT + 2):
        Log().close()
    assert len(list(tmp_path.glob("**/served-*.log"))) == LOGS_KEPT


# ── What takes its time ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.faults
def test_another_server_takes_the_place_of_the_one_before(start: Start) -> None:
    served = start()
    assert [served.put({"slots": slots}).knobs[0][2] for slots in ("8", "16", "4")] == ["8", "16", "4"]


@pytest.mark.faults
def test_a_server_that_ignores_the_flag_is_not_applied(start: Start) -> None:
    proof = start("ignores").put({"slots": "8"})
    assert (proof.ok, proof.text) == (False, "not applied: it says slots 32 instead of 8")


@pytest.mark.faults
def test_a_server_that_is_never_ready_is_ended_when_its_time_is_over(start: Start, unused_port: int) -> None:
    with pytest.raises(ServeError, match=r"not ready within 2 s \(--ready-within\): .*503"):
        start("never ready", limits=Limits(ready_s=2.0, grace_s=1.0)).put({"slots": "8"})
    assert not answers(unused_port)


@pytest.mark.faults
@pytest.mark.parametrize("misdeed", ["stubborn", "forks"])
def test_what_does_not_heed_sigterm_or_has_children_is_gone_all_the_same(
    start: Start, unused_port: int, misdeed: str
) -> None:
    served = start(misdeed)
    assert served.put({"slots": "8"}).ok is True
    served.close()
    assert not answers(unused_port)


@pytest.mark.faults
def test_a_server_that_slips_away_is_no_foreground_process_and_is_ended(start: Start, unused_port: int) -> None:
    with pytest.raises(ServeError, match=r"exit code 0 before it was ready; .* is for --apply"):
        start("strays").put({"slots": "8"})
    time.sleep(0.2)
    assert not answers(unused_port)


@pytest.mark.faults
def test_a_hundred_megabytes_of_log_are_bounded_and_the_last_line_is_there(start: Start) -> None:
    served = start("chatters")
    assert served.put({"slots": "8"}).ok is True
    assert served.log_path is not None
    assert served.log_path.stat().st_size < 1 << 24
    assert served.tail[-1] == "\ufffd\\x00\\x1b[2Jthe last line"


@pytest.mark.faults
def test_a_port_that_is_somebody_elses_is_not_driven_under_our_flags(start: Start, unused_port: int) -> None:
    other = subprocess.Popen([sys.executable, "-S", SERVER, str(unused_port)])
    try:
        while not answers(unused_port):
            time.sleep(0.05)
        with pytest.raises(ServeError, match=rf"the port is taken by .*\(process {other.pid}\)"):
            start().put({"slots": "8"})
        assert answers(unused_port)
    finally:
        other.kill()
        other.wait()


@pytest.mark.faults
@pytest.mark.parametrize("after_s", [0.1, 0.6, 1.5])
def test_a_wish_to_end_is_heard_in_each_phase(start: Start, unused_port: int, after_s: float) -> None:
    served, began_s = start("never ready"), time.monotonic()
    timer = threading.Timer(after_s, served.close)
    timer.start()
    with pytest.raises(ServeError, match="interrupted"):
        served.put({"slots": "8"})
    timer.join()
    assert time.monotonic() - began_s < QUICK.ready_s
    assert not answers(unused_port)


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("misdeed", ["", "never ready", "forks"])
def test_no_server_outlives_who_started_it(tmp_path: Path, unused_port: int, misdeed: str, number: int) -> None:
    line = f"{sys.executable} -S {SERVER} {unused_port} --slots 8 --misdeed '{misdeed}'"
    source = (
        "from llmtop.session.served import *; from llmtop.domain.endpoint import Endpoint; import time\n"
        f"served = Served(ServerCommand({line!r}), Endpoint(base_url='http://127.0.0.1:{unused_port}'),"
        " limits=Limits(grace_s=1.0))\nserved.put({})\ntime.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", source], stderr=subprocess.DEVNULL)
    until_s = time.monotonic() + 20
    while not answers(unused_port) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert answers(unused_port)
    owner.send_signal(number)
    owner.wait()
    until_s = time.monotonic() + 6
    while answers(unused_port) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not answers(unused_port)
    assert not [each for each in psutil.process_iter(["cmdline"]) if str(unused_port) in (each.info["cmdline"] or [])]


@pytest.mark.faults
def test_what_was_applied_is_proven_and_outlives_us(start: Start, tmp_path: Path, unused_port: int) -> None:
    pid = tmp_path / "pid"
    run = f"setsid {sys.executable} -S {SERVER} {unused_port} --slots {{slots}} >/dev/null 2>&1 & echo $! > {pid}"
    command = f"test ! -e {pid} || kill $(cat {pid}); sleep 0.3; {run}"
    served = start(command=command, kind="apply", limits=Limits(ready_s=20.0, settle_s=1.0))
    try:
        for slots in ("8", "16"):
            proof = served.put({"slots": slots})
            assert (proof.ok, proof.restarted) == (True, True), proof
        served.close()
        assert answers(unused_port)
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)
        time.sleep(0.1)


@pytest.mark.faults
def test_a_command_that_changes_nothing_is_not_applied(start: Start, unused_port: int) -> None:
    other = subprocess.Popen([sys.executable, "-S", SERVER, str(unused_port), "--slots", "8"])
    try:
        while not answers(unused_port):
            time.sleep(0.05)
        proof = start(command="echo {slots} {colour}", kind="apply").put({"slots": "16", "colour": "red"})
        assert (proof.ok, proof.restarted) == (False, False)
        proof = start(command="echo {colour}", kind="apply").put({"colour": "red"})
        assert proof.text == "not applied: the same process as before, and it does not tell colour"
    finally:
        other.kill()
        other.wait()
