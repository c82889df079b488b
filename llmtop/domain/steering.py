"""Who has the wheel beside the user's hand, and what it wants next."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from llmtop.domain.commands import InjectFault, Pilot, SetKnob, SetLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import JudgedLevel, SearchEnded

Phase = Literal["double", "confirm", "done"]
"""Of a search: up to the first load that fails, then between it and the last that held."""


class Step(Struct, frozen=True, kw_only=True):
    """What a steerer wants next, and how far it has come. `want` None: it is done."""

    want: SetLoad | SetKnob | None
    phase: Phase
    turns: tuple[SetKnob | InjectFault, ...] = ()
    """What is to be done to the server before the load is what is wanted: each is told once."""
    done_levels: int = 0
    left_s: float | None = None
    """The time it has promised to end within."""
    text: str = ""
    learned: tuple[JudgedLevel | SearchEnded, ...] = ()
    """What is to be noted among the facts of the run: each is told once."""
    marks: tuple[str, ...] = ()
    """What a reader of the run wants to know of its doings: each is told once."""
    stays: bool = False
    """Of one that is done: the load stays where it is. It ends otherwise."""

    @property
    def point(self) -> LoadPoint | None:
        """The load that is wanted, where it is a load."""
        return self.want.point if isinstance(self.want, SetLoad) else None


class Steering(Struct, frozen=True):
    """Whether something else than a hand has the wheel."""

    running: bool = False
    text: str = ""
    """What it does, or has found."""
    by: Pilot = "search"
