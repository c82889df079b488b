"""The result of a tune as Markdown or as a page."""

from __future__ import annotations

from html import escape
from pathlib import Path

from llmtop.domain.plain import LONG, plain
from llmtop.domain.tuning import Tune
from llmtop.errors import FileError
from llmtop.files import check_target, write_whole
from llmtop.report.writing import has_seal, sealed
from llmtop.wording.tuning import last_words, notes, table_rows

_STYLE = "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
_STYLE += "table{border-collapse:collapse}td,th{padding:.3em .8em;border-bottom:1px solid #8886;text-align:left}"
_STYLE += ":root{color-scheme:light dark}"


def check_tune(path: Path) -> None:
    """That a result can be written there. Raises FileError."""
    if path.suffix.lower() not in (".md", ".html"):
        raise FileError(path, "the ending says what to write: use .md or .html")
    check_target(path, has_seal)


def write_tune(tune: Tune, flags: str | None, path: Path) -> None:
    """Raises FileError."""
    body = tune_markdown(tune, flags) if path.suffix.lower() == ".md" else _page(tune, flags)
    write_whole(path, sealed(body).encode(errors="backslashreplace"), has_seal)


def tune_markdown(tune: Tune, flags: str | None) -> str:
    rows = [[_cell(each) for each in row] for row in table_rows(tune)]
    lines = [f"# {_cell(line)}" if at == 0 else _cell(line) for at, line in enumerate(last_words(tune).split("\n"))]
    if flags:
        lines += ["", "```text", plain(flags, LONG).replace("`", "'"), "```"]
    lines += ["", _line(rows[0]), _line(["---"] * len(rows[0])), *map(_line, rows[1:]), ""]
    lines += [f"- {_cell(note)}" for note in notes(tune)]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    marked = "".join(f"\\{letter}" if letter in "\\`*_[]|<>~" else letter for letter in plain(text, LONG))
    return marked.replace("&", "&amp;")


def _page(tune: Tune, flags: str | None) -> str:
    head, *rows = table_rows(tune)
    first, *more = [escape(plain(line, LONG)) for line in last_words(tune).split("\n")]

    def row(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(plain(cell, LONG))}</{tag}>" for cell in cells) + "</tr>"

    return (
        "\n".join(
            (
                f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{first}</title><style>{_STYLE}</style>',
                f"<h1>{first}</h1>",
                *(f"<p>{line}</p>" for line in more),
                f"<pre>{escape(plain(flags, LONG))}</pre>" if flags else "",
                "<table>",
                row(head, "th"),
                *(row(each, "td") for each in rows),
                "</table>",
                *(f"<p>{escape(plain(note, LONG))}</p>" for note in notes(tune)),
                "</html>",
            )
        )
        + "\n"
    )
