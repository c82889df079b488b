"""Server-sent events: the same events however the stream is cut; httpx-sse is the oracle."""

from __future__ import annotations

import itertools

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given
from hypothesis import strategies as st

from llmtop.endpoint.sse import EVENT_LIMIT, EventSplitter, EventTooLong

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x00\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=40
)
"""Without the line ends that str.splitlines knows and the standard does not: the oracle uses them."""
END = st.sampled_from(["\n", "\r\n"])


@st.composite
def streams(draw: st.DrawFn) -> str:
    """A valid event stream: comments, ids, names, data of several lines, blank lines to spare."""
    end = draw(END)
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        lines += [f":{draw(TEXT)}" for _ in range(draw(st.integers(0, 2)))]
        if draw(st.booleans()):
            lines.append(f"event: {draw(st.sampled_from(['error', 'ping', 'message', 'x y']))}")
        if draw(st.booleans()):
            lines.append(f"id: {draw(st.integers(0, 9))}")
        space = draw(st.sampled_from(["", " "]))
        lines += [f"data:{space}{draw(TEXT)}" for _ in range(draw(st.integers(0, 3)))]
        lines += [""] * draw(st.integers(1, 3))
    return "".join(line + end for line in lines)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def split(parts: list[bytes]) -> list[tuple[bytes, bytes]]:
    splitter = EventSplitter()
    return [event for part in parts for event in splitter.feed(part)]


@given(stream=streams())
def test_events_are_those_of_httpx_sse(stream: str) -> None:
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=stream.encode())
    expected = [(event.event, event.data) for event in EventSource(response).iter_sse()]
    ours = [(name.decode() or "message", data.decode()) for name, data in split([stream.encode()])]
    # httpx-sse also reports events without data, which the standard drops; an error without data has its comments here.
    assert [event for event in ours if event[0] != "error"] == [e for e in expected if e[1] and e[0] != "error"]
    assert len(ours) == sum(bool(data) or name == "error" for name, data in expected)


@given(stream=streams(), cuts=st.lists(st.integers(0, 3000), max_size=40), cr=st.booleans())
def test_any_cut_gives_the_same_events(stream: str, cuts: list[int], cr: bool) -> None:
    data = stream.replace("\r\n", "\n").replace("\n", "\r").encode() if cr else stream.encode()
    assert split(pieces(data, cuts)) == split([stream.replace("\r\n", "\n").encode()])


@given(stream=streams())
def test_byte_by_byte_gives_the_same_events(stream: str) -> None:
    data = stream.encode()
    assert split([data[i : i + 1] for i in range(len(data))]) == split([data])


@given(parts=st.lists(st.binary(max_size=100), max_size=20))
def test_garbage_never_crashes(parts: list[bytes]) -> None:
    split(parts)


def test_an_event_belongs_to_the_piece_that_completes_it() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n\nda") == [(b"", b"a")]
    assert splitter.feed(b"ta: b\n") == []
    assert splitter.feed(b"\ndata: c\r") == [(b"", b"b")]
    assert splitter.feed(b"\n\r") == [(b"", b"c")]
    assert splitter.feed(b"\ndata: d\n\n") == [(b"", b"d")]


def test_comments_empty_data_and_a_byte_order_mark_are_skipped() -> None:
    assert split([b"\xef\xbb\xbfdata: a\n\n: keep-alive\n\n:\n\ndata\n\ndata: \n\n"]) == [(b"", b"a")]


def test_characters_may_be_cut() -> None:
    data = "data: 日本\n\n".encode()
    assert split([data[:8], data[8:]]) == [(b"", "日本".encode())]


def test_an_event_without_an_end_is_refused() -> None:
    with pytest.raises(EventTooLong):
        split([b"x" * 65536] * (EVENT_LIMIT // 65536 + 2))
