"""Connections: used again, given up, closed in a race, over TLS, IPv6 and unix sockets; stock httpx is the oracle."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmtop.domain.endpoint import Dialect
from llmtop.domain.request import Outcome
from llmtop.endpoint import connection as connection_module
from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.direct import Arrivals
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.transport import KernelTransport

from .conftest import DATA, Recorder, Request, chat, stream_ok

PEM = DATA / "loopback.pem"


@pytest.fixture(autouse=True, params=["direct", "asyncio"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Plain sockets are read by our own epoll where there is one, and by asyncio's transports elsewhere."""
    if request.param == "asyncio":
        monkeypatch.setattr(Arrivals, "possible", False)
    elif not Arrivals.possible:
        pytest.skip("no epoll here")
    return str(request.param)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM, DATA / "loopback.key")
    return context


async def ask(client: Any, tokens: int = 3) -> Trace:
    trace = Trace()
    await client.generate("hi", tokens, "chat", trace, Recorder())
    return trace


# Used again


async def test_the_connection_used_last_is_used_next(serve: Any, connect: Any) -> None:
    server = await serve(stream_ok)
    client = connect(server.url)
    await asyncio.gather(*(ask(client) for _ in range(5)))
    assert server.connections == 5
    for _ in range(10):
        assert (await ask(client)).connect_ns == 0
    ports = [request.writer.get_extra_info("peername")[1] for request in server.requests[5:]]
    assert len(set(ports)) == 1
    assert server.connections == 5


async def test_requests_find_the_connections_that_were_opened_ahead(serve: Any, connect: Any) -> None:
    server = await serve(stream_ok)
    client = connect(server.url)
    await ask(client)
    await client.open(4)
    await client.open(3)
    traces = await asyncio.gather(*(ask(client) for _ in range(4)))
    assert all(trace.outcome is Outcome.OK and not trace.connect_ns for trace in traces)
    assert server.connections == 4


async def test_connections_that_cannot_be_opened_ahead_are_left_to_the_requests(connect: Any) -> None:
    client = connect("http://127.0.0.1:1")
    await client.open(2)
    assert (await ask(client)).outcome is Outcome.HTTP_ERROR


async def test_old_connections_are_not_used_and_are_closed(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "KEPT_S", 0.05)
    server = await serve(stream_ok)
    client = connect(server.url)
    await ask(client)
    await asyncio.sleep(0.2)
    assert (await ask(client)).connect_ns > 0  # type: ignore[operator]
    assert server.connections == 2


async def test_a_server_that_closes_idle_connections_costs_no_error(serve: Any, connect: Any) -> None:
    """The request is written into a connection that the server has closed: sent once more, on a new one."""
    served: dict[object, int] = {}

    async def script(request: Request) -> None:
        served[request.writer] = served.get(request.writer, 0) + 1
        if served[request.writer] == 2:
            request.close()  # as if it had closed before the request came
        else:
            await stream_ok(request)

    server = await serve(script)
    client = connect(server.url)
    traces = [await ask(client) for _ in range(6)]
    assert {trace.outcome for trace in traces} == {Outcome.OK}
    assert server.connections == 6
    assert traces[1].connect_ns > 0  # type: ignore[operator]


async def test_a_reused_connection_that_dies_after_the_first_byte_is_an_error(serve: Any, connect: Any) -> None:
    served: dict[object, int] = {}

    async def script(request: Request) -> None:
        served[request.writer] = served.get(request.writer, 0) + 1
        if served[request.writer] == 2:
            await request.start_stream()
            await request.event(chat("a"))
            await asyncio.sleep(0.02)
            request.close()
        else:
            await stream_ok(request)

    server = await serve(script)
    client = connect(server.url)
    assert (await ask(client)).outcome is Outcome.OK
    assert (await ask(client)).outcome is Outcome.TRUNCATED
    assert len(server.requests) == 2


async def test_reuse_is_learned_off_for_a_server_that_closes_after_each_stream(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        await request.start_stream("Keep-Alive: timeout=5, max=100\r\n")
        await request.event(chat("a", "stop"))
        await request.end()
        request.writer.close()

    server = await serve(script)
    client = connect(server.url)
    for _ in range(3):
        assert (await ask(client)).outcome is Outcome.OK
        await asyncio.sleep(0.02)
    assert not client._pool.reuse
    traces = await asyncio.gather(*(ask(client) for _ in range(20)))
    assert {trace.outcome for trace in traces} == {Outcome.OK}


async def test_llamacpp_is_known_to_close(serve: Any, connect: Any) -> None:
    server = await serve(stream_ok)
    client = connect(server.url, dialect=Dialect.LLAMACPP)
    await ask(client)
    await ask(client)
    assert server.connections == 2


async def test_connection_close_is_obeyed(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        await request.answer(200, b"", "Connection: close\r\n", "text/event-stream")

    server = await serve(script)
    client = connect(server.url)
    await ask(client)
    await ask(client)
    assert server.connections == 2


async def test_a_goodbye_on_an_idle_connection_is_not_taken_for_an_answer(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        await stream_ok(request)
        await request.write("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")

    server = await serve(script)
    client = connect(server.url)
    assert (await ask(client)).outcome is Outcome.OK
    await asyncio.sleep(0.02)
    assert (await ask(client)).outcome is Outcome.OK
    assert server.connections == 2


async def test_a_large_request_is_sent_as_the_server_takes_it(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        await stream_ok(request, 1)

    server = await serve(script)
    client = connect(server.url)
    trace = Trace()
    prompt = "word " * 1_000_000
    await client.generate(prompt, 1, "chat", trace, Recorder())
    assert trace.outcome is Outcome.OK
    assert server.requests[0].json["messages"][0]["content"] == prompt


async def test_a_sink_that_breaks_is_a_bug_not_an_outcome(serve: Any, connect: Any) -> None:
    class Broken(Recorder):
        def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
            raise ZeroDivisionError

    client = connect((await serve(stream_ok)).url)
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
    with pytest.raises(ZeroDivisionError):
        await client.generate("hi", 3, "chat", Trace(), Broken())
    assert reported
    assert (await ask(client)).outcome is Outcome.OK


# Ways there


async def test_tls_with_an_own_ca(serve: Any, connect: Any) -> None:
    server = await serve(stream_ok, tls=server_tls())
    client = connect(server.url, ca_file=str(PEM))
    trace = await ask(client)
    assert trace.outcome is Outcome.OK, trace.error
    assert (await ask(client)).connect_ns == 0


async def test_tls_without_trust_is_refused_unless_insecure(serve: Any, connect: Any) -> None:
    server = await serve(stream_ok, tls=server_tls())
    trace = await ask(connect(server.url))
    assert (trace.outcome, trace.status) == (Outcome.HTTP_ERROR, None)
    assert "certificate is not trusted" in (trace.error or "")
    assert (await ask(connect(server.url, insecure=True))).outcome is Outcome.OK


async def test_a_unix_socket(serve: Any, connect: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "llm.sock")
    await serve(stream_ok, path=path)
    client = connect("http://localhost", unix_socket=path)
    assert (await ask(client)).outcome is Outcome.OK
    assert client.stamp_source != "kernel"
    assert (await client.stock.post("/v1/chat/completions", json={})).status_code == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_ipv6(serve: Any, connect: Any) -> None:
    try:
        server = await serve(stream_ok, host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    assert (await ask(connect(server.url))).outcome is Outcome.OK


async def test_a_name_with_several_addresses_finds_the_one_that_listens(serve: Any, connect: Any) -> None:
    server = await serve(stream_ok)
    client = connect(server.url.replace("127.0.0.1", "localhost"))
    assert (await ask(client)).outcome is Outcome.OK


async def test_connections_go_to_every_address_of_a_name_in_turn_but_for_those_that_fail(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(stream_ok, host="0.0.0.0")
    port = int(server.url.rpartition(":")[2])
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (1, 2, 3)]
    closed = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.4", 9))
    silent = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))

    async def look_up(host: str, port: int) -> Any:
        return [here[0], closed, *here[1:], silent]

    monkeypatch.setattr(connection_module, "look_up", look_up)
    pool = connection_module.ConnectionPool(connection_module.Origin("replicas.test", port), Stamper(0))
    try:
        connections = [await pool.connect() for _ in range(9)]
        peers = [connection._sock.getpeername()[0] for connection in connections]
        assert pool.in_turn == ("127.0.0.1", "127.0.0.2", "127.0.0.3")
        assert all(2 <= peers.count(address) <= 4 for address in pool.in_turn)
        assert len(peers) == 9

        async def gone(host: str, port: int) -> Any:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")

        monkeypatch.setattr(connection_module, "look_up", gone)
        pool._addresses_until_s = 0.0
        await pool.connect()  # what was found last is believed where nothing is found now
    finally:
        pool.close()


async def test_a_proxy_in_the_environment_is_used_by_stock_httpx(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await serve(stream_ok)
    monkeypatch.setenv("http_proxy", proxy.url)
    client = connect("http://llm.example:8000")
    assert client.access.uses_stock
    assert client.stamp_source == "httpx"
    assert (await ask(client)).outcome is Outcome.OK
    assert proxy.requests[0].path == "http://llm.example:8000/v1/chat/completions"
    monkeypatch.setenv("no_proxy", "llm.example")
    assert not connect("http://llm.example:8000").access.uses_stock


# httpx's own face


async def answer_in_every_framing(request: Request) -> None:
    body = b"x" * 100_000
    if request.path == "/length":
        await request.answer(201, body, "X-One: 1\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n", "text/plain")
    elif request.path == "/chunked":
        await request.start_stream()
        for start in range(0, len(body), 7_000):
            await request.chunk(body[start : start + 7_000])
        await request.end()
    elif request.path == "/close":
        await request.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        request.writer.close()
    elif request.path == "/echo?a=%20b":
        await request.answer(200, request.body, content_type="text/plain")
    else:
        await request.write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")


@pytest.mark.parametrize("path", ["/length", "/chunked", "/close", "/echo?a=%20b", "/none"])
async def test_as_an_httpx_transport_it_answers_as_stock_httpx_does(serve: Any, path: str) -> None:
    server = await serve(answer_in_every_framing)
    async with (
        httpx.AsyncClient(transport=KernelTransport(Stamper(0))) as ours,
        httpx.AsyncClient(trust_env=False) as stock,
    ):
        for method, content in (("GET", None), ("POST", b"hello")):
            got = await ours.request(method, server.url + path, content=content)
            expected = await stock.request(method, server.url + path, content=content)
            assert got.status_code == expected.status_code
            assert got.headers.multi_items() == expected.headers.multi_items()
            assert got.content == expected.content


async def test_as_an_httpx_transport_it_streams(serve: Any) -> None:
    go = asyncio.Event()

    async def script(request: Request) -> None:
        await request.start_stream()
        await request.chunk("first")
        await go.wait()
        await request.chunk("second")
        await request.end()

    server = await serve(script)
    async with httpx.AsyncClient(transport=KernelTransport(Stamper(0))) as client:
        async with client.stream("GET", server.url) as response:
            pieces = response.aiter_raw()
            assert await anext(pieces) == b"first"
            go.set()
            assert [piece async for piece in pieces] == [b"second"]
        go.clear()
        async with client.stream("GET", server.url) as response:
            assert await anext(response.aiter_raw()) == b"first"
        # left in the middle: the connection is closed, not kept
        go.set()
        assert (await client.get(server.url)).text == "firstsecond"
    assert server.connections == 2


async def test_as_an_httpx_transport_it_raises_httpx_errors(serve: Any) -> None:
    async def script(request: Request) -> None:
        await request.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await asyncio.sleep(0.02)
        request.close()

    server = await serve(script)
    async with httpx.AsyncClient(transport=KernelTransport(Stamper(0))) as client:
        with pytest.raises(httpx.ReadError):
            await client.get(server.url)
        with pytest.raises(httpx.ConnectError, match="refused"):
            await client.get("http://127.0.0.1:1")
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("https://127.0.0.1:1")
