"""One question beside the load, bounded: whatever answers, it costs no more time and memory than was granted.

Every probe, scrape, call of a control and check of a tokenizer goes through `ask`. It reads piece by piece, under one
limit on the time of the whole and one on the bytes of the body, follows redirects on one host and only where it is told
to, and decompresses nothing: 4 MB can become 4 GB. Heads are limited by h11, to 100 kB.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from time import time
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from llmtop.domain.plain import plain
from llmtop.endpoint.failures import in_words, reason_of
from llmtop.endpoint.waits import wait_s
from llmtop.endpoint.wire import is_compressed

MIB = 1 << 20
JSON_BYTES = MIB
"""Of an answer that tells of a server: SGLang's longest has 50 kB, llama.cpp's a chat template of 100 kB."""
LIST_BYTES = 16 * MIB
"""Of a list of models: 100,000 of them have 10 MB."""
SLOTS_BYTES = 4 * MIB
"""Of llama.cpp's slots, each of which has its prompt in some versions."""
PAGE_BYTES = 4 * MIB
"""Of a page of metrics: that of a vLLM with eight engines has 0.3 MB."""
REFUSAL_BYTES = 1 << 16
"""Of an answer that refuses: the rest of it is not read."""
VALUES_LIMIT = 1_000_000
"""In one JSON answer. Each takes 80 bytes and more."""
_HEAD_TOO_LONG = "Receive buffer too long"
"""As h11 says it, of a head, of trailers and of the size of a chunk."""
_REDIRECTS = (301, 302, 303, 307, 308)
FOLLOWS = 3
"""Redirects on one host that a page of metrics may take."""
_PIECES = 16
"""Pieces of a body that are read before others on the loop have a turn: a server may send one for each byte."""


class Answer(Struct, frozen=True):
    """What one path answered. Of a refusal the body may be cut, and is empty where it was compressed."""

    status: int
    body: bytes
    server: str = ""
    location: str = ""
    wants: str = ""
    """As `WWW-Authenticate` says: how to be let in."""
    wait_s: float | None = None
    """Seconds that a refusal asks to wait; None: it does not say."""

    @property
    def json(self) -> Any:
        """The decoded body; None where there is none."""
        return json_of(self.body)


class NoAnswer(Exception):
    """There is no answer; the message says why."""


class Late(NoAnswer):
    """It took longer than was granted."""


class NotConnected(NoAnswer):
    """There is no connection, or none through the proxy."""


class TlsFailed(NotConnected):
    """There is no TLS with what answers there, or one side does not trust the other."""


class NotHttp(NoAnswer):
    """What came is not HTTP, or ended before its end."""


class Refused(NoAnswer):
    """There is an answer that is not read: it has more bytes than were granted, or is compressed.

    Args:
        altered: something on the way made it what it is.
    """

    def __init__(self, problem: str, *, altered: bool = False) -> None:
        super().__init__(problem)
        self.altered = altered


async def ask(
    client: httpx.AsyncClient,
    url: str,
    *,
    limit_s: float,
    limit_bytes: int,
    method: str = "GET",
    payload: object | None = None,
    accept: str | None = None,
    last_of_connection: bool = False,
    follows: int = 0,
) -> Answer:
    """Ask, and read the answer to its end. Raises NoAnswer.

    Args:
        url: whole, or a path under the client's base URL.
        limit_s: for all of it, from the look-up of the name to the last byte.
        limit_bytes: of the body.
        payload: sent as JSON.
        last_of_connection: whatever is asked next is asked by another one.
        follows: redirects that are followed, to the same scheme, host and port alone: `/metrics` to `/metrics/`.
    """
    headers = {} if accept is None else {"Accept": accept}
    if last_of_connection:
        headers["Connection"] = "close"
    began = False
    try:
        async with asyncio.timeout(limit_s):
            there: str | None = url
            while there is not None:
                async with client.stream(method, there, json=payload, headers=headers, timeout=None) as response:
                    began = True
                    body = await _body(response, limit_bytes)
                answer = _answer(response, body)
                there = _on_the_same_host(response.request.url, answer) if follows else None
                follows -= 1
    except NoAnswer:
        raise
    except TimeoutError:
        raise Late(f"took longer than {limit_s:g} s" if began else f"no answer within {limit_s:g} s") from None
    except (httpx.NetworkError, httpx.ProxyError, ssl.SSLError) as error:
        if isinstance(reason_of(error), ssl.SSLError):
            raise TlsFailed(in_words(error)) from None
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            raise NotConnected(in_words(error)) from None
        raise NotHttp(in_words(error)) from None
    except httpx.RemoteProtocolError as error:
        if _HEAD_TOO_LONG in str(error):
            raise Refused("has a head of more than 100 kB") from None
        raise NotHttp(str(error)) from None
    except Exception as error:  # h11 lets through a ValueError for some heads: no HTTP, whatever is raised
        raise NotHttp(in_words(error)) from None
    return answer


def _answer(response: httpx.Response, body: bytes) -> Answer:
    said = response.headers
    status = response.status_code
    wait = None if status < 400 else wait_s(status, ((name.lower(), value) for name, value in said.items()), time())
    return Answer(
        status, body, said.get("server", ""), said.get("location", ""), said.get("www-authenticate", ""), wait
    )


def _on_the_same_host(asked: httpx.URL, answer: Answer) -> str | None:
    """Where a redirect leads; None: it is none, or leads to another scheme, host or port."""
    if answer.status not in _REDIRECTS or not answer.location:
        return None
    try:
        there = asked.join(answer.location)
    except httpx.InvalidURL:
        return None
    same = (there.scheme, there.host, there.port) == (asked.scheme, asked.host, asked.port)
    return str(there) if same and there != asked else None


async def _body(response: httpx.Response, limit_bytes: int) -> bytes:
    """The whole body of a good answer, the beginning of that of a refusal. Raises Refused."""
    good = response.status_code == httpx.codes.OK
    coding = response.headers.get("content-encoding", "")
    if is_compressed(coding):
        if good:
            raise Refused(f"is compressed ({plain(coding, 40)}) though identity was asked for", altered=True)
        return b""
    limit = limit_bytes if good else REFUSAL_BYTES
    too_long = Refused(f"has more than {_size_text(limit_bytes)}")
    length = response.headers.get("content-length", "")
    if good and length.isdecimal() and int(length[:20]) > limit:
        raise too_long
    body, pieces = bytearray(), 0
    async for piece in response.aiter_raw():
        body += piece
        pieces += 1
        if len(body) > limit:
            if good:
                raise too_long
            return bytes(body[:limit])
        if pieces % _PIECES == 0:
            await asyncio.sleep(0)
    return bytes(body)


def _size_text(size: int) -> str:
    """`4 MB`, `16 kB`"""
    return f"{size / MIB:g} MB" if size >= MIB else f"{max(1, size >> 10)} kB"


def json_of(body: bytes, values: int = VALUES_LIMIT) -> Any:
    """A decoded JSON body; None where it is none, is nested too deeply, or has more than so many `values`.

    A byte order mark, bytes that are no UTF-8 and NaN are read over: some servers send them.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    if len(body) > values and sum(map(body.count, (b",", b"[", b"{"))) > values:
        return None
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        return None
    except (msgspec.MsgspecError, ValueError):
        pass
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
