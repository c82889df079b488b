"""What one answer of some length tells of the path it came by."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.request import Outcome
from llmtop.endpoint.path import TOKENS, examine_path, path_finding
from llmtop.endpoint.trace import Trace
from llmtop.wording.between import STREAM_THROUGH

from .conftest import Request, Script, chat, stream_ok, usage


def trace_of(
    tokens: int = TOKENS, chunks: int = TOKENS, at_first: int = 1, ttft_ms: float = 100.0, e2e_ms: float = 1000.0
) -> Trace:
    trace = Trace()
    trace.sent_ns, trace.first_token_ns, trace.last_token_ns = 0, round(ttft_ms * 1e6), round(e2e_ms * 1e6)
    trace.output_tokens, trace.chunks, trace.first_chunk_tokens = tokens, chunks, at_first
    trace.outcome = Outcome.OK
    return trace


@pytest.mark.parametrize(
    ("trace", "coalesced", "ok", "found"),
    [
        (trace_of(), 0, True, "tokens come as they are made: 32 tokens in 32 reads, the first after 100 ms of 1.00 s"),
        (trace_of(chunks=8), 3, True, "tokens come as they are made: 32 tokens in 8 reads"),
        (trace_of(chunks=8), 4, False, "tokens arrive in lumps (32 tokens in 8 reads"),
        (trace_of(chunks=1, at_first=32, ttft_ms=1000.0), 1, False, "answers arrive whole (32 tokens in 1 read, the"),
        (trace_of(chunks=3, at_first=12, ttft_ms=400.0), 1, False, "tokens arrive in lumps (32 tokens in 3 reads"),
        (trace_of(tokens=7, chunks=1, ttft_ms=1000.0), 1, None, "too short to tell"),
        (trace_of(chunks=1, at_first=32, ttft_ms=31.0, e2e_ms=31.0), 1, None, "too fast to tell"),
        (Trace(), 0, None, "no whole answer to look at: none came in time"),
    ],
)
def test_the_reads_of_one_answer_tell_a_path_that_buffers(
    trace: Trace, coalesced: int, ok: bool | None, found: str
) -> None:
    finding = path_finding(trace, coalesced)
    assert (finding.name, finding.ok) == ("path", ok)
    assert found in finding.found
    assert finding.advice == (STREAM_THROUGH if ok is False else None)


def test_the_answer_is_longer_than_what_a_proxy_holds_back() -> None:
    """nginx keeps a page of 4 KiB, and an event with one token has some 200 bytes."""
    assert TOKENS * 200 > 4096


async def kept_whole(request: Request) -> None:
    """As a proxy hands an answer on that it keeps until it is whole."""
    events = [chat(f" t{index}", finish="length" if index == TOKENS - 1 else None) for index in range(TOKENS)]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in (*events, usage(7, TOKENS))) + "data: [DONE]\n\n"
    await asyncio.sleep(0.06)
    await request.answer(200, body.encode(), content_type="text/event-stream")


@pytest.mark.parametrize(("script", "ok"), [(kept_whole, False), (stream_ok, None)])
async def test_an_answer_that_a_proxy_keeps_whole_is_seen(serve: Any, script: Script, ok: bool | None) -> None:
    server = await serve(script)
    info = EndpointInfo(dialect=Dialect.OPENAI, model="m", apis=("chat",))
    finding = await examine_path(Endpoint(base_url=server.url), info)
    assert finding.ok is ok
    assert ("answers arrive whole" in finding.found) is (ok is False)
    (request,) = server.requests
    assert request.json["max_tokens"] == TOKENS


async def test_an_answer_that_breaks_off_is_no_streaming_that_works(serve: Any) -> None:
    async def cut(request: Request) -> None:
        await request.start_stream()
        for _ in range(9):
            await request.event(chat(" t"))
        request.close()

    server = await serve(cut)
    info = EndpointInfo(dialect=Dialect.VLLM, model="m", apis=("chat",))
    finding = await examine_path(Endpoint(base_url=server.url), info)
    assert (finding.name, finding.ok) == ("streaming", False)
    assert f"an answer of {TOKENS} tokens breaks off after 9 tokens" in finding.found
