"""The page: gate, headers, visitors and their processes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("aiohttp", reason="the extra web is not installed")
pytest.importorskip("textual_serve", reason="the extra web is not installed")

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError, web

from llmtop.channel import Child
from llmtop.errors import SessionLost
from llmtop.web.gate import Gate
from llmtop.web.server import Site, files
from llmtop.wording import browser as words

TOKEN = "token-of-a-test"
TITLE = "llmtop <b>mine</b> & $yours"


def screen(kind: str = "obedient") -> Callable[[int, int], Child]:
    return lambda columns, rows: Child(
        "fake_screen", kind, str(columns), str(rows), environment={"COLORTERM": "truecolor"}
    )


@asynccontextmanager
async def served(start: Callable[[int, int], Child] | None = None, most: int = 50) -> AsyncIterator[str]:
    """The base of the link, without the token."""
    site = Site(Gate(TOKEN, here=True), TITLE, start or screen(), most=most)
    runner = site.runner()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def visiting(
    session: ClientSession, base: str, query: str = "?width=100&height=30"
) -> AsyncIterator[ClientWebSocketResponse]:
    async with session.ws_connect(f"{base}/{TOKEN}/screen/{query}", headers={"Origin": base}) as socket:
        yield socket


async def told(socket: ClientWebSocketResponse) -> str:
    message = await socket.receive(30)
    assert message.type is WSMsgType.BINARY, message
    return bytes(message.data).decode()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(pid: int) -> None:
    deadline = asyncio.get_running_loop().time() + 30
    while alive(pid):
        assert asyncio.get_running_loop().time() < deadline, f"{pid} is left"
        await asyncio.sleep(0.02)


PLACES = [
    "/",
    "/textual.js",
    "/other/",
    "/other/page.css",
    "/other/screen/",
    f"/{TOKEN}x/",
    "/favicon.ico",
    "//",
    "/%2e%2e/",
]


@pytest.mark.parametrize("place", PLACES)
async def test_without_the_whole_link_nothing_is_answered(place: str) -> None:
    async with served() as base, ClientSession() as session:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            async with session.request(method, base + place) as answer:
                assert answer.status == 403
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                if method == "GET":
                    assert await answer.text() == f"{words.WHOLE_LINK}\n"
        with pytest.raises(WSServerHandshakeError, match="403"):
            await session.ws_connect(base + place, headers={"Origin": base})


async def test_a_foreign_name_and_a_foreign_page_are_not_answered() -> None:
    async with served() as base, ClientSession() as session:
        for place in ("/", "/page.js", "/screen/"):
            async with session.get(f"{base}/{TOKEN}{place}", headers={"Host": "evil.example"}) as answer:
                assert answer.status == 403
        for origin in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            with pytest.raises(WSServerHandshakeError, match="403"):
                await session.ws_connect(f"{base}/{TOKEN}/screen/", headers=origin)


async def test_the_page_names_the_run_holds_no_token_and_takes_nothing_from_elsewhere() -> None:
    async with served() as base, ClientSession() as session:
        async with session.get(f"{base}/{TOKEN}/") as answer:
            page = await answer.text()
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == "no-store"
            policy = answer.headers["Content-Security-Policy"]
        assert "<title>llmtop &lt;b&gt;mine&lt;/b&gt; &amp; $yours</title>" in page
        assert TOKEN not in page
        assert not re.search(r"(?:src|href)=\"(?:[a-z]+:)?//", page)
        assert "on" not in re.findall(r"\s(on)\w+=", page), "no script in the page itself: the policy forbids it"
        assert {part.split()[0]: part.split()[1:] for part in policy.split("; ")}["script-src"] == ["'self'"]
        assert not re.search(r"https?:|\*", policy)
        wanted = set(re.findall(r"(?:src|href)=\"([\w.-]+)\"", page))
        styles = [files()[name].read_text() for name in wanted if name.endswith(".css")]
        wanted |= {name for style in styles for name in re.findall(r"url\(\"?([^\")]+)", style)}
        assert wanted == files().keys()
        for name in wanted:
            async with session.get(f"{base}/{TOKEN}/{name}") as answer:
                assert (answer.status, await answer.read()) == (200, files()[name].read_bytes())


@pytest.mark.parametrize("name", ["server.py", "page.html", "..%2fgate.py", "fonts", "background.png", "%00", "screen"])
async def test_no_other_file_is_served(name: str) -> None:
    async with served() as base, ClientSession() as session, session.get(f"{base}/{TOKEN}/{name}") as answer:
        assert answer.status == 404


async def test_a_visitor_has_a_screen_of_its_own_that_hears_keys_and_sizes_and_nothing_else() -> None:
    async with served() as base, ClientSession() as session:
        async with visiting(session, base) as one, visiting(session, base, "?width=9999999&height=x") as two:
            first, second = (await told(one)).split(), (await told(two)).split()
            assert first[1:] == ["100", "30", "truecolor"]
            assert second[1:] == ["80", "80", "truecolor"]
            assert first[0] != second[0]
            for sent, reaches in (
                (["stdin", "x"], "Dx"),
                (["stdin", "k" * 3000], "D" + "k" * 1024),
                (["resize", {"width": 10**6, "height": -4}], 'M{"type":"resize","width":800,"height":1}'),
                (["focus"], 'M{"type":"focus"}'),
                (["blur"], 'M{"type":"blur"}'),
            ):
                await one.send_json(sent)
                assert await told(one) == reaches
            await one.send_json(["ping", "17"])
            assert (await one.receive(30)).data == json.dumps(["pong", "17"])
            for nonsense in (
                ["quit"],
                ["stdin"],
                ["stdin", 3],
                ["resize", {}],
                ["deliver_chunk_request", {"key": "x"}],
                [],
            ):
                await one.send_json(nonsense)
            await one.send_json(["stdin", "open"])
            assert await told(one) == "Dopen", "a page that the screen asks to open is not passed on"
        await gone(int(first[0]))
        await gone(int(second[0]))


@pytest.mark.parametrize("sent", ["{", "3", "[" * 2000, "x" * 20_000], ids=["cut", "number", "deep", "long"])
async def test_what_is_no_message_ends_the_visit(sent: str) -> None:
    async with served() as base, ClientSession() as session, visiting(session, base) as socket:
        pid = int((await told(socket)).split()[0])
        await socket.send_str(sent)
        assert (await socket.receive(30)).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
        await gone(pid)


async def test_whoever_comes_when_all_places_are_taken_is_told_so_and_has_one_when_somebody_leaves() -> None:
    async with served(most=2) as base, ClientSession() as session:
        async with visiting(session, base) as one, visiting(session, base) as two:
            pids = [int((await told(each)).split()[0]) for each in (one, two)]
            async with session.get(f"{base}/{TOKEN}/") as answer:
                assert (answer.status, await answer.text()) == (503, words.full(2) + "\n")
            async with visiting(session, base) as third:
                assert words.full(2) in await told(third)
                assert (await third.receive(30)).type is WSMsgType.CLOSE
        for pid in pids:
            await gone(pid)
        async with visiting(session, base) as again:
            assert "100 30" in await told(again)


async def test_why_there_is_no_screen_is_said_in_its_place() -> None:
    async with served(screen("broken")) as base, ClientSession() as session, visiting(session, base) as socket:
        said = await told(socket)
        assert "no run goes on now\\x1b[2J" in said, "and what it says is no command to the terminal"
        assert "a line before" not in said

    def none(columns: int, rows: int) -> Child:
        raise SessionLost("python cannot be started again")

    async with served(none) as base, ClientSession() as session, visiting(session, base) as socket:
        assert "python cannot be started again" in await told(socket)


async def test_a_screen_that_ends_closes_the_connection() -> None:
    async with served() as base, ClientSession() as session, visiting(session, base) as socket:
        pid = int((await told(socket)).split()[0])
        await socket.send_json(["stdin", "q"])
        assert (await socket.receive(30)).type is WSMsgType.CLOSE
        await gone(pid)


async def test_no_process_is_left_when_the_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtop.web.visitor.GRACE_S", 0.3)
    async with ClientSession() as session:
        async with served(screen("deaf")) as base:
            sockets = [await session.ws_connect(f"{base}/{TOKEN}/screen/", headers={"Origin": base}) for _ in range(3)]
            pids = [int((await told(each)).split()[0]) for each in sockets]
        assert not any(map(alive, pids))


async def test_nothing_is_logged_that_has_the_token(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with served() as base, ClientSession() as session:
        async with session.get(f"{base}/{TOKEN}/") as answer:
            await answer.read()
        async with visiting(session, base) as socket:
            await told(socket)
    assert TOKEN not in caplog.text + "".join(capfd.readouterr())
