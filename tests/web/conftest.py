"""Lets the tests of this room import what they share by name; a run that goes on, and `llmtop serve` beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.host.attached import Attached
from llmtop.host.options import HostOptions
from llmtop.session.options import SessionOptions

sys.path.insert(0, str(Path(__file__).parent))
USERS = 4


class Run:
    """A simulated one with `USERS` in flight; this is the screen that holds it."""

    def __init__(self, folder: Path) -> None:
        profile = Profile(name="by hand", plan=LoadPlan(stages=(), base=LoadPoint(concurrency=USERS)))
        session = SessionOptions(profile=profile, run_file=str(folder / "shown.llmtop"), label="shown")
        self.screen = Attached.begin(HostOptions(session=session, slo=profile.slo))

    @property
    def users(self) -> float:
        frame = self.screen.shown().frame
        return 0.0 if frame is None else frame.target.value

    def wait_for(self, holds: Callable[[], object], within_s: float = 30.0) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, self.screen.shown()
            time.sleep(0.05)

    def goes_on(self) -> None:
        """Wait until it was shown again and once more, with the load that it had."""
        frame = self.screen.shown().frame
        assert frame is not None
        self.wait_for(lambda: self.screen.shown().frame.seq > frame.seq + 1)
        assert self.users == USERS


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    for name in ("DATA", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    begun = Run(tmp_path)
    try:
        begun.wait_for(lambda: begun.screen.name and begun.users == USERS)
        yield begun
    finally:
        begun.screen.close()


@pytest.fixture
def server(run: Run) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Its process, and the link that it prints."""
    words = [sys.executable, "-P", "-m", "llmtop", "serve", "--bind", "127.0.0.1:0"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()
