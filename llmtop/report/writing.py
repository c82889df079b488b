"""Reports into files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmtop.errors import FileError
from llmtop.report.contents import ReportInput
from llmtop.report.markdown import markdown_text
from llmtop.report.page import html_text
from llmtop.report.tables import csv_text, json_text

FORMATS: dict[str, Callable[[ReportInput], str]] = {
    ".html": html_text,
    ".md": markdown_text,
    ".json": json_text,
    ".csv": csv_text,
}


def write_report(report: ReportInput, path: Path) -> None:
    """Write a report in the format of the file's ending. Raises FileError: unknown ending, or it cannot be written."""
    make = FORMATS.get(path.suffix.lower())
    if make is None:
        raise FileError(path, f"the ending says what to write: use {', '.join(FORMATS)}")
    text = make(report)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileError(path, f"cannot be written: {error.strerror or error}") from None
