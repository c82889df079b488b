"""Reports into files."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Generic, TypeVar

from msgspec import Struct

from llmtop.errors import FileError
from llmtop.files import IsOurs, check_target, write_whole
from llmtop.report.comparison import ComparisonInput, comparison_markdown
from llmtop.report.comparison_page import comparison_html
from llmtop.report.contents import ReportInput
from llmtop.report.markdown import markdown_text
from llmtop.report.page import html_text
from llmtop.report.tables import CSV_HEAD, csv_text, json_text

R = TypeVar("R")
_SEAL = re.compile(rb"<!-- written by llmtop, sha256 of the above: ([0-9a-f]{64}) -->\n\Z")


def _bytes(text: str) -> bytes:
    """Halves of surrogate pairs, which a server may send, as their escapes."""
    return text.encode(errors="backslashreplace")


def _sealed(make: Callable[[R], str]) -> Callable[[R], str]:
    """With a last line by which a report is known that nobody has changed since."""

    return lambda report: sealed(make(report))


def sealed(body: str) -> str:
    """The text with a last line by which it is known as one that nobody has changed since."""
    digest = sha256(_bytes(body)).hexdigest()
    return f"{body}<!-- written by llmtop, sha256 of the above: {digest} -->\n"


def has_seal(content: bytes) -> bool:
    """Whether a file is one of ours that nobody has changed since."""
    seal = _SEAL.search(content[-200:])
    if seal is None:
        return False
    body = content[: len(content) - len(seal.group())]
    return sha256(body).hexdigest().encode() == seal.group(1)


class Format(Struct, Generic[R], frozen=True):
    make: Callable[[R], str]
    is_ours: IsOurs
    """Whether a file of this format is a report that may be replaced by a newer one."""


FORMATS: dict[str, Format[ReportInput]] = {
    ".html": Format(_sealed(html_text), has_seal),
    ".md": Format(_sealed(markdown_text), has_seal),
    ".json": Format(
        json_text, lambda content: content.startswith(b'{\n  "format": ') and b'"verdict": ' in content[:99]
    ),
    ".csv": Format(csv_text, lambda content: content.startswith(",".join(CSV_HEAD).encode() + b"\n")),
}


COMPARISON_FORMATS: dict[str, Format[ComparisonInput]] = {
    ".html": Format(_sealed(comparison_html), has_seal),
    ".md": Format(_sealed(comparison_markdown), has_seal),
}


def check_report(path: Path, formats: Collection[str] = FORMATS, *, force: bool = False) -> None:
    """That a report can be written there. Nothing is changed. Raises FileError: unknown ending, or why it cannot."""
    if path.suffix.lower() not in formats:
        raise FileError(path, f"the ending says what to write: use {', '.join(formats)}")
    check_target(path, FORMATS[path.suffix.lower()].is_ours, force=force)


def write_report(report: ReportInput, path: Path, *, force: bool = False) -> bool:
    """Write a report in the format of the file's ending. Returns whether it replaces another report.

    Args:
        force: write over a file that is no report of ours, or was changed since; never over a recording.

    Raises FileError: as `check_report`, or the disk does not take it; what was there before is there still.
    """
    return _write(report, path, FORMATS, force=force)


def write_comparison(report: ComparisonInput, path: Path, *, force: bool = False) -> bool:
    """As `write_report`, in one of `COMPARISON_FORMATS`."""
    return _write(report, path, COMPARISON_FORMATS, force=force)


def _write(report: R, path: Path, formats: Mapping[str, Format[R]], *, force: bool) -> bool:
    check_report(path, formats, force=force)
    form = formats[path.suffix.lower()]
    return write_whole(path, _bytes(form.make(report)), form.is_ours, force=force)
