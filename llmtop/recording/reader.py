"""Reading a run file back: the same batches in the same order in which the session emitted them."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from llmtop.domain.profile import Question
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.errors import RunFileError
from llmtop.recording import schema


class _SearchedProfile(msgspec.Struct):
    search: bool = False


class _Searched(msgspec.Struct):
    """How a run file says that a capacity was searched where its profile has no question."""

    profile: _SearchedProfile


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
        meta = msgspec.json.decode(entries["run"], type=RunMeta)
        told = msgspec.json.decode(entries["run"], type=_Searched)
        if told.profile.search and meta.profile.question is None:
            profile = replace(meta.profile, question=Question.CAPACITY)
            return replace(meta, profile=profile)
        return meta

    def _last_s(self) -> float:
        (last,) = self._database.execute("SELECT max(told_s) FROM bin").fetchone()
        return float(last or 0.0)

    def batches(self) -> Iterator[FactBatch]:
        """The run's batches as the session told them, in order; batches without any fact are left out."""
        with self._mapped():
            there = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            added = {table.name for table in (schema.CHAPTER, schema.TESTED, schema.SEARCH_END)}
            streams = {
                field: _Stream(self._database, table)
                for field, table in schema.BATCH_TABLES.items()
                if table.name in there or table.name not in added
            }
            while (told_s := min(stream.told_s for stream in streams.values())) < math.inf:
                yield FactBatch(t_s=told_s, **{field: stream.take(told_s) for field, stream in streams.items()})


class _Stream:
    """One table in the order in which it was told, taken batch by batch. `told_s` is that of the next row."""

    def __init__(self, database: sqlite3.Connection, table: schema.FactTable[Any]) -> None:
        self._cursor = database.execute(f"SELECT * FROM {table.name} ORDER BY told_s, rowid")
        self._decode = table.reader([name for name, *_ in self._cursor.description])
        self._advance()

    def _advance(self) -> None:
        self._row = self._cursor.fetchone()
        self.told_s: float = math.inf if self._row is None else self._row[0]

    def take(self, told_s: float) -> tuple[Any, ...]:
        """All rows of one batch."""
        taken = []
        while self.told_s == told_s:
            taken.append(self._decode(self._row))
            self._advance()
        return tuple(taken)
