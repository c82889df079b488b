"""What a screen needs of whoever attends to a run."""

from __future__ import annotations

from typing import Protocol

from llmtop.domain.commands import Command
from llmtop.domain.shown import Shown
from llmtop.domain.slo import Slo


class Attendant(Protocol):
    """A run as a screen sees it. `shown` and `send` wait for nothing that thinks, and may be called from any thread."""

    @property
    def slo(self) -> Slo:
        """What the run is judged by, and what figures are coloured by."""
        ...

    @property
    def left(self) -> bool:
        """This screen has left the run, which goes on without it."""
        ...

    def shown(self) -> Shown:
        """The newest of everything. Raises what a bug in the attendant raised."""
        ...

    def send(self, command: Command, /) -> None:
        """Ask for something; what is shown next tells what became of it."""
        ...

    def close(self) -> None:
        """End the run in order: no load is left. May be called twice."""
        ...
