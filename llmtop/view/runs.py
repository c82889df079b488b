"""Rows of text: runs in roles, and how they are fitted into a width."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

Run = tuple[str, str]
"""Text and the role it is drawn in; a role with `#action` behind it is clickable."""
Runs = list[Run]


class Part(Struct, frozen=True):
    """A piece of a line. Of what does not fit, the part with the highest `rank` goes first."""

    runs: Runs
    rank: int = 0

    @property
    def cells(self) -> int:
        return sum(len(text) for text, _ in self.runs)


def fit(left: Sequence[Part], right: Sequence[Part], width: int, more: str) -> Runs:
    """`left ... right`, exactly `width` cells, dropping parts by rank and cutting the last one that is left."""
    kept_left, kept_right = list(left), list(right)
    while sum(part.cells for part in (*kept_left, *kept_right)) > width and len(kept_left) + len(kept_right) > 1:
        worst = max((*kept_left, *kept_right), key=lambda part: part.rank)
        side = kept_right if worst in kept_right else kept_left
        side.remove(worst)
    runs = [run for part in kept_left for run in part.runs]
    tail = [run for part in kept_right for run in part.runs]
    fill = width - sum(len(text) for text, _ in (*runs, *tail))
    if fill < 0:
        return cut(runs or tail, width, more)
    return [*runs, (" " * fill, ""), *tail]


def cut(runs: Runs, width: int, more: str) -> Runs:
    """The first `width` cells; a cut is shown by `more`."""
    if sum(len(text) for text, _ in runs) <= width:
        return runs
    kept: Runs = []
    room = max(width - len(more), 0)
    for text, role in runs:
        kept.append((text[:room], role))
        room -= len(text)
        if room <= 0:
            break
    return [*kept, (more, "dim")]


def wrapped(clauses: Sequence[Runs], sep: Run, width: int, rows: int, more: str) -> list[Runs]:
    """Clauses with `sep` between them in `rows` lines, broken between words; what has no room ends in `more`.

    Each line begins with a blank; none begins with `sep`.
    """
    lines: list[Runs] = [[(" ", "")]]
    used = 1
    for number, clause in enumerate(clauses):
        for i, (word, role) in enumerate(_words(clause)):
            before: Runs = [sep] if number and not i else []
            cells = len(word) + sum(len(text) for text, _ in before)
            if used + cells > width and len(lines) < rows and used > 1:
                lines.append([(" ", "")])
                word, before, used = word.lstrip(), [], 1
                cells = len(word)
            lines[-1] += [*before, (word, role)]
            used += cells
    return [joined(cut(line, width, more)) for line in lines]


WORD_CELLS = 30
"""Longer than any flag: longer words are broken, too."""


def _words(clause: Runs) -> list[Run]:
    """Its words, each with the blanks around it, in pieces of at most `WORD_CELLS`."""
    return [
        (word[i : i + WORD_CELLS], role)
        for text, role in clause
        for word in re.findall(r"\s*\S+(?:\s+$)?", text)
        for i in range(0, len(word), WORD_CELLS)
    ]


def cut_inside(text: str, width: int, more: str) -> str:
    """`text` in `width` cells, with its beginning and its last clause: what to do stands there."""
    if len(text) <= width:
        return text
    begins = max(text.rfind(mark) + len(mark) for mark in (": ", "; "))
    begins = max(begins, text.rfind("the server asks to wait "))
    head = width - len(more) - (len(text) - begins)
    if begins < 2 or head < width // 4:
        return text[: max(0, width - len(more))] + more
    return text[:head] + more + text[begins:]


def cut_story(runs: Runs, width: int, more: str) -> Runs:
    """A line whose last run is a sentence: that is cut inside, so that what to do stays."""
    if not runs:
        return runs
    *head, (text, role) = runs
    room = width - sum(len(each) for each, _ in head)
    return cut([*head, (cut_inside(text, room, more), role)], width, more)


def fitting(ways: Sequence[str], width: int, more: str) -> str:
    """The first way of saying it that has room; the last, cut, where none has."""
    return next((way for way in ways if len(way) <= width), cut_inside(ways[-1], width, more) if ways else "")


def joined(cells: Iterable[Run]) -> Runs:
    """Neighbours of one role as one run."""
    runs: Runs = []
    for text, role in cells:
        if runs and runs[-1][1] == role:
            runs[-1] = (runs[-1][0] + text, role)
        else:
            runs.append((text, role))
    return runs
