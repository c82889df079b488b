"""Streams of real servers, replayed read by read: tokens, usage and outcome are what the servers' own usage says."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.reader import StreamReader
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.wire import ResponseParser

DATA = Path(__file__).parent / "data"


class Heard:
    def __init__(self) -> None:
        self.arrivals: list[tuple[int, int, int | None]] = []

    def first_token(self, trace: Trace) -> None:
        assert not self.arrivals

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        self.arrivals.append((n, stamp_ns, gap_ns))


def capture(name: str) -> list[tuple[int, bytes]]:
    """(ns since the request was sent, bytes) of each read."""
    lines = [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()[1:]]
    return [(int(line["t"] * 1e9), line["b"].encode("latin-1")) for line in lines if "b" in line]


def replay(reads: list[tuple[int, bytes]]) -> tuple[Trace, Heard]:
    trace, heard = Trace(), Heard()
    reader = StreamReader(trace, heard, Stamper(0))
    reader.sent(0, 0)
    parser = ResponseParser("POST")
    stamp = 0
    for stamp, data in reads:
        had_head = parser.head_done
        body = parser.feed(data)
        if parser.head_done and not had_head:
            reader.head(parser, stamp)
        if body:
            reader.body(body, stamp)
    parser.eof()
    reader.close(stamp, None if parser.complete else "cut")
    return trace, heard


# name: outcome, output tokens, token source, prompt tokens, finish reason
EXPECTED = {
    "vllm/sse_chat_usage": (Outcome.OK, 16, TokenSource.USAGE, 20, "length"),
    "vllm/sse_chat_nousage": (Outcome.OK, 8, TokenSource.CHUNKS, None, "length"),
    "vllm/sse_chat_continuous_usage": (Outcome.OK, 8, TokenSource.USAGE, 11, "length"),
    "vllm/sse_completions_usage": (Outcome.OK, 16, TokenSource.USAGE, 5, "length"),
    "vllm/sse_completions_token_ids": (Outcome.OK, 4, TokenSource.CHUNKS, None, "length"),
    "vllm/sse_forced_usage": (Outcome.OK, 6, TokenSource.USAGE, 6, "length"),
    "vllm/sse_keepalive_comments_queued": (Outcome.OK, 20, TokenSource.USAGE, 500, "length"),
    "vllm/sse_spec_decode_multi_token_chunks": (Outcome.OK, 200, TokenSource.USAGE, 12, "length"),
    "vllm/sse_burst_200_error_in_stream": (Outcome.STREAM_ERROR, 0, TokenSource.CHUNKS, None, None),
    "vllm/sse_server_killed_midstream": (Outcome.STREAM_ERROR, 57, TokenSource.CHUNKS, None, None),
    "vllm/sse_err_too_long": (Outcome.HTTP_ERROR, 0, TokenSource.CHUNKS, None, None),
    "llamacpp/sse_chat_usage": (Outcome.OK, 24, TokenSource.USAGE, 31, "length"),
    "llamacpp/sse_chat_nousage": (Outcome.OK, 8, TokenSource.USAGE, 31, "length"),
    "llamacpp/sse_completions_usage": (Outcome.OK, 24, TokenSource.USAGE, 5, "length"),
    "llamacpp/sse_ping_comments_queued": (Outcome.OK, 4, TokenSource.USAGE, 4, "length"),
    "llamacpp/sse_timings_per_token": (Outcome.OK, 6, TokenSource.USAGE, 5, "length"),
    "llamacpp/sse_error_midstream": (Outcome.STREAM_ERROR, 14, TokenSource.CHUNKS, None, None),
    "dynamo/sse_chat_usage": (Outcome.OK, 4, TokenSource.USAGE, 12, "length"),
    "dynamo/sse_completions_usage": (Outcome.OK, 4, TokenSource.USAGE, 4, "length"),
    "transformers/sse_chat": (Outcome.OK, 8, TokenSource.USAGE, 11, "length"),
    "transformers/sse_completions": (Outcome.OK, 8, TokenSource.USAGE, 2, "length"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_capture_replays_to_what_its_server_counted(name: str) -> None:
    trace, heard = replay(capture(name))
    assert (
        trace.outcome,
        trace.output_tokens,
        trace.token_source,
        trace.prompt_tokens,
        trace.finish_reason,
    ) == EXPECTED[name], trace.error
    assert sum(n for n, _, _ in heard.arrivals) == trace.output_tokens
    stamps = [stamp for _, stamp, _ in heard.arrivals]
    assert stamps == sorted(stamps)
    if trace.output_tokens:
        assert trace.headers_ns is not None
        assert trace.first_token_ns is not None
        assert trace.headers_ns <= trace.first_token_ns


@given(name=st.sampled_from(sorted(EXPECTED)), cuts=st.lists(st.integers(0, 10**6), max_size=60))
@settings(max_examples=60)
def test_any_cut_of_a_capture_counts_the_same(name: str, cuts: list[int]) -> None:
    whole = b"".join(data for _, data in capture(name))
    edges = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    trace, heard = replay([(i, whole[a:b]) for i, (a, b) in enumerate(itertools.pairwise(edges))])
    assert (
        trace.outcome,
        trace.output_tokens,
        trace.token_source,
        trace.prompt_tokens,
        trace.finish_reason,
    ) == EXPECTED[name]
    assert sum(n for n, _, _ in heard.arrivals) == trace.output_tokens


@given(name=st.sampled_from(sorted(EXPECTED)), where=st.floats(0, 1))
@settings(max_examples=60)
def test_a_capture_that_breaks_off_is_never_taken_for_a_good_one(name: str, where: float) -> None:
    whole = b"".join(data for _, data in capture(name))
    cut = whole[: int(where * len(whole))]
    trace, _ = replay([(0, cut)])
    if trace.outcome is Outcome.OK:
        assert b'"finish_reason":"' in cut or b"[DONE]" in cut


def test_an_error_inside_a_stream_has_the_servers_own_words() -> None:
    assert "currently busy" in (replay(capture("vllm/sse_burst_200_error_in_stream"))[0].error or "")
    assert "EngineCore" in (replay(capture("vllm/sse_server_killed_midstream"))[0].error or "")
    full, _ = replay(capture("llamacpp/sse_error_midstream"))
    assert full.error == "Context size has been exceeded."
    record = full.record(0, asked_prompt_tokens=500, asked_output_tokens=300, stage=None, worker=0)
    assert record.found_pool_full, "it is the pool of all slots that these words are of"
    assert "maximum context length" in (replay(capture("vllm/sse_err_too_long"))[0].error or "")


def test_headers_and_comments_of_a_queued_request_are_no_first_token() -> None:
    trace, _ = replay(capture("vllm/sse_keepalive_comments_queued"))
    assert trace.first_token_ns is not None
    assert trace.headers_ns is not None
    assert trace.first_token_ns - trace.headers_ns > 5e9


def test_speculation_is_counted_by_usage_not_by_events() -> None:
    trace, heard = replay(capture("vllm/sse_spec_decode_multi_token_chunks"))
    assert trace.chunks < 60
    assert max(n for n, _, _ in heard.arrivals) > 1


def test_a_first_read_with_role_and_token_has_one_token() -> None:
    trace, _ = replay(capture("llamacpp/sse_chat_usage"))
    assert trace.first_chunk_tokens == 1
    assert trace.cached_tokens == 0
