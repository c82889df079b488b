"""Writing a run file while the run goes on. A kill loses at most the last second."""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from pathlib import Path

from msgspec.structs import replace

from llmtop.domain.run import Ending, FactBatch, RunMeta, Severity
from llmtop.errors import FileError, RunFileError
from llmtop.files import check_new, make_folder, run_name, user_folder
from llmtop.recording import runfile
from llmtop.recording.rows import Piece, size_of
from llmtop.recording.runfile import SUFFIX, Moved, RunFile
from llmtop.wording import recording as words

COMMIT_S = 0.5
RETRY_S = 1.0
"""Pause before the disk is tried again; each attempt costs some of the load's processor."""
LOCK_S = 2.0
"""A lock that is held for less is nobody's concern: whoever reads the whole file holds one."""
KEPT_FACTS = 150_000
"""So many wait in memory for the disk: 90 MB at 0.6 kB each, a minute of 2500 requests/s, half an hour of 70."""
LAST_S = 4.0
"""How long the disk is tried when the run is over."""
SILENT_S = 5.0
"""A disk that takes longer for one attempt does not answer."""


def runs_directory() -> Path:
    """Where run files go when nobody says otherwise."""
    return user_folder("data") / "runs"


def new_run_path(name: str, started_at: float, directory: Path | None = None) -> Path:
    """A path that does not exist yet: `YYYYmmdd-HHMMSS-name.llmtop`, for display in order of time. Raises OSError."""
    directory = runs_directory() if directory is None else directory
    stem = run_name(name, started_at)
    return next(path for path in runfile.beside(directory / (stem + SUFFIX)) if not os.path.lexists(path))


def commanded(batch: FactBatch) -> FactBatch:
    """Without what was measured: the rest is little, and without it nothing else could be judged."""
    return replace(batch, bins=(), requests=(), server=(), gpu=(), client=())


class RunWriter:
    """A run file being written. `write` never waits for the disk: a thread inserts, and commits every `COMMIT_S`.

    Whatever the disk does, the run goes on, and so does the recording as soon as it can: what comes meanwhile is kept
    in memory. Used by one thread.

    Args:
        path: must not exist; its folder is made.

    Raises:
        RunFileError: the file exists or cannot be made.
    """

    def __init__(self, path: Path, meta: RunMeta) -> None:
        self._meta = meta
        self._pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        self._news: deque[tuple[Severity, str]] = deque()
        self._told = 0
        """Facts that were handed over."""
        self._gaps: list[words.Span] = []
        self._gone: list[words.Span] = []
        """Of the thread: what was on the disk, and is there no more."""
        self._missing: str | None = None
        """Of the thread: why nothing is written."""
        self._failed_s: float | None = None
        self._began_s: float | None = None
        """When the attempt began that has not ended yet."""
        self._silent = False
        self._unfit = 1
        """From so many facts that are left out on it is said again."""
        self._rest: str | None = None
        self._wanted: Path | None = None
        """At the end, if only the rest of the run lies elsewhere: where it begins."""
        self._closing = threading.Event()
        try:
            check_new(path)
            make_folder(path.parent)
            self._file = RunFile(path, meta)
        except FileError as error:
            raise RunFileError(path, f"{error.problem}; give another place with --record FILE") from error
        except (OSError, sqlite3.Error) as error:
            problem = f"cannot be written: {runfile.reason(error)}; give another place with --record FILE"
            raise RunFileError(path, problem) from error
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    # ── What the run tells and asks ───────────────────────────────────────────────────────────────────────────────

    @property
    def path(self) -> Path:
        """Where the run is recorded now."""
        return self._wanted or self._file.path

    @property
    def problem(self) -> str | None:
        """What is not in the run file, or waits to be, and why; None: nothing."""
        waiting = words.SILENT if self._silent else self._missing
        since_s = None if waiting is None else self._file.written_s
        told = words.missing_text(waiting, since_s, (*self._gone, *self._gaps), self._file.left_out)
        return "; ".join(part for part in (told, self._rest) if part) or None

    def news(self) -> tuple[tuple[Severity, str], ...]:
        """What happened to the recording since the last call."""
        silent = self._began_s is not None and time.monotonic() - self._began_s > SILENT_S
        if silent and not self._silent:
            self._news.append(("error", words.waits_text(self.path, words.SILENT)))
        self._silent = silent
        told = []
        while self._news:
            told.append(self._news.popleft())
        return tuple(told)

    def write(self, batch: FactBatch) -> None:
        if self._told - self._file.facts > KEPT_FACTS:
            self._tell_of_full_memory(batch.t_s)
            batch = commanded(batch)
        elif self._gaps and self._gaps[-1][1] is None:
            self._gaps[-1] = (self._gaps[-1][0], batch.t_s)
            self._news.append(("warning", f"recording: {words.lost_text(self._gaps[-1])}"))
        self._put(batch)

    def pass_over(self, batch: FactBatch) -> None:
        """Of a time that is not to be recorded: what was commanded then, which what comes later is judged by."""
        self._put(replace(commanded(batch), marks=(), events=()))

    def _put(self, batch: FactBatch) -> None:
        if size := size_of(batch):
            self._told += size
            self._pieces.put(batch)

    def _tell_of_full_memory(self, t_s: float) -> None:
        if not self._gaps or self._gaps[-1][1] is not None:
            self._gaps.append((t_s, None))
            self._news.append(("error", words.full_memory_text(self._told - self._file.facts)))

    def update_meta(self, meta: RunMeta) -> None:
        """What became known after the start (the probe's answer, the end)."""
        self._meta = meta
        self._pieces.put(meta)

    def close(self, ended_s: float, ending: Ending | None = None) -> None:
        """Write the rest and leave one plain file behind; what the disk does not take in time goes elsewhere."""
        self.update_meta(replace(self._meta, ended_s=ended_s, ending=ending))
        self._closing.set()
        self._thread.join(LAST_S + 2 * runfile.RESCUE_S)
        if self._thread.is_alive():
            self._missing = words.SILENT

    def discard(self) -> None:
        """Close, and leave no file behind: of a run that never began."""
        self.close(0.0)
        if not self._thread.is_alive():
            with contextlib.suppress(OSError):
                self._file.remove()

    # ── The thread ────────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        while not self._closing.wait(COMMIT_S if self._missing is None else RETRY_S):
            self.step()
        until_s = time.monotonic() + LAST_S
        self.step()
        while not self._file.saved and time.monotonic() < until_s:
            time.sleep(COMMIT_S)
            self.step()
        if not self._file.saved:
            self._rescue()
        self._file.close()

    def step(self) -> None:
        """One attempt to write everything that waits. Nothing that goes wrong ends it."""
        self._began_s = time.monotonic()
        try:
            while not self._pieces.empty():
                self._file.tell(self._pieces.get())
            self._file.save()
        except Moved as moved:
            self._move(moved)
        except Exception as error:
            self._fail(error)
        else:
            self._succeed()
        finally:
            self._began_s = None
            if self._file.left_out >= self._unfit:
                self._unfit = 10 * self._file.left_out
                self._news.append(("warning", words.left_out_text(self._file.left_out, self._file.left_out_why)))

    def _move(self, moved: Moved) -> None:
        before_s, facts = self._file.written_s, self._file.facts
        try:
            whole = self._file.move(moved.readable) or not facts
        except Exception as error:
            self._fail(error, moved.why)
            return
        if not whole:
            self._gone.append((0.0, before_s))
        self._news.append(("warning", words.moved_text(self.path, moved.why, None if whole else before_s)))
        try:
            self._file.save()
        except Exception as error:
            self._fail(error)
            return
        self._missing = self._failed_s = None

    def _fail(self, error: Exception, moved: str = "") -> None:
        now_s = time.monotonic()
        self._failed_s = self._failed_s or now_s
        if runfile.is_lock(error) and now_s - self._failed_s < LOCK_S:
            return
        why = "; ".join(part for part in (moved, runfile.reason(error)) if part)
        if self._missing is None:
            self._news.append(("error", words.waits_text(self.path, why)))
        self._missing = why

    def _succeed(self) -> None:
        if self._missing is not None:
            self._news.append(("info", words.goes_on_text(self.path)))
        self._missing = self._failed_s = None

    def _rescue(self) -> None:
        """The disk does not take the end of the run: into a temporary folder with it."""
        wanted, why, from_s = self.path, self._missing or words.LOCKED, self._file.written_s
        try:
            whole = self._file.rescue()
            self._file.save()
        except Exception as error:
            self._news.append(("error", words.nowhere_text(wanted, runfile.reason(error))))
            self._missing = why
            return
        self._missing = None
        if whole:
            self._news.append(("warning", words.elsewhere_text(wanted, why, self.path)))
        else:
            self._wanted = wanted
            self._rest = words.rest_text(self._file.path, from_s)
            self._news.append(("error", f"{words.waits_text(wanted, why)}; {self._rest}"))
