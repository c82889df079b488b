"""Bytes that a server may send, what the readers make of them however they are cut, and what others make of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import h11

from llmtop.endpoint.sse import EventSplitter, EventTooLong
from llmtop.endpoint.wire import ResponseParser, WireError

Event = tuple[bytes, bytes]


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """`data` in pieces that end at these places."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[a:b] for a, b in itertools.pairwise(edges)] or [b""]


def cuts(data: bytes, dice: Random) -> Iterator[list[bytes]]:
    """Some ways to cut `data`: byte by byte, in two, in lines, anywhere."""
    yield [data[i : i + 1] for i in range(len(data))]
    yield cut(data, [dice.randrange(len(data) + 1)])
    yield cut(data, [match.end() for match in re.finditer(rb"\n", data)])
    yield cut(data, [dice.randrange(len(data) + 1) for _ in range(dice.randint(2, 12))])


# ── Responses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Response:
    """All that a reader can tell of a response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool
    excess: bool
    keep_alive: bool
    head_done: bool
    refused: bool


def read_response(parts: list[bytes], *, eof: bool = False) -> Response:
    parser = ResponseParser("POST")
    body, refused = b"", False
    try:
        for part in parts:
            body += parser.feed(part)
    except WireError as error:
        body += error.body
        refused = True
    else:
        if eof:
            parser.eof()
    if not parser.head_done:  # interim answers and half heads tell nothing
        return Response(0, [], body, parser.complete, parser.excess, False, False, refused)
    return Response(
        parser.status, parser.headers, body, parser.complete, parser.excess, parser.keep_alive, True, refused
    )


FRAMING = ("content-length", "transfer-encoding")
"""Headers whose values h11 writes in its own way."""

BLANKS = re.compile(r"[ \t]+")
"""A fold stands for any number of blanks."""


def by_h11(data: bytes) -> tuple[int, list[tuple[str, str]], bytes] | None:
    """The response as h11 reads it to its end and the end of the connection; None: not at all."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    head: Any = None
    body = b""
    ended = False
    try:
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
                headers = [(name, BLANKS.sub(" ", value)) for name, value in pairs if name not in FRAMING]
                return head.status_code, headers, body
            elif event in (h11.NEED_DATA, h11.PAUSED):
                if ended:
                    return None
                connection.receive_data(b"")
                ended = True
            elif isinstance(event, h11.ConnectionClosed):
                return None
    except h11.RemoteProtocolError:
        return None


HEADERS = (
    *(b"Content-Length: 5", b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 7, 7", b"content-length:12"),
    *(b"Content-Length: 5, 6", b"Content-Length: +5", b"Content-Length: " + b"9" * 5000),
    *(b"Transfer-Encoding: chunked", b"transfer-encoding:\tChunked ", b"Transfer-Encoding: gzip, chunked"),
    *(
        b"Transfer-Encoding: identity",
        b"Connection: close",
        b"Connection: keep-alive, x",
        b"X-A: b\r\n folded\r\n\tagain",
    ),
    *(
        b"Content-Encoding: gzip",
        b"Content-Type: text/event-stream",
        b"X : y",
        b" X: y",
        b"X\0: y",
        b"X: \r y",
        b"nothing",
    ),
    *(b"X: " + bytes(range(128, 256)), b": empty", b"Content-Length:", b"Transfer-Encoding:"),
)
STATUS = (
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 503 Busy"),
    *(b"HTTP/1.1 204 None", b"HTTP/1.1 304", b"HTTP/1.1 999 ", b"HTTP/1.1 099 Low", b"HTTP/2 200", b"HTTP/1.1  200 OK"),
    *(b"\r\nHTTP/1.1 200 OK", b" HTTP/1.1 200 OK", b"HTTP/1.1 101 Switching", b"PRI * HTTP/2.0", b"HTTP/1.1 200"),
    *(b"\r\r\nHTTP/1.1 200 OK", b"HTTP/1.1 200\tOK", b"ICY 200 OK"),
)
INFORMAL = (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", b"HTTP/1.1 100\n\n")


def some_response(dice: Random) -> bytes:
    """A response that is right, nearly right, or broken."""
    end = dice.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n"))
    head = [dice.choice(STATUS), *(dice.choice(HEADERS) for _ in range(dice.randint(0, 3)))]
    informal = b"".join(dice.choice(INFORMAL) for _ in range(dice.choice((0, 0, 0, 1, 3))))
    body = b""
    for _ in range(dice.randint(0, 4)):
        chunk = dice.randbytes(dice.choice((1, 5, 17, 40))) if dice.random() < 0.5 else b"data: x\n\n"
        extension = dice.choice((b"", b"", b"", b";a=1", b" ", b"\r", b"x" * dice.choice((1, 20))))
        size = len(chunk) + dice.choice((0, 0, 0, 0, 0, 0, 1, -1))
        body += b"%x%b" % (max(0, size), extension) + b"\r\n" + chunk + dice.choice((b"\r\n", b"\r\n", b"\n", b""))
    body += dice.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"", b"0\r\n\r\nmore", b"00;x\n\n"))
    return mutated(informal + end.join(head) + end + end + body, dice)


def mutated(data: bytes, dice: Random) -> bytes:
    """Often as it is; else with some bytes changed, lost, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(dice.choice((0, 0, 1, 1, 3))):
        if not changed:
            break
        at = dice.randrange(len(changed))
        kind = dice.randrange(5)
        if kind == 0:
            changed[at] = dice.choice(b"\r\n\0 :;,x0aF\xff")
        elif kind == 1:
            del changed[at : at + dice.randint(1, 4)]
        elif kind == 2:
            changed[at:at] = changed[at : at + dice.randint(1, 30)]
        elif kind == 3:
            changed[at:at] = dice.choice((b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n"))
        else:
            del changed[at:]
    return bytes(changed)


def check_response(data: bytes, dice: Random) -> bool:
    """The laws of one response: the same however it is cut, and h11's where h11 reads it. Returns whether it does."""
    whole = read_response([data])
    for parts in cuts(data, dice):
        assert read_response(parts) == whole, (data, parts)
    expected = by_h11(data)
    if expected is None:
        return False
    found = read_response([data], eof=True)
    if found.refused and not found.head_done and re.search(rb"HTTP/(?!1\.)", data):
        return False  # another version
    headers = [(name, BLANKS.sub(" ", value)) for name, value in found.headers if name not in FRAMING]
    assert (found.status, headers, found.body) == expected, (data, found, expected)
    assert found.complete
    return True


# ── Events ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_events(parts: list[bytes]) -> tuple[list[Event], bool]:
    """Events, and whether one was too long."""
    splitter = EventSplitter()
    events: list[Event] = []
    try:
        for part in parts:
            events += splitter.feed(part)
    except EventTooLong as long:
        return [*events, *long.events], True
    return events, False


def by_the_standard(data: bytes) -> list[Event]:
    """Events, word by word as the HTML standard has it (section 9.2.6), one line after the other.

    But for one thing: an error without data is an event, too, and its comments are its data.
    """
    lines = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    events, name, values, comments = [], b"", list[bytes](), list[bytes]()
    for line in lines:
        if not line:
            text = b"".join(value + b"\n" for value in values)[:-1]
            if not text and name == b"error":
                text = b" ".join(comments)
            if text or name == b"error":
                events.append((name, text))
            name, values, comments = b"", [], []
            continue
        if line.startswith(b":"):
            comments.append(line[1:].strip())
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            values.append(value)
        elif field == b"event":
            name = value
    return events


LINES = (
    *(b"data: x", b"data: x", b'data: {"choices":[]}', b"data:y", b"data", b"data: ", b"data:  two", b": ping", b":"),
    *(b"event: error", b"event:", b"id: 1", b"retry: 5", b"", b"", b"", b"", b"\xef\xbb\xbfdata: z", b"nonsense"),
    *(b"data: \xff\0\xc3", b"data: [DONE]", b"datax: 1", b" data: 1", b"data: a:b"),
)


def some_stream(dice: Random) -> bytes:
    """An event stream, with line ends of all kinds."""
    ends = dice.choice(((b"\n",), (b"\r\n",), (b"\r",), (b"\n", b"\r\n", b"\r")))
    return mutated(b"".join(dice.choice(LINES) + dice.choice(ends) for _ in range(dice.randint(0, 14))), dice)


def check_stream(data: bytes, dice: Random) -> None:
    """The laws of one stream: the events of the standard, however it is cut."""
    expected = by_the_standard(data)
    for parts in ([data], *cuts(data, dice)):
        events, long = read_events(parts)
        assert events == expected, (data, parts, events, expected)
        assert not long
