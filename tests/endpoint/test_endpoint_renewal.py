"""Kept connections that are renewed: those that nobody uses at once, the others once their exchange is over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llmtop.domain.request import Outcome
from llmtop.endpoint.caller import Caller
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.trace import Trace

from .conftest import Recorder, Request, chat, stream_ok


async def asked(client: EndpointClient, caller: Caller | None = None) -> Trace:
    trace = Trace()
    await client.generate("hi", 3, "chat", trace, Recorder(), caller)
    return trace


@pytest.mark.parametrize("keeps", [False, True], ids=["of all", "of one user"])
async def test_an_idle_connection_is_closed_and_the_next_request_opens_its_own(
    serve: Any, connect: Any, keeps: bool
) -> None:
    server = await serve(stream_ok)
    client, caller = connect(server.url), Caller(keeps=keeps)
    assert (await asked(client, caller)).connect_ns > 0
    assert (await asked(client, caller)).connect_ns == 0
    assert client.renew() == 1
    assert client.renew() == 0, "there is none any more"
    assert (await asked(client, caller)).connect_ns > 0
    assert (await asked(client, caller)).connect_ns == 0
    assert server.connections == 2


@pytest.mark.parametrize("keeps", [False, True], ids=["of all", "of one user"])
async def test_a_connection_in_use_ends_with_its_exchange(serve: Any, connect: Any, keeps: bool) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> None:
        await request.start_stream()
        await request.event(chat(" t0"))
        begun.set()
        await go_on.wait()
        await request.event(chat(" t1", finish="length"))
        await request.event("[DONE]")
        await request.end()

    server = await serve(slow)
    client, caller = connect(server.url), Caller(keeps=keeps)
    first = asyncio.create_task(asked(client, caller))
    await begun.wait()
    assert client.renew() == 1
    go_on.set()
    assert (await first).outcome is Outcome.OK
    second = await asked(client, caller)
    assert (second.outcome, server.connections) == (Outcome.OK, 2)
    assert second.connect_ns > 0


async def test_stock_httpx_begins_anew_and_what_is_in_flight_goes_on(serve: Any, connect: Any) -> None:
    server = await serve(stream_ok)
    client = connect(server.url, transport="httpx")
    await asked(client)
    await asked(client)
    assert server.connections == 1
    assert client.renew() is None
    assert (await asked(client)).outcome is Outcome.OK
    assert server.connections == 2
