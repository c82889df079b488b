"""A run as a visitor sees it, in a real browser; where Chromium and its driver are installed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from browser import CHROMIUM, DRIVER, Chromium

from llmtop.domain.commands import Quit

pytest.importorskip("aiohttp", reason="the extra web is not installed")
pytest.importorskip("textual_serve", reason="the extra web is not installed")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("chromium and chromedriver are not installed", allow_module_level=True)

NIGHT, DAY = ("14171c", "d3d8e0"), ("f7f6f2", "22262c")
"""Paper and letters of the theme that a browser is shown, and of the next one."""


def shows(chromium: Chromium, theme: tuple[str, str] = NIGHT) -> bool:
    """Whether the cockpit is to be seen: its paper over most of the page, its letters, and many shades of ink."""
    (paper, letters), seen = theme, chromium.colours()
    return seen[paper] > seen.total() / 2 and seen[letters] > 200 and len(seen) > 100


def test_a_visitor_sees_the_cockpit_and_can_change_nothing(
    run: Any, server: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    process, link = server
    with Chromium(tmp_path) as chromium:
        chromium.open(link)
        chromium.wait_for(lambda: "-first-byte" in chromium.tell("document.body.className"))
        chromium.wait_for(lambda: shows(chromium))
        (tmp_path / "cockpit.png").write_bytes(chromium.picture())
        assert chromium.tell("document.title") == f"llmtop {run.screen.name}"
        assert chromium.tell("[...document.fonts].map(font => font.status).join()") == "loaded"
        assert chromium.refused() == [], "nothing is missing or refused"
        asked = "performance.getEntriesByType('resource').map(each => new URL(each.name).host)"
        assert set(chromium.tell(asked)) == {link.split("/")[2]}
        viewers = [each for each in psutil.Process(process.pid).children() if "llmtop.tui.viewer" in each.cmdline()]
        assert len(viewers) == 1

        steering = run.screen.shown().steering
        chromium.type("x\ue00f\ue00fs9\ue007ut")  # stop, page down twice, search, a load typed, undo; next theme
        chromium.wait_for(lambda: shows(chromium, DAY))  # the keys have come
        run.goes_on()
        assert run.screen.shown().steering == steering

        run.screen.send(Quit())
        run.wait_for(lambda: run.screen.shown().ended is not None)
        assert shows(chromium, DAY)
        assert "-closed" not in chromium.tell("document.body.className"), "the last of it stays"

        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert psutil.wait_procs(viewers, 30)[1] == []
        chromium.wait_for(lambda: "-closed" in chromium.tell("document.body.className"))
        assert chromium.tell("getComputedStyle(document.getElementById('over')).display") == "block"
