"""Running a server on an event loop whose timers are exact to tens of microseconds, as a good child process."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import selectors
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

ORPHAN_CHECK_S = 1.0


class ExactSelector(selectors.DefaultSelector):
    """A selector whose timeout is not rounded up to whole milliseconds.

    epoll_wait(2) counts in milliseconds and Python rounds up, so that an asyncio timer comes up to 1 ms late (median
    0.6 ms). select(2) counts in microseconds, and an epoll descriptor is itself selectable: wait with select for the
    epoll descriptor to become readable, then ask epoll without waiting.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            select.select((self.fileno(),), (), (), timeout)
            timeout = 0
        return super().select(timeout)


def new_event_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(ExactSelector() if sys.platform == "linux" else None)


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, int]], *, die_with_parent: bool) -> int:
    """Run `main(stop)` and return its exit code; SIGTERM, SIGINT and, when asked to, the parent's end set `stop`.

    An error in a callback is told on stderr and ends the server with exit code 1: a clock that has stopped would look
    like a server that hangs.

    Garbage collection leaves out what is there at the start, so that a pass takes under a millisecond, and is made
    rarer. Not off: asyncio's transports are cycles, 2 KB for every connection that was closed.
    """

    async def watched() -> int:
        stop, broken = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if error is None or isinstance(error, OSError):  # sockets break and run out; code must not
                sys.stderr.write(f"{context['message']}: {error!r}\n")
                return
            loop.default_exception_handler(context)
            broken.set()
            stop.set()

        loop.set_exception_handler(on_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if die_with_parent:
            _watch_parent(loop, stop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 10, 10)
        code = await main(stop)
        return 1 if broken.is_set() else code

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(watched())


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set `stop` when stdin ends or the parent is another one than at the start.

    The pipe tells at once, also after kill -9 of the parent; the check of the parent's id covers a pipe whose other
    end was inherited by a process that outlives the parent.
    """
    parent = os.getppid()
    stdin = sys.stdin.fileno()

    def read() -> None:
        if not os.read(stdin, 4096):
            loop.remove_reader(stdin)
            stop.set()

    def check() -> None:
        if os.getppid() != parent:
            stop.set()
        else:
            loop.call_later(ORPHAN_CHECK_S, check)

    os.set_blocking(stdin, False)
    loop.add_reader(stdin, read)
    check()
