"""A run as a visitor sees it, in a real browser; where Chromium and its driver are installed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from browser import CHROMIUM, DRIVER, Chromium

pytest.importorskip("aiohttp", reason="the extra web is not installed")
pytest.importorskip("textual_serve", reason="the extra web is not installed")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("chromium and chromedriver are not installed", allow_module_level=True)

from llmtop.domain.commands import Quit
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.host.attached import Attached
from llmtop.host.options import HostOptions
from llmtop.session.options import SessionOptions

USERS = 4
PAPER, LETTERS, DAY_PAPER, DAY_LETTERS = "14171c", "d3d8e0", "f7f6f2", "22262c"
"""Of the theme that a browser is shown, and of the next one."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attached]:
    for name in ("DATA", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    profile = Profile(name="by hand", plan=LoadPlan(stages=(), base=LoadPoint(concurrency=USERS)))
    session = SessionOptions(profile=profile, run_file=str(tmp_path / "shown.llmtop"), label="shown")
    attached = Attached.begin(HostOptions(session=session, slo=profile.slo))
    try:
        wait_for(attached, lambda: attached.name and in_flight(attached) == USERS)
        yield attached
    finally:
        attached.close()


def in_flight(attached: Attached) -> float:
    frame = attached.shown().frame
    return 0.0 if frame is None else frame.target.value


def wait_for(attached: Attached, holds: object, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, attached.shown()
        time.sleep(0.05)


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`llmtop serve`, and the link that it prints."""
    words = [sys.executable, "-P", "-m", "llmtop", "serve", "--bind", "127.0.0.1:0"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def shows(chromium: Chromium, paper: str = PAPER, letters: str = LETTERS) -> bool:
    """Whether the cockpit is to be seen: its paper over most of the page, its letters, and many shades of ink."""
    seen = chromium.colours()
    return seen[paper] > seen.total() / 2 and seen[letters] > 200 and len(seen) > 100


def test_a_visitor_sees_the_cockpit_and_can_change_nothing(
    run: Attached, server: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, link = server
    with Chromium(tmp_path) as chromium:
        chromium.open(link)
        chromium.wait_for(lambda: "-first-byte" in chromium.tell("document.body.className"))
        chromium.wait_for(lambda: shows(chromium))
        (tmp_path / "cockpit.png").write_bytes(chromium.picture())
        assert chromium.tell("document.title") == f"llmtop {run.name}"
        assert chromium.tell("[...document.fonts].map(font => font.status).join()") == "loaded"
        assert [line for line in chromium.log() if "WebGL" not in line] == [], "nothing is missing or refused"
        asked = "performance.getEntriesByType('resource').map(each => new URL(each.name).host)"
        assert set(chromium.tell(asked)) == {link.split("/")[2]}
        viewers = [each for each in psutil.Process(process.pid).children() if "llmtop.tui.viewer" in each.cmdline()]
        assert len(viewers) == 1

        before = run.shown()
        assert before.frame is not None
        chromium.type("x\ue00f\ue00fs9\ue007ut")  # stop, page down twice, search, a load typed, undo; next theme
        chromium.wait_for(lambda: shows(chromium, DAY_PAPER, DAY_LETTERS))  # the keys have come
        wait_for(run, lambda: run.shown().frame.seq > before.frame.seq + 4)
        assert in_flight(run) == USERS
        assert run.shown().steering == before.steering

        run.send(Quit())
        wait_for(run, lambda: run.shown().ended is not None)
        assert shows(chromium, DAY_PAPER, DAY_LETTERS)
        assert "-closed" not in chromium.tell("document.body.className"), "the last of it stays"

        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert psutil.wait_procs(viewers, 5)[1] == []
        chromium.wait_for(lambda: "-closed" in chromium.tell("document.body.className"))
        assert chromium.tell("getComputedStyle(document.getElementById('over')).display") == "block"
