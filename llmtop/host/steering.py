"""The wheel of a run when it is not in a hand: whoever steers is asked, and its wishes become commands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from llmtop.analysis import CapacitySearch
from llmtop.domain.commands import Command, StopLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import RunMeta
from llmtop.domain.slo import Slo
from llmtop.domain.steering import Steering, Step
from llmtop.domain.verdicts import Assessment
from llmtop.meter.facts import Facts


class Steerer(Protocol):
    """Looks at what the load did and says what it wants next; without a clock of its own."""

    def next(self, facts: Facts, now_s: float) -> Step:
        """Asked every 100 ms to 1 s, until its step wants nothing more."""
        ...

    def stop(self) -> None:
        """End now; what was learned stays."""
        ...


class Helm:
    """Lets at most one steerer drive; what it found stays after its end.

    `look` belongs to one thread, the rest to any. Nobody waits for a steerer that thinks: one that has lost the wheel
    meanwhile sends nothing any more.

    Args:
        send: where commands go.
    """

    def __init__(self, slo: Slo, send: Callable[[Command], None]) -> None:
        self._slo = slo
        self._send = send
        self._lock = threading.Lock()
        self._steerer: Steerer | None = None
        self._step: Step | None = None
        self._search: CapacitySearch | None = None
        self._base: LoadPoint | None = None

    @property
    def steering(self) -> Steering:
        with self._lock:
            return Steering(self._steerer is not None, "" if self._step is None else self._step.text)

    def search(self, meta: RunMeta | None) -> str | None:
        """Begin a capacity search. Returns why it cannot begin; None: it has the wheel."""
        with self._lock:
            if self._steerer is not None:
                return None
            if meta is None or meta.info is None:
                return "the endpoint is not connected yet"
            base = meta.profile.plan.base
            self._base = base
            self._search = CapacitySearch(self._slo, base, max_concurrency=meta.profile.caps.max_concurrency)
            self._steerer, self._step = self._search, None
        return None

    def release(self) -> None:
        """A hand takes the wheel: the steerer ends where it stands; what it has measured stays among the facts."""
        with self._lock:
            if self._steerer is not None:
                self._steerer.stop()
                self._steerer = None

    def look(self, facts: Facts) -> None:
        """Ask the steerer, and send what it wants if that is new. The load ends with it."""
        steerer = self._steerer
        if steerer is None:
            return
        step = steerer.next(facts, facts.t_s)
        with self._lock:
            if self._steerer is not steerer:
                return
            before = self._step.want if self._step is not None else None
            self._step = step
            if step.want is None:
                self._steerer = None
                self._send(StopLoad())
            elif step.want != before:
                self._send(step.want)

    def informed(self, assessment: Assessment, facts: Facts) -> Assessment:
        """The assessment with the capacity that a search has found, while the load has the lengths it searched."""
        search = self._search
        if search is None or not search.tested or not self._same_lengths(facts):
            return assessment
        return replace(assessment, capacity=search.capacity)

    def _same_lengths(self, facts: Facts) -> bool:
        if self._base is None or not facts.changes:
            return False
        now = facts.changes[-1].point
        return now.at("concurrency", 0) == self._base.at("concurrency", 0)
