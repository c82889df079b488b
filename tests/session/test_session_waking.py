"""A host that was stopped hears of no signal: its session sees that one waits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmtop.session.waking import asked_to_end

STATUS = "Name:\tllmtop\nState:\t{state}\nSigQ:\t1/1\nSigPnd:\t{own:016x}\nShdPnd:\t{shared:016x}\nThreads:\t4\n"


def bit(number: int) -> int:
    return 1 << (number - 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("where", ["own", "shared"])
def test_a_stopped_host_before_which_an_end_waits_is_to_go_on(number: int, where: str) -> None:
    counts = {"own": 0, "shared": 0, where: bit(number) | bit(signal.SIGWINCH)}
    assert asked_to_end(STATUS.format(state="T (stopped)", **counts))
    for state in ("S (sleeping)", "R (running)", "t (tracing stop)", "Z (zombie)"):
        assert not asked_to_end(STATUS.format(state=state, **counts))


@pytest.mark.parametrize("number", [signal.SIGWINCH, signal.SIGTSTP, signal.SIGUSR1, signal.SIGCHLD])
def test_other_signals_do_not_end_its_rest(number: int) -> None:
    assert not asked_to_end(STATUS.format(state="T (stopped)", own=0, shared=bit(number)))


@pytest.mark.parametrize("text", ["", "State:", "no line of it"])
def test_what_tells_nothing_wakes_nobody(text: str) -> None:
    assert not asked_to_end(text)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_a_child_that_is_stopped_and_then_told_to_end_reads_so() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        status = Path(f"/proc/{child.pid}/status")
        child.send_signal(signal.SIGSTOP)
        while "T (stopped)" not in (told := status.read_text()):
            time.sleep(0.01)
        assert not asked_to_end(told)
        child.send_signal(signal.SIGTERM)
        assert asked_to_end(status.read_text())
        child.kill()
