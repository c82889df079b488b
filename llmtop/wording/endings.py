"""How a run came to its end, in words: for its file, and for whoever waits for it."""

from __future__ import annotations

from llmtop.domain.run import Ending
from llmtop.wording.figures import TEXT, Figures, clock

ENDED_BY = {
    Ending.PLAN: "the run has ended: its plan was over",
    Ending.HAND: "the run was ended by hand",
    Ending.BRAKE: "the run was ended by the brake: too many requests failed",
    Ending.RESTART: "the run was ended: the server restarted under it",
    Ending.HANG: "the run was ended: the server hangs, it takes requests and answers nothing",
    Ending.GONE: "the run was ended: the endpoint has gone",
    Ending.UNSEEN: "the run was ended: nobody could see the load",
}
"""As an event of the run."""
MORE_EVENTS = "more happened than is said here: the run file and llmtop report have all of it"
_ENDED = ("the run has ended", "the run was ended")


def tells_end(text: str) -> bool:
    """Whether an event's text says that the run has ended."""
    return any(words in text for words in _ENDED)


def ending_text(ending: Ending, at_s: float, plan_s: float | None, why: str | None = None) -> str:
    """`the endpoint went away at 0:07 of 0:30: connection refused`; empty for a run that played to its end.

    Args:
        at_s: when it happened, on the run clock.
        plan_s: how long the run was meant to be; None: that was not fixed.
        why: what is known of the reason: the brake's, or the last error; of a hang, for how long nothing came.
    """
    when = clock(at_s) + (f" of {clock(plan_s)}" if plan_s else "")
    what = {
        Ending.PLAN: "",
        Ending.HAND: f"interrupted at {when}",
        Ending.BRAKE: f"braked at {when}",
        Ending.RESTART: f"the server restarted at {when}: it dropped what it had, and is back",
        Ending.HANG: f"the server hangs since {when}: it takes requests and answers nothing",
        Ending.GONE: f"the endpoint went away at {when}",
        Ending.UNSEEN: f"ended at {when}, as nobody could see the load",
    }[ending]
    return f"{what}: {why}" if what and why else what


def silence_text(silent_s: float) -> str:
    """`nothing came for 30 s`"""
    return f"nothing came for {TEXT.duration(round(silent_s))}"


def unseen_text(limit_s: float) -> str:
    """`nobody could see the load for 60 s (...): the run was ended`"""
    why = "the terminal took nothing, or llmtop was stopped"
    return f"nobody could see the load for {TEXT.duration(limit_s)} ({why}): the run was ended"


def silent_server(silent_s: float, in_flight: int, figures: Figures = TEXT) -> str:
    """`it takes requests and answers nothing for 12 s, 4 wait: look at its log, or restart it`"""
    return (
        f"it takes requests and answers nothing for {figures.duration(max(0, round(silent_s)))}, "
        f"{figures.whole(in_flight)} wait: look at its log, or restart it"
    )


def silent_stream(silent_s: float, in_flight: int, figures: Figures = TEXT) -> str:
    """`for 12 s, 4 in flight: a long prompt is read, or the server hangs: look at its log`"""
    return (
        f"for {figures.duration(round(silent_s))}, {figures.whole(in_flight)} in flight: "
        "a long prompt is read, or the server hangs: look at its log"
    )
