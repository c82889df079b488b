"""The figures of the stage: users in flight, TTFT and TPOT in digits three rows high, each with its limit. Pure."""

from __future__ import annotations

import re

from msgspec import Struct

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame
from llmtop.domain.slo import Slo
from llmtop.view.big import FORMS
from llmtop.view.condition import Condition, is_stale
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.panels import PanelView, panels
from llmtop.view.runs import Runs, cut
from llmtop.view.tone import Tone
from llmtop.wording.figures import TIGHT

DIGIT_ROWS = 3
WIDE_CELLS = 120
"""From here on points are two cells wide."""
_NUMBER = re.compile(r"--|[\d.]+k?")
_HALVES = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
_SEGMENTS = {
    "0": (" _ ", "| |", "|_|"),
    "1": ("   ", "  |", "  |"),
    "2": (" _ ", " _|", "|_ "),
    "3": (" _ ", " _|", " _|"),
    "4": ("   ", "|_|", "  |"),
    "5": (" _ ", "|_ ", " _|"),
    "6": (" _ ", "|_ ", "|_|"),
    "7": (" _ ", "  |", "  |"),
    "8": (" _ ", "|_|", "|_|"),
    "9": (" _ ", "|_|", " _|"),
    ".": (" ", " ", "."),
    "-": ("   ", " _ ", "   "),
    "k": ("   ", "|/ ", "|\\ "),
}


class Figure(Struct, frozen=True):
    """One figure of the stage: `text` in digits, the rest in words."""

    name: str
    text: str
    unit: str = ""
    limit: str = ""
    tone: Tone = Tone.GOOD


def figures(
    frame: Frame, assessment: Assessment | None, condition: Condition, slo: Slo, glyphs: Glyphs
) -> tuple[Figure, ...]:
    """Users in flight, TTFT and TPOT, as the panels judge them."""
    path = "" if assessment is None else assessment.path
    ttft, tpot = panels(frame, slo, glyphs, condition, path)[:2]
    asked, axis = frame.target.value, frame.target.axis
    wanted = f"{TIGHT.load(asked, axis)} asked" if axis == "concurrency" else f"{TIGHT.load(asked, axis)} req/s asked"
    tone = Tone.STALE if is_stale(frame, condition) else Tone.GOOD
    users = Figure("users in flight", TIGHT.whole(frame.in_flight).replace(" ", ""), limit=wanted, tone=tone)
    return users, _latency(ttft), _latency(tpot)


def _latency(view: PanelView) -> Figure:
    figure = view.figure.removeprefix(view.about)
    number = _NUMBER.match(figure)
    text, unit = (number[0], figure[number.end() :].strip()) if number else (figure, "")
    limit = f"limit {view.limit}" if view.limit else "no limit"
    return Figure(view.title, text, unit, limit, view.tone)


def stage(
    frame: Frame, assessment: Assessment | None, condition: Condition, slo: Slo, glyphs: Glyphs, width: int
) -> list[Runs]:
    """Names, digits and limits in five rows, side by side. How a figure stands is told by a sign, too."""
    columns = [
        _column(each, glyphs, 2 if width >= WIDE_CELLS else 1)
        for each in figures(frame, assessment, condition, slo, glyphs)
    ]
    cells = width // len(columns)
    rows: list[Runs] = []
    for parts in zip(*columns, strict=True):
        row: Runs = []
        for runs in parts:
            kept = cut(runs, cells - 1, glyphs.more)
            row += [*kept, (" " * (cells - sum(len(text) for text, _ in kept)), "")]
        rows.append(row)
    return rows


def _column(figure: Figure, glyphs: Glyphs, wide: int) -> list[Runs]:
    role = figure.tone.value
    signs = {Tone.GOOD: glyphs.ok, Tone.WARN: glyphs.warn, Tone.BAD: glyphs.bad, Tone.STALE: glyphs.stale}
    sign = signs.get(figure.tone, "") if figure.limit.startswith("limit ") else ""
    shapes = digits(figure.text, glyphs, wide)
    rows: list[Runs] = [[(f" {plain(figure.name, glyphs)}", "title")]]
    for at, shape in enumerate(shapes):
        beside = figure.unit if at == DIGIT_ROWS - 1 else sign if at == 0 else ""
        rows.append([(f" {shape}", role), (f" {plain(beside, glyphs)}", role)])
    return [*rows, [(f" {plain(figure.limit, glyphs)}", "dim")]]


def digits(text: str, glyphs: Glyphs, wide: int) -> list[str]:
    """`text` in three rows: two points a cell, or segments in ASCII. What has no form stands in its middle as it is."""
    known = _SEGMENTS if glyphs.ascii else FORMS
    if not all(sign in known for sign in text):
        return ["", plain(text, glyphs), ""]
    if glyphs.ascii:
        return [" ".join(_SEGMENTS[sign][row] for sign in text) for row in range(DIGIT_ROWS)]
    forms = [[*FORMS[sign].split(), ""] for sign in text]
    return [(" " * wide).join(_half_row(form, row, wide) for form in forms) for row in range(DIGIT_ROWS)]


def _half_row(form: list[str], row: int, wide: int) -> str:
    upper, lower = form[2 * row], form[2 * row + 1]
    lower = lower or "." * len(upper)
    return "".join(_HALVES[a == "#", b == "#"] * wide for a, b in zip(upper, lower, strict=True))
