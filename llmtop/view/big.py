"""What can be read from the back of a room: users at the SLO in digits five rows high. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame
from llmtop.domain.slo import Slo
from llmtop.view.card import answer, binds
from llmtop.view.condition import Condition
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.runs import Part, Run, Runs, cut, fit
from llmtop.wording.figures import TIGHT, UNKNOWN, clock
from llmtop.wording.names import load_unit
from llmtop.wording.sentences import felt

DIGIT_ROWS = 5
TOLD_ROWS = 2
"""Of each sentence under the digits."""
HEAD_ROWS = DIGIT_ROWS + 3 + 2 * TOLD_ROWS
FORMS = {
    "0": "### #.# #.# #.# ###",
    "1": ".#. ##. .#. .#. ###",
    "2": "### ..# ### #.. ###",
    "3": "### ..# ### ..# ###",
    "4": "#.# #.# ### ..# ..#",
    "5": "### #.. ### ..# ###",
    "6": "### #.. ### #.# ###",
    "7": "### ..# ..# .#. .#.",
    "8": "### #.# ### #.# ###",
    "9": "### #.# ### ..# ###",
    ".": ". . . . #",
    "<": "..# .#. #.. .#. ..#",
    "≥": "##. ..# ##. ... ###",
    "-": "... ... ### ... ...",
    "k": "#.. #.# ##. #.# #.#",
}


def digits(text: str, ink: str) -> list[str]:
    """`text` in `DIGIT_ROWS` rows, each point two cells wide; signs that have no form are left out."""
    forms = [FORMS[sign].split() for sign in text if sign in FORMS]
    wide = {"#": 2 * ink, ".": "  "}
    return ["  ".join("".join(wide[point] for point in form[row]) for form in forms) for row in range(DIGIT_ROWS)]


def number(assessment: Assessment | None) -> str:
    """The users at the SLO: `51`, `≥51` while no load has failed, `<8` where none held, `--` where it is not known."""
    if assessment is None or assessment.judgement.void:
        return UNKNOWN
    capacity, axis = assessment.capacity, assessment.cliff.axis
    if capacity.at_slo is None:
        return UNKNOWN if capacity.fails_at is None else f"<{TIGHT.load(capacity.fails_at, axis)}"
    return f"{'≥' if capacity.fails_at is None else ''}{TIGHT.load(capacity.at_slo, axis)}"


def big(
    frame: Frame,
    assessment: Assessment | None,
    condition: Condition,
    slo: Slo,
    glyphs: Glyphs,
    width: int,
    hidden: bool,
) -> list[Runs]:
    """The head of the big screen: who, the number with what it counts beside it, and what binds and what to turn.

    Args:
        hidden: whether the endpoint's address is kept from whoever looks on.
    """
    rows = [_who(frame, glyphs, width, hidden), []]
    beside = _beside(assessment, slo, glyphs)
    figure = digits(number(assessment), "#" if glyphs.ascii else "█")
    room = width - len(figure[0]) - 6
    words = [(line, role) for text, role in beside for line in textwrap.wrap(text, max(8, room))]
    for row, shape in enumerate(figure):
        runs: Runs = [("  ", ""), (shape, "brand"), ("   ", "")]
        rows.append(cut([*runs, *words[row : row + 1]], width, glyphs.more))
    told = [] if assessment is None else _told(assessment, condition.late)
    rows.append([])
    for text in told:
        lines = textwrap.wrap(_shown(text, frame, glyphs, hidden), width - 3)
        kept = lines[:TOLD_ROWS]
        if len(lines) > TOLD_ROWS:
            kept[-1] = f"{kept[-1][: width - 3 - len(glyphs.more)]}{glyphs.more}"
        rows += [[(f"  {line}", "text")] for line in kept]
    return rows


def _told(assessment: Assessment, late: bool) -> list[str]:
    """What binds and what to turn; where there is no number, the answer in words and what binds."""
    if number(assessment) == UNKNOWN or assessment.judgement.ok is False:
        return [answer(assessment), binds(assessment, late)]
    advice = assessment.diagnosis.advice
    return [binds(assessment, late), *([advice] if advice and not late else [])]


def _who(frame: Frame, glyphs: Glyphs, width: int, hidden: bool) -> Runs:
    status = frame.endpoint
    name = f"SIMULATED {status.preset or ''}".strip() if status.simulated else (status.model or "").rpartition("/")[2]
    left = [Part([(" llmtop ", "brand"), (" ", "")]), Part([(f"{plain(name, glyphs)}  ", "text")], 1)]
    if not hidden:
        left.append(Part([(plain(status.label, glyphs), "dim")], 2))
    return fit(left, [Part([(f"{clock(frame.t_s)} ", "strong")])], width, glyphs.more)


def _beside(assessment: Assessment | None, slo: Slo, glyphs: Glyphs) -> Sequence[Run]:
    """What the number counts, and by which limits; the interval."""
    axis = "concurrency" if assessment is None else assessment.cliff.axis
    told = [(f"{load_unit(axis)} at the SLO", "strong"), (felt(slo, TIGHT), "dim")]
    capacity = None if assessment is None or assessment.judgement.void else assessment.capacity
    if capacity is not None and capacity.low is not None and capacity.high is not None:
        span = f"({TIGHT.load(capacity.low, axis)} to {TIGHT.load(capacity.high, axis)})"
        told.insert(1, (span, "text"))
    return [(plain(text, glyphs), role) for text, role in told]


def _shown(text: str, frame: Frame, glyphs: Glyphs, hidden: bool) -> str:
    """A sentence, without the endpoint's address where that is hidden."""
    label = frame.endpoint.label
    if hidden and label:
        for name in (label, label.rpartition(":")[0]):
            text = text.replace(name, glyphs.more) if name else text
    return plain(text, glyphs)
