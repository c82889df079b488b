"""Reading a run file back: the same batches in the same order in which the session emitted them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from llmtop.domain.run import FactBatch, RunMeta
from llmtop.errors import RunFileError
from llmtop.recording import schema


class RunReader:
    """A run file, open for reading; also one that is still being written, or was cut off by a kill.

    Raises:
        RunFileError: no such file, not a run file, damaged, or written by a newer llmtop.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise RunFileError(path, "no such file" if not path.exists() else "not a run file, but a folder")
        self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        with self._mapped():
            self.meta = self._read_meta()
            ended_s = self.meta.ended_s
            self.length_s: float = self._last_s() if ended_s is None else ended_s
            """Of the run; of a run that was cut off, the time of its last fact."""

    @property
    def complete(self) -> bool:
        """False: the run was cut off (or still goes on)."""
        return self.meta.ended_s is not None

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> RunReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
            self._database.close()
            raise RunFileError(self.path, f"not a run file of llmtop, or damaged ({error})") from error

    def _read_meta(self) -> RunMeta:
        (identity,) = self._database.execute("PRAGMA application_id").fetchone()
        if identity != schema.APPLICATION_ID:
            raise ValueError("its header is another program's")
        entries = dict(self._database.execute("SELECT key, value FROM meta"))
        version = int(entries["schema"])
        if version > schema.VERSION:
            raise RunFileError(
                self.path,
                f"written by llmtop {entries['llmtop_version']} with schema {version}; "
                f"this llmtop reads up to schema {schema.VERSION}: update llmtop",
            )
        return msgspec.json.decode(entries["run"], type=RunMeta)

    def _last_s(self) -> float:
        (last,) = self._database.execute("SELECT max(t_s) FROM bin").fetchone()
        return float(last or 0.0)

    def batches(self) -> Iterator[FactBatch]:
        """The run's batches in order of time, one for each bin; what came after the last bin follows in its own."""
        with self._mapped():
            streams = {field: _Stream(self._database, table) for field, table in schema.BATCH_TABLES.items()}
            ticks = [t_s for (t_s,) in self._database.execute("SELECT t_s FROM bin ORDER BY t_s, rowid")]
            for t_s in [*ticks, float("inf")]:
                facts = {field: stream.until(t_s) for field, stream in streams.items()}
                if any(facts.values()):
                    yield FactBatch(t_s=min(t_s, self.length_s), **facts)


class _Stream:
    """One table in order of time, taken piece by piece."""

    def __init__(self, database: sqlite3.Connection, table: schema.FactTable[Any]) -> None:
        self._cursor = database.execute(f"SELECT {table.time}, * FROM {table.name} ORDER BY 1, rowid")
        columns = [name for name, *_ in self._cursor.description][1:]
        self._decode = table.reader(columns)
        self._next = self._cursor.fetchone()

    def until(self, t_s: float) -> tuple[Any, ...]:
        """Everything known at `t_s` and not taken yet."""
        taken = []
        while self._next is not None and self._next[0] <= t_s:
            taken.append(self._decode(self._next[1:]))
            self._next = self._cursor.fetchone()
        return tuple(taken)
