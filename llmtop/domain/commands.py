"""What a screen may ask of a run. What is shown next tells that it was done, or why not."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from llmtop.domain.load import LoadPoint
from llmtop.domain.run import ChangeReason, Ending, JudgedLevel, SearchEnded

Pilot = Literal["search", "hold", "map", "demo"]
"""Who steers where no hand does: a search for the capacity at the SLO; control that keeps the load at the edge of its
limits; exploration of the map of loads and prompt lengths; a demo that pushes one limit after the other."""


class SetLoad(Struct, frozen=True, tag=True):
    """Command this load from now on; takes the wheel from any plan."""

    point: LoadPoint
    reason: ChangeReason = "hand"
    gate_alone: bool = False
    """Only its gate counts: the load is what it is by then, and who holds it keeps the wheel."""


class StopLoad(Struct, frozen=True, tag=True):
    """Load to zero at once: everything in flight is cancelled."""


class AddMark(Struct, frozen=True, tag=True):
    text: str


class SetRecording(Struct, frozen=True, tag=True):
    """Pause or go on with writing to the run file."""

    on: bool


class SetKnob(Struct, frozen=True, tag=True):
    """Turn a knob of the server while it runs, by the names of `domain.settings`."""

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

    ending: Ending | None = Ending.HAND
    """None: nobody can say; whoever drove is gone."""
    patient: bool = True
    """Whether to see the server drain, which may take seconds."""
    why: str = ""
    """As the run tells of its end; empty: as `ending` is usually told."""
    signal: int = 0
    """What makes the screen go that asks for it; 0: a hand. Screens that hold no run only leave it then."""


class Note(Struct, frozen=True, tag=True):
    """Keep what a search has found among the facts of the run."""

    fact: JudgedLevel | SearchEnded


class Steer(Struct, frozen=True, tag=True):
    """Let a steerer take the wheel, or end the one that has it."""

    by: Pilot = "search"
    on: bool = True


class Imagine(Struct, frozen=True, tag=True):
    """Ask what the server would carry with these settings, before anybody turns them; () asks no more."""

    settings: tuple[tuple[str, float], ...] = ()
    """By the names of `domain.settings`: `max_num_seqs`, `num_gpu_blocks`."""


class ShowMap(Struct, frozen=True, tag=True):
    """Tell the map, too, as long as somebody looks at it."""

    on: bool = True


class Export(Struct, frozen=True, tag=True):
    """Write the reports of the run file."""


class SaveProfile(Struct, frozen=True, tag=True):
    """Save what was driven as a profile of the user's own."""


class TakeWheel(Struct, frozen=True, tag=True):
    """Of several screens on one run this one drives from now on."""


class Detach(Struct, frozen=True, tag=True):
    """This screen goes; run and load stay, until somebody ends them or they were left alone for `for_s`."""

    for_s: float | None = None
    """None: as it was asked for at the start."""


Command = (
    SetLoad
    | StopLoad
    | AddMark
    | SetRecording
    | SetKnob
    | Restart
    | InjectFault
    | Seek
    | Steer
    | Imagine
    | ShowMap
    | Export
    | SaveProfile
    | TakeWheel
    | Detach
    | Note
    | Seen
    | Quit
)
