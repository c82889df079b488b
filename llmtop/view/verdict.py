"""The verdict: what is wrong or what was found, and what to do about it, in two lines under the header. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import SILENCE_S, EndpointState, EndpointStatus
from llmtop.domain.frame import Frame, Offer
from llmtop.domain.gain import Comparison
from llmtop.domain.verdicts import Bound
from llmtop.view.condition import Condition
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.runs import Runs, cut_inside, wrapped
from llmtop.wording.endings import silent_server, silent_stream
from llmtop.wording.failures import failure
from llmtop.wording.figures import TIGHT
from llmtop.wording.names import bound_adjective
from llmtop.wording.restarts import again_text, waiting_text
from llmtop.wording.sentences import CLIENT_LATE, VOID, agreed, client_reason, without_tries

FAILING = (Bound.REFUSED, Bound.FAILED)
TIMELESS = (Bound.CLIENT, *FAILING)
"""What binds however late this machine is."""
DRAINING = " the load is off; waiting for the server to finish (q leaves now)"
KEPT = 3
"""Clauses that give their place to nothing: the state, the cause with what to turn, how many users."""
DECLINE = "Esc: not"
ROUGH_CELLS = 18
"""What a line loses by being broken between words, or by a badge."""


def verdict(
    frame: Frame | None, assessment: Assessment | None, condition: Condition, glyphs: Glyphs, width: int, rows: int
) -> list[Runs]:
    """The one opinion that matters now, a broken state before the headline, in at most `rows` lines."""
    clauses = _clauses(frame, assessment, condition, glyphs, rows * (width - ROUGH_CELLS))
    if assessment is not None and rows > 1:
        clauses = _with_compared(clauses, assessment.comparisons, glyphs, rows * width - ROUGH_CELLS)
    return wrapped(clauses, (f" {glyphs.sep} ", "faint"), width, rows, glyphs.more)


def _with_compared(clauses: list[Runs], comparisons: Sequence[Comparison], glyphs: Glyphs, room: int) -> list[Runs]:
    """The clauses, and what the run is beside others as far as that has room. The first that is asked for is said in
    few words where it has none in full; what comes after cause and number of users gives it its place.
    """
    if clauses[0][0][1].startswith("badge"):  # what is void or broken is compared with nothing
        return clauses
    for at, each in enumerate(comparisons):
        for text in filter(None, (each.text, each.short)):
            told: Runs = [(plain(text, glyphs), "text")]
            if _cells([*clauses, told]) <= room:
                clauses = [*clauses, told]
                break
        else:
            if at == 0 and each.against and each.short and len(clauses) > KEPT:
                clauses = [*clauses[:KEPT], [(plain(each.short, glyphs), "text")]]
    return clauses


def _cells(clauses: list[Runs]) -> int:
    """What they take with a separator between them."""
    return sum(len(text) for clause in clauses for text, _ in clause) + 3 * len(clauses)


def _clauses(
    frame: Frame | None, assessment: Assessment | None, condition: Condition, glyphs: Glyphs, room: int
) -> list[Runs]:
    """What stands in the verdict, the most wanted first; `room`: cells that it has."""
    if urgent := _urgent(frame, condition, glyphs, room):
        return urgent
    if assessment is None or not assessment.headline or frame is None:
        return [[(f"{glyphs.wait} measuring", "dim")], [("move a slider and watch", "faint")]]
    return _headline(frame, assessment, condition, glyphs, room)


def urgent(frame: Frame | None, condition: Condition, glyphs: Glyphs, width: int) -> Runs:
    """In one line what stands in the verdict before any opinion; empty: nothing does."""
    clauses = _urgent(frame, condition, glyphs, width - ROUGH_CELLS)
    return wrapped(clauses, (f" {glyphs.sep} ", "faint"), width, 1, glyphs.more)[0] if clauses else []


def _urgent(frame: Frame | None, condition: Condition, glyphs: Glyphs, room: int) -> list[Runs]:
    """What is broken, or a load on offer."""
    if condition.lost is not None:
        return [_badge("RUN OVER" if condition.over else "SESSION LOST", condition.lost, glyphs, room)]
    if condition.draining:
        return [
            [("DRAINING ", "badge-warn"), (" the load is off; waiting for the server to finish (q leaves now)", "")]
        ]
    if frame is None:
        return [[("waiting for the first frame of the session", "dim")]]
    if frame.replay is None and (trouble := _trouble(frame, glyphs, room)):
        return trouble
    if frame.client is not None and frame.client.state == "red":
        reason = frame.client.reason
        why = "this machine cannot keep up" if reason is None else client_reason(reason, TIGHT)
        return [_badge("CLIENT-BOUND", f"{VOID}: {why}", glyphs, room)]
    if frame.braked is not None:
        return [_badge("BRAKED", frame.braked, glyphs, room)]
    return [] if condition.offer is None else _offer(condition.offer, glyphs, room)


def _badge(name: str, why: str, glyphs: Glyphs, room: int) -> Runs:
    return [(f"{name} ", "badge-bad"), (f" {cut_inside(plain(why, glyphs), room, glyphs.more)}", "bad")]


def _offer(offer: Offer, glyphs: Glyphs, room: int) -> list[Runs]:
    """What a server that went away is now, and what takes up the load of then."""
    again = again_text(offer.point, TIGHT)
    what = plain(offer.text.removeprefix("back "), glyphs)
    clauses: list[Runs] = [
        [("BACK ", "badge-warn"), (f" {cut_inside(what, room - len(again), glyphs.more)}", "text")],
        [(again, "focus")],
    ]
    decline: Runs = [(DECLINE, "faint")]
    return [*clauses, decline] if _cells([*clauses, decline]) <= room else clauses


def _trouble(frame: Frame, glyphs: Glyphs, room: int) -> list[Runs]:
    status = frame.endpoint
    error = plain(_without_url(status), glyphs)
    if status.awaited is not None:
        waits = waiting_text(status.awaited, status.away_s, TIGHT)
        why = cut_inside(error, room - len(waits), glyphs.more)
        return [[("AWAY ", "badge-bad"), (f" {plain(waits, glyphs)}", "text")], *([[(why, "dim")]] if why else [])]
    if status.state is EndpointState.DOWN:
        retry = "" if status.retry_in_s is None else f"next try in {TIGHT.duration(round(status.retry_in_s))}"
        return [
            _badge("DOWN", error or "no answer", glyphs, room - len(retry) - 3),
            *([[(retry, "text")]] if retry else []),
        ]
    if status.state is EndpointState.AUTH_FAILED:
        if "--" in error:  # it says itself what to do
            return [_badge("AUTH FAILED", error, glyphs, room)]
        advice = _badge("AUTH FAILED", "start with --api-key-env NAME", glyphs, room)
        return [advice, *([[(error, "text")]] if error else [])]
    if status.state is EndpointState.STALE:
        silent_s = frame.t_s - status.since_s + SILENCE_S
        return [_badge("HUNG", silent_server(silent_s, frame.in_flight, TIGHT), glyphs, room)]
    silent_s = _silent_s(frame)
    if status.state is EndpointState.UP and silent_s > SILENCE_S:
        return [_badge("NO TOKEN", silent_stream(silent_s, frame.in_flight, TIGHT), glyphs, room)]
    if status.state is EndpointState.CONNECTING:
        tail: list[Runs] = [[(cut_inside(error, room, glyphs.more), "dim")]] if error else []
        return [[("CONNECTING ", "badge-warn"), (f" {plain(status.label, glyphs)}", "text")], *tail]
    return []


def _silent_s(frame: Frame) -> float:
    """For how long requests were in flight and neither a token came nor a request ended, by the charts."""
    steps = 0
    timeline = frame.timeline
    rows = zip(timeline.output_tokens_per_s, timeline.in_flight, timeline.error_ratio, strict=False)
    for tokens, in_flight, failed in reversed(list(rows)):
        if tokens or not in_flight or failed is not None:
            break
        steps += 1
    return steps * timeline.step_s


def _without_url(status: EndpointStatus) -> str:
    """The last error; whose it is stands in the header."""
    url, colon, problem = (status.last_error or "").partition(f"{status.label}: ")
    return problem if colon and url in ("http://", "https://") else status.last_error or ""


def _headline(frame: Frame, assessment: Assessment, condition: Condition, glyphs: Glyphs, room: int) -> list[Runs]:
    """The headline's first clause carries the tone; what follows is plain.

    What binds is not known while this machine is late, whatever its times say.
    """
    first, *rest = assessment.headline.split(" · ")
    if condition.note is not None:  # a search that tries by itself
        rest = [without_tries(clause) for clause in rest]
    diagnosis = assessment.diagnosis
    if condition.late and diagnosis.bound not in TIMELESS:
        cause = bound_adjective(diagnosis.bound)
        rest = [
            CLIENT_LATE,
            *(clause for clause in rest if clause != CLIENT_LATE and not (cause and clause.startswith(cause))),
        ]
    if diagnosis.bound in FAILING and frame.failures:
        cause, newest = bound_adjective(diagnosis.bound), frame.failures[-1]
        why = f"{cause}: {failure(newest, TIGHT)}"
        cells = room - len(first) - 4
        if not newest.retry_after_s and len(why) > cells:
            why = why[: cells - len(glyphs.more)] + glyphs.more
        why = cut_inside(why, cells, glyphs.more)
        rest = [plain(why, glyphs) if clause == cause else clause for clause in rest]
    ok = True if first.startswith("SLO OK") else False if first.startswith("SLO FAIL") else None
    if ok is None and assessment.judgement.final:
        ok = assessment.judgement.ok
    sign, role = {True: (glyphs.ok, "up"), False: (glyphs.bad, "bad"), None: (glyphs.wait, "dim")}[ok]
    if assessment.overloaded and ok is not False:
        sign, role = glyphs.warn, "warn"
    clauses: list[Runs] = [[(f"{sign} {plain(first, glyphs)}", role)]]
    clauses += [[(plain(clause, glyphs), "text")] for clause in rest]
    votes = "" if CLIENT_LATE in rest else agreed(*diagnosis.votes)
    return [*clauses, [(votes, "faint")]] if votes else clauses
