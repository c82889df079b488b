"""Sees to it, from a thread of its own, that a run on a terminal ends with its terminal, and at a signal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from types import FrameType
from typing import Self

from llmtop.domain.commands import Quit, Seen
from llmtop.domain.shown import Shown
from llmtop.errors import INTERRUPTED
from llmtop.host.attendant import Attendant
from llmtop.tui.app import LlmtopApp

LOOK_S = 0.1
SEEN_EVERY_S = 1.0
LEAVE_S = 1.5
"""How long the screen may take to go before the terminal is taken from it: with the load, which ends first, all is over
within 3 s."""
LAST_WORDS_S = 1.0
"""What is said after an end that was asked for may take so long, on a terminal that perhaps takes nothing."""
STUTTER_S = 5.0
"""A line may take nothing for so long when the run is over, and the screen with its end still stays."""
HUNG_S = 15.0
"""A screen that has not been brought up to date for so long shows nothing; the slowest is every 5 s."""


def on_terminal(app: LlmtopApp, host: Attendant) -> int | None:
    """Show the run until somebody leaves; returns the signal that ended it, or None.

    SIGHUP stands for a terminal that is gone, also where none was sent. From here on a further signal ends the process
    at once: all that is left is to be waited for.
    """
    with Watch(app, host) as watch:
        app.run()
    return watch.asked


def last_words() -> None:
    """From here on this process has `LAST_WORDS_S` to say what is left to be said, and ends."""
    timer = threading.Timer(LAST_WORDS_S, os._exit, (INTERRUPTED,))
    timer.daemon = True
    timer.start()


class Watch(threading.Thread):
    """Hears signals, sees whether the terminal is there and takes what is drawn, and tells the run that it is seen.

    Textual's loop waits for a terminal that takes nothing, and would hear of neither. So the load is ended from here,
    and if the screen does not go by itself, the process is.
    """

    def __init__(self, app: LlmtopApp, host: Attendant) -> None:
        super().__init__(name="watch", daemon=True)
        self.asked: int | None = None
        self._app, self._host = app, host
        self._over = threading.Event()
        self._poll = select.poll()
        for stream in (sys.__stdin__, sys.__stderr__):
            if stream is not None:
                self._poll.register(stream.fileno(), 0)
        self._taken = 0
        self._ticks, self._unchanged_s = 0, 0.0
        self._newest, self._since_seen_s = -1, SEEN_EVERY_S
        self._unseen_s = 0.0

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._over.is_set():
            os._exit(INTERRUPTED)
        self.asked = self.asked or number
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # in the background, a word on the terminal would stop us again
        if self._app.driver is not None:
            self._app.driver.leaving = True

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            if self.asked is None and self._gone():
                self.asked = signal.SIGHUP
            if self.asked is not None:
                self._leave()
            else:
                self._look()

    def _gone(self) -> bool:
        """Whether there is no terminal any more."""
        driver = self._app.driver
        if driver is not None and driver.paper.gone:
            return True
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in self._poll.poll(0))

    def _leave(self) -> None:
        """The load first, then the screen; returns when that has gone. A run that it does not hold goes on."""
        self._host.send(Quit(patient=False, signal=self.asked or 0))
        deadline_s = time.monotonic() + LEAVE_S
        while time.monotonic() < deadline_s:
            self._app.leave()
            if self._over.wait(LOOK_S):
                return
        self._force("interrupted")

    def _look(self) -> None:
        """Tell the run that it is seen, as long as it is."""
        self._since_seen_s += LOOK_S
        shown = self._shown()
        if self._can_be_seen():
            self._unseen_s = 0.0
            fresh = shown.frame is not None and shown.frame.seq != self._newest
            if shown.frame is not None and fresh and self._since_seen_s >= SEEN_EVERY_S:
                self._newest, self._since_seen_s = shown.frame.seq, 0.0
                self._host.send(Seen())
            return
        self._unseen_s += LOOK_S
        if shown.ended is not None and self._unseen_s >= STUTTER_S:
            self._force(shown.ended.error or "the run has ended")

    def _shown(self) -> Shown:
        try:
            return self._host.shown()
        except Exception:  # the screen meets the same, and says so
            return Shown()

    def _can_be_seen(self) -> bool:
        driver, app = self._app.driver, self._app
        self._unchanged_s = 0.0 if app.ticks != self._ticks else self._unchanged_s + LOOK_S
        self._ticks = app.ticks
        if driver is None:
            return True
        paper, before = driver.paper, self._taken
        self._taken = paper.taken
        return self._unchanged_s < HUNG_S and not (paper.waiting and paper.taken == before)

    def _force(self, words: str) -> None:
        """Nobody can be waited for: give the terminal back, end the run in order, end the process."""
        if self._app.driver is not None:
            self._app.driver.give_back(f"llmtop: {words}\n")
        with contextlib.suppress(Exception):
            self._host.close()
        os._exit(INTERRUPTED)
