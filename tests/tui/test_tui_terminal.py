"""The terminal is given back as it was, however the app ends. Runs it under a pty."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"
MOUSE_OFF = b"\x1b[?1000l"
SHOW_CURSOR = b"\x1b[?25h"

APP = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
from conftest import FakeHost, load_scene
from llmtop.tui.app import LlmtopApp
from llmtop.tui.watch import on_terminal

host = FakeHost(load_scene("past"))
app = LlmtopApp(host)
if {broken}:
    app.call_later(app.set_timer, 0.5, lambda: setattr(host, "broken", True))
asked = on_terminal(app, host)
sys.exit(asked or app.return_code or 0)
"""


def drive(broken: bool, act) -> tuple[bytes, int]:
    """Start the app under a pty, `act(pid, fd)` once it has drawn; what it wrote, and its wait status."""
    code = APP.format(root=str(ROOT), here=str(Path(__file__).parent), broken=broken)
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="80", LINES="24")
        os.execv(sys.executable, [sys.executable, "-c", code])
    written, acted = b"", False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([fd], [], [], 1)
        if not ready:
            continue
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        written += chunk
        if not acted and b"TTFT" in written:
            acted = True
            act(pid, fd)
    os.close(fd)
    return written, os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_after_a_signal(number):
    written, status = drive(False, lambda pid, fd: os.kill(pid, number))
    assert os.WEXITSTATUS(status) == number
    for code in (LEAVE_ALTERNATE_SCREEN, MOUSE_OFF, SHOW_CURSOR):
        assert code in written


def test_after_leaving_twice():
    written, status = drive(False, lambda pid, fd: os.write(fd, b"qq"))
    assert os.WEXITSTATUS(status) == 0
    for code in (LEAVE_ALTERNATE_SCREEN, MOUSE_OFF, SHOW_CURSOR):
        assert code in written


def test_after_a_bug():
    written, status = drive(True, lambda pid, fd: None)
    assert os.WEXITSTATUS(status) == 1
    assert b"a bug in an assessment" in written
    for code in (LEAVE_ALTERNATE_SCREEN, MOUSE_OFF, SHOW_CURSOR):
        assert code in written
