"""The answer card: how many, what binds, what to turn, where to run it, and what was recorded. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame
from llmtop.domain.profile import Question
from llmtop.domain.verdicts import Kind
from llmtop.view.condition import Condition
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.runs import Runs
from llmtop.wording import answers
from llmtop.wording.advice import tried
from llmtop.wording.figures import TIGHT
from llmtop.wording.names import bound_name
from llmtop.wording.sentences import CLIENT_LATE, advised, sentence, supports, tries

LABEL_CELLS = 9
MOST_EARLIER = 3
"""Earlier measurements of which the card tells; the panel of the curve names them all."""
_OF_LOADS = (Question.CLIFF, Question.CAPACITY)
"""Questions whose answer is a number of users."""


class Fact(Struct, frozen=True):
    """One thing that the card says. Of rows that are short, the least `rank` is whole first."""

    name: str
    text: str
    rank: int
    role: str = "text"
    short: str = ""
    """What stands there where `text` has no room; empty: its beginning."""


def facts(
    frame: Frame, assessment: Assessment, condition: Condition, glyphs: Glyphs, holds: str, run_file: str | None
) -> list[Fact]:
    """What there is to say of a run at rest, in the order of the card.

    Args:
        holds: what is to be typed to hold the load that is offered; empty: nothing is.
        run_file: the recording as a shell takes it; None: there is none.
    """
    compared, load = assessment.compared, _load(assessment)
    earlier = [each.compared for each in assessment.baselines if each.compared is not None][:MOST_EARLIER]
    told = [
        Fact("answer", answer(assessment), 1, "strong"),
        *(Fact(_against(at), each.text, 2, short=each.short) for at, each in enumerate(earlier)),
        Fact("turned", "" if compared is None else compared.text, 2),
        Fact("binds", binds(assessment, condition.late), 4),
        _what_next(assessment, condition.late),
        _fewer_slots(frame, assessment, condition.late),
        Fact("load", f"{load}: {holds}" if load and holds else load or holds, 3),
        _recording(frame, run_file),
    ]
    return [replace(fact, text=plain(fact.text, glyphs), short=plain(fact.short, glyphs)) for fact in told if fact.text]


def _against(at: int) -> str:
    """The name of what is said of an earlier measurement, each its own."""
    return f"and {at + 1}" if at else "against"


def answer(assessment: Assessment) -> str:
    """How many users at the SLO, with the interval; to another question, and where there is no number, its answer."""
    judgement, capacity, axis = assessment.judgement, assessment.capacity, assessment.cliff.axis
    if judgement.void or judgement.ok is False or judgement.question not in _OF_LOADS or capacity.at_slo is None:
        return judgement.sentence
    return sentence(
        supports(capacity.at_slo, capacity.fails_at, axis, low=capacity.low, high=capacity.high, figures=TIGHT)
    )


def offered(assessment: Assessment | None) -> float | None:
    """The load that Enter holds: the recommended one; after a turned knob the one that was carried before."""
    if assessment is None or assessment.judgement.void or assessment.judgement.ok is False:
        return None
    if assessment.capacity.recommended is not None:
        return assessment.capacity.recommended
    return None if assessment.compared is None else assessment.compared.before


def binds(assessment: Assessment, late: bool) -> str:
    """What binds and by what that is known; where nothing does, how far was driven."""
    diagnosis, cliff = assessment.diagnosis, assessment.cliff
    name = bound_name(diagnosis.bound)
    if late and name is not None:
        return CLIENT_LATE
    if name is not None:
        return ": ".join((name, *(diagnosis.evidence or cliff.evidence)[:1]))
    if cliff.at is not None:
        return answers.bends_at(cliff)
    return answers.straight() if cliff.kind is Kind.NONE else answers.unanswered(answers.nothing_known())


def _what_next(assessment: Assessment, late: bool) -> Fact:
    """What to turn and what that gives; where nothing binds, which loads would say more."""
    if assessment.diagnosis.advice and not late:
        return Fact("turn", assessment.diagnosis.advice, 0)
    return Fact("next", tries(assessment.cliff.next_levels) if assessment.cliff.next_levels else "", 0)


def _fewer_slots(frame: Frame, assessment: Assessment, late: bool) -> Fact:
    """What fewer slots carry where that is more than now, and of a live server how to try it."""
    fewer = assessment.fewer_slots
    told = fewer.text if fewer is not None and fewer.worth and not late else ""
    return Fact("slots", tried(told) if told and frame.replay is None else told, 4, short=told)


def _load(assessment: Assessment) -> str:
    """Where to run it and where to soak it, with the reason of the capacity's own sentence."""
    capacity = assessment.capacity
    if offered(assessment) is None or capacity.recommended is None or capacity.soak is None:
        return ""
    told = advised(capacity.recommended, capacity.soak, assessment.cliff.axis, TIGHT)
    clauses = capacity.sentence.split("; ")
    return next((clause for clause in clauses if clause.startswith("run it at ")), told)


def _recording(frame: Frame, run_file: str | None) -> Fact:
    """Where it is, as what is to be typed next."""
    if run_file is None:
        return Fact("record", "this run was not recorded", 5, "dim")
    if frame.replay is not None:
        return Fact("record", f"{run_file}: e writes the report", 5, "dim", run_file)
    again = f"llmtop replay {run_file}"
    return Fact("record", f"{again} shows it again, e writes the report", 5, "dim", again)


def holding(load: float | None, focused: bool, recommended: bool = True) -> str:
    """What is to be typed for the load that stands on its slider as a question: the recommended one, or the last."""
    does = "holds" if recommended else "goes back to"
    return "" if load is None else f"{'' if focused else 'c '}Enter {does} {TIGHT.exact(load)}"


def rows_needed(told: Sequence[Fact], width: int) -> int:
    """Rows in which all is whole."""
    return sum(len(_lines(fact, width)) for fact in told)


def card(told: Sequence[Fact], glyphs: Glyphs, width: int, rows: int) -> list[Runs]:
    """The facts in at most `rows` rows: what to turn is whole before all else, and what is cut ends in `more`."""
    kept = sorted(told, key=lambda fact: fact.rank)[:rows]
    given = {fact.name: 1 for fact in kept}
    for fact in kept:
        spare = rows - sum(given.values())
        given[fact.name] += min(spare, len(_lines(fact, width)) - 1)
    shown: list[Runs] = []
    for fact in told:
        lines = _lines(fact, width)
        if fact.short and given.get(fact.name, 0) < len(lines):
            lines = _lines(Fact(fact.name, fact.short, fact.rank), width)
        for i, line in enumerate(lines[: given.get(fact.name, 0)]):
            if i + 1 == given[fact.name] < len(lines):
                line = f"{line[: width - LABEL_CELLS - 1 - len(glyphs.more)]}{glyphs.more}"
            shown.append([(f" {'' if i else fact.name:<{LABEL_CELLS - 1}}", "title"), (line, fact.role)])
    return shown


def _lines(fact: Fact, width: int) -> list[str]:
    return textwrap.wrap(fact.text, max(8, width - LABEL_CELLS - 1)) or [""]
