"""Streams that never end, lie, or are none: the command ends in time, in words, with no figure of what was none."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from trying import Misdeed, Tried, endless, serving, streams, tried

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
SAID_NO = (1, 3, 4, 5)
"""Whatever it answers: not that all is well."""


def event(text: str = "a", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "text": text, "finish_reason": finish}
    return b"data: " + json.dumps({"model": "m", "choices": [choice]}).encode() + b"\n\n"


DONE = event("", "length") + b"data: [DONE]\n\n"


def after_some(good: int, then: Misdeed) -> Misdeed:
    """A good answer to the first requests, which are the probe's, and something else from then on."""
    asked = [0]

    def answer(connection: socket.socket) -> None:
        asked[0] += 1
        (streams("one", " two") if asked[0] <= good else then)(connection)

    return answer


def sends(*pieces: bytes, head: bytes = HEAD) -> Misdeed:
    def answer(connection: socket.socket) -> None:
        for piece in (head, *pieces):
            connection.sendall(piece)

    return answer


def dripping(data: bytes, pause_s: float = 0.05) -> Misdeed:
    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            for byte in data:
                connection.sendall(bytes([byte]))
                time.sleep(pause_s)

    return answer


def stays_open(connection: socket.socket) -> None:
    connection.sendall(HEAD + event() + DONE)
    with contextlib.suppress(OSError):
        connection.recv(1)


def resets(connection: socket.socket) -> None:
    connection.sendall(HEAD + event() * 3)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def packed_stream(connection: socket.socket) -> None:
    body = gzip.compress(event() * 3 + DONE)
    connection.sendall(HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n") + body)


CHUNKED = HEAD.replace(b"connection: close", b"transfer-encoding: chunked")
DEEP = b'data: {"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n"
LIES = b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":90000000}}\n\n'

NEVER_WELL: dict[str, Misdeed] = {
    "comments for ever": endless(HEAD, b": ping\n\n", 0.05),
    "comments without a pause": endless(HEAD, b": ping\n\n" * 500),
    "tokens for ever": endless(HEAD, event() * 200),
    "an event of 100 MB": sends(b"data: ", *[b"x" * 1_000_000] * 100),
    "a line without an end": endless(HEAD, b"x" * 65_536),
    "empty lines": endless(HEAD, b"\n" * 65_536),
    "a head that drips": dripping(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000),
    "a head without an end": endless(b"HTTP/1.1 200 OK\r\n", b"x-header: yyyyyyyyyyyyyyyy\r\n" * 100),
    "1xx for ever": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "blank lines for ever": endless(b"", b"\r\n" * 1000),
    "trailers for ever": endless(CHUNKED + b"0\r\n", b"a: b\r\n" * 1000),
    "a chunk line without an end": endless(CHUNKED, b"1" * 1000),
    "tiny chunks for ever": endless(CHUNKED, b"1\r\n:\r\n" * 1000),
    "an error page without an end": endless(HEAD.replace(b"200 OK", b"500 No") + b"<html>", b"<" * 65_536),
    "gzip": packed_stream,
    "deep JSON": sends(DEEP + DONE),
    "a reset": resets,
    "two lengths": sends(
        event() + DONE, head=HEAD.replace(b"\r\n\r\n", b"\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n")
    ),
    "status 099": sends(event() + DONE, head=HEAD.replace(b"200 OK", b"099 Low")),
    "status 999": sends(event() + DONE, head=HEAD.replace(b"200 OK", b"999 High")),
    "HTTP/2": sends(head=b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80"),
    "nothing": lambda connection: None,
    "no byte, for ever": lambda connection: time.sleep(60),
}
WELL: dict[str, Misdeed] = {
    "open after its end": stays_open,
    "a header that is not ASCII": sends(
        event() + DONE, head=HEAD.replace(b"\r\n\r\n", b"\r\nx-note: tr\xe8s bien\r\n\r\n")
    ),
    "half characters": sends(b'data: {"choices":[{"delta":{"content":"\xe6\x97"}}]}\n\n' + DONE),
}


PROFILE = """
[load]
prompt_tokens = 16
output_tokens = 8
[[stage]]
name = "on"
duration = "2s"
shape = "hold"
concurrency = 2
[slo]
ttft_p95 = "2s"
error_ratio = "1%"
[limits]
connect_timeout = "2s"
first_token_timeout = "1s"
idle_timeout = "1s"
total_timeout = "3s"
"""
GOOD = 3
"""Requests that are answered well, so that the probe is content."""


def driven(misdeed: Misdeed, home: Path, good: int = GOOD) -> tuple[Tried, dict[str, Any]]:
    """Two requests at a time for two seconds, with short deadlines; what is told at the end."""
    path = home / "hostile.toml"
    path.write_text(PROFILE)
    with serving({"/v1/chat/completions": after_some(good, misdeed)}) as server:
        ended = tried("run", str(path), server.url, "--json", home=home, limit_s=60)
    ended.is_in_words(0, *SAID_NO)
    for log in home.rglob("session.log*"):
        assert "Traceback" not in log.read_text(), log.read_text()[-3000:]
    assert ended.peak_mb < 400
    told: dict[str, Any] = json.loads(ended.out) if ended.out.startswith("{") else {}
    return ended, told


def is_never_well(misdeed: Misdeed, home: Path) -> None:
    ended, told = driven(misdeed, home)
    assert ended.code in SAID_NO, ended.said
    if told:
        totals = told["totals"]
        assert totals["ok"] <= GOOD
        assert totals["output_tokens"] < 10_000_000, totals


@pytest.mark.faults
@pytest.mark.parametrize("name", NEVER_WELL)
def test_every_hostile_stream_is_an_error_in_words(home: Path, name: str) -> None:
    is_never_well(NEVER_WELL[name], home)


@pytest.mark.faults
def test_counts_that_cannot_be_are_no_figures(home: Path) -> None:
    is_never_well(sends(event() + event("", "length") + LIES + b"data: [DONE]\n\n"), home)


@pytest.mark.faults
@pytest.mark.parametrize("name", WELL)
def test_an_odd_stream_that_says_that_it_is_whole_is_taken(home: Path, name: str) -> None:
    ended, told = driven(WELL[name], home)
    assert told["totals"]["errors"] == 0, ended.said
    assert told["totals"]["ok"] > GOOD or name == "open after its end"


@pytest.mark.faults
@pytest.mark.parametrize("name", ["an event of 100 MB", "deep JSON", "gzip"])
def test_a_probe_of_a_hostile_stream_ends_in_words(home: Path, name: str) -> None:
    with serving(dict.fromkeys(("/v1/chat/completions", "/v1/completions"), NEVER_WELL[name])) as server:
        ended = tried("doctor", server.url, home=home, limit_s=90)
    ended.is_in_words(0, 3)
    assert ended.peak_mb < 300
