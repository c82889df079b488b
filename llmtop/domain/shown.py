"""What a screen is given of a run: its newest frame, the opinions about it, who has the wheel, what was answered."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame
from llmtop.domain.run import Ended, RunMeta
from llmtop.domain.steering import Steering


class Answer(Struct, frozen=True):
    """To something asked for that is no part of the run itself. `number` counts up; a newer one replaces it."""

    number: int
    text: str
    refused: bool = False


class Wheel(Struct, frozen=True, kw_only=True):
    """Of several screens on one run, which may drive it; without others it is this one."""

    mine: bool = True
    """This screen drives. Another's commands change nothing."""
    view: bool = False
    """This one only looks on, and cannot take it."""
    holder: str = ""
    """Who has it, in words: `pts/3`; empty: nobody."""
    screens: int = 1
    """All that look at the run now, this one too."""


class Scene(Struct, frozen=True):
    """Of a demo: what is shown just now."""

    number: int
    of: int
    name: str
    """The limit that it pushes."""
    caption: str
    """What happens, in one sentence for the audience."""


class SinkState(Struct, frozen=True):
    """Where figures of the run flow to while it runs."""

    name: str
    """`prometheus 127.0.0.1:9464`, without what lets somebody in."""
    problem: str = ""
    """Why nothing arrives there now; empty: it does."""


class Shown(Struct, frozen=True, kw_only=True):
    """One immutable value; the newest wins."""

    frame: Frame | None = None
    """None: the first has not come yet."""
    assessment: Assessment | None = None
    meta: RunMeta | None = None
    steering: Steering = Steering()
    answer: Answer | None = None
    wheel: Wheel = Wheel()
    scene: Scene | None = None
    sinks: tuple[SinkState, ...] = ()
    ended: Ended | None = None
    """The run has ended: no load is being sent any more."""
