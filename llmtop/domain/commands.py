"""What a screen may ask of a run. What is shown next tells that it was done, or why not."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.load import LoadPoint
from llmtop.domain.run import ChangeReason, Ending, JudgedLevel, SearchEnded


class SetLoad(Struct, frozen=True, tag=True):
    """Command this load from now on; takes the wheel from any plan."""

    point: LoadPoint
    reason: ChangeReason = "hand"


class StopLoad(Struct, frozen=True, tag=True):
    """Load to zero at once: everything in flight is cancelled."""


class AddMark(Struct, frozen=True, tag=True):
    text: str


class SetRecording(Struct, frozen=True, tag=True):
    """Pause or go on with writing to the run file."""

    on: bool


class SetKnob(Struct, frozen=True, tag=True):
    """Turn a knob of the simulated engine."""

    name: str
    value: float


class Restart(Struct, frozen=True, tag=True):
    """Start the server again by its command, or apply it, with these settings; the load goes on when it is ready."""

    settings: tuple[tuple[str, str], ...]


class InjectFault(Struct, frozen=True, tag=True):
    """Start or end a fault of the simulated engine, by name."""

    name: str
    on: bool = True


class Seek(Struct, frozen=True, tag=True):
    """Replay: go to `t_s`; None stays."""

    t_s: float | None = None
    speed: float | None = None
    playing: bool | None = None


class Seen(Struct, frozen=True, tag=True):
    """Somebody can see the run, or attends to it. Load of which nothing like that is heard ends by itself."""


class Quit(Struct, frozen=True, tag=True):
    """Stop the load, wait for the server to drain, close the run file, end."""

    ending: Ending = Ending.HAND
    patient: bool = True
    """Whether to see the server drain, which may take seconds."""


class Note(Struct, frozen=True, tag=True):
    """Keep what a search has found among the facts of the run."""

    fact: JudgedLevel | SearchEnded


class Search(Struct, frozen=True, tag=True):
    """Let a search for the capacity at the SLO take the wheel, or end the one that has it."""

    on: bool = True


class Export(Struct, frozen=True, tag=True):
    """Write the reports of the run file."""


Command = (
    SetLoad
    | StopLoad
    | AddMark
    | SetRecording
    | SetKnob
    | Restart
    | InjectFault
    | Seek
    | Search
    | Export
    | Note
    | Seen
    | Quit
)
