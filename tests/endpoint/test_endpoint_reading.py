"""What a hostile server may send to the load: read in linear time, within bounds, and the same however it is cut."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import pytest

from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint import wire as wire_module
from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.event import MOST_TOKENS
from llmtop.endpoint.reader import KEPT_BYTES, TOKENS_BEYOND, StreamReader
from llmtop.endpoint.refusals import TEXT_LIMIT, refusal_text
from llmtop.endpoint.sse import EVENT_LIMIT, EventSplitter, EventTooLong
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.wire import HEAD_LIMIT, LINE_LIMIT, ResponseParser, WireError
from tests.growth import is_linear

from .conftest import Recorder

sys.path.insert(0, str(Path(__file__).parent))
import reading

READ = 65_536
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


# The same however they are cut


def test_responses_are_the_same_however_they_are_cut_and_those_of_h11() -> None:
    dice = Random(1)
    agreed = sum(reading.check_response(reading.some_response(dice), dice) for _ in range(250))
    assert agreed > 12


def test_event_streams_are_the_same_however_they_are_cut_and_those_of_the_standard() -> None:
    dice = Random(2)
    for _ in range(500):
        reading.check_stream(reading.some_stream(dice), dice)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b" HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\r\nhi",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\n" + CHUNKED + b"2\r\nhi\r\n0\r\n\r\nmore",
        CHUNKED + b"5;" + b"x" * LINE_LIMIT + b"\r\nhello\r\n",
        CHUNKED + b"5;" + b"x" * (LINE_LIMIT - 3) + b"\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n5\r\nhello\r\n5\r\nhelloX\r\n",
        OK + b"X: " + b"y" * (HEAD_LIMIT - len(OK) - 7) + b"\r\n\r\n",
        OK + b"X: " + b"y" * (HEAD_LIMIT - len(OK) - 6) + b"\r\n\r\n",
    ],
    ids=range(9),
)
def test_a_limit_is_met_at_the_same_byte_however_the_response_is_cut(data: bytes) -> None:
    whole = reading.read_response([data])
    for at in {*range(min(len(data), 80)), *range(max(0, len(data) - 80), len(data))}:
        assert reading.read_response(reading.cut(data, [at])) == whole, at
    assert reading.read_response([data[i : i + 1000] for i in range(0, len(data), 1000)]) == whole


def test_the_limit_of_an_event_is_met_at_the_same_byte_however_the_stream_is_cut() -> None:
    for length, long in ((EVENT_LIMIT, False), (EVENT_LIMIT + 1, True)):
        event = b"data: " + b"x" * (length - 6)
        for stream in (b"data: a\n\n" + event + b"\n\ndata: b\n\n", b"data: a\n\n\n" + event, event + b"\n\n\n"):
            whole = reading.read_events([stream])
            assert whole[1] is long
            assert (whole[0][:1] == [(b"", b"a")]) is stream.startswith(b"data: a")
            for piece in (999, READ, 3 * READ):
                parts = [stream[i : i + piece] for i in range(0, len(stream), piece)]
                assert reading.read_events(parts) == whole
            for at in (5, 9, 10, length - 1, length, length + 9, length + 10, len(stream) - 1):
                assert reading.read_events(reading.cut(stream, [at])) == whole, at


# Linear


def parsed(prefix: bytes, piece: bytes, size: int) -> Callable[[int], None]:
    """Feed `prefix`, then `n` bytes of repeated `piece` in reads of `size`, to the response parser."""

    def run(n: int) -> None:
        parser = ResponseParser("POST")
        parser.feed(prefix)
        try:
            for data in reads(piece, n, size):
                parser.feed(data)
        except WireError:
            pass

    return run


def split(piece: bytes, size: int) -> Callable[[int], None]:
    def run(n: int) -> None:
        splitter = EventSplitter()
        try:
            for data in reads(piece, n, size):
                splitter.feed(data)
        except EventTooLong:
            pass

    return run


def reads(piece: bytes, n: int, size: int) -> Iterable[bytes]:
    data = (piece * (n // len(piece) + 1))[:n]
    return (data[i : i + size] for i in range(0, n, size))


LINEAR: dict[str, tuple[Callable[[int], None], int]] = {
    "a head that drips": (parsed(OK, b"X: yyyyyyyy\r\n", 8), 60_000),
    "a head without an end": (parsed(OK, b"yyyyyyyyyyyy", 100), 130_000),
    "many headers": (lambda n: parsed(b"", OK + b"X: y\r\n" * (n // 6) + b"\r\n", READ)(n + 19), 30_000),
    "a header that is folded for ever": (
        lambda n: parsed(b"", OK + b"X: y\r\n" + b" z\r\n" * (n // 4) + b"\r\n", n + 30)(n + 30),
        30_000,
    ),
    "1xx answers": (parsed(b"", b"HTTP/1.1 100 C\r\n\r\n", 50), 60_000),
    "blank lines before a head": (parsed(b"", b"\r\n", 8), 60_000),
    "tiny chunks": (parsed(CHUNKED, b"1\r\nx\r\n", READ), 70_000),
    "tiny chunks that drip": (parsed(CHUNKED, b"1\r\nx\r\n", 1), 8_000),
    "chunks of every size": (
        parsed(CHUNKED, b"".join(b"%x\r\n%b\r\n" % (n, b"x" * n) for n in range(1, 700)), READ),
        2_000_000,
    ),
    "long size lines": (parsed(CHUNKED, b"1;" + b"x" * 8000 + b"\r\nx\r\n", 100), 500_000),
    "trailers": (parsed(CHUNKED + b"0\r\n", b"A: b\r\n", 64), 60_000),
    "an event that drips": (split(b"data: x", 8), 160_000),
    "an event without an end": (split(b"data: xxxxxxxxxx", 100), 500_000),
    "an event of many lines": (lambda n: split(b"data: x\n" * (n // 8) + b"\n", READ)(n + 1), 60_000),
    "empty lines": (split(b"\n", READ), 200_000),
    "empty lines that drip": (split(b"\n", 1), 10_000),
    "CR for line ends": (split(b"data: x\r\r", 1000), 300_000),
    "comments": (split(b": ping\n\n", 1000), 200_000),
    "comments without a blank line": (split(b": ping\n", 50), 500_000),
    "a page of open brackets": (lambda n: (refusal_text(b"<html>" + b"<" * n), None)[1], 400_000),
    "a page of scripts without an end": (lambda n: (refusal_text(b"<html>" + b"<script" * (n // 7)), None)[1], 400_000),
    "a page of titles without an end": (lambda n: (refusal_text(b"<html>" + b"<title" * (n // 6)), None)[1], 400_000),
}


@pytest.mark.parametrize("name", LINEAR)
def test_four_times_the_bytes_take_about_four_times_the_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "HEAD_LIMIT", 2**20)  # so that there is something to take its time
    is_linear(*LINEAR[name])


# Bounded


@pytest.mark.parametrize(
    ("prefix", "piece", "said"),
    [
        (OK, b"X: yyyyyyyy\r\n", "head of more than 64 KiB"),
        (b"", b"HTTP/1.1 100 C\r\n\r\n", "head of more than 64 KiB"),
        (b"", b"\r\n", "head of more than 64 KiB"),
        (CHUNKED + b"0\r\n", b"A: b\r\n", "trailers of more than 64 KiB"),
        (CHUNKED, b"1;x", "more than 8 KiB between chunks"),
        (CHUNKED + b"1\r\nx", b"\r", "more than 8 KiB between chunks"),
    ],
)
def test_what_has_no_end_is_refused_in_words_and_holds_little(prefix: bytes, piece: bytes, said: str) -> None:
    parser = ResponseParser("POST")

    def feed() -> None:
        for data in (prefix, *reads(piece, 200_000, 1000)):
            parser.feed(data)
            assert len(parser._held) + len(parser._pending) <= HEAD_LIMIT

    with pytest.raises(WireError, match=said):
        feed()


def test_size_lines_are_not_collected() -> None:
    parser = ResponseParser("POST")
    parser.feed(CHUNKED)
    for n in range(2_000):
        parser.feed(b"1;%08d%b\r\nx\r\n" % (n, b"x" * 4_000))
        parser.feed(b"%x\r\n%b\r\n" % (n + 1, b"x" * (n + 1)))
    assert sum(map(len, parser._sizes)) < 16 * 1024


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"Content-Length: 5\r\nContent-Length: 6", "content-lengths that differ: '5, 6'"),
        (b"Content-Length: 5, 6", "content-lengths that differ"),
        (b"Content-Length: " + b"9" * 5_000, "content-length '9999"),
        (b"Transfer-Encoding: gzip, chunked", "only chunked can be read"),
        (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "only chunked can be read"),
        (b"X\0: y", "a NUL or a bare CR"),
        (b"X: a\rb", "a NUL or a bare CR"),
        (b" folded: before any", "a blank before the first header"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused_in_words(head: bytes, said: str) -> None:
    with pytest.raises(WireError, match=said) as refused:
        ResponseParser("POST").feed(OK + head + b"\r\n\r\n")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("status", [b"099", b"000", b"20", b"2000", b"-20", b"\xb2\xb2\xb2"])
def test_a_status_that_is_none_is_refused(status: bytes) -> None:
    with pytest.raises(WireError, match=r"no HTTP/1\.1 status line"):
        ResponseParser("POST").feed(b"HTTP/1.1 " + status + b" X\r\n\r\n")


def test_lengths_that_agree_are_one_and_framing_that_was_told_twice_ends_the_connection() -> None:
    agreed = reading.read_response([OK + b"Content-Length: 2, 2\r\nContent-Length: 2\r\n\r\nhi"])
    assert (agreed.body, agreed.complete, agreed.keep_alive) == (b"hi", True, True)
    both = reading.read_response([OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"])
    assert (both.body, both.complete, both.keep_alive) == (b"hi", True, False)


# What becomes of the request


def answered(
    *pieces: bytes, headers: Iterable[tuple[str, str]] = (), status: int = 200, asked: int = 10
) -> tuple[Trace, Recorder, StreamReader]:
    heard = Recorder()
    reader = StreamReader(Trace(), heard, Stamper(0), asked)
    response = ResponseParser()
    response.status, response.headers = status, list(headers)
    reader.sent(0, 0)
    reader.head(response, 1)
    for n, piece in enumerate(pieces):
        if not reader.over:
            reader.body(piece, 2 + n)
    reader.close(2 + len(pieces))
    return reader.trace, heard, reader


TOKEN = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
GOOD_END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def test_an_event_without_an_end_ends_the_request_in_words_after_what_came_before() -> None:
    trace, heard, reader = answered(TOKEN, TOKEN + b"data: ", *[b"x" * READ] * 200)
    assert (trace.outcome, trace.error) == (Outcome.STREAM_ERROR, "more than 1024 KiB without the end of an event")
    assert reader.over
    assert heard.total == 2


def test_tokens_without_an_end_end_the_request_in_words() -> None:
    flood = TOKEN * 1_000
    trace, heard, reader = answered(*[flood] * 200, asked=100)
    assert trace.outcome is Outcome.STREAM_ERROR
    assert trace.error is not None
    assert "100 were asked for: the server does not heed max_tokens" in trace.error
    assert reader.over
    assert TOKENS_BEYOND - 1_000 < heard.total <= 100 + TOKENS_BEYOND


@pytest.mark.parametrize("where", ["at the end", "in every event"])
def test_a_count_that_cannot_be_is_not_a_figure(where: str) -> None:
    claim = b'"usage":{"prompt_tokens":7,"completion_tokens":90000000}'
    if where == "at the end":
        pieces = (TOKEN, GOOD_END, b'data: {"choices":[],' + claim + b"}\n\n")
    else:
        pieces = (TOKEN, b'data: {"choices":[{"delta":{"content":"a"}}],' + claim + b"}\n\n", GOOD_END)
    trace, heard, _ = answered(*pieces)
    assert (trace.outcome, trace.token_source) == (Outcome.OK, TokenSource.CHUNKS)
    assert trace.output_tokens == heard.total == (1 if where == "at the end" else 2)


def test_counts_above_any_context_are_not_believed() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":9007199254740991,"completion_tokens":1e300}}\n\n'
    trace, _, _ = answered(TOKEN, GOOD_END, usage)
    assert (trace.outcome, trace.prompt_tokens, trace.output_tokens) == (Outcome.OK, None, 1)


DEEP = 100_000


@pytest.mark.parametrize(
    "event",
    [
        b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"error":' + b'{"message":' * DEEP + b"1" + b"}" * DEEP + b"}",
        b'{"error":' + b'{"message":' * 900 + b"1" + b"}" * 900 + b"}",
        b'{"choices":[{"delta":{"content":' + b'[{"text":' * 450 + b'"a"' + b"}]" * 450 + b"}}]}",
        b'{"choices":' + b"9" * 5_000 + b"}",
        b'{"choices":[{"index":' + b"1" * 5_000 + b"}]}",
        b"\xff\xfe" * 1_000,
        b"NaN",
        b'{"choices":[{"delta":{"content":1,"x":"\xff"}}],"error":{"message":"\xe6\x97"}}',
    ],
    ids=range(9),
)
@pytest.mark.parametrize("stream", [True, False])
def test_no_event_and_no_page_makes_the_reader_raise(event: bytes, stream: bool) -> None:
    kind = "text/event-stream" if stream else "application/json"
    pieces = (TOKEN, b"data: " + event + b"\n\n", b"event: error\ndata: " + event + b"\n\n") if stream else (event,)
    for status in (200, 500):
        trace, _, _ = answered(*pieces, headers=[("content-type", kind)], status=status)
        assert trace.outcome in (Outcome.STREAM_ERROR, Outcome.HTTP_ERROR, Outcome.TRUNCATED)
        assert trace.error
        assert len(trace.error) < TEXT_LIMIT + 100


@pytest.mark.parametrize("coding", ["gzip", " BR", "zstd, " + "x" * 10_000, "gzip,\x1b]52;c;aGk=\x07"])
def test_a_compressed_answer_is_refused_in_words_and_never_counted(coding: str) -> None:
    trace, heard, _ = answered(TOKEN, GOOD_END, headers=[("content-encoding", coding)])
    assert trace.outcome is Outcome.STREAM_ERROR
    assert "compressed" in (trace.error or "")
    assert (trace.error or "").isprintable()
    assert len(trace.error or "") < 200
    assert heard.total == 0


def test_a_page_without_an_end_is_given_up_and_little_of_it_is_kept() -> None:
    trace, _, reader = answered(*[b"<html>" + b"x" * READ] * 50, headers=[("content-type", "text/html")])
    assert trace.outcome is Outcome.STREAM_ERROR
    assert reader.over
    assert sum(map(len, reader._kept)) <= KEPT_BYTES + READ + 6


def test_half_characters_are_text_too() -> None:
    trace, heard, _ = answered(b'data: {"choices":[{"delta":{"content":"\xe6\x97"}}]}\n\n', GOOD_END)
    assert (trace.outcome, heard.total) == (Outcome.OK, 1)


def test_the_reason_of_an_end_is_cut_and_printable() -> None:
    end = b'data: {"choices":[{"delta":{},"finish_reason":"\\u001b]52;' + b"x" * 10_000 + b'"}]}\n\ndata: [DONE]\n\n'
    trace, _, _ = answered(TOKEN, end)
    assert trace.finish_reason is not None
    assert len(trace.finish_reason) < 60
    assert trace.finish_reason.isprintable()


def test_the_limits_are_what_they_are_for() -> None:
    assert HEAD_LIMIT == 64 * 1024
    assert LINE_LIMIT == 8 * 1024
    assert EVENT_LIMIT * 200 <= 210e6
    assert MOST_TOKENS == 100_000_000
    assert TOKENS_BEYOND == 65_536


@pytest.mark.parametrize("end", range(len(TOKEN + GOOD_END) + 1))
def test_a_stream_that_is_cut_is_right_only_once_it_has_said_that_it_is_whole(end: int) -> None:
    stream = TOKEN + GOOD_END
    whole = len(TOKEN) + GOOD_END.index(b"\n")  # the event with the reason of the end
    trace, heard, _ = answered(stream[:end])
    assert (trace.outcome is Outcome.OK) is (end >= whole), stream[:end]
    assert heard.total == (end >= len(TOKEN) - 2)
