"""Conservation under random faults: every request that was sent ends once, with a trace that makes sense."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from llmtop.domain.load import Caps
from llmtop.domain.request import Outcome
from llmtop.endpoint.trace import Trace

from .conftest import Recorder, Request, chat, stream_ok, usage

FAULTS = (
    *("none", "none", "none", "busy", "limited", "error_in_stream", "cut", "reset", "hang_before", "hang_inside"),
    *("empty", "garbage", "no_http", "html", "whole", "close_after", "slow", "split"),
)


async def misbehave(request: Request, fault: str, dice: random.Random) -> None:
    """Answer with a fault, cut into random pieces."""
    if fault == "busy":
        await request.answer(503, {"error": {"message": "busy"}}, "Retry-After: 1\r\n")
    elif fault == "limited":
        await request.answer(429, {"error": "limit"})
    elif fault == "html":
        await request.answer(200, b"<html><title>Oops</title></html>", content_type="text/html")
    elif fault == "whole":
        await request.answer(200, {"choices": [{"message": {"content": "all at once"}}]})
    elif fault == "no_http":
        await request.write("220 mail.example ESMTP\r\n")
    elif fault == "reset":
        request.close()
    elif fault == "hang_before":
        await asyncio.sleep(3)
    elif fault == "none":
        await stream_ok(request, dice.randint(1, 6))
    else:
        await request.start_stream()
        for index in range(dice.randint(0 if fault == "empty" else 1, 4)):
            text = "" if fault == "empty" else f"t{index}"
            await _event(request, chat(text), fault, dice)
        if fault == "hang_inside":
            await asyncio.sleep(3)
        elif fault == "error_in_stream":
            await request.event({"error": {"message": "died", "code": 500}})
            await request.event("[DONE]")
        elif fault == "garbage":
            await request.event("this is no JSON")
        if fault == "cut":
            request.close()
            return
        if fault not in ("garbage", "error_in_stream"):
            await request.event(chat("", "stop"))
            await request.event(usage(3, 4))
        await request.end()
        if fault == "close_after":
            request.writer.close()


async def _event(request: Request, payload: dict[str, Any], fault: str, dice: random.Random) -> None:
    if fault != "split":
        await request.event(payload)
        if fault == "slow":
            await asyncio.sleep(dice.random() * 0.01)
        return
    import json

    data = f"data: {json.dumps(payload)}\n\n".encode()
    cut = dice.randint(1, len(data) - 1)
    await request.chunk(data[:cut])
    await asyncio.sleep(0)
    await request.chunk(data[cut:])


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_request_ends_once_whatever_the_server_does(serve: Any, connect: Any, seed: int) -> None:
    dice = random.Random(seed)
    truth: Counter[str] = Counter()

    async def script(request: Request) -> None:
        fault = dice.choice(FAULTS)
        truth[fault] += 1
        await misbehave(request, fault, dice)

    server = await serve(script)
    caps = Caps(first_token_timeout_s=0.15, idle_timeout_s=0.15, total_timeout_s=2)
    client = connect(server.url, caps=caps)
    ended: list[Trace] = []
    sent = 0

    async def user() -> None:
        nonlocal sent
        for _ in range(12):
            sent += 1
            trace, recorder = Trace(), Recorder()
            try:
                if dice.random() < 0.1:
                    async with asyncio.timeout(dice.random() * 0.02):
                        await client.generate("x", 4, "chat", trace, recorder)
                else:
                    await client.generate("x", 4, "chat", trace, recorder)
            except TimeoutError:
                assert trace.outcome is Outcome.CANCELLED
            ended.append(trace)
            check(trace, recorder)

    await asyncio.gather(*(user() for _ in range(12)))
    outcomes = Counter(trace.outcome for trace in ended)
    assert sent == len(ended) == sum(outcomes.values())
    assert outcomes[Outcome.OK] >= 0.5 * (truth["none"] + truth["split"] + truth["slow"])
    assert all(connection in client._pool._open for connection in client._pool._idle if not connection.closed)
    await client.close()
    await asyncio.sleep(0)
    assert not client._pool._open


def check(trace: Trace, recorder: Recorder) -> None:
    assert trace.outcome is not None
    assert trace.end_ns is not None
    order = [trace.sent_ns, trace.headers_ns, trace.first_token_ns, trace.last_token_ns, trace.end_ns]
    known = [stamp for stamp in order if stamp is not None]
    assert known == sorted(known)
    assert recorder.total == trace.tokens_seen
    assert len(recorder.firsts) == (trace.first_token_ns is not None)
    if trace.outcome is Outcome.OK:
        assert trace.output_tokens > 0
        assert trace.error is None
    elif trace.outcome.is_error:
        assert trace.error
