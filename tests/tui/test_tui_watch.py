"""A terminal that takes nothing, or is gone, is noticed whatever Textual's loop waits for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import sys
import termios
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Resize

from llmtop.domain.commands import Command, Quit, Seen
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import Frame
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Ended
from llmtop.domain.shown import Shown
from llmtop.domain.terminal import RESET
from llmtop.tui import watch as watch_module
from llmtop.tui.terminal import PIECE_BYTES, Paper, TerminalDriver
from llmtop.tui.watch import HUNG_S, LEAVE_S, LOOK_S, SEEN_EVERY_S, STUTTER_S, Watch

FRAME = Frame(seq=0, t_s=0.0, endpoint=EndpointStatus(state=EndpointState.UP), target=LoadPoint(concurrency=1))


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: the one that shows, and the one that is written on."""
    shows, takes = pty.openpty()
    yield shows, takes
    for descriptor in (shows, takes):
        with contextlib.suppress(OSError):
            os.close(descriptor)


class FakeHost:
    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.seq = 0
        self.ended: Ended | None = None
        self.closed = 0

    def shown(self) -> Shown:
        self.seq += 1
        return Shown(frame=Frame(**{**_fields(FRAME), "seq": self.seq}), ended=self.ended)

    def send(self, command: Command) -> None:
        self.sent.append(command)

    def close(self) -> None:
        self.closed += 1


def _fields(frame: Frame) -> dict[str, Any]:
    return {name: getattr(frame, name) for name in frame.__struct_fields__}


class FakeApp:
    """A screen that is brought up to date with every look, unless it hangs."""

    def __init__(self, paper: Paper | None) -> None:
        self.given_back: list[str] = []
        self.left = 0
        self.hangs = False
        self._ticks = 0
        self.driver = None if paper is None else types.SimpleNamespace(paper=paper, give_back=self.given_back.append)

    @property
    def ticks(self) -> int:
        self._ticks += not self.hangs
        return self._ticks

    def leave(self) -> None:
        self.left += 1


class Exited(Exception):
    """In place of the end of this process."""


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> None:
        raise Exited(code)

    monkeypatch.setattr(watch_module.os, "_exit", end)


def watching(app: FakeApp, host: FakeHost, monkeypatch: pytest.MonkeyPatch, terminal: int | None = None) -> Watch:
    """Not started: its looks are called one by one."""
    stream = None if terminal is None else types.SimpleNamespace(fileno=lambda: terminal)
    monkeypatch.setattr(sys, "__stdin__", stream)
    monkeypatch.setattr(sys, "__stderr__", None)
    return Watch(app, host)  # type: ignore[arg-type]


def test_what_a_terminal_takes_is_counted_in_pieces_and_comes_whole(ends: tuple[int, int]) -> None:
    shows, takes = ends
    paper, text = Paper(takes, "utf-8"), "x" * 3000
    written = threading.Thread(target=lambda: (paper.write(text), paper.flush()))
    written.start()
    came = b""
    while len(came) < len(text):
        came += os.read(shows, 65536)
    written.join(30)
    assert (came, paper.taken, paper.waiting) == (text.encode(), len(text), False)
    assert PIECE_BYTES <= 1200, "a line of 20 bytes/s takes a piece within the minute in which load must be seen"


def test_a_terminal_that_nobody_reads_is_waited_for_in_sight_and_shut_it_drops_the_rest(ends: tuple[int, int]) -> None:
    shows, takes = ends
    paper = Paper(takes, "utf-8")
    writing = threading.Thread(target=lambda: (paper.write("x" * 100_000), paper.flush()), daemon=True)
    writing.start()
    before = -1
    while before != paper.taken or not paper.taken:
        before = paper.taken
        writing.join(0.2)
    assert paper.waiting
    assert paper.taken < 100_000
    paper.shut = True
    came = 0
    while writing.is_alive():
        came += len(os.read(shows, 65536))
        writing.join(0.01)
    assert came < 50_000
    assert not writing.is_alive()
    assert not paper.gone


def test_a_terminal_that_is_gone_is_told_and_never_raised(ends: tuple[int, int]) -> None:
    shows, takes = ends
    paper = Paper(takes, "utf-8")
    os.close(shows)
    paper.write("x")
    paper.flush()
    assert paper.gone
    assert not paper.waiting


def test_what_a_terminal_cannot_show_is_replaced(ends: tuple[int, int]) -> None:
    shows, takes = ends
    paper = Paper(takes, "ascii")
    paper.write("ä·b")
    paper.flush()
    assert os.read(shows, 100) == b"??b"


def test_a_run_is_told_once_a_second_that_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    watch = watching(FakeApp(None), host, monkeypatch)
    for _ in range(round(5 / LOOK_S)):
        watch._look()
    assert set(host.sent) == {Seen()}
    assert len(host.sent) == pytest.approx(5 / SEEN_EVERY_S, abs=1)


@pytest.mark.parametrize("why", ["stalled", "hung"])
def test_a_screen_that_cannot_draw_is_not_seen_and_one_that_draws_again_is(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper, host = Paper(-1, "utf-8"), FakeHost()
    app = FakeApp(paper)
    watch = watching(app, host, monkeypatch)
    paper.waiting, app.hangs = why == "stalled", why == "hung"
    for _ in range(round(2 * HUNG_S / LOOK_S)):
        watch._look()
    assert len(host.sent) <= (0 if why == "stalled" else HUNG_S), "15 s for a screen, which may be slow"
    host.sent.clear()
    paper.taken, app.hangs = 1, False
    watch._look()
    assert host.sent == [Seen()]


def test_a_slow_line_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    paper, host = Paper(-1, "utf-8"), FakeHost()
    watch = watching(FakeApp(paper), host, monkeypatch)
    paper.waiting = True
    for look in range(600):
        paper.taken += not look % 100  # a piece every 10 s
        watch._look()
    assert len(host.sent) >= 5


def test_a_run_that_was_ended_unseen_takes_its_screen_with_it(monkeypatch: pytest.MonkeyPatch, ended: None) -> None:
    paper, host = Paper(-1, "utf-8"), FakeHost()
    app = FakeApp(paper)
    watch = watching(app, host, monkeypatch)
    host.ended = Ended("nobody could see the load", 130)
    watch._look()
    assert app.given_back == [], "it can be seen: the screen says so itself"
    paper.waiting = True
    for _ in range(round(STUTTER_S / LOOK_S) - 1):
        watch._look()
    assert app.given_back == [], "a line may stutter"
    looks = (watch._look() for _ in range(2))
    with pytest.raises(Exited):
        list(looks)
    assert app.given_back == ["llmtop: nobody could see the load\n"]
    assert host.closed == 1


def test_a_screen_that_does_not_go_is_made_to_after_the_load_has_ended(
    monkeypatch: pytest.MonkeyPatch, ended: None
) -> None:
    host, app = FakeHost(), FakeApp(Paper(-1, "utf-8"))
    watch = watching(app, host, monkeypatch)
    passed_s = 0.0

    def passes(seconds: float) -> bool:
        nonlocal passed_s
        passed_s += seconds
        return False

    monkeypatch.setattr(watch_module, "time", types.SimpleNamespace(monotonic=lambda: passed_s))
    monkeypatch.setattr(watch._over, "wait", passes)
    watch._hear(signal.SIGTERM, None)
    with pytest.raises(Exited):
        watch.run()
    assert host.sent == [Quit(patient=False, signal=signal.SIGTERM)]
    assert app.left == pytest.approx(LEAVE_S / LOOK_S, abs=1), "it is told to go again and again"
    assert (app.given_back, host.closed, watch.asked) == (["llmtop: interrupted\n"], 1, signal.SIGTERM)


def test_a_terminal_that_hangs_up_ends_the_run_as_the_signal_would(
    monkeypatch: pytest.MonkeyPatch, ended: None, ends: tuple[int, int]
) -> None:
    monkeypatch.setattr(watch_module, "LEAVE_S", 0.0)
    shows, takes = ends
    host = FakeHost()
    watch = watching(FakeApp(None), host, monkeypatch, takes)
    assert not watch._gone()
    os.close(shows)
    with pytest.raises(Exited):
        watch.run()
    assert (watch.asked, host.sent) == (signal.SIGHUP, [Quit(patient=False, signal=signal.SIGHUP)])


@pytest.mark.parametrize(
    ("window", "drawn"),
    [((80, 24), (80, 24)), ((800, 300), (800, 300)), ((801, 24), (800, 24)), ((65535, 65535), (800, 300))],
)
def test_of_a_window_beyond_all_displays_a_part_is_drawn_on_and_the_screen_can_say_so(
    window: tuple[int, int], drawn: tuple[int, int], ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "77")  # left by a shell: the terminal itself knows better
    termios.tcsetwinsize(ends[1], (window[1], window[0]))
    driver = TerminalDriver.__new__(TerminalDriver)
    driver.fileno = ends[1]
    assert driver._get_terminal_size() == drawn
    assert driver.beyond == (window if window != drawn else None)
    sent: list[Any] = []
    monkeypatch.setattr(LinuxDriver, "process_message", lambda self, message: sent.append(message))
    driver.process_message(Resize.from_dimensions(window, (4000, 3000)))
    assert (sent[0].size, sent[0].virtual_size, sent[0].pixel_size) == (drawn, drawn, (4000, 3000))


def test_a_stalled_terminal_is_given_back_without_a_wait(ends: tuple[int, int]) -> None:
    shows, takes = ends
    driver = TerminalDriver.__new__(TerminalDriver)
    driver.fileno, driver.paper, driver._settings = takes, Paper(takes, "utf-8"), termios.tcgetattr(takes)
    raw = termios.tcgetattr(takes)
    raw[3] &= ~termios.ECHO
    termios.tcsetattr(takes, termios.TCSANOW, raw)
    fcntl.fcntl(takes, fcntl.F_SETFL, os.O_NONBLOCK)
    try:
        while True:
            os.write(takes, b"x" * 4096)
    except BlockingIOError:
        pass
    fcntl.fcntl(takes, fcntl.F_SETFL, 0)
    giving = threading.Thread(target=driver.give_back, args=("llmtop: done\n",), daemon=True)
    giving.start()
    giving.join(30)
    assert not giving.is_alive()
    assert termios.tcgetattr(takes) == driver._settings
    assert not fcntl.fcntl(takes, fcntl.F_GETFL) & os.O_NONBLOCK, "the shell shares this descriptor"
    came = b""
    while select.select((shows,), (), (), 0.5)[0]:
        came += os.read(shows, 65536)
    assert came.endswith(RESET.encode() + b"llmtop: done\r\n")


def test_a_tick_while_the_app_closes_shows_nothing_and_breaks_nothing(cockpit: Any) -> None:
    app = cockpit("past")
    app.tick()
    assert app.ticks == 0
