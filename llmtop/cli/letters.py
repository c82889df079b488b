"""Signs on a stream that has no UTF-8: written with the letters that it has, instead of as codes or not at all."""

from __future__ import annotations

import codecs
import re
from io import TextIOWrapper

SIGNS = {
    "·": "-", "─": "-", "–": "-", "—": "-", "…": "...", "≈": "~", "×": "x", "±": "+-", "µ": "u", "→": "->", "≥": ">=",
    "≤": "<=", "✓": "+", "✗": "x", "▁": ".", "▂": ":", "▃": "-", "▄": "=", "▅": "+", "▆": "*", "▇": "%", "█": "#",
    "═": "=",
}  # fmt: skip
UNKNOWN = "?"
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


def in_letters(error: UnicodeError) -> tuple[str, int]:
    """For codecs.register_error: what stands for the signs that could not be encoded, and where to go on."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(SIGNS.get(sign, UNKNOWN) for sign in error.object[error.start : error.end]), error.end


def has_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") == "utf8"


def use_letters(*streams: object) -> None:
    """Let each of `streams` that has no UTF-8 write its signs in letters."""
    codecs.register_error("llmtop letters", in_letters)
    for stream in streams:
        if isinstance(stream, TextIOWrapper) and not has_utf8(stream.encoding):
            stream.reconfigure(errors="llmtop letters")


def escaped(json: str) -> str:
    """JSON in ASCII, with the same meaning: outside of its strings it has nothing else."""
    return _BEYOND_ASCII.sub(_escape, json)


def _escape(sign: re.Match[str]) -> str:
    units = sign.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
