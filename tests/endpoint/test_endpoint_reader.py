"""What counts as a token, when, and what a stream's end is called."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.reader import StreamReader
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.wire import ResponseParser

MS = 1_000_000


class Heard:
    def __init__(self) -> None:
        self.firsts = 0
        self.arrivals: list[tuple[int, int, int | None]] = []

    def first_token(self, trace: Trace) -> None:
        self.firsts += 1

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        self.arrivals.append((n, stamp_ns // MS, None if gap_ns is None else gap_ns // MS))


def chat(content: str | None = None, finish: str | None = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    if content is not None:
        delta["content"] = content
    event: dict[str, Any] = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return event if usage is None else {**event, "usage": {"prompt_tokens": 5, "completion_tokens": usage}}


def total(n: int, **more: Any) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": n, **more}}


def read(
    *reads: object, status: int = 200, headers: tuple[tuple[str, str], ...] = (), lost: str | None = None
) -> tuple[Trace, Heard, StreamReader]:
    """Each of `reads` is one read, a millisecond after the one before: an event, a list of events, or raw bytes."""
    trace, heard, stamper = Trace(), Heard(), Stamper(0)
    reader = StreamReader(trace, heard, stamper)
    reader.sent(0, 0)
    parser = ResponseParser("POST")
    parser.status = status
    parser.headers = list(headers) or [("content-type", "text/event-stream")]
    reader.head(parser, MS)
    stamp = MS
    for part in reads:
        stamp += MS
        reader.body(wire(part), stamp)
    reader.close(stamp + MS, lost)
    return trace, heard, reader


def wire(part: object) -> bytes:
    if isinstance(part, bytes):
        return part
    if isinstance(part, list):
        return b"".join(wire(event) for event in part)
    return f"data: {part if isinstance(part, str) else json.dumps(part)}\n\n".encode()


def test_role_empty_content_comments_and_pings_are_no_tokens() -> None:
    trace, heard, _ = read(
        chat("", role="assistant"),
        chat(None, role="assistant"),
        b": ping\n\n",
        b"event: ping\ndata: {}\n\n",
        chat("hello"),
        chat("", "stop"),
        total(1),
        "[DONE]",
    )
    assert trace.outcome is Outcome.OK
    assert heard.arrivals == [(1, 6, None)]
    assert trace.first_token_ns == trace.last_token_ns == trace.first_answer_ns == 6 * MS


@pytest.mark.parametrize(
    ("delta", "answers"),
    [
        ({"content": "x"}, True),
        ({"reasoning": "x"}, False),
        ({"reasoning_content": "x"}, False),
        ({"refusal": "x"}, True),
        ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}, True),
        ({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, True),
        ({"content": [{"type": "text", "text": "x"}]}, True),
        ({"content": [{"type": "output_text", "text": "x"}]}, True),
        ({"content": {"type": "text", "text": "x"}}, True),
        ({"content": ["", "x"]}, True),
        ({"content": [{"type": "reasoning", "reasoning": "x"}]}, False),
        ({"content": "", "text": "x"}, True),
        ({"thinking": "x"}, False),
        ({"content": "", "reasoning_text": "x"}, False),
        ({"content": None, "reasoning_summary": [{"text": "x"}]}, False),
        ({"reasoning": {"content": "x"}}, False),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "x", "signature": None}]}, False),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "x"}]}, False),
        ({"function_call": {"name": "f", "arguments": ""}}, True),
        ({"function_call": {"arguments": "{"}}, True),
        ({"tool_calls": {"index": 0, "function": {"arguments": "{"}}}, True),
        ({"tool_calls": [{"index": 0, "function": {"arguments": {"a": 1}}}]}, True),
        ({"tool_calls": [{"index": 0, "type": "custom", "custom": {"input": "x"}}]}, True),
        ({"audio": {"id": "a", "transcript": "x"}}, True),
    ],
)
def test_every_dialects_payload_is_a_token(delta: dict[str, Any], answers: bool) -> None:
    trace, heard, _ = read({"choices": [{"delta": delta}]}, chat("end", "stop"))
    assert heard.firsts == 1
    assert trace.first_token_ns == 2 * MS
    assert trace.first_answer_ns == (2 if answers else 3) * MS


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "function": {}}]},
        {"tool_calls": {}, "function_call": None, "audio": {"id": "a"}},
        {"thinking": "", "reasoning_details": [], "thinking_blocks": None},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}], "reasoning_opaque": None},
        {"thinking_signature": "x", "reasoning_id": "x", "thought_tokens": 7},
        {"content": [{"type": "text", "text": ""}, None, 7], "name": "x", "id": "x"},
    ],
)
def test_what_shows_nothing_is_no_token(delta: dict[str, Any]) -> None:
    trace, _, _ = read({"choices": [{"delta": delta}]}, chat("a", "stop"))
    assert trace.first_token_ns == 3 * MS


def test_completions_stream_text() -> None:
    for piece in ({"text": "a"}, {"delta": {}, "text": "a"}, {"text": ["a"]}):
        trace, _, _ = read({"choices": [{"text": "", "finish_reason": None}]}, {"choices": [piece]}, total(1))
        assert trace.first_token_ns == trace.first_answer_ns == 3 * MS


def test_several_events_in_one_read_are_one_arrival() -> None:
    trace, heard, _ = read([chat("a"), chat("b"), chat("c")], chat("d"), [chat("e"), chat("f", "length")], total(6))
    assert heard.arrivals == [(3, 2, None), (1, 3, 1), (2, 4, 1)]
    assert (trace.first_chunk_tokens, trace.chunks, trace.output_tokens) == (3, 3, 6)
    assert trace.max_gap_ns == MS


def test_an_event_is_stamped_with_the_read_that_completes_it() -> None:
    event = wire(chat("a", "stop"))
    trace, _, _ = read(event[:10], event[10:-1], event[-1:])
    assert trace.first_token_ns == 4 * MS


def test_usage_in_every_event_counts_several_tokens_per_event() -> None:
    trace, heard, reader = read(
        chat("", usage=0, role="assistant"),
        chat("ab", usage=2),
        chat("c", usage=3),
        chat("defg", "length", usage=7),
        total(7),
    )
    assert [n for n, _, _ in heard.arrivals] == [2, 1, 4]
    assert trace.output_tokens == trace.tokens_seen == 7
    assert trace.first_chunk_tokens == 2
    assert not reader.saw_several_tokens_per_event


def test_an_unfinished_character_counts_but_is_not_the_first_token() -> None:
    trace, heard, _ = read(chat("", usage=1), chat("", usage=2), chat("日", usage=3), chat("x", "length", usage=4))
    assert heard.arrivals == [(3, 4, None), (1, 5, 1)]
    assert trace.first_chunk_tokens == 3


def test_what_only_the_final_usage_knows_is_heard_at_the_end() -> None:
    trace, heard, reader = read(chat("ten words " * 4), chat("and ten more" * 4, "length"), total(20))
    assert heard.arrivals == [(1, 2, None), (1, 3, 1), (18, 4, None)]
    assert trace.token_source is TokenSource.USAGE
    assert trace.timed_tokens == 10
    assert trace.hidden_tokens == 0
    assert reader.saw_several_tokens_per_event


def test_usage_in_the_finish_event_and_no_done() -> None:
    trace, heard, _ = read(chat("a"), chat(None, "length", usage=2), lost=None)
    assert trace.outcome is Outcome.OK
    assert trace.output_tokens == 2
    assert sum(n for n, _, _ in heard.arrivals) == 2


def test_cached_tokens_and_timings_are_noted() -> None:
    trace, _, _ = read(chat("a", "stop"), total(1, prompt_tokens_details={"cached_tokens": 3}))
    assert trace.cached_tokens == 3
    timed = {**chat("a", "stop"), "timings": {"cache_n": 2, "prompt_n": 4, "predicted_n": 1}}
    trace, _, _ = read(timed)
    assert (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens) == (6, 2, 1)


@pytest.mark.parametrize(
    ("reads", "outcome", "says"),
    [
        ([chat("a"), chat("b", "stop")], Outcome.OK, None),
        ([chat("a"), "[DONE]"], Outcome.OK, None),
        ([chat("a"), total(1)], Outcome.OK, None),
        ([chat("a")], Outcome.TRUNCATED, "without a finish reason"),
        ([], Outcome.TRUNCATED, "without a finish reason"),
        ([b": comment\n\n"], Outcome.TRUNCATED, "without a finish reason"),
        ([chat("", "stop"), "[DONE]"], Outcome.EMPTY, "without any text"),
        (["[DONE]"], Outcome.EMPTY, "without any text"),
        ([chat("", "length"), total(9), "[DONE]"], Outcome.TEXTLESS, "9 tokens, none with text: special"),
        (
            [chat("", "length"), total(9, completion_tokens_details={"reasoning_tokens": 9}), "[DONE]"],
            Outcome.TEXTLESS,
            "reasoning that it keeps",
        ),
        ([chat("a"), "[DONE] "], Outcome.OK, None),
        ([chat("a"), "\t[done]"], Outcome.OK, None),
        ([chat("a"), '"[DONE]"'], Outcome.OK, None),
        ([chat("a"), b"data:[DONE] \t\r\n\r\n"], Outcome.OK, None),
        ([chat("a", "null"), chat("b", "null")], Outcome.TRUNCATED, "without a finish reason"),
        ([chat("a", "None")], Outcome.TRUNCATED, "without a finish reason"),
        ([chat("a", ""), chat("b", "stop")], Outcome.OK, None),
        ([chat("a"), b"event: error\n: out of memory\n\n"], Outcome.STREAM_ERROR, "out of memory"),
        ([chat("a"), b"event: error\n\n"], Outcome.STREAM_ERROR, "error event without a message"),
        ([chat("a"), b"event: error\n"], Outcome.STREAM_ERROR, "error event without a message"),
        ([chat("a"), b'event: error\ndata: {"code": 7}\n\n'], Outcome.STREAM_ERROR, '{"code": 7}'),
        ([{"error": {"message": "busy", "code": 503}}, "[DONE]"], Outcome.STREAM_ERROR, "busy"),
        ([{"error": "busy"}], Outcome.STREAM_ERROR, "busy"),
        ([chat("a"), b'event: error\ndata: {"message": "died"}\n\n'], Outcome.STREAM_ERROR, "died"),
        ([chat("a"), b"event: error\ndata: plain words\n\n"], Outcome.STREAM_ERROR, "plain words"),
        ([{"object": "error", "message": "old style", "code": 400}], Outcome.STREAM_ERROR, "old style"),
        ([{"detail": "monthly quota used up", "code": 429}], Outcome.STREAM_ERROR, "monthly quota"),
        ([{"code": 1302, "msg": "ten at once"}, "[DONE]"], Outcome.STREAM_ERROR, "ten at once"),
        ([chat("a"), {"message": "lost its worker"}], Outcome.STREAM_ERROR, "lost its worker"),
        ([{"detail": "a note"}, chat("a"), chat("b", "stop"), "[DONE]"], Outcome.OK, None),
        ([chat("a"), chat(None, "abort")], Outcome.STREAM_ERROR, "gave up"),
        ([chat("a"), "no json at all", "[DONE]"], Outcome.STREAM_ERROR, "no JSON"),
        ([b"just words, no stream"], Outcome.STREAM_ERROR, "no event stream"),
        ([chat("error"), chat('{"error":"x"}', "stop")], Outcome.OK, None),
        ([chat("a"), {"choices": None}, {"something": "else"}, chat("b", "stop")], Outcome.OK, None),
        (
            [chat("a"), chat(None, "Null"), chat(None, " NONE "), chat(None, "in_progress")],
            Outcome.TRUNCATED,
            "without",
        ),
        ([chat("a"), chat(None, "insufficient_system_resource"), "[DONE]"], Outcome.STREAM_ERROR, "gave up"),
        ([chat("a"), chat(None, "CANCELLED")], Outcome.STREAM_ERROR, "gave up"),
        ([chat("a"), chat(None, "eos")], Outcome.OK, None),
        ([chat("a"), chat(None, "tool_calls")], Outcome.OK, None),
        ([chat("a"), chat(None, "content_filter")], Outcome.OK, None),
        ([chat("a", "stop"), chat("b", "stop")], Outcome.OK, None),
        ([chat("a", "pending"), chat("b", "pending"), "[DONE]"], Outcome.OK, None),
        ([chat("a", "pending"), chat("b", "pending")], Outcome.TRUNCATED, "without a finish reason"),
        ([total(1), chat("a"), chat("b")], Outcome.TRUNCATED, "without a finish reason"),
        ([chat("a"), total(1), chat("b"), total(2)], Outcome.TRUNCATED, "without a finish reason"),
        ([chat("a"), total(1), chat("b"), total(2), chat(None, "stop")], Outcome.OK, None),
        ([chat("a"), "[DONE]", "billed: 3"], Outcome.OK, None),
        (
            [wire(chat("a"))[:-1], wire(chat("b"))[:-1], b"data: [DONE]\n"],
            Outcome.STREAM_ERROR,
            "no blank line between",
        ),
        ([wire(chat("a"))[:-1]], Outcome.TRUNCATED, "without a finish reason"),
        ([chat("a"), ["[DONE]", {"error": {"message": "late"}}]], Outcome.OK, None),
        ([chat("a"), "[DONE]", b"event: error\ndata: closed\n\n"], Outcome.OK, None),
        ([chat("a"), "[DONE]", b"x" * 1_100_000], Outcome.OK, None),
        ([chat("a"), b"event: done\nid: 7\ndata: [DONE]\n\n"], Outcome.OK, None),
        (
            [chat("a"), {"choices": [{"delta": {}, "error": {"message": "upstream died"}, "finish_reason": "error"}]}],
            Outcome.STREAM_ERROR,
            "upstream died",
        ),
        ([chat("a"), {"errors": [{"message": "gone"}]}, "[DONE]"], Outcome.STREAM_ERROR, "gone"),
        ([chat("a"), {"type": "error", "message": "gone"}, "[DONE]"], Outcome.STREAM_ERROR, "gone"),
        ([chat("a"), b'{"error": {"message": "busy"}}\n\n'], Outcome.TRUNCATED, "it said: busy"),
        ([chat("a"), b'{"error": {"message": "busy"}}'], Outcome.TRUNCATED, "it said: busy"),
        ([chat("a"), b"<html><title>502 Bad</title>\n\n</html>"], Outcome.TRUNCATED, "it said: 502 Bad"),
        ([b": ping\n\n", b'{"error": {"message": "busy"}}'], Outcome.STREAM_ERROR, "busy"),
        ([b": ping\n\n", b'{"choices": [{"message": {"content": "hi"}}]}'], Outcome.STREAM_ERROR, "in one piece"),
        (
            [
                {
                    "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
                    "usage": {"completion_tokens": 1},
                },
                "[DONE]",
            ],
            Outcome.STREAM_ERROR,
            "in one piece",
        ),
    ],
)
def test_the_end_of_a_stream_has_the_right_name(reads: list[object], outcome: Outcome, says: str | None) -> None:
    trace, _, _ = read(*reads)
    assert trace.outcome is outcome
    assert (trace.error is None) if says is None else says in (trace.error or "")


LOST = "the server closed the connection in the middle of its answer"


def test_tokens_without_text_are_output_all_the_same() -> None:
    kept = {"completion_tokens_details": {"reasoning_tokens": 9}}
    for reads in (
        [chat("", "length"), total(9), "[DONE]"],
        [chat("", "length"), total(9, **kept), "[DONE]"],
        [chat("", usage=4), chat("", usage=9), chat("", "length", usage=9), "[DONE]"],
    ):
        trace, heard, _ = read(*reads)
        assert (trace.outcome, trace.output_tokens, trace.timed_tokens) == (Outcome.TEXTLESS, 9, None)
        assert [n for n, _, _ in heard.arrivals] == [9], "the bins' tokens are the record's"


@pytest.mark.parametrize(
    "reads",
    [
        [total(1), chat("a")],
        [chat("a"), total(1)],
        [chat("a"), total(1), chat("b"), total(2)],
        [chat("a", "stop"), chat("b", "stop")],
        [[chat("a", "stop"), chat("b", "stop")]],
        [chat("a", "stop"), chat("b")],
        [chat("a", "length"), chat("b", "length")],
    ],
)
def test_a_cut_is_no_end_because_of_what_comes_with_every_piece(reads: list[object]) -> None:
    trace, _, reader = read(*reads, lost=LOST)
    assert (trace.outcome, trace.error) == (Outcome.TRUNCATED, LOST)
    assert reader.whole_ns is None


def test_a_finish_reason_before_any_token_settles_nothing() -> None:
    role = chat("", "stop", role="assistant")
    trace, _, reader = read(role, chat("a", "stop"), chat("b", "stop"), "[DONE]")
    assert (trace.outcome, trace.output_tokens, trace.end_ns) == (Outcome.OK, 2, 5 * MS)
    _, _, reader = read(role, lost=LOST)
    assert reader.whole_ns is None
    _, _, reader = read(role, chat("a"), lost=LOST)
    assert reader.whole_ns is None
    trace, _, _ = read(role, chat("a"), chat(None, "stop"))
    assert trace.outcome is Outcome.OK


@pytest.mark.parametrize("coding", ["none", "UTF-8", "identity, identity", "", "chunked"])
def test_an_encoding_that_is_no_compression_changes_nothing(coding: str) -> None:
    trace, _, _ = read(chat("a", "stop"), "[DONE]", headers=(("content-encoding", coding),))
    assert trace.outcome is Outcome.OK


@pytest.mark.parametrize("label", ["application/json", "text/html; charset=utf-8", "text/plain", "x/y", ""])
@pytest.mark.parametrize("status", [200, 201, 202, 206, 299])
def test_events_are_a_stream_whatever_label_and_success_they_come_with(label: str, status: int) -> None:
    trace, heard, _ = read(chat("a"), chat("b", "stop"), "[DONE]", status=status, headers=(("content-type", label),))
    assert (trace.outcome, heard.firsts, trace.output_tokens) == (Outcome.OK, 1, 2)


@given(st.integers(0, 400))
@example(1)
@example(3)
def test_a_stream_that_was_cut_before_it_said_why_it_ended_is_never_good(at: int) -> None:
    whole = wire([chat("a", "null"), chat("b"), {"choices": [{"delta": {}, "finish_reason": "stop"}]}])
    cut = min(at, whole.index(b'"stop"') + len(b'"stop"'))
    trace, _, _ = read(whole[:cut], lost="the server closed the connection in the middle of its answer")
    assert trace.outcome is Outcome.TRUNCATED


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b'{"error": {"message": "no"}}', "application/json", "no"),
        (b'{"choices": [{"message": {"content": "hi"}}]}', "application/json", "does not stream"),
        (b"<!DOCTYPE html><html><title>Open WebUI</title></html>", "text/html; charset=utf-8", "Open WebUI"),
    ],
)
def test_a_200_that_is_no_stream_is_a_stream_error(body: bytes, content_type: str, says: str) -> None:
    trace, _, _ = read(body, headers=(("content-type", content_type),))
    assert trace.outcome is Outcome.STREAM_ERROR
    assert says in (trace.error or "")


def test_a_compressed_answer_is_refused_in_words() -> None:
    trace, _, _ = read(b"\x1f\x8b...", headers=(("content-type", "text/event-stream"), ("content-encoding", "gzip")))
    assert trace.outcome is Outcome.STREAM_ERROR
    assert "gzip" in (trace.error or "")


def test_a_last_event_without_its_blank_line_counts_if_it_is_whole() -> None:
    trace, _, _ = read(chat("a"), b"data: [DONE]")
    assert trace.outcome is Outcome.OK
    trace, _, _ = read(chat("a"), b'data: {"choices": [{"delta": {"content": "b"}')
    assert trace.outcome is Outcome.TRUNCATED
    assert trace.output_tokens == 1


def test_a_refusal_keeps_retry_after_and_the_servers_words() -> None:
    trace, _, _ = read(
        b'{"error":"Model is overloaded","error_type":"overloaded"}', status=429, headers=(("retry-after", "1.5"),)
    )
    assert (trace.outcome, trace.error, trace.retry_after_s) == (Outcome.HTTP_ERROR, "Model is overloaded", 1.5)


def test_a_redirect_says_where_to() -> None:
    trace, _, _ = read(status=307, headers=(("location", "https://other/v1"),))
    assert trace.outcome is Outcome.HTTP_ERROR
    assert "https://other/v1" in (trace.error or "")


def test_odd_json_is_read_all_the_same() -> None:
    odd = b'data: {"choices":[{"delta":{"content":"a"},"logprobs":NaN}],"usage":{"completion_tokens":1.0}}\n\n'
    half = b'data: {"choices":[{"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}\n\n'
    trace, _, _ = read(odd, half)
    assert trace.outcome is Outcome.OK
    assert trace.chunks == 2


NAMES = (
    *("thinking", "reasoning_details", "function_call", "custom", "arguments", "audio", "transcript", "summary"),
    *("errors", "detail", "type", "output_tokens", "reasoning_tokens", "completion_tokens_details", "total_tokens"),
    *("choices", "delta", "text", "content", "usage", "error", "object", "finish_reason", "message", "name"),
    *(
        "completion_tokens",
        "prompt_tokens",
        "prompt_tokens_details",
        "cached_tokens",
        "tool_calls",
        "function",
        "timings",
    ),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=15,
)


@given(events=st.lists(json_values | st.binary(max_size=40), max_size=6), lost=st.sampled_from([None, "cut"]))
def test_whatever_a_server_sends_the_trace_is_consistent(events: list[Any], lost: str | None) -> None:
    reads = [event if isinstance(event, bytes) else wire(event) for event in events]
    trace, heard, _ = read(*reads, lost=lost)
    assert trace.outcome is not None
    assert (trace.error is None) == (trace.outcome is Outcome.OK)
    assert (trace.first_token_ns is None) == (trace.last_token_ns is None) == (trace.chunks == 0)
    assert heard.firsts == (trace.first_token_ns is not None)
    assert 0 <= trace.output_tokens < 2**54
    assert all(n >= 0 for n, _, _ in heard.arrivals)
    if trace.outcome is Outcome.OK:
        assert trace.first_token_ns is not None
