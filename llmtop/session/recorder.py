"""The run file of a session: where it is, whether it is written to now, and what a reader is told of it."""

from __future__ import annotations

from pathlib import Path

from llmtop.domain.run import Ending, FactBatch, RunMeta, Severity
from llmtop.errors import RunFileError
from llmtop.files import ignored, temporary_folder
from llmtop.recording.writer import RunWriter, new_run_path, runs_directory
from llmtop.wording.recording import elsewhere_text, nowhere_text

News = tuple[Severity, str]


class Recorder:
    """Opened once, written to batch by batch, closed at the end. A run that cannot be recorded goes on."""

    def __init__(self) -> None:
        self._writer: RunWriter | None = None
        self._on = True
        self._nowhere: str | None = None
        self._told: list[News] = []

    def open(self, run_file: str | None, name: str, meta: RunMeta) -> None:
        """One that was asked for has to be where it was asked for; any other may lie elsewhere.

        Raises RunFileError: the one that was asked for cannot be made.
        """
        if run_file:
            self._writer = RunWriter(Path(run_file), meta)
            return
        if odd := ignored("data"):
            self._told.append(("warning", odd))
        try:
            self._writer = RunWriter(new_run_path(name, meta.started_at), meta)
            return
        except OSError as error:
            wanted, why = runs_directory(), error.strerror or str(error)
        except RunFileError as error:
            wanted, why = runs_directory(), error.problem.partition(";")[0].removeprefix("cannot be written: ")
        try:
            self._writer = RunWriter(new_run_path(name, meta.started_at, temporary_folder()), meta)
            self._told.append(("warning", elsewhere_text(wanted, why, self._writer.path)))
        except (OSError, RunFileError):
            self._nowhere = nowhere_text(wanted, why)
            self._told.append(("error", self._nowhere))

    @property
    def path(self) -> Path | None:
        """Of the run file; None: there is none."""
        return None if self._writer is None else self._writer.path

    @property
    def on(self) -> bool:
        """Whether what is told is kept now."""
        return self._on and self._writer is not None

    @property
    def problem(self) -> str | None:
        """What is missing in the run file, or why there is none."""
        return self._nowhere if self._writer is None else self._writer.problem

    def turn(self, on: bool) -> None:
        """Pause, or go on."""
        self._on = on and self._writer is not None

    def update_meta(self, meta: RunMeta) -> None:
        if self._writer is not None:
            self._writer.update_meta(meta)

    def write(self, batch: FactBatch) -> None:
        if self._writer is None:
            return
        if self._on:
            self._writer.write(batch)
        else:
            self._writer.pass_over(batch)

    def news(self) -> list[News]:
        """What is to be told, each once."""
        told, self._told = self._told, []
        return told if self._writer is None else [*told, *self._writer.news()]

    def discard(self) -> None:
        """Nothing is worth keeping: as if it had never been. Blocks."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.discard()

    def close(self, ended_s: float, ending: Ending | None) -> None:
        """Blocks until the disk has all, or for as long as it may take."""
        if self._writer is not None:
            self._writer.close(ended_s, ending)
