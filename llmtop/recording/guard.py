"""A run file may be anybody's, and SQLite does much for who writes a schema: here it may read plain tables, no more."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from llmtop.recording import schema

LONGEST_VALUE = 4 * 2**20
"""Bytes of one value, of a row, of a statement: a longer one is an error of SQLite."""
STEP = 1_000_000
"""Instructions of SQLite after which it is looked at."""
MOST_STEPS = 200
"""Looks until a statement is broken off that gives nothing: some 2 s."""
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: LONGEST_VALUE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: LONGEST_VALUE,
    sqlite3.SQLITE_LIMIT_COLUMN: 250,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 2,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_PRAGMAS = ("application_id", "table_xinfo")
_NOT_A_COLUMN = ("rowid", "oid", "_rowid_")
"""What the number of a row is called, unless a column takes the name."""


class Patience:
    """How long SQLite may work without giving a row."""

    def __init__(self) -> None:
        self._steps = 0

    def renew(self) -> None:
        self._steps = 0

    def __call__(self) -> bool:
        """Whether it is at its end."""
        self._steps += 1
        return self._steps > MOST_STEPS


def hardened(database: sqlite3.Connection) -> Patience:
    """Let the connection only read plain tables: no view, function, recursion, write or other file; no endless work.

    What else is asked of it is an `sqlite3.Error`.
    """
    for limit, value in _LIMITS.items():
        database.setlimit(limit, value)
    for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "mmap_size = 0"):
        database.execute(f"PRAGMA {pragma}")
    database.set_authorizer(_may)
    patience = Patience()
    database.set_progress_handler(patience, STEP)
    return patience


def _may(action: int, first: str | None, second: str | None, schema_name: str | None, inside: str | None) -> int:
    """Whether SQLite may do this; `inside` is the view or trigger that asks for it."""
    if inside is None:
        if action == sqlite3.SQLITE_SELECT or (action == sqlite3.SQLITE_READ and schema_name in (None, "main")):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS:
            return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def tables(database: sqlite3.Connection) -> Mapping[str, tuple[str, ...]]:
    """The tables of a run that are there, each with its columns that are known here.

    Raises:
        ValueError: something else stands in the place of a table or a column.
    """
    there: dict[str, tuple[str, ...]] = {}
    known = {table.name: table for table in schema.BATCH_TABLES.values()}
    names = ", ".join(f"'{name}'" for name in ("meta", *known))
    for name, kind, sql in database.execute(f"SELECT name, type, sql FROM sqlite_master WHERE name IN ({names})"):
        if kind != "table" or not isinstance(sql, str) or sql[:20].upper().split()[:2] != ["CREATE", "TABLE"]:
            raise ValueError(f"{name} is not a plain table")
        columns = database.execute(f"PRAGMA table_xinfo({name})").fetchall()
        for _, column, *_, hidden in columns:
            if hidden or column.lower() in _NOT_A_COLUMN:
                raise ValueError(f"{name} has a column that is computed or hides the number of the row: {column}")
        wanted = known[name].hints if name in known else ("key", "value")
        there[name] = tuple(column for _, column, *_ in columns if column in wanted)
    return there
