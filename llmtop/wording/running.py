"""Of a run that goes on: what it drives, in a line; who has its wheel, and what becomes of it without a screen."""

from __future__ import annotations

from llmtop.domain.load import LoadPoint
from llmtop.domain.run import RunMeta
from llmtop.wording.figures import TEXT
from llmtop.wording.names import short_axis

ITS_PLAN = "its plan"
BY_ITS_PLAN = "this run is driven by its plan: it can be looked at and stopped"
ONLY_LOOKS_ON = "this screen only looks on: it drives nothing"
NOBODY_DRIVES = "not done: nobody has the wheel; take it first"
RUN_IS_OVER = "the run is over"
HOST_FAILED = "the process that attends to the run has failed; its log says where"
HOST_GONE = "the process that attends to the run is gone, and the run with it"


def target_text(meta: RunMeta) -> str:
    """What is driven: the URL, or which simulated engine."""
    return f"simulated engine, preset {meta.preset}" if meta.endpoint.simulated else meta.endpoint.base_url


def load_text(point: LoadPoint) -> str:
    """`32 in flight`, `5.5 req/s`"""
    return f"{TEXT.load(point.value, point.axis)} {short_axis(point.axis)}"


def driven_by(holder: str) -> str:
    """Why a command of another screen is not carried out."""
    return f"not done: {holder} has the wheel" if holder else NOBODY_DRIVES


def taken_by(holder: str) -> str:
    """To whoever had the wheel."""
    return f"the wheel was taken by {holder}"


def no_socket(why: str) -> str:
    """Why a run cannot be left: it could not be found again."""
    return f"there is no place for a socket, at which it would be found again: {why}"


def not_left(why: str) -> str:
    """Why a screen cannot be left without its run."""
    return f"not detached: {why}"


def left_alone_text(limit_s: float) -> str:
    """`nobody came back to the detached run for 2 h: it was ended`"""
    return f"nobody came back to the detached run for {TEXT.duration(limit_s)}: it was ended"


def other_version(name: str, theirs: str, ours: str) -> str:
    """Why a run cannot be joined."""
    return (
        f"{name} is a run of llmtop {theirs}, and this is {ours}: "
        f"join it with that version, or end it with `llmtop stop {name}`"
    )
