"""When kept connections are renewed, so that a replica that has become ready gets its share of the load.

What shares a load out by connections (a Kubernetes service does) gives a new replica nothing as long as the old
connections are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from llmtop.domain.replicas import IDLE_S, ReplicaCounts
from llmtop.domain.run import ScaleStep

AGAIN_S = 10.0
"""So long after a renewal there is another, unless the replica serves."""
MOST = 6
"""Renewals for one replica."""


class Awaited(Struct):
    """A replica that is ready and has not served yet."""

    name: str
    ready_s: float
    due_s: float
    """When connections are renewed for it next."""
    times: int = 0
    said: bool = False
    """That it gets nothing."""


class Renewals:
    """Which replicas are awaited, by the steps of their deployment."""

    def __init__(self) -> None:
        self._counts = ReplicaCounts()
        self._awaited: list[Awaited] = []

    def note(self, steps: Sequence[ScaleStep]) -> None:
        """Take in the steps of one look; what was ready when the run began has its connections."""
        for step in steps:
            was_ready = self._counts.ready
            self._counts.take(step)
            if step.kind == "ready" and step.replicas > was_ready:
                if not step.since:
                    self._awaited.append(Awaited(step.name, step.t_s, step.t_s))
            elif step.kind != "created" and step.kind != "desired":
                self._forget(step.name)

    def due(self, now_s: float) -> list[Awaited]:
        """For whom connections are to be renewed now; `done` says that they were."""
        return [each for each in self._awaited if each.due_s <= now_s and each.times < MOST]

    def done(self, renewed: Sequence[Awaited], now_s: float) -> None:
        """Connections were renewed for them."""
        for each in renewed:
            each.times, each.due_s = each.times + 1, now_s + AGAIN_S

    def idle(self, now_s: float, waiting: float) -> list[Awaited]:
        """Those who get nothing though requests wait, each once; none where nobody tells who serves."""
        if waiting <= 0 or not self._counts.serving:
            return []
        found = [each for each in self._awaited if now_s - each.ready_s >= IDLE_S and not each.said]
        for each in found:
            each.said = True
        return found

    def _forget(self, name: str) -> None:
        """It serves, or is ready no more; of those without a name, the one that has waited longest."""
        found = next((each for each in self._awaited if each.name == name), None)
        if found is not None:
            self._awaited.remove(found)
