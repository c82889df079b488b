"""Running a server on an event loop whose timers are exact to tens of microseconds, as a good child process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import select
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

ORPHAN_CHECK_S = 1.0
BACKLOG = 4096
"""Connections that the kernel keeps until they are taken."""
TAKEN_AT_ONCE = 64
SCARCE_S = 0.1
"""How long to wait for a descriptor when there is none."""
MAX_DESCRIPTORS = 65536


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


class Listener:
    """Takes connections on the running loop.

    Not `create_server`: where descriptors have run out, it tries again as often as its backlog is long and sets itself
    a timer each time, each of which does the same (CPython 3.11, `selector_events._accept_connection`).

    Raises OSError or UnicodeError: the place cannot be had, or is none.
    """

    def __init__(self, connect: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._taking: set[asyncio.Task[Any]] = set()
        self._is_scarce = False
        self._retry: asyncio.TimerHandle | None = None
        places = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(places, key=lambda place: place[0] != socket.AF_INET)
        self._socket = socket.socket(family, kind, protocol)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setblocking(False)
            self._socket.bind(address)
            self._socket.listen(BACKLOG)
        except BaseException:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        self._loop.add_reader(self._socket, self._take)

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _take(self) -> None:
        for _ in range(TAKEN_AT_ONCE):
            try:
                client, _address = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._wait(error)
                return
            client.setblocking(False)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._connect, client))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)

    def _wait(self, error: OSError) -> None:
        if not self._is_scarce:
            sys.stderr.write(f"connections wait: {error.strerror}\n")
        self._is_scarce = True
        self._loop.remove_reader(self._socket)
        self._retry = self._loop.call_later(SCARCE_S, self._loop.add_reader, self._socket, self._take)


def new_event_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(ExactSelector() if sys.platform == "linux" else None)


def _raise_descriptor_limit() -> None:
    """Each client needs a descriptor, and the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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

    _raise_descriptor_limit()
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
