"""The session's own process: `python -m llmtop.session.process`, options and commands on stdin, messages on stdout.

It ends when it is asked to, and when its stdin ends: whatever becomes of the host, no load goes on without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

from llmtop import channel
from llmtop.domain.commands import Command, Quit
from llmtop.domain.run import Ended, RunMeta, Told
from llmtop.endpoint.clock import StampingLoop
from llmtop.errors import LlmtopError
from llmtop.session import messages
from llmtop.session.options import SessionOptions
from llmtop.session.session import DRAIN_S, TICK_S, Session

Commands = asyncio.Queue[Command | None]
"""None: there is nobody left to command."""
ORPHAN_DRAIN_S = 1.0
BACKLOG_BYTES = 1 << 18
"""With more than this unread, the host is slow and frames are left out."""


class Outlet:
    """Messages to the host, written by a thread, so that a slow or dead reader never holds up the load."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pieces: list[bytes] = []
        self._size = 0
        self._ready = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="outlet", daemon=True)
        self._thread.start()

    def put(self, message: messages.Message) -> None:
        piece = messages.packed(message)
        with self._ready:
            if isinstance(message, messages.Framed) and self._size > BACKLOG_BYTES:
                return
            self._pieces.append(piece)
            self._size += len(piece)
            self._ready.notify()

    def close(self) -> None:
        """Write what is left, for as long as the reader reads, but not for more than a second."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join(timeout=1.0)

    def _work(self) -> None:
        # A closed pipe means that the host is gone; the session hears that from its stdin.
        with contextlib.suppress(OSError), os.fdopen(self._descriptor, "wb", buffering=0) as pipe:
            while True:
                with self._ready:
                    while not self._pieces and not self._closed:
                        self._ready.wait()
                    pieces, self._pieces, self._size = self._pieces, [], 0
                if not pieces:
                    return
                view = memoryview(b"".join(pieces))
                while view:
                    view = view[pipe.write(view) :]


async def _serve(options: SessionOptions, commands: Commands, outlet: Outlet) -> None:
    """One run, from its start to its end; asked to quit while it starts, it ends there."""
    session = Session(options)
    drain_s, ending = DRAIN_S, None
    meta: RunMeta | None = None

    def tell() -> None:
        nonlocal meta
        news = session.meta if session.meta is not meta else None
        meta = session.meta
        outlet.put(Told(meta=news, batches=session.take_facts()))
        outlet.put(messages.Framed(session.frame()))

    loop = asyncio.get_running_loop()
    starting = loop.create_task(session.start())
    answers = loop.create_task(_answer(session, commands))
    try:
        while not answers.done() and not starting.done():
            outlet.put(messages.Framed(session.frame()))
            await asyncio.wait((answers, starting), timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        while not answers.done() and not session.failed.done():
            tell()
            await asyncio.wait((answers, session.failed), timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        if session.failed.done():
            session.failed.result()
        elif (asked := answers.result()) is None:
            drain_s = ORPHAN_DRAIN_S
        else:
            ending = asked.ending
    finally:
        for task in (starting, answers):
            task.cancel()
        await asyncio.gather(starting, answers, return_exceptions=True)
        await session.close(drain_s, ending)
        tell()


async def _answer(session: Session, commands: Commands) -> Quit | None:
    """Carry out commands; returns the one to quit, or None when the host is gone."""
    while (command := await commands.get()) is not None and not isinstance(command, Quit):
        await session.command(command)
    return command


def _listen(commands: Commands, call: Callable[..., object]) -> None:
    """Commands from stdin until it ends."""
    try:
        while (body := channel.read(sys.stdin.buffer)) is not None:
            call(commands.put_nowait, messages.decode_command(body))
    finally:
        call(commands.put_nowait, None)


async def _main(options: SessionOptions, outlet: Outlet) -> None:
    loop = asyncio.get_running_loop()
    commands: Commands = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, commands.put_nowait, Quit())
    threading.Thread(target=_listen, args=(commands, loop.call_soon_threadsafe), daemon=True).start()
    await _serve(options, commands, outlet)


def main() -> int:
    outlet = Outlet(channel.claim_stdout())
    body = channel.read(sys.stdin.buffer)
    if body is None:
        return 2
    ended = Ended()
    try:
        with asyncio.Runner(loop_factory=StampingLoop) as runner:
            runner.run(_main(messages.decode_options(body), outlet))
    except LlmtopError as error:
        ended = Ended(str(error), error.exit_code)
    except BaseException:
        traceback.print_exc()
        ended = Ended("the session has failed; its log says where", 3)
    finally:
        outlet.put(Told(ended=ended))
        outlet.close()
    return ended.exit_code


if __name__ == "__main__":
    # Not sys.exit: the listener thread sits in a read that nothing ends.
    os._exit(main())
