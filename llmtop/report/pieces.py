"""Pieces that the HTML pages are made of: the document, tables, sentences. All that comes from outside is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

import msgspec

_ASSETS = Path(__file__).with_name("assets")


def document(title: str, version: str, facts: Mapping[str, object], sections: Iterable[str]) -> str:
    """A whole page in one file.

    Args:
        version: of the llmtop that writes it.
        facts: what the script looks up: texts of levels (`curve`) and of moments (`timeline`).
        sections: HTML; empty ones are left out.
    """
    template = Template((_ASSETS / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        version=escape(version),
        title=escape(title),
        css=(_ASSETS / "report.css").read_text(encoding="utf-8"),
        script=(_ASSETS / "report.js").read_text(encoding="utf-8"),
        facts=msgspec.json.encode(facts).decode().replace("<", "\\u003c"),
        body="\n".join(filter(None, sections)),
    )


def prose_of(text: str) -> str:
    """A sentence, escaped. Flags of a server are set as code; no line ends between a number and its unit."""
    flagged = re.sub(r"(?<!\S)--[\w-]+", r"<code>\g<0></code>", escape(text))
    return re.sub(r"(?<=\d) (?=(?:ms|s|%|tok/s)\b|%)", "&nbsp;", flagged)


def cell(text: str, style: str = "") -> str:
    return f'<td class="{style}">{escape(text)}</td>' if style else f"<td>{escape(text)}</td>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]] | str, kind: str = "") -> str:
    """A table; a column whose cells are text has its head at the left, too.

    Args:
        kind: by which the style sheet knows what of it a phone has no room for.
    """
    body = rows if isinstance(rows, str) else "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    first = [] if isinstance(rows, str) or not rows else rows[0]
    texts = {place for place, each in enumerate(first) if 'class="text' in each}
    top = "".join(f"<th{' class=text' if i in texts else ''}>{escape(head)}</th>" for i, head in enumerate(heads))
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def rows_of(rows: Iterable[tuple[str, str]]) -> str:
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f'<dl class="rows">{items}</dl>'
