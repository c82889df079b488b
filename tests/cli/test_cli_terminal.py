"""What the cockpit asks of a terminal, and its first word on it."""

from __future__ import annotations

import contextlib
import importlib
import os
import pty
import sys
import types
from collections.abc import Iterator

import pytest

from llmtop.cli import terminal
from llmtop.cli.main import main
from llmtop.errors import UsageError

STREAMS = ("stdin", "stdout", "stderr")


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: the one that shows, and the one that is written on."""
    shows, takes = pty.openpty()
    yield shows, takes
    for descriptor in (shows, takes):
        os.close(descriptor)


def stand_on(monkeypatch: pytest.MonkeyPatch, *, without: str | None = None, encoding: str = "utf-8") -> None:
    for name in STREAMS:
        stream = types.SimpleNamespace(isatty=lambda name=name: name != without, encoding=encoding)
        monkeypatch.setattr(sys, name, stream)


@pytest.mark.parametrize("term", ["xterm", "screen", "xterm-256color", "tmux-256color", "linux", "no-such-terminal"])
def test_the_screen_is_drawn_where_a_cursor_moves_or_nobody_knows(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_on(monkeypatch)
    monkeypatch.setenv("TERM", term)
    terminal.check_terminal("`instead`")


@pytest.mark.parametrize("term", ["dumb", "DUMB", "unknown", "", None])
def test_a_terminal_without_a_cursor_is_refused_with_what_to_do(
    term: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_on(monkeypatch)
    monkeypatch.delenv("TERM") if term is None else monkeypatch.setenv("TERM", term)
    with pytest.raises(UsageError, match=r"TERM.*`instead`"):
        terminal.check_terminal("`instead`")


@pytest.mark.parametrize("term", ["xterm", "screen", "dumb", "unknown"])
@pytest.mark.parametrize("without", STREAMS)
def test_without_a_terminal_on_each_stream_it_is_refused_whatever_term_says(
    without: str, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_on(monkeypatch, without=without)
    monkeypatch.setenv("TERM", term)
    with pytest.raises(UsageError, match=f"{without}.*`instead`"):
        terminal.check_terminal("`instead`")


@pytest.mark.parametrize(("sign", "moves"), [(b"\x1b[%i%p1%d;%p2%dH", True), (b"\x1bY%p1%c", False), (None, False)])
def test_a_cursor_that_is_moved_in_another_language_cannot_be_drawn_with(
    sign: bytes | None, moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = types.SimpleNamespace(setupterm=lambda *_: None, tigetstr=lambda _: sign, error=OSError)
    monkeypatch.setitem(sys.modules, "_curses", known)
    assert terminal.draws("vt52") is moves


@pytest.mark.parametrize("command", ["live", "replay"])
def test_the_first_word_is_there_before_anything_of_the_screen_is_imported(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[str] = []
    monkeypatch.setattr(terminal, "starting", lambda: came.append("starting"))

    def load(name: str) -> types.SimpleNamespace:
        came.append(name)
        return types.SimpleNamespace(main=lambda arguments: 0)

    monkeypatch.setattr(importlib, "import_module", load)
    main(["replay", "run.llmtop"] if command == "replay" else ["--sim"])
    assert came == ["starting", f"llmtop.cli.{command}"]
    came.clear()
    main(["locate"])
    assert came == ["llmtop.cli.locate"]


@pytest.mark.parametrize(
    ("encoding", "term", "word"),
    [("utf-8", "xterm", "llmtop: starting…\r"), ("ascii", "xterm", "llmtop: starting...\r"), ("utf-8", "dumb", "")],
)
def test_the_first_word_is_one_that_the_terminal_can_show(
    encoding: str, term: str, word: str, monkeypatch: pytest.MonkeyPatch, ends: tuple[int, int]
) -> None:
    shows, takes = ends
    stand_on(monkeypatch, encoding=encoding)
    monkeypatch.setenv("TERM", term)
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    before = os.dup(2)
    os.dup2(takes, 2)
    try:
        terminal.starting()
    finally:
        os.dup2(before, 2)
        os.close(before)
    os.set_blocking(shows, False)
    came = b""
    with contextlib.suppress(BlockingIOError):
        came = os.read(shows, 100)
    assert came.decode() == word
