"""Reading a run file back: the same batches in the same order in which the session emitted them."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmtop.domain.plain import plain
from llmtop.domain.run import FactBatch
from llmtop.errors import RunFileError
from llmtop.recording import guard, schema
from llmtop.recording.limits import LONGEST_RUN_S, SLACK_S, found
from llmtop.recording.meta import read_meta
from llmtop.recording.opening import Opened
from llmtop.recording.schema import SqlValue
from llmtop.wording.recording import cut_off_text

MOST_ROWS = 4_000_000
"""Of one table: an hour at 1100 requests/s. Nothing that is judged in one piece is larger."""
MOST_NOTES = 100_000
"""Of a table in which rows come one by one, and not with the clock or the load: one each second for a day."""
_NOTES = (schema.MARK, schema.EVENT, schema.CHAPTER, schema.TESTED, schema.SEARCH_END)
RENEWED_EVERY = 1024
"""Rows, after each of which SQLite has its full patience again."""


class RunReader:
    """A run file, open for reading; also one that is still being written, or was cut off by a kill.

    Nothing in the file is trusted: the database may only be read (`guard`), the meta and each row are checked as they
    enter (`meta`, `schema`), the rows of a table come in the order in which they were told.

    Raises:
        RunFileError: no such file, not a run file, damaged, or written by a newer llmtop. It names table, row and
            column of what is wrong; `batches` raises it, too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened = Opened(path)
        self._cursors: list[sqlite3.Cursor] = []
        with self._mapped():
            self.patience = guard.hardened(self.database)
            self.tables = guard.tables(self.database)
            self.meta = read_meta(self.database, path)
            if not self.complete and self._opened.detach():
                self.patience = guard.hardened(self.database)
            ended_s = self.meta.ended_s
            self.length_s: float = self._last_s() if ended_s is None else ended_s
            """Of the run; of a run that was cut off, the time of its last fact."""

    @property
    def complete(self) -> bool:
        """False: the run was cut off (or still goes on)."""
        return self.meta.ended_s is not None

    @property
    def cut_off(self) -> str | None:
        """What is said of a run that is not complete; None: it is."""
        return None if self.complete else cut_off_text(self.length_s, self._opened.lacks)

    @property
    def database(self) -> sqlite3.Connection:
        """Hardened: see `guard`."""
        return self._opened.database

    def close(self) -> None:
        while self._cursors:
            self._cursors.pop().close()
        self._opened.close()

    def rows(self, select: str, *values: SqlValue) -> sqlite3.Cursor:
        """A query that ends with the reader: one that is half read holds a lock on the file."""
        cursor = self.database.execute(select, values)
        self._cursors.append(cursor)
        return cursor

    def __enter__(self) -> RunReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError) as error:
            self.close()
            raise RunFileError(self.path, f"not a run file of llmtop, or damaged ({plain(str(error), 200)})") from error
        except RunFileError:
            self.close()
            raise

    def _last_s(self) -> float:
        last = self.database.execute("SELECT told_s FROM bin NOT INDEXED ORDER BY rowid DESC LIMIT 1").fetchone()
        told_s = 0.0 if last is None else last[0]
        if not isinstance(told_s, int | float) or not 0 <= told_s <= LONGEST_RUN_S:
            raise RunFileError(self.path, f"told_s is {found(told_s)}", "bin, its last row")
        return float(told_s)

    def batches(self) -> Iterator[FactBatch]:
        """The run's batches as the session told them, in order; batches without any fact are left out."""
        with self._mapped():
            streams = {
                field: _Stream(self, table)
                for field, table in schema.BATCH_TABLES.items()
                if table.name in self.tables or table not in schema.ADDED
            }
            while (told_s := min(stream.told_s for stream in streams.values())) < math.inf:
                yield FactBatch(t_s=told_s, **{field: stream.take(told_s) for field, stream in streams.items()})


class _Stream:
    """One table in the order in which it was told, taken batch by batch. `told_s` is that of the next row."""

    def __init__(self, run: RunReader, table: schema.FactTable[Any]) -> None:
        self._run = run
        self._name = table.name
        self._most = MOST_NOTES if table in _NOTES else MOST_ROWS
        if table.name not in run.tables:
            raise ValueError(f"no table {table.name}")
        self._columns = run.tables[table.name]
        lacked = table.lacks(self._columns)
        if lacked is not None:
            raise RunFileError(run.path, f"has no column {lacked}", table.name)
        self._decode = table.reader(self._columns)
        self._time_at, self._unit_s = self._columns.index(table.time), 1e-9 if table.time.endswith("_ns") else 1.0
        ended_s = run.meta.ended_s
        self._until_s = LONGEST_RUN_S if ended_s is None else ended_s + SLACK_S
        self.told_s: float = 0.0
        self._rowid: float = -math.inf
        self._rows = self._fetched()
        self._advance()

    def _select(self, where: str = "") -> str:
        columns = ", ".join(("rowid", "told_s", *(f'"{name}"' for name in self._columns)))
        return f"SELECT {columns} FROM {self._name} NOT INDEXED {where} ORDER BY rowid"

    def _fetched(self) -> Iterator[tuple[Any, ...]]:
        rows = self._run.rows(self._select())
        try:
            for number, row in enumerate(rows):
                if number % RENEWED_EVERY == 0:
                    self._run.patience.renew()
                    if number >= self._most:
                        raise RunFileError(self._run.path, f"more than {self._most} rows are not judged", self._name)
                yield row
        except sqlite3.OperationalError as error:
            if "decode" in str(error):
                raise self._not_text() from error
            raise
        except sqlite3.DatabaseError as error:
            after = f"after {self._rowid}" if math.isfinite(self._rowid) else "(the first)"
            raise self._broken(after, plain(str(error), 200)) from error

    def _not_text(self) -> RunFileError:
        """Of a row whose text is none."""
        self._run.database.text_factory = bytes
        after = self._rowid if math.isfinite(self._rowid) else -(2**63)
        row = self._run.rows(self._select("WHERE rowid > ?"), after).fetchone()
        for name, value in zip(self._columns, row[2:], strict=True):
            if isinstance(value, bytes) and value.decode(errors="replace").encode() != value:
                return self._broken(row[0], f"{name} must be text, and is {found(value)}")
        return self._broken(row[0], "a text is none")

    def _advance(self) -> None:
        self._row = next(self._rows, None)
        if self._row is None:
            self.told_s = math.inf
            return
        rowid, told_s, *_ = self._row
        if not isinstance(told_s, int | float) or not self.told_s <= told_s <= self._until_s:
            limits = f"{self.told_s:.16g}, when the row before it was told, to {self._until_s:.16g}"
            raise self._broken(rowid, f"told_s must be a number from {limits}, and is {found(told_s)}")
        if rowid <= self._rowid:
            raise self._broken(rowid, f"it comes after row {self._rowid}")
        self.told_s, self._rowid = told_s, rowid

    def take(self, told_s: float) -> tuple[Any, ...]:
        """All rows of one batch."""
        taken = []
        while self.told_s == told_s and self._row is not None:
            rowid, _, *values = self._row
            try:
                taken.append(self._decode(values))
            except schema.BrokenRow as error:
                raise self._broken(rowid, str(error)) from error
            if values[self._time_at] * self._unit_s > told_s + SLACK_S:
                raise self._broken(rowid, f"its time lies after {told_s:g} s, when it was told")
            self._advance()
        return tuple(taken)

    def _broken(self, row: object, problem: str) -> RunFileError:
        return RunFileError(self._run.path, f"{problem}; the file is damaged or forged", f"{self._name}, row {row}")
