"""Writing a run file while the run goes on. A kill loses at most the last half second."""

from __future__ import annotations

import contextlib
import queue
import re
import sqlite3
import threading
from datetime import datetime
from pathlib import Path

import msgspec
import platformdirs

from llmtop.domain.run import Ending, FactBatch, RunMeta
from llmtop.errors import RunFileError
from llmtop.recording import schema

COMMIT_S = 0.5
SUFFIX = ".llmtop"


def runs_directory() -> Path:
    """Where run files go when nobody says otherwise."""
    return Path(platformdirs.user_data_dir("llmtop")) / "runs"


def new_run_path(name: str, started_at: float, directory: Path | None = None) -> Path:
    """A path that does not exist yet: `YYYYmmdd-HHMMSS-name.llmtop`, for display in order of time."""
    directory = runs_directory() if directory is None else directory
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:60] or "run"
    stem = f"{datetime.fromtimestamp(started_at):%Y%m%d-%H%M%S}-{plain}"
    path, number = directory / (stem + SUFFIX), 1
    while path.exists():
        number += 1
        path = directory / f"{stem}-{number}{SUFFIX}"
    return path


class RunWriter:
    """A run file being written. `write` never waits for the disk: a thread inserts, and commits every `COMMIT_S`.

    Args:
        path: must not exist; its folder is made.

    Raises:
        RunFileError: the file exists or cannot be made.

    `error` says why writing has stopped (disk full, say); the run goes on without a recording then.
    """

    def __init__(self, path: Path, meta: RunMeta) -> None:
        self.path = path
        self.error: str | None = None
        self._meta = meta
        self._pieces: queue.SimpleQueue[FactBatch | RunMeta] = queue.SimpleQueue()
        self._closing = threading.Event()
        try:
            if path.exists():
                raise RunFileError(path, "exists already; give another name with --record")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._create()
        except (OSError, sqlite3.Error) as error:
            raise RunFileError(path, f"cannot be written ({error}); give another place with --record FILE") from error
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def _create(self) -> None:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as database:
            # WAL needs shared memory, which network file systems lack; any other journal is slower but as safe.
            with contextlib.suppress(sqlite3.OperationalError):
                database.execute("PRAGMA journal_mode = WAL")
            for statement in schema.create_sql():
                database.execute(statement)
            _put_meta(database, self._meta)

    def write(self, batch: FactBatch) -> None:
        if self.error is None:
            self._pieces.put(batch)

    def update_meta(self, meta: RunMeta) -> None:
        """What became known after the start (the probe's answer, the end)."""
        self._meta = meta
        self._pieces.put(meta)

    def close(self, ended_s: float, ending: Ending | None = None) -> None:
        """Write the rest and leave one plain file behind."""
        self.update_meta(msgspec.structs.replace(self._meta, ended_s=ended_s, ending=ending))
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as database:
                database.execute("PRAGMA synchronous = NORMAL")
                while not self._closing.wait(COMMIT_S):
                    self._commit(database)
                self._commit(database)
                database.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            self.error = f"recording stopped: {self.path}: {error}"

    def _commit(self, database: sqlite3.Connection) -> None:
        """One transaction with everything that has come since the last."""
        database.execute("BEGIN")
        while not self._pieces.empty():
            piece = self._pieces.get()
            if isinstance(piece, RunMeta):
                _put_meta(database, piece)
            else:
                _insert(database, piece)
        database.execute("COMMIT")


def _put_meta(database: sqlite3.Connection, meta: RunMeta) -> None:
    rows = [
        ("schema", str(schema.VERSION)),
        ("llmtop_version", meta.llmtop_version),
        ("run", msgspec.json.encode(meta).decode()),
    ]
    database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)


def _insert(database: sqlite3.Connection, batch: FactBatch) -> None:
    for field, table in schema.BATCH_TABLES.items():
        facts = getattr(batch, field)
        if facts:
            places = ", ".join("?" * (1 + len(table.columns)))
            rows = [(batch.t_s, *table.row(fact)) for fact in facts]
            database.executemany(f"INSERT INTO {table.name} VALUES ({places})", rows)
