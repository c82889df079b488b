"""The HTTP layer by itself, over a transport of lists: any split of any pipeline gives the same answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.simulator.server.http import (
    ARRIVAL_S,
    MAX_HELD_BYTES,
    MAX_UNREAD_BYTES,
    MAX_UNSENT_BYTES,
    Connections,
    ServerConnection,
)
from llmtop.simulator.server.incoming import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    MalformedRequest,
    Phase,
    Request,
    parse_head,
)


class Wire(asyncio.Transport):
    """What a connection wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    @property
    def data(self) -> bytes:
        return b"".join(self.written)


def echo(connection: ServerConnection, request: Request) -> None:
    """Answers with what came."""
    connection.respond(200, f"{request.method} {request.path} {request.query} ".encode() + request.body)


def talk(pieces: list[bytes], application: Any = echo) -> Wire:
    async def run() -> Wire:
        wire = Wire()
        connection = ServerConnection(application, Connections())
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)
                await asyncio.sleep(0)
        for _ in range(4):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        return wire

    return asyncio.run(run())


PLAIN = b"GET /a?x=1 HTTP/1.1\r\nHost: h\r\n\r\n"
SIZED = b"POST /b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
BODIES = {PLAIN: b"GET /a x=1 ", SIZED: b"POST /b  hello", CHUNKED: b"POST /c  abcde"}


@settings(max_examples=60)
@given(st.lists(st.sampled_from([PLAIN, SIZED, CHUNKED]), min_size=1, max_size=4), st.data())
def test_any_split_of_any_pipeline_is_answered_the_same(requests: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(requests)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    wire = talk(pieces)
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in wire.written]
    assert bodies == [BODIES[request] for request in requests]
    assert not wire.closed


@settings(max_examples=100)
@given(st.binary(max_size=300))
def test_garbage_is_refused_or_waited_for_but_never_breaks_the_server(garbage: bytes) -> None:
    talk([garbage, b"\r\n\r\n"])


@pytest.mark.parametrize(
    "head",
    [b"GET /", b"GET / HTTP/2", b"GET / HTTP/1.1\r\nno colon", b"GET / HTTP/1.1\r\n: empty", b"G=T / HTTP/1.1"],
)
def test_a_head_that_is_none_is_malformed(head: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_head(head)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\nc: d\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -4\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: +4\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;" + b"x" * 2000, 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 20_000, 431),
        (b"x" * 70_000, 431),
    ],
)
def test_a_malformed_request_is_refused_and_its_connection_closed(data: bytes, status: int) -> None:
    wire = talk([data])
    assert wire.data.startswith(b"HTTP/1.1 %d " % status)
    if status == 400:
        assert wire.data.endswith(b"\r\n\r\nInvalid HTTP request received.")
    assert wire.closed
    assert len(wire.written) == 1


def test_the_client_may_ask_for_the_end_of_the_connection() -> None:
    wire = talk([b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n" + PLAIN])
    assert wire.closed
    assert b"connection: close" in wire.data
    assert len(wire.written) == 1


def test_an_http_1_0_client_gets_an_unchunked_stream_that_ends_with_the_connection() -> None:
    def stream(connection: ServerConnection, request: Request) -> None:
        connection.begin_stream()
        connection.write(connection.frame(b"data: 1\n\n"))
        connection.finish(connection.frame(b"data: [DONE]\n\n"))

    wire = talk([b"POST / HTTP/1.0\r\n\r\n"], stream)
    head, _, body = wire.data.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"data: 1\n\ndata: [DONE]\n\n"
    assert wire.closed


def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    wire = talk([head, b"ab"])
    assert wire.written[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wire.written[1].endswith(b"POST /  ab")


def test_the_next_request_waits_for_the_answer_before_it_and_reading_stops_when_too_much_is_sent_ahead() -> None:
    async def run() -> None:
        seen: list[Request] = []
        wire = Wire()
        connection = ServerConnection(lambda _, request: seen.append(request), Connections())
        connection.connection_made(wire)
        connection.data_received(PLAIN + SIZED)
        assert [request.path for request in seen] == ["/a"]
        connection.data_received(b"x" * 2_000_000)
        assert not wire.reading
        connection.respond(200)
        await asyncio.sleep(0)
        assert [request.path for request in seen] == ["/a", "/b"]
        assert wire.reading
        connection.connection_lost(None)

    asyncio.run(run())


def test_a_client_that_leaves_is_told_once_and_only_while_its_answer_is_open() -> None:
    async def run() -> None:
        told: list[str] = []
        for answered in (False, True):
            connection = ServerConnection(lambda *_: None, Connections())
            connection.connection_made(Wire())
            connection.data_received(PLAIN)
            connection.on_disconnect = lambda: told.append("gone")
            if answered:
                connection.respond(200, json.dumps({}).encode())
            connection.connection_lost(None)
        assert told == ["gone"]

    asyncio.run(run())


def test_an_idle_connection_is_closed() -> None:
    async def run() -> None:
        wire = Wire()
        connection = ServerConnection(echo, Connections(), keep_alive_s=0.01)
        connection.connection_made(wire)
        connection.data_received(PLAIN)
        assert not wire.closed
        await asyncio.sleep(0.05)
        assert wire.closed
        connection.connection_lost(None)

    asyncio.run(run())


def test_the_limits_leave_room_for_long_prompts_and_slow_lines_and_for_no_more() -> None:
    assert len(b"word " * 1_000_000) < MAX_BODY_BYTES < 2 * len(b"word " * 1_000_000)
    assert MAX_BODY_BYTES * 8 / 1e6 < ARRIVAL_S[Phase.BODY] < 2 * MAX_BODY_BYTES * 8 / 1e6
    assert MAX_HEAD_BYTES * 8 / 1e6 < ARRIVAL_S[Phase.HEAD] <= 10
    assert MAX_UNSENT_BYTES >= 4000 * 250
    assert MAX_UNREAD_BYTES < MAX_HELD_BYTES <= 32 * MAX_BODY_BYTES
