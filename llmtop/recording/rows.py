"""Facts into the tables of an open transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from llmtop.domain.run import FactBatch, RunMeta
from llmtop.recording import schema
from llmtop.recording.meta import meta_text

UNFIT = (OverflowError, UnicodeError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError, ValueError)
"""Raised for a value that SQLite cannot hold, not for want of a disk: trying again would not help."""

Piece = FactBatch | RunMeta


def size_of(batch: FactBatch) -> int:
    """Facts in it."""
    return sum(len(getattr(batch, field)) for field in schema.BATCH_TABLES)


def put(database: sqlite3.Connection, piece: Piece) -> list[str]:
    """Into the open transaction. Returns, for each fact that no database can hold, why."""
    if isinstance(piece, FactBatch):
        tables = [(table, facts) for field, table in schema.BATCH_TABLES.items() if (facts := getattr(piece, field))]
        return [why for table, facts in tables for why in _put_facts(database, table, piece.t_s, facts)]
    try:
        put_entries(
            database,
            [
                ("schema", str(schema.VERSION)),
                ("llmtop_version", piece.llmtop_version),
                ("run", meta_text(piece)),
            ],
        )
    except UNFIT as error:
        return [str(error)]
    return []


def _put_facts(
    database: sqlite3.Connection, table: schema.FactTable[schema.Fact], told_s: float, facts: Iterable[schema.Fact]
) -> list[str]:
    statement = f"INSERT INTO {table.name} VALUES ({', '.join('?' * (1 + len(table.columns)))})"
    database.execute("SAVEPOINT facts")
    unfit = []
    try:
        database.executemany(statement, [(told_s, *table.row(fact)) for fact in facts])
    except UNFIT:
        database.execute("ROLLBACK TO facts")
        for fact in facts:
            try:
                database.execute(statement, (told_s, *table.row(fact)))
            except UNFIT as error:
                unfit.append(str(error))
    database.execute("RELEASE facts")
    return unfit


def put_entries(database: sqlite3.Connection, entries: Iterable[tuple[str, str]]) -> None:
    database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", entries)
