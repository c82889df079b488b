"""A sink's own thread: whatever a sink does, the run goes on, and no more waits for it than one set of figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from llmtop.domain.plain import plain
from llmtop.domain.shown import SinkState
from llmtop.sinks.figures import Figures

KNOWN_S = 1.0
"""How often it is looked whether it is known what is driven: the first figures show whether a sink takes them."""


class Undelivered(Exception):
    """Figures did not arrive. The next ones are tried all the same.

    Args:
        why: for a user.
        then: what is done about it, as long as the run goes on.
    """

    def __init__(self, why: str, then: str = "") -> None:
        super().__init__(why)
        self.then = then


class Sink(Protocol):
    """Where figures go. All calls come from one thread; none may take longer than it must."""

    name: str
    """For a user: `prometheus 127.0.0.1:9464`, without what lets somebody in."""
    every_s: float

    def deliver(self, figures: Figures) -> None:
        """Raises Undelivered."""
        ...

    def missing(self) -> str:
        """What was lost on the way though later figures arrived; empty: nothing."""
        ...

    def end(self) -> None:
        """Nothing more will be brought."""
        ...


class Pump:
    """Brings the newest figures to one sink as often as that wants them, and once more at the end.

    Args:
        sink: ended with the pump.
        now: gives the figures of the moment, at once.
    """

    def __init__(self, sink: Sink, now: Callable[[], Figures]) -> None:
        self._sink, self._now = sink, now
        self._problem = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name=sink.name, daemon=True)

    @property
    def state(self) -> SinkState:
        return SinkState(self._sink.name, self._problem)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError:
            self._problem = "this machine has no thread left for it"

    def end(self) -> None:
        """Ask for the last delivery; nothing is waited for."""
        self._ending.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the last delivery; a sink that takes longer is left to itself."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._problem = self._problem or "it did not take them in time"

    def _work(self) -> None:
        over = False
        while not over:
            begun = time.monotonic()
            figures = self._now()
            self._problem = self._deliver(figures)
            every_s = self._sink.every_s if figures.is_known else min(self._sink.every_s, KNOWN_S)
            over = self._ending.wait(max(0.0, every_s - (time.monotonic() - begun)))
        self._problem = self._deliver(self._now(), last=True) or self._sink.missing()
        self._sink.end()

    def _deliver(self, figures: Figures, *, last: bool = False) -> str:
        try:
            self._sink.deliver(figures)
        except Undelivered as error:
            return str(error) if last or not error.then else f"{error}; {error.then}"
        except Exception as error:  # a bug in one sink must end neither the others nor the load, and is said
            return plain(f"{type(error).__name__}: {error}")
        return ""
