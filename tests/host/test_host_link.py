"""The session's process: frames and facts come, commands go, and nothing is left behind whatever ends the host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest
from attended import all_end, until

from llmtop.domain.commands import AddMark, SetLoad
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.run import Ended, Told
from llmtop.host import link as link_module
from llmtop.host.link import SessionLink
from llmtop.recording.reader import RunReader
from llmtop.session import messages
from llmtop.session.options import SessionOptions

BASE = LoadPoint(concurrency=2, prompt_tokens=32, output_tokens=8)


def options(path: Path, endpoint: Endpoint | None = None) -> SessionOptions:
    """Of the simulated engine, if there is no endpoint."""
    profile = Profile(name="hand", plan=LoadPlan(stages=(), base=BASE))
    return SessionOptions(profile=profile, run_file=str(path), endpoint=endpoint)


def test_frames_facts_and_commands_cross(tmp_path: Path) -> None:
    link = SessionLink(options(tmp_path / "run.llmtop"))
    told: list[Told] = []

    def requests() -> int:
        told.append(link.take())
        return sum(len(batch.requests) for some in told for batch in some.batches)

    try:
        until(lambda: (frame := link.frame()) is not None and frame.totals.ok > 0)
        link.send(SetLoad(LoadPoint(concurrency=7, prompt_tokens=32, output_tokens=8)))
        link.send(AddMark("seven"))
        until(lambda: (frame := link.frame()) is not None and frame.in_flight == 7 and len(frame.marks) == 1)
        until(lambda: requests() > 0)
        metas = [some.meta for some in told if some.meta is not None]
        assert metas[-1].info is not None
        assert told[-1].ended is None
    finally:
        link.close()
    frame = link.frame()
    assert frame is not None
    assert frame.in_flight == 0
    with RunReader(tmp_path / "run.llmtop") as run:
        assert sum(len(batch.requests) for batch in run.batches()) == requests() == frame.totals.sent
    assert told[-1].ended == Ended()


def test_a_run_file_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    path = tmp_path / "run.llmtop"
    path.write_text("mine")
    link = SessionLink(options(path, Endpoint(base_url="http://127.0.0.1:9")))
    until(lambda: (ended := link.take().ended) is not None and ended.error is not None)
    link.close()
    ended = link.take().ended
    assert ended is not None
    assert "exists already" in (ended.error or "")
    assert ended.exit_code == 2


def test_a_session_that_is_killed_is_noticed(tmp_path: Path) -> None:
    link = SessionLink(options(tmp_path / "run.llmtop"))
    until(lambda: link.frame() is not None)
    children = psutil.Process().children(recursive=True)
    os.kill(link._child.pid, signal.SIGKILL)
    until(lambda: link.take().ended is not None)
    link.close()
    ended = link.take().ended
    assert ended is not None
    assert "ended unasked" in (ended.error or "")
    all_end(children)


def test_kill_nine_of_the_host_leaves_no_orphan_and_a_whole_run_file(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from llmtop.host.link import SessionLink\n"
        "from llmtop.session.messages import decode_options\n"
        "link = SessionLink(decode_options(bytes.fromhex(sys.argv[1])))\n"
        "while (frame := link.frame()) is None or frame.totals.ok < 1: time.sleep(0.02)\n"
        "print('driving', flush=True)\n"
        "time.sleep(60)\n"
    )
    path = tmp_path / "run.llmtop"
    asked = msgspec.msgpack.encode(options(path)).hex()
    with subprocess.Popen([sys.executable, "-c", script, asked], stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        assert host.stdout.readline().strip() == b"driving"
        children = psutil.Process(host.pid).children(recursive=True)
        assert len(children) >= 2, "the session and the simulated engine"
        host.kill()
        all_end(children)
    with RunReader(path) as run:
        assert run.complete


def test_a_session_that_says_what_nobody_understands_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def garbled(body: bytes) -> messages.Message:
        raise msgspec.DecodeError("no such message")

    monkeypatch.setattr(messages, "decode_message", garbled)
    link = SessionLink(options(tmp_path / "run.llmtop"))
    until(lambda: link.take().ended is not None)
    assert not link._child.alive
    link.close()


def test_a_session_that_has_not_said_a_word_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "SPEECHLESS_S", 0.0)
    link = SessionLink(options(tmp_path / "run.llmtop"))
    link.close(timeout_s=60.0)
    assert not link._child.alive
    assert link.frame() is None, "it was ended before it could begin"
    assert not (tmp_path / "run.llmtop").exists()
