"""A session in a thread of this process: it tells what its own process would, and its constants are a test's."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from llmtop.domain.commands import Command
from llmtop.domain.frame import Frame
from llmtop.domain.run import Ended, FactBatch, RunMeta, Told
from llmtop.endpoint.clock import StampingLoop
from llmtop.session import messages
from llmtop.session.options import SessionOptions
from llmtop.session.process import Commands, Outlet, _serve


class _Kept(Outlet):
    """What a session says, until somebody takes it."""

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.meta: RunMeta | None = None
        self.batches: list[FactBatch] = []
        self.ended: Ended | None = None
        self._lock = threading.Lock()

    def put(self, message: messages.Message) -> None:
        if isinstance(message, messages.Framed):
            self.frame = message.frame
            return
        with self._lock:
            self.meta = message.meta or self.meta
            self.batches.extend(message.batches)

    def take(self) -> Told:
        with self._lock:
            told = Told(meta=self.meta, batches=tuple(self.batches), ended=self.ended)
            self.meta, self.batches = None, []
        return told


class SessionHere:
    """A `Link` to it."""

    def __init__(self, options: SessionOptions) -> None:
        self._kept = _Kept()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(options,), daemon=True)
        self._thread.start()
        self._begun.wait()

    def _work(self, options: SessionOptions) -> None:
        with asyncio.Runner(loop_factory=StampingLoop) as runner:
            runner.run(self._serve(options))

    async def _serve(self, options: SessionOptions) -> None:
        self._loop, self._commands = asyncio.get_running_loop(), Commands()
        self._begun.set()
        ended = Ended("the session has failed", 3)
        try:
            await _serve(options, self._commands, self._kept)
            ended = Ended()
        finally:
            self._kept.ended = ended

    def frame(self) -> Frame | None:
        return self._kept.frame

    def take(self) -> Told:
        return self._kept.take()

    def send(self, command: Command) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
            self._loop.call_soon_threadsafe(self._commands.put_nowait, command)

    def close(self) -> None:
        """It has been asked to quit, and has a while for that."""
        self._thread.join(30.0)
        assert not self._thread.is_alive()
