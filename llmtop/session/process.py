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
import time
import traceback
from collections.abc import Callable

from llmtop import channel
from llmtop.domain.commands import Command, Quit, Seen
from llmtop.domain.frame import Frame
from llmtop.domain.plain import LONG, plain
from llmtop.domain.run import Ended, Ending, RunMeta, Told
from llmtop.endpoint.clock import StampingLoop
from llmtop.errors import INTERRUPTED, LlmtopError, MachineShort, ServeError, SessionLost, shortage
from llmtop.session import messages
from llmtop.session.options import SessionOptions
from llmtop.session.session import DRAIN_S, TICK_S, Session
from llmtop.session.sight import UNSEEN_S, Sight, Stillness
from llmtop.session.waking import ENDS, wake_to_end
from llmtop.wording.endings import unseen_text

Commands = asyncio.Queue[Command | None]
"""None: there is nobody left to command."""
ORPHAN_DRAIN_S = 1.0
NEVER_STANDS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that goes on while the machine sleeps: on macOS that is CLOCK_MONOTONIC, which is not `time.monotonic`."""
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


async def _serve(options: SessionOptions, commands: Commands, outlet: Outlet, unseen_limit_s: float = UNSEEN_S) -> None:
    """One run, from its start to its end; asked to quit while it starts, it ends there.

    Raises:
        SessionLost: nobody could see the load for `unseen_limit_s`; the run was ended in order.
    """
    session = Session(options)
    sight, stillness = Sight(unseen_limit_s), Stillness()
    drain_s, ending, why = DRAIN_S, None, ""
    meta: RunMeta | None = None

    def tell() -> Frame:
        nonlocal meta
        if (still := stillness.look(time.monotonic(), time.clock_gettime(NEVER_STANDS))) is not None:
            session.stood_still(*still)
        news = session.meta if session.meta is not meta else None
        meta = session.meta
        outlet.put(Told(meta=news, batches=session.take_facts()))
        frame = session.frame()
        outlet.put(messages.Framed(frame))
        return frame

    loop = asyncio.get_running_loop()
    starting = loop.create_task(session.start())
    answers = loop.create_task(_answer(session, commands, sight))
    try:
        while not answers.done() and not starting.done():
            outlet.put(messages.Framed(session.frame()))
            await asyncio.wait((answers, starting), timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        while not answers.done() and not session.failed.done():
            if sight.lost(tell(), time.monotonic()):
                ending, why = Ending.UNSEEN, unseen_text(unseen_limit_s)
                break
            await asyncio.wait((answers, session.failed), timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        if session.failed.done():
            session.failed.result()
        elif answers.done():
            asked = answers.result()
            drain_s = DRAIN_S if asked is not None and asked.patient else ORPHAN_DRAIN_S
            ending, why = (None, "") if asked is None else (asked.ending, asked.why)
    finally:
        for task in (starting, answers):
            task.cancel()
        await asyncio.gather(starting, answers, return_exceptions=True)
        await _close(session, commands, drain_s, ending, why)
        tell()
    if ending is Ending.UNSEEN:
        raise SessionLost(why, INTERRUPTED)


async def _close(session: Session, commands: Commands, drain_s: float, ending: Ending | None, why: str) -> None:
    """End the run in order; the server is not waited for without a host, nor for one that waits no longer."""

    async def left_alone() -> None:
        while (command := await commands.get()) is not None:
            if isinstance(command, Quit) and not command.patient:
                break
        session.hurry()

    watching = asyncio.create_task(left_alone())
    try:
        await session.close(drain_s, ending, why)
    finally:
        watching.cancel()


async def _answer(session: Session, commands: Commands, sight: Sight) -> Quit | None:
    """Carry out commands; returns the one to quit, or None when the host is gone."""
    while (command := await commands.get()) is not None and not isinstance(command, Quit):
        if isinstance(command, Seen):
            sight.seen()
        else:
            await session.command(command)
    return command


def _listen(commands: Commands, call: Callable[..., object]) -> None:
    """Commands from stdin until it ends."""
    with contextlib.suppress(RuntimeError):  # the loop is closed: the run has ended by itself
        try:
            while (body := channel.read(sys.stdin.buffer)) is not None:
                call(commands.put_nowait, messages.decode_command(body))
        finally:
            call(commands.put_nowait, None)


async def _main(options: SessionOptions, outlet: Outlet) -> None:
    loop = asyncio.get_running_loop()
    commands: Commands = asyncio.Queue()
    for number in ENDS:
        loop.add_signal_handler(number, commands.put_nowait, Quit())
    threading.Thread(target=_listen, args=(commands, loop.call_soon_threadsafe), daemon=True).start()
    waking = loop.create_task(wake_to_end(os.getppid()))
    try:
        with channel.interrupts(signal.SIG_UNBLOCK):
            await _serve(options, commands, outlet)
    finally:
        waking.cancel()


def main() -> int:
    try:
        outlet = Outlet(channel.claim_stdout())
    except RuntimeError as error:  # without a thread there is nobody to tell the host; the status does
        sys.stderr.write(f"{shortage(error) or error}\n")
        return MachineShort.exit_code
    body = channel.read(sys.stdin.buffer)
    if body is None:
        return 2
    ended = Ended()
    try:
        with asyncio.Runner(loop_factory=StampingLoop) as runner:
            runner.run(_main(messages.decode_options(body), outlet))
    except ServeError as error:
        ended = Ended("; ".join(plain(text) for text in (error.problem, *error.tail)), error.exit_code)
    except LlmtopError as error:
        ended = Ended(plain(str(error), LONG), error.exit_code)
    except BaseException as error:
        if (short := shortage(error)) is not None:
            ended = Ended(f"the run has ended: {short}", MachineShort.exit_code)
        else:
            traceback.print_exc()
            ended = Ended("the session has failed; its log says where", 3)
    finally:
        outlet.put(Told(ended=ended))
        outlet.close()
    return ended.exit_code


if __name__ == "__main__":
    # Not sys.exit: the listener thread sits in a read that nothing ends.
    os._exit(main())
