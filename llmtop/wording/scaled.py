"""What is said of a deployment that scales: when it did what, and what would have been enough."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from llmtop.domain.run import ScaleStep
from llmtop.domain.scaling import Scaling
from llmtop.wording.figures import TEXT, clock
from llmtop.wording.over_time import missed_for, number, owed, seconds
from llmtop.wording.scale_steps import named
from llmtop.wording.sentences import listed

PINNED = "connections stay with the old ones, or there is nothing left to do"
NO_QUEUE = "the server shows no queue"
DEBT_OPEN = "nor is how long it was missed"
GATED = "the queue stood at the gate, where no autoscaler sees it"
NO_WAIT_LIMIT = "the SLO has no limit on TTFT or E2E"
NOT_BUSY = "the old replicas were not full for long enough to tell what one carries"
NEVER_FAST = "requests took longer than the limit before any had to wait"


def scaled(found: Scaling) -> Scaling:
    """With its sentence: `replicas 1 → 3 after 128 s (decided 31, ready 112, serving 128); SLO missed for 97 s, 412 of
    1 930 requests; scale at queue > 4 instead of 30, or keep 2`.
    """
    what = _up(found) if found.up else _down(found)
    return replace(found, text="; ".join(filter(None, (what, owed(found), found.advice))))


def _up(found: Scaling) -> str:
    moved, missing, came = f"replicas {found.before} → {found.after}", found.missing, found.came
    if missing == "serving":
        since_s = found.seen_s - (found.ready_s or 0.0)
        steps = _steps(found, "decided", "ready")
        return f"{moved} {steps}, but no token of the last in {seconds(since_s)} since: {PINNED}"
    if missing:
        none = (
            f"only {came} {missing}" if came > found.before else "none created" if missing == "created" else "not ready"
        )
        why = " (no GPU left?)" if missing == "created" else ""
        told = ", ".join(
            filter(None, (_steps(found, "decided", "created"), f"{none} after {seconds(found.seen_s)}{why}"))
        )
        return f"{moved} {told}"
    at_s = found.serving_s if found.serving_s is not None else found.ready_s
    if at_s is None:
        return f"{moved} {_steps(found, 'decided')}"
    late = "" if found.late_s is None else f", {seconds(found.late_s)} too late to help"
    return f"{moved} after {seconds(at_s)}{_brackets(found, 'decided', 'ready', 'serving')}{late}"


def _down(found: Scaling) -> str:
    if found.lost:
        return _lost(found)
    moved = f"replicas {found.before} → {found.after}"
    if found.gone_s is None:
        return f"{moved} {_steps(found, 'decided')}, none gone after {seconds(found.seen_s)}"
    return f"{moved} after {seconds(found.gone_s)}{_brackets(found, 'decided', 'gone')}"


def _lost(found: Scaling) -> str:
    """`replica pod-2 was lost at 01:10: 2 left, pod-4 in its place after 35 s`"""
    count = found.before - found.after
    who = named(found.names if len(found.names) == count else [""] * count)
    again = "not back"
    if found.ready_s is not None:
        place = "its place" if count == 1 else "their place"
        again = f"{listed(found.instead)} in {place}" if found.instead else "back"
        again = f"{again} after {seconds(found.ready_s)}"
    be = "was" if count == 1 else "were"
    return f"{who} {be} lost at {clock(found.from_s)}: {found.after or 'none'} left, {again}"


def _brackets(found: Scaling, *names: str) -> str:
    """` (decided 31, ready 112, serving 128)`; empty of one alone, which has been said."""
    told = [f"{name} {number(at_s)}" for name in names if (at_s := getattr(found, f"{name}_s")) is not None]
    return f" ({', '.join(told)})" if len(told) > 1 else ""


def _steps(found: Scaling, *names: str) -> str:
    """`decided at 31 s, ready at 112 s`"""
    told = [f"{name} at {seconds(at_s)}" for name in names if (at_s := getattr(found, f"{name}_s")) is not None]
    return ", ".join(told)


def too_slow(found: Scaling, within_s: float) -> tuple[str, ...]:
    """`more replicas were not ready after 55 s`, `the SLO was missed for 97 s, limit 60 s`; () of one in time.

    Args:
        within_s: for so long the SLO may be missed.
    """
    if not found.debt_s:
        return ()
    told = {
        "created": f"more replicas were not created after {seconds(found.seen_s)}",
        "ready": f"more replicas were not ready after {seconds(found.seen_s)}",
        "serving": f"more replicas had not served after {seconds(found.seen_s)}",
        "": "",
    }[found.missing]
    if found.missing and found.came > found.before:
        told = f"{found.came} replicas of {found.after} were {found.missing} after {seconds(found.seen_s)}"
    over = f"the SLO was missed for {missed_for(found)}, limit {seconds(within_s)}" if found.debt_s > within_s else ""
    return tuple(filter(None, (told, over)))


def enough(found: Scaling, serve_s: float | None) -> str:
    """`scale at queue > 4 instead of 30, or keep 2`: what was foreseen to miss nothing.

    Args:
        serve_s: from the decision until the last replica served; None: it never did.
    """
    keep = "" if found.keep is None else f"keep {found.keep}"
    each = " a replica" if found.before > 1 else ""
    if found.threshold is not None:
        told = f"scale at queue > {found.threshold}{each} instead of {TEXT.whole(found.queue)}"
        return ", or ".join(filter(None, (told, keep)))
    early = "" if serve_s is None else f"no threshold is early enough: {seconds(serve_s)} to serve"
    return "; ".join(filter(None, (early, keep)))


def not_foreseen(why: str) -> str:
    """`what would have been enough is not known: WHY`"""
    return f"what would have been enough is not known: {why}"


def not_reproduced(foreseen_s: float, measured_s: float) -> str:
    return f"by queue and rate it would have been missed for {seconds(foreseen_s)} instead of {seconds(measured_s)}"


def on_axis(steps: Sequence[ScaleStep], desired: int | None) -> str:
    """Of steps of one kind that came together, as tersely as on an axis: `+2 desired`, `pod-3 ready`, `2 gone`.

    Args:
        desired: how many were wanted before; None: nobody told.
    """
    step = steps[-1]
    if step.kind == "desired":
        return f"{step.replicas} desired" if desired is None else f"{step.replicas - desired:+d} desired"
    return f"{step.name if len(steps) == 1 and step.name else len(steps)} {step.kind}"
