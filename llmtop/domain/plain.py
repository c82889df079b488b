"""Words from outside, fit to be shown: what a server, a file or an environment says is data, never a command."""

from __future__ import annotations

LIMIT = 400
"""Characters that are shown of one text."""
LONG = 4000
"""Of a text that has others in it: a path, a sentence of ours with a server's words."""
KEPT = 1 << 16
"""Of a text that a file keeps."""

_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0").union(map(chr, range(0xE0100, 0xE01F0)))
"""Printable by their category, and without any ink: fillers, and selectors that no font draws. Two names that differ in
them look alike, and a text can hide another in them. Source: Default_Ignorable_Code_Point of Unicode."""


def plain(text: str, limit: int = LIMIT) -> str:
    """One line that no terminal obeys: what cannot be printed stands as its escape, blanks of any kind as blanks.

    Escape sequences, other control characters, marks that turn the direction of writing, letters that nobody sees and
    halves of surrogate pairs become `\\x1b`, `\\u202e`: what was there can be read. Fit text comes back as it is, so it
    may be called twice.

    Args:
        limit: a longer text is cut and ends with `…`.
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable() and (text.isascii() or _UNSEEN.isdisjoint(text)):
        return text
    return text.translate({ord(c): _escaped(c) for c in set(text) if not c.isprintable() or c in _UNSEEN}).strip()


def plain_json(text: str) -> str:
    """JSON that means the same and holds nothing that a terminal obeys: such characters stand as `\\u009b`."""
    lines = text.split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_in_json, line)) for line in lines)


def _in_json(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _escaped(character: str) -> str:
    return " " if character.isspace() else character.encode("unicode_escape").decode("ascii")
