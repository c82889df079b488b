"""What a server tells of its own settings: read out of answers that a probe has, by the dialect's table. Pure.

Only the flags that the table names are kept: what else a server tells of itself holds keys, tokens and paths.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from llmtop.dialects import DialectTable, dig
from llmtop.dialects.listing import LIST_PATH, model_fact
from llmtop.dialects.naming import naming_on

VALUE_LETTERS = 80
"""Of one setting: the longest that a flag is given by hand."""
LABELS_LETTERS = 8192
"""Of the labels of one series: vLLM writes 1,200."""
_LABEL = re.compile(r'[ \t]*([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"[ \t]*(?:,|$)')
_UNSET = ("", "None", "null")

Heard = Callable[[str, int], str]
Flags = tuple[tuple[str, str], ...]


def flags_in(
    table: DialectTable,
    json: Callable[[str], Any],
    pages: Iterable[bytes],
    model: str,
    heard: Callable[[str, int], str],
) -> Flags:
    """The settings that a server tells: (name, value), sorted by name.

    Args:
        json: path -> decoded answer, None where there is none.
        pages: of metrics.
        model: whose entry of a list of models counts.
        heard: makes words from outside fit to be kept, in so many letters.
    """
    kept = list(pages)
    told: dict[str, str] = {}
    for source in table.flags:
        path = source.path
        if path is not None:
            answer = json(path)
            found = {name: _at(answer, path, key, model) for name, key in source.keys.items()}
        else:
            labels = _labels_of(kept, table, source.metric or "")
            found = {name: labels.get(key) for name, key in source.keys.items()}
        for name, value in found.items():
            text = _written(value)
            if text is not None:
                told.setdefault(name, heard(text, VALUE_LETTERS))
    return tuple(sorted(told.items()))


def _at(answer: Any, path: str, key: str, model: str) -> Any:
    return model_fact(answer, key, model) if path == LIST_PATH else dig(answer, key)


def _written(value: Any) -> str | None:
    """A setting as a command line has it; None: not set, or nothing that a flag can be."""
    if isinstance(value, str):
        text = value.strip()
        if text in _UNSET or len(text) > VALUE_LETTERS:
            return None
        return text.lower() if text in ("True", "False") else text
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if value.bit_length() < 64 else None
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else None
    return None


def _labels_of(pages: Iterable[bytes], table: DialectTable, metric: str) -> dict[str, str]:
    """The labels of the first series of a metric; of several engines those of the first."""
    for page in pages:
        naming = naming_on(page, table)
        if naming is None:
            continue
        start = naming.of(metric).encode() + b"{"
        at = 0 if page.startswith(start) else page.find(b"\n" + start) + 1
        if at or page.startswith(start):
            at += len(start)
            line, end, _ = page[at : at + LABELS_LETTERS].partition(b"}")
            if end:
                return dict(_LABEL.findall(line.decode("utf-8", "replace")))
    return {}
