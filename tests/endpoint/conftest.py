"""A scripted loopback server, and what tests of this room share."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.load import Caps
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.trace import Trace

TLS_BEGINS = b"\x16"
DATA = Path(__file__).parent / "data"


class Recorder:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.firsts: list[Trace] = []
        self.arrivals: list[tuple[int, int, int | None]] = []

    def first_token(self, trace: Trace) -> None:
        self.firsts.append(trace)

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        self.arrivals.append((n, stamp_ns, gap_ns))

    @property
    def total(self) -> int:
        return sum(n for n, _, _ in self.arrivals)


class Request:
    """One request that the scripted server has read, and the means to answer it."""

    def __init__(self, head: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.method, self.path = head.split(" ", 2)[:2]
        self.head = head
        self.body = body
        self.reader = reader
        self.writer = writer

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def write(self, data: bytes | str) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)
        await self.writer.drain()

    async def answer(
        self, status: int, body: object, headers: str = "", content_type: str = "application/json"
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
        await self.write(head.encode() + data)

    async def start_stream(self, headers: str = "") -> None:
        await self.write(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n" + headers + "\r\n"
        )

    async def chunk(self, data: str | bytes) -> None:
        data = data.encode() if isinstance(data, str) else data
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def event(self, payload: object) -> None:
        await self.chunk(f"data: {payload if isinstance(payload, str) else json.dumps(payload)}\n\n")

    async def end(self) -> None:
        await self.write("0\r\n\r\n")

    def close(self) -> None:
        self.writer.transport.abort()


def chat(content: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """A chat event as OpenAI's servers write it."""
    if content is not None:
        delta["content"] = content
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def usage(prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, **more}}


async def stream_ok(request: Request, tokens: int = 3) -> None:
    """A good answer of `tokens` tokens."""
    await request.start_stream()
    await request.event(chat("", role="assistant"))
    for index in range(tokens):
        await request.event(chat(f" t{index}", finish="length" if index == tokens - 1 else None))
    await request.event(usage(7, tokens))
    await request.event("[DONE]")
    await request.end()


Script = Callable[[Request], Awaitable[None]]


class ScriptedServer:
    """Serves every request with `script`; counts connections and keeps requests. TLS it refuses at once."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.requests: list[Request] = []
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(
        self, *, tls: ssl.SSLContext | None = None, path: str | None = None, host: str = "127.0.0.1"
    ) -> None:
        if path is not None:
            self._server = await asyncio.start_unix_server(self._serve, path)
            self.url = "http://localhost"
            return
        self._server = await asyncio.start_server(self._serve, host, 0, ssl=tls)
        port = self._server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                first = await reader.readexactly(1)
                if first == TLS_BEGINS:
                    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                    break
                head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    (
                        int(line.split(":")[1])
                        for line in head.split("\r\n")
                        if line.lower().startswith("content-length")
                    ),
                    0,
                )
                request = Request(head, await reader.readexactly(length), reader, writer)
                self.requests.append(request)
                await self.script(request)
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass  # a cancelled serving task must end well: asyncio's own callback reads its exception
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[ScriptedServer]]]:
    """Start scripted servers that end with the test."""
    servers: list[ScriptedServer] = []

    async def start(script: Script, **options: Any) -> ScriptedServer:
        server = ScriptedServer(script)
        await server.start(**options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., EndpointClient]]:
    """Make clients that are closed with the test."""
    clients: list[EndpointClient] = []

    def make(
        url: str,
        *,
        dialect: Dialect | None = Dialect.VLLM,
        model: str | None = "m",
        caps: Caps | None = None,
        probed: bool = True,
        **fields: Any,
    ) -> EndpointClient:
        endpoint = Endpoint(base_url=url, model=model, dialect=dialect, **fields)
        info = EndpointInfo(dialect=dialect, model=model) if probed and dialect and model else None
        client = EndpointClient(endpoint, info, caps or Caps(), time.perf_counter_ns())
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
