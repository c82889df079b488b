"""What a screen is given of a run: its newest frame, the opinions about it, who has the wheel, what was answered."""

from __future__ import annotations

from msgspec import Struct

from llmtop.domain.frame import Frame
from llmtop.domain.run import Ended, RunMeta
from llmtop.domain.steering import Steering
from llmtop.domain.verdicts import Assessment


class Answer(Struct, frozen=True):
    """To something asked for that is no part of the run itself. `number` counts up; a newer one replaces it."""

    number: int
    text: str
    refused: bool = False


class Shown(Struct, frozen=True, kw_only=True):
    """One immutable value; the newest wins."""

    frame: Frame | None = None
    """None: the first has not come yet."""
    assessment: Assessment | None = None
    meta: RunMeta | None = None
    steering: Steering = Steering()
    answer: Answer | None = None
    ended: Ended | None = None
    """The run has ended: no load is being sent any more."""
