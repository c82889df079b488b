"""JSON as every command prints it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from llmtop.domain.verdicts import Assessment
from llmtop.errors import FileError
from llmtop.wording.keys import FORMAT


def can_be_written(path: Path, *, folder_too: bool = False) -> Path:
    """The path, where a file may be made or written over; known before any load is sent.

    Args:
        folder_too: its folder is made where there is none.

    Raises FileError: it cannot be, and why.
    """
    try:
        if path.is_dir():
            raise FileError(path, "is a folder: name a file in it")
        folder = path.parent
        while folder_too and not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise FileError(path, f"there is no folder {folder}")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise FileError(path, "may not be written: give another place")
    except OSError as error:
        raise FileError(path, f"cannot be written: {error.strerror or error}") from None
    return path


def complain(text: str) -> None:
    """One line on stderr, if that takes any; none for no text."""
    if text:
        with contextlib.suppress(OSError):
            print(f"llmtop: {text}", file=sys.stderr)


def print_json(fields: Mapping[str, object] | msgspec.Struct) -> None:
    """One object that begins with its `format`. Two spaces of indentation; keys in the order that they are given in."""
    told = fields if isinstance(fields, Mapping) else {name: getattr(fields, name) for name in fields.__struct_fields__}
    print(msgspec.json.format(msgspec.json.encode({"format": FORMAT, **told}), indent=2).decode())


def verdicts_json(assessment: Assessment) -> dict[str, object]:
    """An assessment as fields of a larger answer."""
    return {name: getattr(assessment, name) for name in assessment.__struct_fields__ if name != "t_s"}
