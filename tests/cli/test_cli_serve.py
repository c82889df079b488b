"""`llmtop serve`: where it listens, what it says, and how it ends."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from urllib.request import ProxyHandler, build_opener

import pytest

from llmtop.cli import serve
from llmtop.cli.main import main
from llmtop.errors import LlmtopError, SessionLost, UsageError
from llmtop.tui import viewer

pytest.importorskip("aiohttp", reason="the extra web is not installed")
pytest.importorskip("textual_serve", reason="the extra web is not installed")
from llmtop.web.server import Site


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> None:
    """One goes on."""
    monkeypatch.setattr(serve, "find", lambda text: SimpleNamespace(name="20260101-000000-laptop", label=None))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--bind", "0.0.0.0:8010"], "--bind 0.0.0.0:8010: whoever reaches this machine"),
        (["--bind", "[::]:0"], "--yes if that is meant"),
        (["--bind", "192.0.2.1:8010", "--yes"], "that is no address of this machine"),
        (["--bind", "8010"], "must be ADDRESS:PORT, as 127.0.0.1:8010"),
        (["--bind", ":8010"], "must be ADDRESS:PORT"),
        (["--bind", "127.0.0.1:99999"], "must be ADDRESS:PORT"),
        (["--bind", "example.com:80"], "must be ADDRESS:PORT"),
        (["--bind", "\x1b[2J:80"], "\\x1b[2J:80"),
    ],
)
def test_where_it_cannot_listen_is_said(
    words: list[str], says: str, run: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *words]) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert "\x1b" not in told.err
    assert not told.out


def test_a_port_in_use_is_said(run: None, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--bind", f"127.0.0.1:{taken.getsockname()[1]}"]) == 2
    assert "something listens there already" in capsys.readouterr().err


def test_without_a_run_there_is_nothing_to_serve(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(text: str | None) -> object:
        raise UsageError("no run goes on now: `llmtop` starts one")

    monkeypatch.setattr(serve, "find", none)
    assert main(["serve"]) == 2
    assert "no run goes on now" in capsys.readouterr().err


def test_without_its_extra_it_says_how_to_have_it(
    run: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "textual_serve" else found(name))
    assert main(["serve"]) == 2
    assert "pip install 'llmtop[web]'" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_the_link_opens_the_page_until_a_signal_comes(
    number: signal.Signals, code: int, run: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    links: list[str] = []
    pages: list[str] = []
    thread = threading.Thread(target=lambda: _look(links[0], pages, lambda: os.kill(os.getpid(), number)))

    def say(text: str) -> None:
        links.append(text)
        thread.start()

    monkeypatch.setattr(serve, "say", say)
    assert main(["serve", "--bind", "127.0.0.1:0"]) == code
    thread.join(10)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", links[0])
    assert "<title>llmtop 20260101-000000-laptop</title>" in pages[0]
    told = capsys.readouterr()
    assert "20260101-000000-laptop is shown there to whoever has the link" in told.err
    assert links[0].split("/")[3] not in told.err


def test_a_private_page_does_not_tell_the_run_and_its_screens_know(
    run: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    links: list[str] = []
    pages: list[str] = []
    started: list[tuple[str, ...]] = []
    thread = threading.Thread(target=lambda: _look(links[0], pages, lambda: os.kill(os.getpid(), signal.SIGTERM)))

    def say(text: str) -> None:
        links.append(text)
        thread.start()

    def site(gate: object, title: str, start: Callable[[int, int], object]) -> Site:
        start(80, 24)
        return Site(gate, title, start)  # type: ignore[arg-type]

    monkeypatch.setattr(serve, "say", say)
    monkeypatch.setattr(serve, "Child", lambda *words, environment: started.append(words))
    monkeypatch.setattr("llmtop.web.server.Site", site)
    assert main(["serve", "--bind", "127.0.0.1:0", "--private", "--stage"]) == 0
    thread.join(10)
    assert "<title>llmtop</title>" in pages[0]
    assert "laptop" not in pages[0]
    assert started == [("llmtop.tui.viewer", "20260101-000000-laptop", "80", "24", "stage", "private")]


@pytest.mark.parametrize("error", [UsageError("no run is called secretive"), SessionLost("secretive: is of another")])
def test_a_private_page_of_a_run_that_is_over_does_not_tell_it(
    error: LlmtopError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(name: str) -> object:
        raise error

    monkeypatch.setattr(viewer, "find", gone)
    for shown_as, told in ((["stage"], True), (["private"], False)):
        assert viewer.main(["secretive", "80", "24", *shown_as]) == error.exit_code
        assert ("secretive" in capsys.readouterr().err) == told


def _look(link: str, pages: list[str], then: Callable[[], None]) -> None:
    try:
        with build_opener(ProxyHandler({})).open(link, timeout=10) as answer:
            pages.append(answer.read().decode())
    finally:
        then()
