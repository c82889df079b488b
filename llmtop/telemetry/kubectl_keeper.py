"""Keeps kubectl: `python -m llmtop.telemetry.kubectl_keeper`; stdin says what to run, stdout what came of it.

Each runs in a process group of its own, with no stdin, and is ended with its group when it takes too long, is not
wanted any more, or when our stdin ends, which is when whoever started us is gone, kill -9 included. On Linux one that
goes on ends also when this process is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

import msgspec

from llmtop import channel
from llmtop.telemetry.kubectl import ANSWER_BYTES, Begin, Said, Stop

WORDS_BYTES = 1 << 14
"""Of what it writes to stderr."""
_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG, see prctl(2)."""


class Keeper:
    """Runs what it is told to, and tells how it ended."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._bind: Callable[[], object] | None = (
            None if libc is None else lambda: libc.prctl(_DEATH_SIGNAL, signal.SIGKILL)
        )

    def begin(self, what: Begin) -> None:
        task = asyncio.create_task(self._run(what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self, number: int) -> None:
        process = self._running.get(number)
        if process is not None:
            _end(process)

    def end(self) -> None:
        for process in self._running.values():
            _end(process)

    def _tell(self, said: Said) -> None:
        self._writer.write(channel.framed(msgspec.json.encode(said)))

    async def _run(self, what: Begin) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *what.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                preexec_fn=self._bind,
            )
        except OSError as error:
            self._tell(Said(what.id, 127, b"", f"{what.command[0]}: {error.strerror}".encode()))
            return
        assert process.stdout is not None
        assert process.stderr is not None
        self._running[what.id] = process
        words = asyncio.create_task(_read(process.stderr, WORDS_BYTES))
        try:
            async with asyncio.timeout(what.limit_s or None):
                if not what.limit_s:
                    line = await process.stdout.readline()
                    if line:
                        self._tell(Said(what.id, None, line))
                out = await _read(process.stdout, ANSWER_BYTES if what.limit_s else 0)
                code = await process.wait()
        except TimeoutError:
            _end(process)
            self._tell(Said(what.id, None))
        else:
            self._tell(Said(what.id, code, out, await words))
        finally:
            _end(process)
            words.cancel()
            await asyncio.gather(words, return_exceptions=True)
            await process.wait()
            del self._running[what.id]


async def _read(stream: asyncio.StreamReader, most: int) -> bytes:
    """To its end; what is beyond `most` is left out."""
    kept = bytearray()
    while piece := await stream.read(1 << 16):
        kept += piece[: max(0, most - len(kept))]
    return bytes(kept)


def _end(process: asyncio.subprocess.Process) -> None:
    """With all of its group: a plugin that logs in is one of its children."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def keep(out: int) -> None:
    reader, writer = await channel.streams(sys.stdin.buffer, os.fdopen(out, "wb", buffering=0))
    keeper = Keeper(writer)
    try:
        while (body := await channel.receive(reader)) is not None:
            message = msgspec.json.decode(body, type=list)
            if isinstance(message[1], bool):
                keeper.stop(msgspec.convert(message, Stop).id)
            else:
                keeper.begin(msgspec.convert(message, Begin))
    finally:
        keeper.end()


def main() -> int:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    asyncio.run(keep(channel.claim_stdout()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
