"""What belongs to one user: a header, a connection of its own; and requests that the client hangs up."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect, RequestShape
from llmtop.domain.request import Outcome
from llmtop.endpoint.bodies import RequestBodies
from llmtop.endpoint.caller import Caller, header_fault
from llmtop.endpoint.trace import Trace

from .conftest import Recorder, Request, chat, stream_ok

BODY = b',"temperature":0,"ignore_eos":false,"min_tokens":1'


async def sent(client: Any, caller: Caller | None = None, **carried: Any) -> Trace:
    trace = Trace()
    await client.generate("hi", 3, "chat", trace, Recorder(), caller, **carried)
    return trace


async def test_a_user_that_shares_none_keeps_one_connection(serve: Any, connect: Any) -> None:
    places: list[tuple[str, str]] = []

    async def script(request: Request) -> None:
        name = next((line for line in request.head.splitlines() if line.lower().startswith("x-user-id")), "")
        places.append((name.partition(": ")[2], str(request.writer.get_extra_info("peername"))))
        await stream_ok(request)

    client = connect((await serve(script)).url)
    users = [Caller(("x-user-id", f"user-{n}"), keeps=True) for n in range(3)]
    for _ in range(3):
        for user in users:
            assert (await sent(client, user)).outcome is Outcome.OK
    assert len(set(places)) == 3
    assert {name for name, _ in places} == {"user-0", "user-1", "user-2"}
    await sent(client)
    assert places[-1][0] == ""
    assert places[-1][1] not in {place for _, place in places[:-1]}


async def test_a_connection_that_its_server_closes_is_opened_again(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        await stream_ok(request)
        if len(server.requests) == 2:
            request.close()

    server = await serve(script)
    client, user = connect(server.url), Caller(keeps=True)
    for _ in range(4):
        assert (await sent(client, user)).outcome is Outcome.OK
        await asyncio.sleep(0.02)
    assert server.connections == 2


async def test_a_user_that_leaves_closes_its_connection(serve: Any, connect: Any) -> None:
    gone = asyncio.Event()

    async def script(request: Request) -> None:
        await stream_ok(request)
        await request.reader.read(1)
        gone.set()

    client, user = connect((await serve(script)).url), Caller(keeps=True)
    await sent(client, user)
    user.close()
    await asyncio.wait_for(gone.wait(), 2)


@pytest.mark.parametrize("transport", ["auto", "httpx"])
@pytest.mark.parametrize("tokens", [0, 2])
async def test_a_request_is_hung_up_and_the_server_sees_it(
    serve: Any, connect: Any, transport: str, tokens: int
) -> None:
    left = asyncio.Event()

    async def script(request: Request) -> None:
        await request.start_stream()
        for _ in range(tokens):
            await request.event(chat("x"))
        await request.reader.read(1)
        left.set()

    client = connect((await serve(script)).url, transport=transport)
    trace = await sent(client, hang_up_s=0.3)
    assert trace.outcome is Outcome.CANCELLED
    assert trace.error == "hung up by us 0.3 s after it was sent"
    assert (trace.tokens_seen, trace.output_tokens) == (tokens, tokens)
    record = trace.record(trace.end_ns or 0, asked_prompt_tokens=1, asked_output_tokens=3, stage=None, worker=0)
    assert record.hung_up
    assert not record.outcome.is_error
    assert 0.2 <= (record.end_ns - (record.sent_ns or 0)) / 1e9 < 1.5
    await asyncio.wait_for(left.wait(), 2)


async def test_an_answer_that_is_whole_by_then_is_an_answer(serve: Any, connect: Any) -> None:
    client = connect((await serve(stream_ok)).url)
    assert (await sent(client, hang_up_s=5.0)).outcome is Outcome.OK


@pytest.mark.parametrize("name", ["", "a b", "x\r\ny", "Host", "content-length", "Authorization", "x" * 101, "ü"])
def test_headers_that_say_something_else_are_refused(name: str) -> None:
    assert header_fault(name) is not None


def test_the_users_fields_count_where_the_dialect_would_say_something_else() -> None:
    bodies = RequestBodies(DIALECTS[Dialect.VLLM].request, "m", RequestShape())
    pairs = json.loads(bodies.body("hi", 9, "chat", None, BODY), object_pairs_hook=list)
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names))
    told = dict(pairs)
    assert (told["ignore_eos"], told["min_tokens"], told["temperature"], told["max_tokens"]) == (False, 1, 0, 9)
    assert json.loads(bodies.body("hi", 9, "chat", "other"))["ignore_eos"] is True


@pytest.mark.parametrize(
    "said",
    [
        "Unknown parameter: 'temperature'",
        "body.temperature: Extra inputs are not permitted",
        "temperature must be at most 2",
    ],
)
async def test_a_field_of_the_users_is_never_left_out(serve: Any, connect: Any, said: str) -> None:
    async def script(request: Request) -> None:
        await request.answer(400, {"error": {"message": said}})

    server = await serve(script)
    client = connect(server.url)
    for _ in range(2):
        trace = await sent(client, extra=b',"temperature":3')
        assert trace.outcome is Outcome.HTTP_ERROR
        assert trace.error == f"your own field 'temperature': {said}"
    assert all(request.json["temperature"] == 3 for request in server.requests)
    assert client.bodies.shape == RequestShape()


async def test_a_refusal_that_repeats_the_body_still_teaches(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        if "ignore_eos" in request.json:
            await request.answer(422, {"error": {"message": f"ignore_eos is not permitted in {request.json}"}})
        else:
            await stream_ok(request)

    client = connect((await serve(script)).url)
    assert (await sent(client, extra=b',"temperature":0')).outcome is Outcome.OK
