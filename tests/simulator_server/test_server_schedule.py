"""The server of known times: what it sends, and that it tells when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter_ns
from typing import Any

import pytest

from llmtop.simulator.server.schedule import Plan, serve

BODY = {"messages": [{"role": "user", "content": "unique head of this prompt"}]}


@pytest.fixture
async def scheduled(client_of: Any) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    stop = asyncio.Event()
    tasks = []

    async def begin(tokens: int = 8, *variants: str, burst: bool = False, tpot_ms: int = 4) -> Any:
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        plan = Plan(6_000_000, tpot_ms * 1_000_000, tokens, burst, frozenset(variants))
        tasks.append(asyncio.create_task(serve(plan, stop, ready.set_result)))
        return client_of(await ready)

    yield begin
    stop.set()
    await asyncio.gather(*tasks)


async def stamps(client: Any, query: str = "") -> Any:
    return (await client.ask("GET", f"/stamps{query}")).json


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    "variants", [(), ("multi",), ("split",), ("role",), ("crlf",), ("multi", "split", "crlf", "role")]
)
async def test_every_variant_delivers_every_token_and_a_stamp_for_each(
    scheduled: Any, path: str, variants: tuple[str, ...]
) -> None:
    client = await scheduled(10, *variants)
    start_ns = perf_counter_ns()
    answer = await client.ask("POST", path, BODY, x_request_id="mine")
    end_ns = perf_counter_ns()
    text = answer.body.decode()
    assert answer.whole
    assert ("\r\n\r\n" in text) == ("crlf" in variants)
    pieces = text.replace("\r\n", "\n").split("\n\n")
    assert pieces[-2:] == ["data: [DONE]", ""]
    events = [json.loads(piece.removeprefix("data: ")) for piece in pieces[:-2]]
    role = int("role" in variants and "chat" in path)
    words = [e["choices"][0].get("text") or e["choices"][0].get("delta", {}).get("content") for e in events[role:-1]]
    assert words == [f" t{index}" for index in range(10)]
    assert events[-1]["usage"]["completion_tokens"] == 10
    assert events[-2]["choices"][0]["finish_reason"] == "length"
    (told,) = await stamps(client, "?id=mine")
    assert told["id"] == events[0]["id"]
    assert told["head"] == "unique head of this prompt"
    assert len(told["before_ns"]) == len(told["after_ns"]) == 10
    assert start_ns < told["received_ns"] < told["before_ns"][0]
    assert all(before < after for before, after in zip(told["before_ns"], told["after_ns"], strict=True))
    assert told["after_ns"] == sorted(told["after_ns"])
    assert told["after_ns"][-1] < end_ns


async def test_deadlines_are_absolute_and_never_anticipated(scheduled: Any) -> None:
    client = await scheduled(20)
    await asyncio.gather(*(client.ask("POST", "/v1/completions", BODY) for _ in range(5)))
    for told in await stamps(client):
        for index, before_ns in enumerate(told["before_ns"]):
            assert before_ns >= told["received_ns"] + 6_000_000 + index * 4_000_000


async def test_in_burst_mode_all_streams_share_the_instants(scheduled: Any) -> None:
    client = await scheduled(6, burst=True, tpot_ms=10)
    await asyncio.gather(*(client.ask("POST", "/v1/completions", BODY) for _ in range(8)))
    told = await stamps(client)
    assert len(told) == 8
    for stream in told:
        first_ns = -(-(stream["received_ns"] + 6_000_000) // 10_000_000) * 10_000_000
        for index, before_ns in enumerate(stream["before_ns"]):
            assert before_ns >= first_ns + index * 10_000_000


async def test_multi_tokens_share_a_stamp(scheduled: Any) -> None:
    client = await scheduled(10, "multi")
    await client.ask("POST", "/v1/completions", BODY)
    (told,) = await stamps(client)
    assert [told["after_ns"].count(stamp) for stamp in sorted(set(told["after_ns"]))] == [4, 4, 2]


async def test_close_ends_the_connection_though_keep_alive_was_promised(scheduled: Any) -> None:
    client = await scheduled(3, "close")
    body = json.dumps(BODY).encode()
    data = await client.exchange(b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    assert b"connection: close" not in data
    assert data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_stamps_are_taken_once_or_kept_when_asked_for_by_id(scheduled: Any) -> None:
    client = await scheduled(2)
    for name in ("a", "b"):
        await client.ask("POST", "/v1/completions", BODY, x_request_id=name)
    assert [told["request_id"] for told in await stamps(client, "?id=b")] == ["b"]
    assert [told["request_id"] for told in await stamps(client)] == ["a", "b"]
    assert await stamps(client) == []


async def test_a_client_that_leaves_ends_its_stream_only(scheduled: Any) -> None:
    client = await scheduled(100)
    leaver = asyncio.create_task(client.ask("POST", "/v1/completions", BODY, x_request_id="leaver"))
    stayer = asyncio.create_task(client.ask("POST", "/v1/completions", BODY, x_request_id="stayer"))
    await asyncio.sleep(0.03)
    leaver.cancel()
    assert (await stayer).whole
    assert [told["request_id"] for told in await stamps(client)] == ["stayer"]


async def test_it_has_what_a_probe_looks_for(scheduled: Any) -> None:
    client = await scheduled()
    models = (await client.ask("GET", "/v1/models")).json
    assert models["data"][0]["id"] == "known-times"
    assert (await client.ask("GET", "/health")).status == 200
    assert (await client.ask("GET", "/metrics")).status == 404
