"""A loopback HTTP server whose answers a test sets while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest


class PageServer:
    """Answers GET by path from `pages`: bytes (200), or (status, body, extra header lines). A path that is not there
    gets 404. `hang` answers nothing at all, nor do paths that are `slow`. Remembers what was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | tuple[int, bytes, str]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.hang = False
        self.slow: set[str] = set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while not reader.at_eof():
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                lines = head.decode("latin-1").split("\r\n")
                path = lines[0].split(" ")[1]
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                self.asked.append((path, headers))
                if self.hang or path in self.slow:
                    await asyncio.sleep(60)
                answer = self.pages.get(path, (404, b'{"detail":"Not Found"}', ""))
                status, body, extra = (200, answer, "") if isinstance(answer, bytes) else answer
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body)
                await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[PageServer]:
    pages = PageServer()
    await pages.start()
    yield pages
    await pages.stop()


@pytest.fixture
async def second_server() -> AsyncIterator[PageServer]:
    pages = PageServer()
    await pages.start()
    yield pages
    await pages.stop()
