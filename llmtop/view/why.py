"""The facts behind the verdict: what was held against the SLO, what binds now, and where latency bends. Pure."""

from __future__ import annotations

import textwrap

from llmtop.domain.assessment import Assessment
from llmtop.domain.client import CrewFigures
from llmtop.domain.verdicts import Kind
from llmtop.view.condition import Condition
from llmtop.wording import answers, kinds
from llmtop.wording import crew as words
from llmtop.wording.figures import TEXT, TIGHT
from llmtop.wording.names import bound_adjective, knee_name
from llmtop.wording.sentences import CLIENT_LATE, agreed, fails_from, tries

WIDE = 90
"""Cells that the table of load workers needs whole."""


def why(assessment: Assessment | None, condition: Condition) -> list[tuple[str, list[str]]]:
    """(name of a fact, what it rests on): SLO, what binds, where it bends, what fewer slots carry, what was before."""
    if assessment is None:
        unknown = answers.unanswered(answers.nothing_known())
        return [(name, [unknown]) for name in ("the SLO", "what binds", "the cliff")]
    return [
        ("the SLO", _slo(assessment)),
        ("what binds", _binding(assessment, condition.late)),
        _bend(assessment),
        *([("fewer slots", [fewer.text])] if (fewer := assessment.fewer_slots) and not condition.late else []),
        *([(answers.COMPARED, told)] if (told := [each.text for each in assessment.comparisons]) else []),
    ]


def by_kind(assessment: Assessment | None, width: int) -> list[list[tuple[str, str]]]:
    """Tables of names, models, turns and calls as (line, role), and what visits came to; [] of requests of one kind."""
    if assessment is None:
        return []
    found = []
    for table in kinds.tables(assessment, TIGHT, short=True):
        head, *rows = kinds.as_lines(table, width)
        roles = ("bad" if row[-1] == kinds.verdict(False) else "text" for row in table.rows)
        found.append([(head, "title"), *zip(rows, roles, strict=True)])
    visits = assessment.sessions
    if visits is not None:
        told = textwrap.wrap(kinds.visits(visits, TIGHT), width - 2)
        found.append([("visits", "title"), *((f"  {line}", "text") for line in told)])
    return found


def load_workers(crew: CrewFigures, width: int, most: int) -> list[tuple[str, str]]:
    """How each load worker did in its last second, the worst first, as (line, role); [] where there are not several.

    Args:
        most: rows that there is room for; the rest is counted in the last.
    """
    if not crew.worst:
        return []
    short = width < WIDE
    head, *rows = kinds.as_lines(words.table(crew, TIGHT if short else TEXT, most=most, short=short), width)
    roles = [words.ROLES[each.state] for each in crew.worst[: len(rows)]]
    if len(rows) < crew.began:
        roles[-1:] = ["dim"] if len(roles) == len(rows) else [roles[-1], "dim"]
    return [(head, "title"), *zip(rows, roles, strict=True)]


def is_trouble(crew: CrewFigures) -> bool:
    """Whether a load worker is the bottleneck, or is not heard: that stands before all else."""
    return bool(crew.worst) and words.ROLES[crew.worst[0].state] == "bad"


def _slo(assessment: Assessment) -> list[str]:
    """What decided the answer, or what is missing for one, and each limit beside what was measured."""
    judgement = assessment.judgement
    told = judgement.reasons or ((judgement.sentence,) if judgement.sentence else ())
    limits = [target.text for target in assessment.slo.targets if target.text and target.text not in told]
    return [*told, *limits] or [answers.unanswered(answers.nothing_known())]


def _binding(assessment: Assessment, late: bool) -> list[str]:
    diagnosis = assessment.diagnosis
    adjective = bound_adjective(diagnosis.bound)
    if late and adjective:
        return [CLIENT_LATE]
    if not adjective:
        return [*diagnosis.evidence] or [answers.unanswered(answers.nothing_known())]
    return [*filter(None, (adjective, agreed(*diagnosis.votes))), *diagnosis.evidence]


def _bend(assessment: Assessment) -> tuple[str, list[str]]:
    cliff = assessment.cliff
    name = f"the {knee_name(Kind.CLIFF if cliff.at is None else cliff.kind)}"
    place = answers.straight() if cliff.kind is Kind.NONE else answers.unanswered(answers.nothing_known())
    if cliff.at is not None:
        place = fails_from(cliff, TIGHT) if cliff.fails else answers.bends_at(cliff)
    return name, [place, *cliff.evidence, *([tries(cliff.next_levels)] if cliff.next_levels else [])]
