"""One question: whatever answers, it ends in time, in words, and without more memory than was granted."""

from __future__ import annotations

import asyncio
import gzip
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.dialects import COUNT_LIMIT, TEXT_LIMIT, number_at, text_of
from llmtop.domain.endpoint import Endpoint
from llmtop.endpoint import question
from llmtop.endpoint.access import Access
from llmtop.endpoint.question import (
    REFUSAL_BYTES,
    Answer,
    Late,
    NotConnected,
    NotHttp,
    Refused,
    ask,
    json_of,
)

from .conftest import Request

LIMIT = 10_000


@pytest.fixture
async def asked(serve: Any) -> AsyncIterator[Any]:
    """Ask a server that answers by a script."""
    clients: list[httpx.AsyncClient] = []

    async def put(script: Any, limit_s: float = 5.0, **options: Any) -> Answer:
        server = await serve(script)
        client = Access(Endpoint(base_url=server.url)).stock_client()
        clients.append(client)
        return await ask(client, "/page", limit_s=limit_s, limit_bytes=LIMIT, **options)

    yield put
    for client in clients:
        await client.aclose()


async def test_to_ask_searches_the_path_for_no_library(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search takes half a millisecond of the loop that measures."""

    class Finder:
        sought: ClassVar[list[str]] = []

        @classmethod
        def find_spec(cls, name: str, *_: object) -> None:
            cls.sought.append(name)

    async def script(request: Request) -> None:
        await request.answer(200, b"x")

    await asked(script)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    await asked(script)
    assert Finder.sought == []


async def test_a_good_answer_is_read_whole(asked: Any) -> None:
    async def script(request: Request) -> None:
        assert request.json == {"a": 1}
        assert "accept-encoding: identity" in request.head.lower()
        await request.answer(200, b"x" * LIMIT, "Server: s\r\n")

    assert await asked(script, method="POST", payload={"a": 1}) == Answer(200, b"x" * LIMIT, "s", "")


async def test_a_byte_too_many_is_refused_however_it_is_framed(asked: Any) -> None:
    async def told(request: Request) -> None:
        await request.answer(200, b"x" * (LIMIT + 1))

    async def chunked(request: Request) -> None:
        await request.start_stream()
        for _ in range(LIMIT // 100 + 1):
            await request.chunk(b"x" * 100)

    async def to_the_end(request: Request) -> None:
        await request.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (LIMIT + 1))
        request.writer.close()

    for script in (told, chunked, to_the_end):
        with pytest.raises(Refused, match=r"has more than 9 kB"):
            await asked(script)


async def test_a_length_that_is_only_promised_is_refused_at_once(asked: Any) -> None:
    async def script(request: Request) -> None:
        await request.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        await asyncio.sleep(30)

    with pytest.raises(Refused):
        await asked(script)


async def test_what_is_compressed_is_refused_unread(asked: Any) -> None:
    async def script(request: Request) -> None:
        await request.answer(200, gzip.compress(bytes(1 << 20)), "Content-Encoding: gzip\r\n")

    with pytest.raises(Refused, match=r"is compressed \(gzip\) though identity was asked for"):
        await asked(script)


async def test_a_refusal_keeps_its_status_whatever_its_body(asked: Any) -> None:
    async def long(request: Request) -> None:
        await request.answer(500, b"x" * (REFUSAL_BYTES * 2))

    async def packed(request: Request) -> None:
        await request.answer(401, gzip.compress(b"no"), "Content-Encoding: gzip\r\n")

    answer = await asked(long)
    assert (answer.status, len(answer.body)) == (500, REFUSAL_BYTES)
    assert await asked(packed) == Answer(401, b"")


async def test_redirects_are_not_followed(asked: Any) -> None:
    async def script(request: Request) -> None:
        assert request.path == "/page"
        await request.answer(302, b"", "Location: /elsewhere\r\n")

    assert await asked(script) == Answer(302, b"", location="/elsewhere")


async def test_the_limit_on_time_is_on_the_whole(asked: Any) -> None:
    async def drips(request: Request) -> None:
        await request.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await request.write(b"x")
            await asyncio.sleep(0.02)

    async def head_drips(request: Request) -> None:
        await request.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            await request.write(b"x")
            await asyncio.sleep(0.02)

    async def informs(request: Request) -> None:
        while True:
            await request.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10)
            await asyncio.sleep(0.01)

    for script, words in (
        (drips, "took longer than 0.3 s"),
        (head_drips, "no answer within 0.3 s"),
        (informs, "no answer"),
    ):
        began = time.monotonic()
        with pytest.raises(Late, match=words):
            await asked(script, limit_s=0.3)
        assert time.monotonic() - began < 3.0


async def test_a_cancelled_question_ends_at_once(asked: Any) -> None:
    async def script(request: Request) -> None:
        await request.write(b"HTTP/1.1 200 OK\r\n\r\nx")
        await asyncio.sleep(30)

    task = asyncio.create_task(asked(script, limit_s=30))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 50_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx",
        b"",
    ],
)
async def test_what_is_no_http_is_told_in_words(asked: Any, said: bytes) -> None:
    async def script(request: Request) -> None:
        await request.write(said)
        request.writer.close()

    with pytest.raises((NotHttp, Refused), match=r"\w"):
        await asked(script)


async def test_a_head_without_an_end_is_refused(asked: Any) -> None:
    async def script(request: Request) -> None:
        await request.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000)

    with pytest.raises(Refused, match="head of more than 100 kB"):
        await asked(script)


async def test_no_connection_is_told_apart(asked: Any) -> None:
    client = Access(Endpoint(base_url="http://127.0.0.1:1")).stock_client()
    with pytest.raises(NotConnected):
        await ask(client, "/", limit_s=5, limit_bytes=1)
    await client.aclose()


async def test_cookies_are_not_kept(serve: Any) -> None:
    async def script(request: Request) -> None:
        await request.answer(200, b"", f"Set-Cookie: c{len(server.requests)}={'x' * 500}\r\n")

    server = await serve(script)
    client = Access(Endpoint(base_url=server.url)).stock_client()
    for _ in range(3):
        await ask(client, "/", limit_s=5, limit_bytes=1)
    await client.aclose()
    assert not any("cookie" in request.head.lower() for request in server.requests)


async def test_a_body_in_pieces_of_a_byte_lets_others_have_a_turn(asked: Any) -> None:
    async def script(request: Request) -> None:
        await request.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 9000 + b"0\r\n\r\n"
        )

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert len((await asked(script)).body) == 9000
    counting.cancel()
    assert turns > 9000 // 16


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": "\xff"}', {"a": "�"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"[" * 100_000, None),
        (b"[" * 100_000 + b"]" * 100_000, None),
        (b"{", None),
        (b"", None),
        (b"9" * 5000, None),
        (b"<html>", None),
    ],
)
def test_json_is_read_over_what_is_odd_and_is_none_where_it_is_none(body: bytes, told: object) -> None:
    assert json_of(body) == told


def test_nan_does_not_hide_the_rest() -> None:
    assert json_of(b'{"a": NaN, "b": 2}')["b"] == 2


def test_more_values_than_memory_is_granted_for_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json_of(b"[" + b"0," * 99 + b"0]", values=100) == [0] * 100
    assert json_of(b"[" + b"0," * 100 + b"0]", values=100) is None
    assert question.VALUES_LIMIT == 1_000_000


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_reader_of_json(body: bytes) -> None:
    json_of(body)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (4096, 4096.0),
        ("4096", 4096.0),
        (4096.0, 4096.0),
        (0, 0.0),
        (COUNT_LIMIT, COUNT_LIMIT),
        (COUNT_LIMIT * 1.01, None),
        (1e300, None),
        (10**400, None),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
        ("1e300", None),
        ("x" * 100_000, None),
        (True, None),
        (None, None),
        ([1], None),
        ({"a": 1}, None),
    ],
)
def test_a_number_that_no_server_can_have_is_not_told(value: object, number: float | None) -> None:
    assert number_at({"a": [value]}, "a.0") == number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("m", "m"),
        (5, "5"),
        ("", None),
        ("m" * TEXT_LIMIT, "m" * TEXT_LIMIT),
        ("m" * (TEXT_LIMIT + 1), None),
        ("m\ud800", "m?"),
        (float("nan"), None),
        (1e300, None),
        (True, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_a_name_is_a_text_that_can_be_written(value: object, text: str | None) -> None:
    assert text_of(value) == text


async def test_redirects_are_followed_on_one_host_a_few_times_and_only_where_told(asked: Any) -> None:
    async def script(request: Request) -> None:
        if request.path == "/page":
            await request.answer(307, b"", "Location: /page/\r\n")
        else:
            await request.answer(200, b"here")

    assert (await asked(script, follows=1)).body == b"here"
    assert (await asked(script)).status == 307

    async def away(request: Request) -> None:
        await request.answer(302, b"", "Location: http://llm.example/page\r\n")

    assert (await asked(away, follows=3)).location == "http://llm.example/page"

    async def round_and_round(request: Request) -> None:
        await request.answer(302, b"", f"Location: {request.path}x\r\n")

    assert (await asked(round_and_round, follows=3)).location == "/pagexxxx"


async def test_redirects_are_within_the_time_of_the_whole(asked: Any) -> None:
    async def slow(request: Request) -> None:
        await asyncio.sleep(0.15)
        await request.answer(302, b"", f"Location: {request.path}x\r\n")

    with pytest.raises(Late):
        await asked(slow, limit_s=0.35, follows=9)
