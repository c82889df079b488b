"""The session's process: frames and facts come, commands go, and nothing is left behind whatever ends the screen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from llmtop.domain.commands import AddMark, SetLoad
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.recording import RunReader
from llmtop.session.link import SessionLink
from llmtop.session.options import SessionOptions

BASE = LoadPoint(concurrency=2, prompt_tokens=32, output_tokens=8)


def options(path: Path) -> SessionOptions:
    return SessionOptions(profile=Profile(name="hand", plan=LoadPlan(stages=(), base=BASE)), run_file=str(path))


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def test_frames_facts_and_commands_cross(tmp_path: Path) -> None:
    link = SessionLink(options(tmp_path / "run.llmtop"))
    try:
        until(lambda: (frame := link.frame()) is not None and frame.totals.ok > 3)
        assert link.meta is not None
        assert link.meta.info is not None
        link.send(SetLoad(LoadPoint(concurrency=7, prompt_tokens=32, output_tokens=8)))
        link.send(AddMark("seven"))
        until(lambda: (frame := link.frame()) is not None and frame.in_flight == 7 and len(frame.marks) == 1)
        until(lambda: len(link.facts.requests) > 3)
        assert link.alive
    finally:
        link.close()
    assert not link.alive
    assert link.error is None
    frame = link.frame()
    assert frame is not None
    assert frame.in_flight == 0
    facts = link.facts
    with RunReader(tmp_path / "run.llmtop") as run:
        assert sum(len(batch.requests) for batch in run.batches()) == len(facts.requests) == frame.totals.sent


def test_a_run_file_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    path = tmp_path / "run.llmtop"
    path.write_text("mine")
    link = SessionLink(options(path))
    until(lambda: not link.alive)
    link.close()
    assert link.error is not None
    assert "exists already" in link.error
    assert link.exit_code == 2


def test_a_session_that_is_killed_is_noticed(tmp_path: Path) -> None:
    link = SessionLink(options(tmp_path / "run.llmtop"))
    until(lambda: link.frame() is not None)
    children = psutil.Process().children(recursive=True)
    os.kill(link._child.pid, signal.SIGKILL)
    until(lambda: not link.alive)
    link.close()
    assert link.error is not None
    assert "ended unasked" in link.error
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_kill_nine_of_the_screen_leaves_no_orphan(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_session_link import SessionLink, options\n"
        "link = SessionLink(options(pathlib.Path(sys.argv[1])))\n"
        "while (frame := link.frame()) is None or frame.totals.ok < 2: time.sleep(0.02)\n"
        "print('driving', flush=True)\n"
        "time.sleep(60)\n"
    )
    path = tmp_path / "run.llmtop"
    here = str(Path(__file__).parent)
    with subprocess.Popen([sys.executable, "-c", script, str(path), here], stdout=subprocess.PIPE) as screen:
        assert screen.stdout is not None
        assert screen.stdout.readline().strip() == b"driving"
        children = psutil.Process(screen.pid).children(recursive=True)
        assert len(children) >= 2, "the session and the simulated engine"
        screen.kill()
        _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    with RunReader(path) as run:
        assert run.complete
