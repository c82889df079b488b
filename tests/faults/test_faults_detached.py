"""Runs that were left: what becomes of load, file, socket and processes, whoever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from busy import TOKENS, Busy
from trying import environment, family, living, says, serving

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.slo import Slo
from llmtop.host import messages
from llmtop.host.options import HostOptions
from llmtop.recording.reader import RunReader
from llmtop.session.options import SessionOptions

OFF_S = 10.0
"""Far less than what ends load that nobody sees."""
ALONE_S = 1.5
USERS = 3
BASE = LoadPoint(concurrency=USERS, prompt_tokens=32, output_tokens=TOKENS)

SCREEN = """
import signal, sys, threading, time
from llmtop.domain.commands import Detach, Quit, Seen, TakeWheel
from llmtop.host import messages
from llmtop.host.attached import Attached
from llmtop.host.running import find

def look():
    while screen.shown().ended is None and not screen.left:
        screen.send(Seen())
        time.sleep(0.2)
    print("over", screen.left, screen.shown().ended, flush=True)

if sys.argv[1] == "join":
    screen = Attached.join(find(None), view=False)
    screen.send(TakeWheel())
else:
    screen = Attached.begin(messages.decode_options(bytes.fromhex(sys.argv[1])))
signal.signal(signal.SIGHUP, lambda number, frame: screen.send(Quit(patient=False, signal=number)))
threading.Thread(target=look, daemon=True).start()
while not screen.name or not screen.shown().wheel.mine:
    time.sleep(0.02)
print("there", screen.name, flush=True)
for line in sys.stdin:
    if line == "detach\\n":
        screen.send(Detach())
    elif line == "close\\n":
        screen.close()
        break
"""


def here(home: Path) -> dict[str, str]:
    """With paths that are short enough for a socket."""
    return environment(home, {"XDG_DATA_HOME": str(home)})


class Screen:
    """A process with a run on it, or at one that goes on."""

    def __init__(self, home: Path, *words: str) -> None:
        python = [sys.executable, "-P", "-c", SCREEN, *words]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(python, stdin=pipe, stdout=pipe, env=here(home), text=True)
        self.family: list[psutil.Process] = []

    def says(self, word: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                self.family = family(self.process.pid)
                return line
        raise AssertionError(f"it has ended without saying {word!r}")

    def asked(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def child(self, module: str) -> psutil.Process:
        return next(each for each in living(self.family) if any(module in word for word in each.cmdline()))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


class Begun:
    """A run with three requests under way, and the screen that began it."""

    def __init__(self, home: Path, busy: Busy, url: str, **options: object) -> None:
        self.home, self.busy = home, busy
        self.file = home / "run.llmtop"
        self.runs = home / "llmtop" / "runs"
        profile = Profile(name="hand", plan=LoadPlan(stages=(), base=BASE))
        session = SessionOptions(endpoint=Endpoint(base_url=url), profile=profile, run_file=str(self.file))
        asked = HostOptions(session=session, slo=Slo(), **options)  # type: ignore[arg-type]
        self.screen = Screen(home, messages.encode(asked).hex())
        self.screens = [self.screen]
        self.screen.says("there")
        self.until(lambda: busy.running == USERS)

    def join(self) -> Screen:
        """Another screen, which takes the wheel."""
        screen = Screen(self.home, "join")
        self.screens.append(screen)
        screen.says("there")
        return screen

    def until(self, condition: Callable[[], object], limit_s: float = 30.0) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            time.sleep(0.02)

    def detach(self) -> None:
        self.screen.asked("detach")
        assert self.screen.says("over").startswith("over True None")
        self.screen.asked("close")
        assert self.screen.process.wait(30) == 0

    def goes_on(self, for_s: float) -> None:
        """Load and processes stay."""
        deadline = time.monotonic() + for_s
        while time.monotonic() < deadline:
            assert self.busy.running == USERS
            time.sleep(0.05)
        assert len(living(self.screen.family)) >= 2
        assert (self.runs / "run.sock").exists()

    def is_over(self, ending: str | None) -> None:
        """Within what is promised there is neither load, nor process, nor socket; and the file is closed."""
        assert self.busy.off_after(OFF_S) is not None, "the load stays"
        self.until(lambda: not living(self.screen.family))
        assert not self.runs.exists() or list(self.runs.iterdir()) == []
        with contextlib.closing(sqlite3.connect(self.file)) as file:
            (text,) = file.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()
        meta = json.loads(text)
        assert meta.get("ended_s") is not None
        assert meta.get("ending") == ending
        for log in self.home.rglob("*.log"):
            assert "Traceback" not in log.read_text()

    def events(self) -> list[str]:
        with RunReader(self.file) as reader:
            return [event.text for batch in reader.batches() for event in batch.events]


@contextlib.contextmanager
def begun(home: Path, **options: object) -> Iterator[Begun]:
    busy = Busy()
    with serving({"/v1/chat/completions": busy.answer, "/metrics": says(404, b"")}) as server:
        busy.asked = server.asked
        run = Begun(home, busy, server.url, **options)
        try:
            yield run
        finally:
            for screen in run.screens:
                screen.end()
            for process in living(run.screen.family):
                with contextlib.suppress(psutil.Error):
                    process.kill()


def test_a_run_ends_with_the_screen_that_holds_it_when_that_is_killed(home: Path) -> None:
    with begun(home) as run:
        run.screen.process.kill()
        run.is_over(None)


def test_a_run_that_was_left_outlives_its_screens_and_is_over_when_nobody_came_back(home: Path) -> None:
    with begun(home, detached_for_s=ALONE_S) as run:
        joined = run.join()
        run.detach()
        run.goes_on(ALONE_S + 0.3)
        joined.process.kill()
        alone_s = time.monotonic()
        run.until(lambda: run.busy.running == 0)
        assert time.monotonic() - alone_s > ALONE_S / 2, "it is not over at once when its last screen goes"
        run.is_over("unseen")
        assert any(f"nobody came back to the detached run for {ALONE_S:g} s" in text for text in run.events())


@pytest.mark.faults
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
def test_a_hang_up_leaves_a_run_that_is_to_be_kept(how: signal.Signals, home: Path) -> None:
    with begun(home, keep_on_hangup=True) as run:
        run.screen.process.send_signal(how)
        if how == signal.SIGHUP:
            assert run.screen.says("over").startswith("over True None")
            run.screen.asked("close")
        run.goes_on(3.0)
        run.screen.child("host.process").terminate()
        run.is_over("hand")


@pytest.mark.faults
def test_a_hang_up_ends_any_other_run(home: Path) -> None:
    with begun(home) as run:
        run.screen.process.send_signal(signal.SIGHUP)
        assert run.busy.off_after(OFF_S) is not None
        run.screen.asked("close")
        run.is_over("hand")


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_to_the_host_ends_a_run_that_was_left_in_order(number: signal.Signals, home: Path) -> None:
    with begun(home) as run:
        run.detach()
        run.screen.child("host.process").send_signal(number)
        run.is_over("hand")


@pytest.mark.faults
@pytest.mark.parametrize("left", [False, True])
def test_kill_nine_of_the_host_ends_the_load_and_its_screens_hear_of_it(left: bool, home: Path) -> None:
    with begun(home) as run:
        joined = None
        if left:
            run.detach()
            joined = run.join()
        host = run.screen.child("host.process")
        host.kill()
        assert run.busy.off_after(OFF_S) is not None
        screen = joined or run.screen
        assert "the process that attends to the run" in screen.says("over")
        screen.asked("close")
        assert screen.process.wait(30) == 0
        run.until(lambda: not living(run.screen.family))
        socket = run.runs / "run.sock"
        assert socket.exists(), "nobody was left to take it away"
        os.utime(socket, (1.0, 1.0))
        listed = "from llmtop.host.running import running; print(len(running()))"
        python = [sys.executable, "-P", "-c", listed]
        told = subprocess.run(python, env=here(home), capture_output=True, text=True, check=True)
        assert told.stdout == "0\n"
        assert not socket.exists()
        with RunReader(run.file) as reader:
            assert reader.complete


@pytest.mark.faults
def test_kill_nine_of_the_session_of_a_run_that_was_left_leaves_nothing(home: Path) -> None:
    with begun(home) as run:
        run.detach()
        run.screen.child("session.process").kill()
        assert run.busy.off_after(OFF_S) is not None
        run.until(lambda: not living(run.screen.family))
        assert list(run.runs.iterdir()) == []


@pytest.mark.faults
def test_a_run_is_stopped_by_another_process_and_its_screen_hears_of_it(home: Path) -> None:
    with begun(home) as run:
        stops = "from llmtop.host.running import find, stop; stop(find(None))"
        subprocess.run([sys.executable, "-P", "-c", stops], env=here(home), check=True, timeout=30)
        assert run.busy.running == 0
        assert "Ended(error=None, exit_code=0)" in run.screen.says("over")
        run.screen.asked("close")
        run.is_over("hand")
