"""What steps of scaling come to: how many replicas are wanted, begun, ready and at work."""

from __future__ import annotations

from collections.abc import Iterable

from llmtop.domain.run import ScaleStep

IDLE_S = 15.0
"""A replica that is ready and has generated nothing for so long, while others queue, is given nothing."""


class ReplicaCounts:
    """The counts after the steps that were taken, in their order."""

    def __init__(self, steps: Iterable[ScaleStep] = ()) -> None:
        self.desired: int | None = None
        """None: nobody tells."""
        self.created = 0
        self.once_ready: set[str] = set()
        """Names of all that were ready at any time."""
        self._created: set[str] = set()
        self._in: dict[str, set[str]] = {"ready": set(), "serving": set()}
        self._nameless = {"ready": 0, "serving": 0}
        for step in steps:
            self.take(step)

    @property
    def ready(self) -> int:
        return len(self._in["ready"]) + self._nameless["ready"]

    @property
    def ready_names(self) -> frozenset[str]:
        """Of those that have one."""
        return frozenset(self._in["ready"])

    @property
    def serving(self) -> int:
        return len(self._in["serving"]) + self._nameless["serving"]

    @property
    def of(self) -> int:
        """How many it is to have."""
        return self.created if self.desired is None else self.desired

    def take(self, step: ScaleStep) -> None:
        match step.kind:
            case "desired":
                self.desired = step.replicas
            case "created":
                self.created = step.replicas
                self._created |= {step.name} - {""}
            case "gone":
                self.created = step.replicas
                self._created.discard(step.name)
                nameless = max(0, self.created - len(self._created))
                for kind, names in self._in.items():
                    names.discard(step.name)
                    self._nameless[kind] = min(self._nameless[kind], nameless)
            case "ready" | "serving" as kind:
                names = self._in[kind]
                before = len(names) + self._nameless[kind]
                if not step.name:
                    self._nameless[kind] = max(0, step.replicas - len(names))
                elif step.replicas < before:
                    names.discard(step.name)
                else:
                    names.add(step.name)
                    self.once_ready |= {step.name} if kind == "ready" else set()
