"""HTTP framing: any cut of any valid response gives the same body, and no bytes make the parser hang or crash."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.endpoint.wire import ResponseParser, WireError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def read(parts: list[bytes], *, eof: bool = False) -> tuple[bytes, ResponseParser]:
    parser = ResponseParser("POST")
    body = b"".join(parser.feed(part) for part in parts)
    if eof:
        parser.eof()
    return body, parser


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    cuts=st.lists(st.integers(0, 5000), max_size=30),
    upper=st.booleans(),
    extension=st.sampled_from([b"", b";a=1", b' ; name="x"', b";;"]),
    trailers=st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\r\nC: d\r\n"]),
    informal=st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"]),
)
def test_any_cut_of_a_chunked_response_gives_its_body(
    chunks: list[bytes], cuts: list[int], upper: bool, extension: bytes, trailers: bytes, informal: bytes
) -> None:
    def size(chunk: bytes) -> bytes:
        digits = b"%X" % len(chunk) if upper else b"%x" % len(chunk)
        return digits + extension

    framed = b"".join(size(chunk) + b"\r\n" + chunk + b"\r\n" for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"
    whole = informal + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + framed
    body, parser = read(pieces(whole, cuts))
    assert body == b"".join(chunks)
    assert parser.complete
    assert parser.keep_alive
    assert not parser.excess
    assert parser.status == 200


@given(body=st.binary(max_size=500), cuts=st.lists(st.integers(0, 2000), max_size=20))
def test_any_cut_of_a_body_of_known_length_gives_it(body: bytes, cuts: list[int]) -> None:
    whole = b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    got, parser = read(pieces(whole, cuts))
    assert got == body
    assert parser.complete
    assert (parser.status, parser.reason, parser.header("retry-after")) == (503, "Busy", "2")


@given(body=st.binary(max_size=500), cuts=st.lists(st.integers(0, 2000), max_size=20))
def test_a_body_without_a_length_ends_when_the_server_closes(body: bytes, cuts: list[int]) -> None:
    got, parser = read(pieces(HEAD + b"\r\n" + body, cuts))
    assert got == body
    assert not parser.complete
    parser.eof()
    assert parser.complete
    assert not parser.keep_alive


@given(parts=st.lists(st.binary(max_size=200), max_size=10), start=st.sampled_from([b"", HEAD, HEAD + b"\r\n"]))
def test_garbage_is_refused_or_read_but_never_crashes(parts: list[bytes], start: bytes) -> None:
    parser = ResponseParser("POST")
    try:
        for part in (start, *parts):
            parser.feed(part)
    except WireError:
        pass
    else:
        parser.eof()


@given(parts=st.lists(st.binary(max_size=200), max_size=10))
def test_garbage_for_chunks_is_refused_or_read_but_never_crashes(parts: list[bytes]) -> None:
    parser = ResponseParser("POST")
    parser.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    try:
        for part in parts:
            parser.feed(part)
    except WireError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"\x15\x03\x01\x00\x02\x02\x46",  # a TLS alert
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello too long\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 10_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    ],
)
def test_what_is_no_http_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(WireError):
        ResponseParser("POST").feed(data)


@pytest.mark.parametrize(
    ("head", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
    ],
)
def test_a_response_says_whether_its_connection_may_be_used_again(head: bytes, keep: bool) -> None:
    _, parser = read([head])
    assert parser.complete
    assert parser.keep_alive is keep


def test_bytes_after_the_end_are_not_lost_silently() -> None:
    _, parser = read([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 408 Timeout\r\n\r\n"])
    assert parser.complete
    assert parser.excess


def test_bare_line_feeds_and_folded_headers_are_read() -> None:
    _, parser = read([b"HTTP/1.1 200 OK\nX-Long: a\n  b\nContent-Length: 2\n\nhi"])
    assert parser.header("x-long") == "a b"
    assert parser.complete


def test_a_head_response_has_no_body() -> None:
    parser = ResponseParser("HEAD")
    parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    assert parser.complete


@pytest.mark.parametrize(
    "codings",
    [b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked, Chunked\r\n"],
)
def test_chunked_that_two_proxies_have_named_was_coded_once(codings: bytes) -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\n" + codings + b"\r\n3\r\nabc\r\n0\r\n\r\n") == b"abc"
    assert parser.complete


def test_a_body_that_is_compressed_in_its_transfer_is_refused() -> None:
    with pytest.raises(WireError, match="only chunked can be read"):
        ResponseParser().feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
