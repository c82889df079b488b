"""The steps of users' own code, one at a time: when the one that runs began, and what holds the loop too long.

A step is what a coroutine does from one `await` that waits to the next. All steps of visits go through `Steps.through`,
those of tasks that a visit makes too. A thread of its own looks now and then at the step that runs: where it is when it
takes too long is the only way to know whose call it is, and a step that never ends is ended by it.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from llmtop.workload.userfile import EndlessStep, is_own, place

HELD_NS = 5_000_000
"""Of one step: longer, and tokens that came meanwhile were read so late that it shows in the lag of the client."""
LOOK_S = 0.0025
"""How often the thread looks, and how long a step must have taken when it is seen: together what is told. More often
would take the interpreter from the loop more often."""
CALM_S = 0.25
"""How often it looks as long as no step has been long: on a busy machine a thread that takes the interpreter and loses
its core with it keeps the loop waiting, for tens of milliseconds."""
WARY_NS = 30_000_000_000
"""How long it looks more often, after one that was: what is done once is done again."""
HANGS_NS = 10_000_000_000
"""A step that takes so long is taken for one that does not end, and `EndlessStep` is raised in it."""
AGAIN_S = 1.0
"""Until it is raised again: C code hears of it at its end."""
IMPORT_S = 60.0
"""An import that takes so long is taken for one that does not end: large libraries on a cold disk take less."""
_PACKAGE = str(Path(__file__).parents[1]) + "/"


class Visiting(Protocol):
    """Whose step it is."""

    @property
    def over(self) -> bool:
        """Whether nothing of the visit is to go on."""


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """Raise `EndlessStep` in what this thread does inside of the block once it has taken so long."""
    ended, turn = threading.Event(), threading.Lock()
    thread = threading.get_ident()

    def look_on() -> None:
        wait_s = seconds
        while not ended.wait(wait_s):
            with turn:
                if not ended.is_set():
                    _raise_in(thread)
            wait_s = AGAIN_S

    threading.Thread(target=look_on, name="import", daemon=True).start()
    try:
        yield
    finally:
        with turn:
            ended.set()


def _raise_in(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(EndlessStep))


class Steps:
    """Of one event loop.

    Args:
        folder: where the user's code lies.
        now: nanoseconds of the run clock.
        held: called after a step that took `HELD_NS` or longer, with its length and `FILE:LINE in FUNCTION`.
        calm: the first long step, if it is shorter than `CALM_S`, is only taken for a reason to look at the next ones.
    """

    def __init__(
        self, folder: str, now: Callable[[], int], held: Callable[[int, str], None], *, calm: bool = False
    ) -> None:
        self._calm = calm
        self._wary_until_ns = self._waited_before_ns = 0
        self._folder, self._now, self._held = folder, now, held
        self.visiting: Visiting | None = None
        """Whose step runs; None: none does."""
        self.due_ns = 0
        """When what the step that runs does next could have been done, had nothing been late."""
        self._began_ns = 0
        self._number = 0
        self._seen = (0, "", 0)
        """(number, place, `_waited_ns`) of a step that takes long; no place: it is at something of ours."""
        self._loop_thread, self._loop_task = threading.get_ident(), threading.get_native_id()
        self._stopped = False
        """A step was ended since it did not end: no other is begun, for it would do the same."""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """To be called on the loop's thread."""
        if self._thread is None:
            self._loop_thread, self._loop_task = threading.get_ident(), threading.get_native_id()
            self._waited_before_ns = self._waited_ns() if self._calm else 0
            self._thread = threading.Thread(target=self._look_on, name="steps", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    @types.coroutine
    def through(
        self, code: Coroutine[Any, Any, Any], visiting: Visiting, due_ns: int | None = None
    ) -> Generator[Any, None, Any]:
        """Await `code`, step by step.

        Args:
            due_ns: when it was due to begin; None: now.

        Raises what it raises. Of a visit that is over, code that goes on after its cancellation is given up. After a
        step that did not end, of whichever visit, it waits to be cancelled.
        """
        error: BaseException | None = None
        while True:
            if self._stopped and error is None:
                try:
                    yield from asyncio.get_running_loop().create_future()
                except BaseException as caught:
                    error = caught
            now = self._now()
            self.due_ns = now if due_ns is None else due_ns
            self._number += 1
            self.visiting, self._began_ns = visiting, now
            try:
                waited = code.send(None) if error is None else code.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                self.visiting = None
                if self._seen[0] == self._number:
                    self._tell()
                elif self._calm and self._now() - now >= HELD_NS:
                    self._note_long(self._now() - now)
            if visiting.over and isinstance(error, asyncio.CancelledError):
                self._give_up(code)
                raise asyncio.CancelledError
            due_ns = error = None
            try:
                yield waited
            except BaseException as caught:
                error = caught

    def _note_long(self, took_ns: int) -> None:
        """A step that nobody saw took long, by itself or for want of a core."""
        before_ns, self._waited_before_ns = self._waited_before_ns, self._waited_ns()
        if took_ns - (self._waited_before_ns - before_ns) >= HELD_NS:
            self._wary_until_ns = self._now() + WARY_NS

    def _look_s(self) -> float:
        return CALM_S if self._calm and self._now() >= self._wary_until_ns else LOOK_S

    def _tell(self) -> None:
        """Of a step that was seen to take long, and has ended."""
        _, place, waited_ns = self._seen
        took_ns = self._now() - self._began_ns - (self._waited_ns() - waited_ns)
        if place and took_ns >= HELD_NS:
            self._held(took_ns, place)

    def _give_up(self, code: Coroutine[Any, Any, Any]) -> None:
        inner: list[object] = [code]
        while (awaited := getattr(inner[-1], "cr_await", None)) is not None:
            inner.append(awaited)
        try:
            code.close()
        except BaseException:
            for each in inner:  # it goes on whatever it is told: where it were let go, the interpreter would complain
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))

    def _look_on(self) -> None:
        while not self._ended.wait(self._look_s()):
            number, age_ns = self._number, self._now() - self._began_ns
            if self.visiting is None or age_ns < LOOK_S * 1e9 or number != self._number:
                continue
            if self._seen[0] != number:
                self._see(number)
            if age_ns >= HANGS_NS and number == self._number and self.visiting is not None:
                self._stopped = True
                _raise_in(self._loop_thread)
                self._ended.wait(AGAIN_S)

    def _waited_ns(self) -> int:
        """How long the loop's thread was ready to run, and did not: that is the machine's doing, and nobody's who held
        the loop. 0 where the system does not tell."""
        try:
            told = Path(f"/proc/self/task/{self._loop_task}/schedstat").read_bytes().split()
            return int(told[1])
        except (OSError, ValueError, IndexError):
            return 0

    def _see(self, number: int) -> None:
        """Note the innermost line of the user's own that the loop is at, unless it is at one of ours by way of it."""
        frame, where = sys._current_frames().get(self._loop_thread), ""
        while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
            if is_own(frame.f_code.co_filename, self._folder):
                where = place(frame)
                break
            frame = frame.f_back
        self._seen = number, where, self._waited_ns()
