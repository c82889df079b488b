"""Requests of users that are none to the model: let in at the endpoint alone, bounded, and failing in words."""

from __future__ import annotations

import asyncio

import pytest

from llmtop.domain.endpoint import Endpoint
from llmtop.endpoint.access import Access
from llmtop.endpoint.calls import MOST_BYTES, Calls, host_of
from llmtop.errors import UsageError


@pytest.fixture
async def calls_of():
    made: list[Calls] = []

    def make(url: str, **fields) -> Calls:
        made.append(Calls(Access(Endpoint(base_url=url, **fields))))
        return made[-1]

    yield make
    for calls in made:
        await calls.close()


async def hello(request) -> None:
    await request.answer(200, {"path": request.path, "body": request.body.decode()})


async def test_the_key_goes_to_the_endpoints_own_origin_alone(serve, calls_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "s3cret-key")

    async def away(request) -> None:
        await request.answer(302, {}, headers=f"Location: {own.url}/search\r\n")

    own, other, moved = await serve(hello), await serve(hello), await serve(away)
    calls = calls_of(f"{own.url}/v1", api_key_env="SECRET_KEY", headers=(("X-Tenant", "mine"),))
    reply = await calls.ask("POST", "/search", json={"q": 1}, params={"n": 2}, headers={"X-Own": "a"}, timeout_s=5)
    assert (reply.ok, reply.status, reply.json()) == (True, 200, {"path": "/search?n=2", "body": '{"q":1}'})
    assert "s3cret-key" in own.requests[0].head
    assert "X-Tenant: mine" in own.requests[0].head
    assert "x-own: a" in own.requests[0].head.lower()
    for url in (f"{other.url}/x", f"{moved.url}/y"):
        assert (await calls.ask("GET", url, timeout_s=5)).ok
    heads = [request.head for server in (other, moved) for request in server.requests] + [own.requests[-1].head]
    assert len(heads) == 3
    assert own.requests[-1].path == "/search"
    assert not any("s3cret-key" in head or "mine" in head for head in heads)


async def test_no_redirect_is_followed_from_the_endpoint(serve, calls_of) -> None:
    async def away(request) -> None:
        await request.answer(302, {}, headers="Location: http://127.0.0.1:9/\r\n")

    calls = calls_of((await serve(away)).url)
    assert (await calls.ask("GET", "/x", timeout_s=5)).status == 302


async def test_what_a_server_does_is_a_reply_in_words(serve, calls_of) -> None:
    async def odd(request) -> None:
        if request.path == "/slow":
            await asyncio.sleep(5)
        elif request.path == "/cut":
            await request.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            request.close()
        elif request.path == "/large":
            await request.write(f"HTTP/1.1 200 OK\r\nContent-Length: {10 * MOST_BYTES}\r\n\r\n")
            while True:
                await request.write(bytes(1 << 20))
        else:
            await request.answer(500, b"broken", content_type="text/plain")

    server = await serve(odd)
    calls = calls_of(server.url)
    slow = await calls.ask("GET", "/slow", timeout_s=0.1)
    assert (slow.status, slow.error, slow.ok) == (None, "no whole answer within 0.1 s", False)
    cut = await calls.ask("GET", "/cut", timeout_s=5)
    assert cut.status is None
    assert cut.error
    assert (await calls.ask("GET", "/large", timeout_s=20)).error == "its body has more than 16 MiB"
    broken = await calls.ask("GET", "/other", timeout_s=5)
    assert (broken.status, broken.text, broken.ok, broken.error) == (500, "broken", False, "")
    with pytest.raises(ValueError, match="is no JSON"):
        broken.json()
    gone = await calls.ask("GET", "http://127.0.0.1:9/", timeout_s=5)
    assert (gone.status, gone.error) == (None, "connection refused: nothing listens there")


@pytest.mark.parametrize("url", ["ftp://x/y", "http://", "http://[", "data:x", 7, None])
async def test_what_is_no_url_is_refused(calls_of, url) -> None:
    with pytest.raises(UsageError, match="write it like http"):
        await calls_of("http://127.0.0.1:9").ask("GET", url, timeout_s=5)


@pytest.mark.parametrize("timeout_s", [0, -1, 601, float("nan")])
async def test_what_is_no_time_is_refused(calls_of, timeout_s: float) -> None:
    with pytest.raises(UsageError, match="timeout_s"):
        await calls_of("http://127.0.0.1:9").ask("GET", "/", timeout_s=timeout_s)


def test_the_host_of_a_url_has_neither_user_nor_path() -> None:
    calls = Calls(Access(Endpoint(base_url="http://127.0.0.1:9/v1")))
    assert host_of(calls.where("http://me:pw@search:9200/a?b")) == "search:9200"
    assert host_of(calls.where("/a")) == "127.0.0.1:9"
