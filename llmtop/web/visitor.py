"""One visitor: a process with a screen that only looks on, and the WebSocket of the browser that shows it.

Down goes what the screen draws. Up come keys, the mouse, the size of the window and whether it has the focus, each made
anew here: nothing that a browser says reaches the process in any other form.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Protocol

import msgspec

from llmtop.channel import Child
from llmtop.domain.bounds import COLUMNS, ROWS
from llmtop.domain.plain import LONG, plain

MOST_TYPED = 1024
"""Characters that are taken at once; nobody types or turns a wheel so fast."""
MOST_PIECE = 1 << 22
"""Bytes of one piece that a screen draws; a whole one of the largest has less."""
BEGIN = b"__GANGLION__\n"
"""What Textual's driver for browsers says first; each piece behind it has a kind, a length and a body."""
BEGINS_WITHIN = 10
"""Lines."""
GRACE_S = 2.0
DATA, META = b"D", b"M"

Start = Callable[[int, int], Child]
"""Starts a screen of so many columns and rows."""


class Socket(Protocol):
    """Of a browser, as far as a visitor needs it."""

    async def send_bytes(self, data: bytes) -> None: ...

    async def send_str(self, data: str) -> None: ...

    async def receive(self) -> str | None:
        """The next message; None: there will be none."""
        ...


async def visit(socket: Socket, start: Start, columns: int, rows: int) -> None:
    """Show the screen until the browser or the screen goes; the process is gone when this returns, also if cancelled.

    Raises SessionLost, OSError: no process can be started.
    """
    child = start(*within(columns, rows))
    words = ""
    try:
        reader, writer = await child.streams()
        down, up = (asyncio.create_task(each) for each in (_down(reader, socket), _up(socket, writer)))
        try:
            await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
            words = child.said() if down.done() and not up.done() else ""
        finally:
            down.cancel()
            up.cancel()
            await asyncio.gather(down, up, return_exceptions=True)
    finally:
        await asyncio.shield(child.close(GRACE_S))
    if words:
        await show(socket, words.splitlines()[-1])


async def show(socket: Socket, words: str) -> None:
    """A sentence in place of a screen."""
    await socket.send_bytes(f"\x1b[0m\x1b[2J\x1b[H\r\n  {plain(words, LONG)}\r\n".encode())


def within(columns: int, rows: int) -> tuple[int, int]:
    """A size that can be drawn."""
    return min(max(columns, 1), int(COLUMNS.most)), min(max(rows, 1), int(ROWS.most))


async def _down(reader: asyncio.StreamReader, socket: Socket) -> None:
    for _ in range(BEGINS_WITHIN):
        if (line := await reader.readline()) == BEGIN or not line:
            break
    while True:
        head = await reader.readexactly(5)
        length = int.from_bytes(head[1:], "big")
        if length > MOST_PIECE:
            return
        body = await reader.readexactly(length)
        if head[:1] == DATA:
            await socket.send_bytes(body)
        elif head[:1] == META and _exits(body):
            return


def _exits(body: bytes) -> bool:
    """What else Textual may ask of a browser, to open a page or to save a file, nobody does for it."""
    return bool(json.loads(body).get("type") == "exit")


async def _up(socket: Socket, writer: asyncio.StreamWriter) -> None:
    while (text := await socket.receive()) is not None:
        try:
            message = msgspec.json.decode(text, type=list[object])
        except msgspec.MsgspecError:
            return
        match message:
            case ["stdin", str(typed)]:
                writer.write(_packed(DATA, typed[:MOST_TYPED].encode(errors="replace")))
            case ["resize", {"width": int(columns), "height": int(rows)}]:
                size = within(columns, rows)
                writer.write(_packed(META, _meta("resize", width=size[0], height=size[1])))
            case ["focus" | "blur" as kind]:
                writer.write(_packed(META, _meta(kind)))
            case ["ping", str(stamp)]:
                await socket.send_str(json.dumps(["pong", stamp[:MOST_TYPED]]))
        await writer.drain()


def _meta(kind: str, **fields: int) -> bytes:
    return msgspec.json.encode({"type": kind, **fields})


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "big") + body
