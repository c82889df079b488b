"""Whatever a client sends: one answer or a closed connection, in linear time, and the next client is served as ever."""

from __future__ import annotations

import asyncio
import json
import random
import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from llmtop.simulator.engine import load_preset
from llmtop.simulator.server import http
from llmtop.simulator.server.asked import ApiError, read_generation
from llmtop.simulator.server.deployment import Deployment
from llmtop.simulator.server.face import Face
from llmtop.simulator.server.guard import Guard
from llmtop.simulator.server.http import Connections, ServerConnection
from llmtop.simulator.server.incoming import MAX_BODY_BYTES, Phase, RequestReader
from tests.growth import is_linear

TOKEN, MODEL = "a-token", load_preset("laptop").model.name
STATUS = re.compile(rb"HTTP/1\.1 (\d+) ")


class Wire(asyncio.Transport):
    """What a connection wrote; its client reads all, or nothing."""

    def __init__(self, *, reads: bool = True) -> None:
        super().__init__()
        self.written, self.closed, self.aborted, self.paused = bytearray(), False, False, False
        self.protocol: ServerConnection | None = None
        self._reads = reads

    def write(self, data: Any) -> None:
        self.written += data
        if not self._reads and len(self.written) > 65536 and self.protocol is not None:
            self.protocol.pause_writing()

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0 if self._reads else len(self.written)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 8000) if name == "sockname" else default


class Server:
    """A face over a deployment, without a socket."""

    def __init__(self) -> None:
        self.deployment = Deployment(load_preset("laptop"))
        self.face = Face(self.deployment, Guard(TOKEN, None, "127.0.0.1"))

    async def answers(self, *pieces: bytes) -> list[int]:
        """The statuses of all answers to these bytes; 0: a generation was begun and has no status yet."""
        wire, connection = Wire(), self.face.connect()
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)
        while connection._current is None and connection._reader.phase is not Phase.NOTHING and not wire.closed:
            before = len(wire.written)
            await asyncio.sleep(0)
            if len(wire.written) == before:
                break
        found = [int(status) for status in STATUS.findall(wire.written) if status != b"100"]
        begun = any(replica.load for replica in self.deployment.replicas)
        found += [0] if begun and b"event-stream" not in wire.written else []
        connection.connection_lost(None)
        return found

    async def is_well(self) -> bool:
        return await self.answers(post("/v1/completions", b'{"prompt":"a b","max_tokens":2,"stream":true}')) == [200]


@pytest.fixture
async def server() -> Any:
    made = Server()
    yield made
    made.deployment.close()


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST %b HTTP/1.1" % path.encode(), b"host: 127.0.0.1:8000", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CONTROL = (b"content-type: application/json", b"x-llmtop-control-token: " + TOKEN.encode())
GOOD: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": MODEL, "prompt": "one two", "max_tokens": 4, "stream": True, "n": 1},
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": "one two"}],
        "max_completion_tokens": 4,
        "stream_options": {"include_usage": True},
        "stream": True,
        "min_tokens": 1,
        "priority": 0,
        "ignore_eos": True,
    },
    "/tokenize": {"prompt": "one two three"},
    "/llmtop/control": {"knobs": {"max_num_seqs": 8, "jitter": 0.5}, "faults": {"cut": 0.5}},
}
LONG = "[1" + ",1" * 20_000 + "]"
VALUES: tuple[str, ...] = (
    *("1e400", "-1e400", "1e18", "1e9", "1e300", "9" * 5000, "-" + "9" * 30, "9" * 4000, "0", "-1", "-0", "1.5"),
    *("NaN", "Infinity", "01", "0x1", "true", "false", "null", '""', '" "', '"\\ud800"', '"\\udc00\\ud800"', "0.0"),
    *('"\\u0000"', '"\\ud83d\\ude00"', '"' + "\\u4e2d" * 3000 + '"', '"' + "x" * 100_000 + '"', '"\\x"', '"\xff"'),
    *('"' + "a " * 50_000 + '"', "[]", "{}", "[[]]", "[[1,2]]", "[true]", "[null]", "[1e3]", '["a","b"]', "[[[1]]]"),
    *("[" * depth + "]" * depth for depth in (10, 500, 990, 1100, 100_000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (10, 500, 990, 100_000)),
    *("[" * 100_000, '{"text":1}', '[{"text":' + "[" * 900 + "]" * 900 + "}]", "[-1, 99999999999999999999999]", LONG),
    *('[{"role":""}]', '[{"role":"user","content":null}]', '[{"role":1}]', '[{"role":"u","content":[{"text":1e9}]}]'),
    *("", " "),
)


def bodies(seed: int) -> Iterator[tuple[str, bytes]]:
    """Good bodies with one or two values replaced, and now and then a byte."""
    drawn = random.Random(seed)
    while True:
        path = drawn.choice(list(GOOD))
        fields = {json.dumps(name): json.dumps(value) for name, value in GOOD[path].items()}
        for _ in range(drawn.choice((1, 1, 2))):
            name = drawn.choice([*fields, '"zork"', '"\\ud800"', '"' + "k" * 300 + '"', "1", '"prompt"', '"user"'])
            inner = drawn.choice((None, '"max_num_seqs"', '"hang"', '"restart"', '"zork"', '"\\ud800"'))
            value = drawn.choice(VALUES)
            fields[name] = value if path != "/llmtop/control" or inner is None else f"{{{inner}:{value}}}"
        text = "{" + ",".join(f"{name}:{value}" for name, value in fields.items()) + "}"
        body = bytearray(text.encode("latin-1"))
        if drawn.random() < 0.2 and body:
            body[drawn.randrange(len(body))] = drawn.randrange(256)
        yield path, bytes(body)


def chunked(data: bytes, drawn: random.Random) -> bytes:
    pieces = []
    while data:
        size = drawn.choice((1, 3, 1000, 70_000))
        pieces.append(b"%x%b\r\n%b\r\n" % (len(data[:size]), drawn.choice((b"", b";a=b")), data[:size]))
        data = data[size:]
    return b"".join(pieces) + b"0\r\n" + drawn.choice((b"", b"trailer: t\r\n")) + b"\r\n"


def cut(data: bytes, drawn: random.Random) -> list[bytes]:
    places = sorted(drawn.randrange(len(data) + 1) for _ in range(drawn.choice((0, 1, 4))))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


async def try_bodies(server: Server, seed: int, tries: int) -> None:
    drawn, source = random.Random(seed), bodies(seed)
    for number in range(tries):
        path, body = next(source)
        headers = CONTROL if path == "/llmtop/control" else ()
        data = post(path, body, *headers)
        if drawn.random() < 0.3 and len(body) < 20_000:
            head = data.partition(b"\r\n\r\n")[0].replace(
                b"content-length: %d" % len(body), b"transfer-encoding: chunked"
            )
            data = head + b"\r\n\r\n" + chunked(body, drawn)
        found = await server.answers(*cut(data, drawn))
        assert len(found) == 1, (found, path, body[:300])
        assert found[0] < 500, (found, path, body[:300])
        server.deployment.faults.clear()
        if number % 50 == 0:
            await asyncio.sleep(0)
            assert await server.is_well()


PARTS: tuple[bytes, ...] = (
    *(b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"\t", b"\xff", b"HTTP/1.1", b"HTTP/0.9", b"HTTP/2.0", b"POST"),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02", b"\r\n\r\n", b"a: b\r\n", b"GET", b"0\r\n\r\n"),
    *(b"transfer-encoding: chunked\r\n", b"content-length: 5\r\n", b"content-length: -1\r\n", b"5\r\nabcde\r\n"),
    *(b"expect: 100-continue\r\n", b"connection: close\r\n", b"ffffffffffffffff\r\n", b"/v1/models", b"/metrics"),
    *(b"/\xc3\xa9%00", b"?x=" + b"y" * 300, b"host: b\r\n", b"9" * 5000, b"authorization: \xff\r\n"),
    *(b"x-request-id: " + b"z" * 5000 + b"\r\n", b"x-request-id: \xe9\xb5\r\n"),
)


async def try_bytes(server: Server, seed: int, tries: int) -> None:
    """Good requests, one after another, cut up and put together wrongly."""
    drawn = random.Random(seed)
    good = [post(path, json.dumps(body).encode()) for path, body in GOOD.items()]
    good += [b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /v1/models HTTP/1.0\r\n\r\n"]
    good += [b"HEAD /health HTTP/1.1\r\n\r\n"]
    for number in range(tries):
        sent = bytearray(b"".join(drawn.choices(good, k=drawn.choice((1, 1, 2, 3)))))
        for _ in range(drawn.choice((1, 2, 5))):
            place = drawn.randrange(len(sent) + 1)
            match drawn.randrange(4):
                case 0:
                    sent[place:place] = drawn.choice(PARTS)
                case 1:
                    del sent[place : place + drawn.choice((1, 2, 10, 100))]
                case 2:
                    sent[place : place + 1] = bytes((drawn.randrange(256),))
                case 3:
                    sent[place:place] = sent[drawn.randrange(len(sent) + 1) :][: drawn.choice((1, 20, 200))]
        found = await server.answers(*cut(bytes(sent), drawn))
        assert all(status < 500 or status == 501 for status in found), (found, bytes(sent[:600]))
        if number % 50 == 0:
            await asyncio.sleep(0)
            assert await server.is_well()


async def test_any_body_gets_one_answer(server: Server) -> None:
    await try_bodies(server, seed=1, tries=400)


async def test_any_bytes_leave_the_server_well(server: Server) -> None:
    await try_bytes(server, seed=1, tries=1000)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(5))
async def test_a_million_inputs_leave_the_server_well_and_small(server: Server, part: int) -> None:
    """In five parts, each 170 000 of bytes and 30 000 of bodies."""
    before_mb = 0.0
    for seed in range(part * 10, part * 10 + 10):
        await try_bodies(server, seed, tries=3_000)
        await try_bytes(server, seed, tries=17_000)
        resident_mb = psutil.Process().memory_info().rss / 1e6
        before_mb = before_mb or resident_mb
        assert resident_mb < before_mb + 20


# ── Time and room ─────────────────────────────────────────────────────────────────────────────────────────────────────


def read(pieces: list[bytes]) -> None:
    reader = RequestReader()
    for piece in pieces:
        reader.feed(piece)
        reader.take()


def bytewise(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


HEAD = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
DRIPS: dict[str, Callable[[int], list[bytes]]] = {
    "a head": lambda size: bytewise(b"GET / HTTP/1.1\r\na: " + b"x" * size),
    "fields": lambda size: [b"GET / HTTP/1.1\r\n" + b"a:\r\n" * (size // 4) + b"\r\n"],
    "empty lines": lambda size: [b"\r\n" * size * 4],
    "a body": lambda size: [b"POST / HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n", *bytewise(b"x" * size)],
    "chunks of a byte": lambda size: [HEAD, *bytewise(b"1\r\nx\r\n" * (size // 6))],
    "chunks of a byte at once": lambda size: [HEAD, b"1\r\nx\r\n" * size],
    "one chunk": lambda size: [HEAD, b"fffff\r\n", *bytewise(b"x" * size)],
    "trailers": lambda size: [HEAD, b"0\r\n", *bytewise(b"a:b\r\n" * (size // 5))],
}


@pytest.mark.parametrize("drip", DRIPS)
def test_four_times_the_bytes_take_about_four_times_the_time(drip: str) -> None:
    is_linear(lambda size: read(DRIPS[drip](size)), 8_000)


def test_a_body_of_nothing_but_brackets_takes_no_more_room_than_stated() -> None:
    body = b'{"prompt":[' + b"[]," * (MAX_BODY_BYTES // 48) + b"1]}"
    tracemalloc.start()
    try:
        with pytest.raises(ApiError):
            read_generation(body, api="completions", models=("m",), max_model_len=2048)
        assert tracemalloc.get_traced_memory()[1] < 25 * len(body)
    finally:
        tracemalloc.stop()


async def test_a_head_or_a_body_that_drips_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ARRIVAL_S", {Phase.HEAD: 0.05, Phase.BODY: 0.1})
    for start, drip in ((b"GET / HTTP/1.1\r\na:", b"b"), (post("/", b"x" * 100)[:-100], b"x")):
        wire, connection = Wire(), ServerConnection(lambda *_: None, Connections())
        connection.connection_made(wire)
        connection.data_received(start)
        async with asyncio.timeout(5):
            while not wire.closed:
                connection.data_received(drip)
                await asyncio.sleep(0.01)
        assert wire.written.startswith(b"HTTP/1.1 408 ")
        connection.connection_lost(None)


async def test_who_does_not_read_is_answered_no_more_and_dropped(server: Server) -> None:
    wire, connection = Wire(reads=False), server.face.connect()
    connection._keep_alive_s = 0.05
    wire.protocol = connection
    connection.connection_made(wire)
    asked = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"
    while not wire.paused:
        connection.data_received(asked * 1000)
    assert len(wire.written) < 200_000, "the rest waits in the socket"
    assert connection._reader.held_bytes < http.MAX_UNREAD_BYTES + 1000 * len(asked)
    async with asyncio.timeout(5):
        while not wire.aborted:
            await asyncio.sleep(0.01)
    connection.connection_lost(None)


async def test_a_stream_that_nobody_reads_is_dropped() -> None:
    wire = Wire(reads=False)
    connection = ServerConnection(lambda connection, _: connection.begin_stream(), Connections())
    wire.protocol = connection
    connection.connection_made(wire)
    connection.data_received(post("/", b""))
    written = 0
    while not wire.aborted:
        connection.write(connection.frame(b"data: x\n\n" * 100))
        written += 1000
        assert written < 2 * http.MAX_UNSENT_BYTES
    connection.connection_lost(None)


async def test_all_clients_together_have_a_share_and_a_small_request_always_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "MAX_HELD_BYTES", 100_000)
    everybody = Connections()
    wires = [Wire() for _ in range(50)]
    greedy = [ServerConnection(lambda *_: None, everybody) for _ in wires]
    for wire, connection in zip(wires, greedy, strict=True):
        connection.connection_made(wire)
        connection.data_received(post("/", b"x" * 9000)[:-1])
    assert sum(wire.aborted for wire in wires) >= 30
    small = Wire()
    modest = ServerConnection(lambda connection, _: connection.respond(200), everybody)
    modest.connection_made(small)
    modest.data_received(post("/", b"x")[:-1])
    modest.data_received(b"x")
    assert small.written.startswith(b"HTTP/1.1 200 ")
    for each in (*greedy, modest):
        each.connection_lost(None)
    assert everybody.held_bytes == 0


def test_a_reader_gives_the_same_wherever_bytes_are_cut() -> None:
    drawn = random.Random(3)
    for _ in range(300):
        body = bytes(drawn.randrange(256) for _ in range(drawn.randrange(40)))
        data = b"\r\n" * drawn.randrange(3) + HEAD + chunked(body, drawn) + b"GET /next HTTP/1.1\r\n\r\n"
        reader, found = RequestReader(), []
        for piece in cut(data, drawn) if drawn.random() < 0.5 else bytewise(data):
            reader.feed(piece)
            while (request := reader.take()) is not None:
                found.append((request.path, request.body))
        assert found == [("/", body), ("/next", b"")]
        assert reader.phase is Phase.NOTHING
        assert reader.held_bytes == 0
