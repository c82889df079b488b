"""The schema of a run file, `NAME.llmtop`: one SQLite database that any SQLite tool reads.

Tables, one row a fact; times are seconds (`*_s`) or nanoseconds (`*_ns`) of one monotonic clock since the run's start:

    meta           key, value           `schema`, `llmtop_version`, and `run`: the RunMeta as JSON; `search: true` in a
                                        profile without a `question` stands for a capacity
    request        one finished request: the fields of `RequestRecord`
    bin            one 250 ms interval of the load: the fields of `LoadBin`; lists are JSON
    server_sample  one scrape: the fields of `ServerSnapshot`
    gpu_sample     one reading of one GPU: the fields of `GpuSnapshot`
    client_sample  one second of one load process of ours: the fields of `ClientSample`
    load_change    t_s, reason, stage, and the fields of the commanded `LoadPoint`
    mark           t_s, text
    event          the fields of `Event`
    chapter        the fields of `Chapter`
    tested         one load that a capacity search judged: the fields of `JudgedLevel`; lists are JSON
    search_end     the fields of `SearchEnded`

Every row but meta's begins with `told_s`, when the session told it: a record is told with the bin
in which its request ended, and a replay tells it then too. Rows with the same `told_s` are one `FactBatch`.

Facts only: no verdict is stored, so that an old run can be judged again. Schema 1 is the exception: its samples of the
client have a `state` and its requests `client_limited`, and lack what these were judged by; both are NULL from
schema 2 on. API keys are never in the file.

Versions: a reader reads its own and every older version. Columns and tables are added, never renamed or removed;
a column that an older file lacks takes the field's default, a table that it lacks is empty.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from llmtop.domain.load import LoadPoint
from llmtop.domain.request import RequestRecord
from llmtop.domain.run import Chapter, Event, JudgedLevel, LoadChange, Mark, SearchEnded
from llmtop.domain.samples import ClientSample, GpuSnapshot, LoadBin, ServerSnapshot

VERSION = 3
APPLICATION_ID = 0x6C6C6D74
"""`llmt` in the database header, by which a run file can be told from any other database."""

Fact = TypeVar("Fact")
SqlValue = int | float | str | None


def _bare(hint: Any) -> Any:
    """`X | None` without the None."""
    if get_origin(hint) in (types.UnionType,):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _sql_type(kind: Any) -> str:
    if kind in (int, bool):
        return "INTEGER"
    return "REAL" if kind is float else "TEXT"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _decoder(kind: Any) -> Callable[[Any], Any]:
    if kind is bool or (isinstance(kind, type) and issubclass(kind, StrEnum)):
        return kind
    if get_origin(kind) is tuple:
        return msgspec.json.Decoder(kind).decode
    return _same


def _same(value: Any) -> Any:
    return value


class FactTable(Generic[Fact]):
    """How one kind of fact lies in its table.

    Args:
        name: the table.
        fact: the type whose fields are the columns.
    """

    def __init__(self, name: str, fact: type[Fact]) -> None:
        self.name = name
        self._fact = fact
        hints = get_type_hints(fact)
        self._kinds = {field: _bare(hints[field]) for field in fact.__struct_fields__}  # type: ignore[attr-defined]

    @property
    def columns(self) -> dict[str, str]:
        """Column name to SQL type."""
        return {field: _sql_type(kind) for field, kind in self._kinds.items()}

    def row(self, fact: Fact) -> tuple[SqlValue, ...]:
        return tuple(
            value if not isinstance(value := getattr(fact, field), tuple) else _json(value) for field in self._kinds
        )

    def reader(self, columns: Sequence[str]) -> Callable[[Sequence[SqlValue]], Fact]:
        """A function from a row with these columns to the fact. Columns that the fact does not have are passed over."""
        known = [
            (position, name, _decoder(self._kinds[name]))
            for position, name in enumerate(columns)
            if name in self._kinds
        ]

        def fact(row: Sequence[SqlValue]) -> Fact:
            return self._fact(**{name: None if row[at] is None else decode(row[at]) for at, name, decode in known})

        return fact


class _ChangeTable(FactTable[LoadChange]):
    """Load changes with the point's fields as columns of their own, so that SQL can plot the load."""

    def __init__(self) -> None:
        super().__init__("load_change", LoadChange)
        self._points = FactTable("", LoadPoint)
        del self._kinds["point"]

    @property
    def columns(self) -> dict[str, str]:
        return {**super().columns, **self._points.columns}

    def row(self, fact: LoadChange) -> tuple[SqlValue, ...]:
        return (*super().row(fact), *self._points.row(fact.point))

    def reader(self, columns: Sequence[str]) -> Callable[[Sequence[SqlValue]], LoadChange]:
        point = self._points.reader(columns)
        at = {name: columns.index(name) for name in self._kinds}

        def change(row: Sequence[SqlValue]) -> LoadChange:
            return LoadChange(point=point(row), **{name: row[place] for name, place in at.items()})  # type: ignore[arg-type]

        return change


REQUEST = FactTable("request", RequestRecord)
BIN = FactTable("bin", LoadBin)
SERVER = FactTable("server_sample", ServerSnapshot)
GPU = FactTable("gpu_sample", GpuSnapshot)
CLIENT = FactTable("client_sample", ClientSample)
CHANGE = _ChangeTable()
MARK = FactTable("mark", Mark)
EVENT = FactTable("event", Event)
CHAPTER = FactTable("chapter", Chapter)
TESTED = FactTable("tested", JudgedLevel)
SEARCH_END = FactTable("search_end", SearchEnded)

BATCH_TABLES: dict[str, FactTable[Any]] = {
    "bins": BIN,
    "requests": REQUEST,
    "server": SERVER,
    "gpu": GPU,
    "client": CLIENT,
    "changes": CHANGE,
    "marks": MARK,
    "events": EVENT,
    "chapters": CHAPTER,
    "tested": TESTED,
    "searches": SEARCH_END,
}
"""Field of `FactBatch` to the table that holds it."""


def create_sql() -> list[str]:
    """The statements that make an empty run file."""
    statements = [
        f"PRAGMA application_id = {APPLICATION_ID}",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    ]
    for table in BATCH_TABLES.values():
        columns = ", ".join(f'"{name}" {kind}' for name, kind in {"told_s": "REAL", **table.columns}.items())
        statements.append(f"CREATE TABLE {table.name} ({columns})")
    return statements
