"""Servers that mean no good, or die in the middle: every request ends in words, in time, and as what it is."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from llmtop.domain.load import Caps
from llmtop.domain.request import Outcome
from llmtop.endpoint import connection as connection_module
from llmtop.endpoint import reader
from llmtop.endpoint import transport as transport_module
from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.direct import Arrivals
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.transport import KernelTransport

from .conftest import Recorder, Request, chat, stream_ok, usage

CAPS = Caps(first_token_timeout_s=30, idle_timeout_s=30, total_timeout_s=30)
"""None of which a good answer meets, however slow the machine."""
SHORT = Caps(first_token_timeout_s=0.2, idle_timeout_s=0.2, total_timeout_s=30)
SOON_S = 20.0
"""Less than what goes on for ever takes."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=["direct", "asyncio", "stock"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Our own epoll, asyncio's transports, or stock httpx (through a proxy)."""
    if request.param == "asyncio":
        monkeypatch.setattr(Arrivals, "possible", False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return str(request.param)


@pytest.fixture
def drive(
    serve: Any, connect: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Awaitable[tuple[Trace, Recorder, float]]]:
    """Send one request to a script; returns its trace, what the sink heard, and how long it took."""

    async def drive(script: Any, caps: Caps = CAPS, tokens: int = 3) -> tuple[Trace, Recorder, float]:
        server = await serve(script)
        if path == "stock":
            monkeypatch.setenv("http_proxy", server.url)
        client = connect("http://llm.example" if path == "stock" else server.url, caps=caps)
        trace, heard = Trace(), Recorder()
        started = time.monotonic()
        await client.generate("hi", tokens, "chat", trace, heard)
        return trace, heard, time.monotonic() - started

    return drive


async def test_comments_for_ever_do_not_move_the_deadline(drive: Any) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        while True:
            await request.chunk(": still here\n\n")
            await asyncio.sleep(0.02)

    trace, heard, took_s = await drive(script, SHORT)
    assert trace.outcome is Outcome.TIMEOUT
    assert "no token within 0.2 s" in (trace.error or "")
    assert heard.total == 0
    assert took_s < SOON_S


async def test_one_byte_at_a_time_does_not_move_the_deadline(drive: Any) -> None:
    async def script(request: Request) -> None:
        while True:
            for byte in HEAD[:-2] + b"X: y\r\n" * 1000:
                await request.write(bytes([byte]))
                await asyncio.sleep(0.01)

    trace, _, took_s = await drive(script, SHORT)
    assert trace.outcome is Outcome.TIMEOUT
    assert took_s < SOON_S


async def test_tokens_for_ever_are_given_up_in_words(drive: Any) -> None:
    event = b"data: " + json.dumps(chat("a")).encode() + b"\n\n"

    async def script(request: Request) -> None:
        await request.start_stream()
        while True:
            await request.chunk(event * 500)

    trace, heard, _ = await drive(script, Caps(total_timeout_s=60), 10)
    assert trace.outcome is Outcome.STREAM_ERROR
    assert "does not heed max_tokens" in (trace.error or "")
    assert heard.total <= 65_546


async def test_an_event_without_an_end_is_given_up_in_words(drive: Any) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("a"))
        await request.chunk("data: ")
        while True:
            await request.chunk(b"x" * 100_000)

    trace, heard, took_s = await drive(script, Caps(total_timeout_s=60))
    assert (trace.outcome, trace.error) == (Outcome.STREAM_ERROR, "more than 1024 KiB without the end of an event")
    assert heard.total == 1
    assert took_s < SOON_S


async def test_an_answer_that_stays_open_after_its_end_is_taken_as_it_was_then(
    drive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LINGER_S", 0.15)

    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("a", "stop"))
        await request.event(usage(7, 1))
        await request.event("[DONE]")
        while True:
            await asyncio.sleep(0.05)
            await request.chunk(": more\n\n")

    trace, heard, took_s = await drive(script, Caps(idle_timeout_s=20, total_timeout_s=20))
    assert trace.outcome is Outcome.OK, trace.error
    assert heard.total == 1
    assert took_s < 4
    assert trace.end_ns - trace.last_token_ns < 120e6  # type: ignore[operator]


async def test_a_deadline_after_the_end_is_none(drive: Any) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("a", "stop"))
        await request.event("[DONE]")
        await asyncio.sleep(5)

    trace, _, took_s = await drive(script, Caps(idle_timeout_s=0.2, total_timeout_s=0.6))
    assert trace.outcome is Outcome.OK, trace.error
    assert took_s < 2


async def test_a_head_that_ends_late_after_done_costs_no_connection(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("a", "stop"))
        await request.event("[DONE]")
        await asyncio.sleep(0.05)
        await request.end()

    server = await serve(script)
    client = connect(server.url)
    for _ in range(3):
        trace = Trace()
        await client.generate("hi", 1, "chat", trace, Recorder())
        assert trace.outcome is Outcome.OK
        assert trace.end_ns - trace.last_token_ns < 40e6  # type: ignore[operator]
        await asyncio.sleep(0.15)
    assert server.connections == 1


def test_after_the_reason_of_an_end_its_count_may_come_late_and_a_user_waits_little() -> None:
    assert 0.5 <= reader.SETTLED_S <= 2.0


@pytest.mark.parametrize(
    ("last", "settled_s"),
    [([usage(7, 1), "[DONE]"], 60.0), ([usage(7, 1)], 60.0), ([], 0.4)],
    ids=["done", "usage", "reason"],
)
async def test_a_user_is_free_although_the_server_leaves_its_answers_open(
    serve: Any, connect: Any, last: tuple[Any, ...], settled_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "SETTLED_S", settled_s)

    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("a", "stop"))
        for event in last:
            await request.event(event)
        await asyncio.sleep(30)

    server = await serve(script)
    client = connect(server.url)
    for _ in range(2):
        trace = Trace()
        await asyncio.wait_for(client.generate("hi", 1, "chat", trace, Recorder()), SOON_S)
        assert trace.outcome is Outcome.OK, trace.error
        assert trace.end_ns - trace.last_token_ns < 300e6  # type: ignore[operator]


async def test_a_compressed_stream_is_refused_in_words(drive: Any) -> None:
    event = b"data: " + json.dumps(chat("a", "stop")).encode() + b"\n\ndata: [DONE]\n\n"

    async def script(request: Request) -> None:
        await request.start_stream("Content-Encoding: gzip\r\n")
        await request.chunk(gzip.compress(event))
        await request.end()

    trace, heard, _ = await drive(script)
    assert trace.outcome is Outcome.STREAM_ERROR
    assert "compressed (gzip)" in (trace.error or "")
    assert heard.total == 0


@pytest.mark.parametrize(
    "event",
    [
        '{"x":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"error":' + '{"message":' * 900 + "1" + "}" * 900 + "}",
    ],
    ids=["deep", "deep error"],
)
async def test_deep_json_ends_the_request_and_nothing_else(drive: Any, event: str) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(event)
        await request.end()

    trace, _, _ = await drive(script)
    assert trace.outcome is Outcome.STREAM_ERROR


async def test_headers_that_are_not_ascii_are_read(drive: Any) -> None:
    async def script(request: Request) -> None:
        await stream_ok_with(request, "X-Note: très bien\r\n")

    trace, _, _ = await drive(script)
    assert trace.outcome is Outcome.OK, trace.error


async def stream_ok_with(request: Request, headers: str) -> None:
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n" + headers + "\r\n"
    await request.write(head.encode("latin-1"))
    await request.event(chat("a", "stop"))
    await request.event("[DONE]")
    await request.end()


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_an_answer_that_is_cut_at_any_byte_is_right_only_once_it_has_said_that_it_is_whole(
    serve: Any, connect: Any, how: str
) -> None:
    events = [b"data: " + json.dumps(chat("a")).encode(), b"data: " + json.dumps(chat("b", "stop")).encode()]
    answer = HEAD + b"".join(
        b"%x\r\n%b\r\n" % (len(event) + 2, event + b"\n\n") for event in [*events, b"data: [DONE]"]
    )
    answer += b"0\r\n\r\n"
    said = answer.index(events[1]) + len(events[1])
    ends = iter(sorted({*range(0, len(answer), 3), *range(said - 3, said + 4), len(answer) - 1, len(answer)}))
    end = 0

    async def script(request: Request) -> None:
        nonlocal end
        end = next(ends)
        await request.write(answer[:end])
        await asyncio.sleep(0.001)
        if how == "reset":
            sock = request.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.close()
        else:
            request.writer.close()

    client = connect((await serve(script)).url, caps=CAPS)
    while end < len(answer):
        trace = Trace()
        await client.generate("hi", 3, "chat", trace, Recorder())
        expected = end >= said
        assert (trace.outcome is Outcome.OK) is expected, (end, trace.outcome, trace.error)
        assert trace.error is None or "Error" not in trace.error


async def test_a_flood_does_not_starve_the_streams_beside_it(serve: Any, connect: Any) -> None:
    event = b"data: " + json.dumps(chat("")).encode() + b"\n\n"

    async def script(request: Request) -> None:
        if request.json["messages"][0]["content"] != "flood":
            await request.start_stream()
            for index in range(20):
                await request.event(chat("a", "stop" if index == 19 else None))
                await asyncio.sleep(0.01)
            await request.end()
            return
        await request.start_stream()
        while True:
            await request.chunk(event * 600)

    client = connect((await serve(script)).url)
    flood = asyncio.create_task(client.generate("flood", 10, "chat", Trace(), Recorder()))
    await asyncio.sleep(0.1)
    heard, trace = Recorder(), Trace()
    await client.generate("quiet", 20, "chat", trace, heard)
    flood.cancel()
    await asyncio.wait([flood])
    assert trace.outcome is Outcome.OK
    stamps = [stamp for _, stamp, _ in heard.arrivals]
    assert stamps == sorted(stamps)
    assert len(heard.arrivals) >= 10
    assert max(gap for _, _, gap in heard.arrivals if gap is not None) < 200e6


async def test_a_body_without_a_reader_is_bounded(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "BODY_LIMIT", 1_000_000)

    async def script(request: Request) -> None:
        await request.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await request.write(b"x" * 100_000)

    server = await serve(script)
    async with httpx.AsyncClient(transport=KernelTransport(Stamper(0))) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="a body of more than"):
            await client.get(server.url)


async def test_a_good_answer_is_taken_by_every_path(drive: Any) -> None:
    trace, heard, _ = await drive(stream_ok)
    assert (trace.outcome, heard.total) == (Outcome.OK, 3)
