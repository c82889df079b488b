"""A run and its screens, in one process: when it ends, and what is said of it then.

It ends when the screen that began it ends it or goes without having left it, when somebody else ends it, or when it was
left and nobody has come back for too long.
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
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmtop import channel
from llmtop.domain.commands import Quit, Seen
from llmtop.domain.run import Ended, Ending
from llmtop.errors import LlmtopError, MachineShort, shortage
from llmtop.host import messages
from llmtop.host.coming import Coming
from llmtop.host.doors import LOOK_S, Doors, name_of
from llmtop.host.life import Life
from llmtop.host.options import HostOptions
from llmtop.host.screens import Screen, Screens
from llmtop.session.waking import ENDS, wake_to_end
from llmtop.wording import running as words

if TYPE_CHECKING:
    from llmtop.host.host import Link
    from llmtop.host.outputs import Output

SEEN_EVERY_S = 1.0
COMES_AFTER_S = 2.0
"""The host comes with the first frame, as session and screen need the machine until then; or after this time."""


class Tending:
    """One run, from its start to its end."""

    def __init__(self, options: HostOptions, link: Link, outputs: Sequence[Output]) -> None:
        host = self._host = Coming(link, options, outputs)
        self._life = Life(options.detached_for_s, keep_on_hangup=options.keep_on_hangup)
        self._doors = Doors(host, Screens(host.send, self._life), self._life, lambda: host.send(Quit()))
        terminal = options.terminal
        self._first = Screen(name_of(terminal, os.getppid()), holds=True, terminal=terminal)
        self._gone = asyncio.Event()
        """The first screen has hung up."""

    async def attend(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        for number in ENDS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._host.send, Quit())
        waking = loop.create_task(wake_to_end(os.getppid()))
        await self._admit(descriptor)
        with channel.interrupts(signal.SIG_UNBLOCK):
            await self._serve()
        waking.cancel()

    async def _admit(self, descriptor: int) -> None:
        """The screen that begins the run. What it says is read by a thread: its first words may have come already."""
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(descriptor, "wb", buffering=0)
        transport, protocol = await loop.connect_write_pipe(lambda: asyncio.streams.FlowControlMixin(loop), pipe)
        guest = self._doors.admit(self._first, asyncio.StreamWriter(transport, protocol, None, loop))

        def hang_up() -> None:
            self._doors.hung_up(guest)
            self._gone.set()

        def read() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
                try:
                    while (body := channel.read(sys.stdin.buffer)) is not None:
                        asyncio.run_coroutine_threadsafe(self._doors.hear(guest, body), loop)
                finally:
                    loop.call_soon_threadsafe(hang_up)

        threading.Thread(target=read, name="first screen", daemon=True).start()

    async def _serve(self) -> None:
        ended, parting = None, messages.Parting()
        try:
            await self._watch()
            parting = await asyncio.to_thread(self._close)
        except Exception as error:  # the load ends, and whoever looks on is to hear of it
            ended = _failed(error)
            with contextlib.suppress(Exception):
                await asyncio.to_thread(self._host.close)
        await self._doors.end(parting, ended)
        while self._first.holds and not self._gone.is_set():
            if ended is None:  # a report may be asked for, and an answer come
                self._doors.look()
            await asyncio.sleep(LOOK_S)

    async def _watch(self) -> None:
        """Until the run has ended. Raises what has kept the host from coming, or has ended it."""
        asked, begun_s = False, time.monotonic()
        told_s, coming = begun_s, None
        while (shown := self._doors.look()).ended is None:
            now = time.monotonic()
            if coming is not None and coming.done():
                coming.result()
            late = now - begun_s >= COMES_AFTER_S or self._host.asked
            if coming is None and (shown.frame is not None or late):
                coming = asyncio.create_task(asyncio.to_thread(self._host.come))
            await self._doors.open()
            if not asked and (end := self._due()) is not None:
                asked = True
                self._host.send(end)
            elif self._life.detached and not asked and now - told_s >= SEEN_EVERY_S:
                told_s = now
                self._host.send(Seen())
            await asyncio.sleep(LOOK_S)

    def _due(self) -> Quit | None:
        """Whether the run is to end, as nobody holds it any more."""
        if self._life.ends:
            return Quit(None, patient=False)
        if self._life.over:
            return Quit(Ending.UNSEEN, patient=False, why=words.left_alone_text(self._life.limit_s))
        return None

    def _close(self) -> messages.Parting:
        failed: LlmtopError | None = None
        try:
            self._host.close()
        except LlmtopError as error:
            failed = error
        return self._host.parting(None if failed is None else str(failed), 0 if failed is None else failed.exit_code)


def _failed(error: Exception) -> Ended:
    """What is said of a run whose host could not come, or has a bug."""
    if (short := shortage(error)) is not None:
        return Ended(f"the run has ended: {short}", MachineShort.exit_code)
    traceback.print_exception(error)
    return Ended(words.HOST_FAILED, 3)
