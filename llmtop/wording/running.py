"""Of a run that goes on: what it drives, in a line; who has its wheel, and what becomes of it without a screen."""

from __future__ import annotations

from shlex import quote

from llmtop.domain.load import LoadPoint
from llmtop.domain.plain import plain
from llmtop.domain.run import RunMeta
from llmtop.wording.figures import TEXT
from llmtop.wording.names import short_axis

ITS_PLAN = "its plan"
BY_ITS_PLAN = "this run is driven by its plan: it can be looked at and stopped"
ONLY_LOOKS_ON = "this screen only looks on (--view): it drives nothing"
NOBODY_DRIVES = "not done: nobody has the wheel; take it first"
NOTHING_GOES_ON = "no run goes on now: `llmtop` starts one"
NOT_BEGUN = "the run has not begun yet"
RUN_IS_OVER = "the run is over"
HOST_FAILED = "the process that attends to the run has failed; its log says where"
HOST_GONE = "the process that attends to the run is gone, and the run with it"


def target_text(meta: RunMeta) -> str:
    """What is driven: the URL, or which simulated engine."""
    return f"simulated engine, preset {meta.preset}" if meta.endpoint.simulated else meta.endpoint.base_url


def load_text(point: LoadPoint) -> str:
    """`32 in flight`, `5.5 req/s`"""
    return f"{TEXT.load(point.value, point.axis)} {short_axis(point.axis)}"


def stood_still_text(for_s: float, slept: bool) -> str:
    """Of a run whose session could do nothing for so long.

    Args:
        slept: the whole machine did, as with a closed lid.
    """
    who = "this machine slept" if slept else "the run's session stood still (stopped, or without a turn)"
    return f"{who} for {TEXT.duration(for_s)}: nothing was measured meanwhile, and what was in flight then is told late"


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


def detached_text(name: str, limit_s: float) -> str:
    """To whoever has left the run that they drove: lines."""
    alone = f"detached: the run goes on; left alone for {TEXT.duration(limit_s)} it ends by itself"
    return "\n".join((alone, _attach(name), f"  llmtop stop {quote(plain(name))}"))


def left_text(name: str) -> str:
    """To whoever has left a run that others drive: lines."""
    return f"{plain(name)} goes on\n{_attach(name)}"


def _attach(name: str) -> str:
    return f"  llmtop attach {quote(plain(name))}"


def screens_text(screens: int) -> str:
    return f"{screens} screen{'' if screens == 1 else 's'}"


def company_text(detached: bool, screens: int, holder: str) -> str:
    """Whether it goes on by itself, and who looks at it: `detached`, `pts/3`, `detached, 2 screens, wheel: pts/3`."""
    if not screens and not holder:
        return "detached" if detached else "no screen"
    if screens == 1 and not detached and holder != ITS_PLAN:
        return holder or "no wheel"
    told = ("detached" if detached else "", screens_text(screens) if screens else "")
    return ", ".join(filter(None, (*told, f"wheel: {holder or 'nobody'}")))


def left_alone_text(limit_s: float) -> str:
    """`nobody came back to the detached run for 2 h: it was ended`"""
    return f"nobody came back to the detached run for {TEXT.duration(limit_s)}: it was ended"


def has_ended(name: str) -> str:
    """To whoever comes too late."""
    return f"{name} has ended"


def other_version(name: str, theirs: str, ours: str) -> str:
    """Why a run cannot be joined."""
    return (
        f"{name} is a run of llmtop {theirs}, and this is {ours}: "
        f"join it with that version, or end it with `llmtop stop {name}`"
    )
