"""A file that grows by one JSON object a second."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec.structs import replace

from llmtop.domain.plain import plain_json
from llmtop.errors import LlmtopError
from llmtop.files import write_whole
from llmtop.sinks.figures import Figures
from llmtop.sinks.pump import Undelivered
from llmtop.wording.keys import FORMAT

_HEAD = f'{{"format":{FORMAT},"time":'


def line(figures: Figures) -> bytes:
    """The figures as one line; its keys are in KEYS.md. What is not known is null."""
    fields = {name: getattr(figures, name) for name in figures.__struct_fields__}
    return plain_json(msgspec.json.encode({"format": FORMAT, **fields}).decode()).encode() + b"\n"


def is_lines(content: bytes) -> bool:
    """Whether this is a file that `Lines` has written."""
    return content.startswith(_HEAD.encode())


class Lines:
    """Appends to a file, each line at once. One that does not fit on the disk is taken back whole, and counted."""

    every_s = 1.0

    def __init__(self, path: Path) -> None:
        self.name = f"json {path}"
        self._path = path
        self._file: int | None = None
        self._told: Figures | None = None
        """The newest that the file has, without its time."""
        self._lost, self._why = 0, ""

    def deliver(self, figures: Figures) -> None:
        told = replace(figures, time=0.0)
        if not figures.is_known or told == self._told:  # the run is over, and somebody still looks at it
            return
        try:
            self._append(line(figures))
        except (OSError, LlmtopError) as error:
            self._lost += 1
            self._why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            raise Undelivered(f"{self._why}; lines are missing until that is mended") from None
        self._told = told

    def _append(self, content: bytes) -> None:
        if self._file is None:
            write_whole(self._path, b"", is_lines)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        whole = os.fstat(self._file).st_size
        try:
            while content:
                content = content[os.write(self._file, content) :]
        except OSError:
            os.ftruncate(self._file, whole)
            raise

    def missing(self) -> str:
        return f"{self._lost} lines are missing: {self._why}" if self._lost else ""

    def end(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
