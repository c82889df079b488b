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
    canary         the fields of `Canary`, from schema 6 on
    call           the fields of `Call`, from schema 7 on
    load_worker    the fields of `LoadWorker`, from schema 8 on
    scale_step     the fields of `ScaleStep`, from schema 8 on

Every row but meta's begins with `told_s`, when the session told it: a record is told with the bin
in which its request ended, and a replay tells it then too. Rows with the same `told_s` are one `FactBatch`.

Facts only: no verdict is stored, so that an old run can be judged again. Schema 1 is the exception: its samples of the
client have a `state` and its requests `client_limited`, and lack what these were judged by; both are NULL from
schema 2 on. Requests have `timed_tokens`, `hidden_tokens` and `prompt_source` from schema 4 on, changes of the
load `gate`, requests `held_ns` and chapters `traits` from schema 5 on, requests `name`, `session`,
`turn` and `model` from schema 7 on. API keys are never in the file.

A file may be anybody's: a row is taken only if each value has the type of its field, lies in the range of its unit
(`limits`) and is one of the words that the field knows; what is written is cut to the same ranges.

Versions: a reader reads its own and every older version. Columns, tables and words are added, with a new version, never
renamed or removed; a column that an older file lacks takes the field's default, a table that it lacks is empty.
Keys of the meta that a reader does not know are passed over, so those that only describe need no new version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from llmtop.domain.load import LoadPoint
from llmtop.domain.plain import KEPT, plain
from llmtop.domain.plainly import plainly
from llmtop.domain.request import RequestRecord
from llmtop.domain.run import (
    Call,
    Canary,
    Chapter,
    Event,
    JudgedLevel,
    LoadChange,
    LoadWorker,
    Mark,
    ScaleStep,
    SearchEnded,
)
from llmtop.domain.samples import ClientSample, GpuSnapshot, LoadBin, ServerSnapshot
from llmtop.recording.limits import bare, fitting, found, limited, stored, wanted

VERSION = 8
APPLICATION_ID = 0x6C6C6D74
"""`llmt` in the database header, by which a run file can be told from any other database."""

Fact = TypeVar("Fact")
SqlValue = int | float | str | bytes | None


_PLACE = re.compile(r"`\$\[(\d+)\]`$")
"""Where in a row a check stopped."""


class BrokenRow(ValueError):
    """A row that is no fact.

    Args:
        problem: what is wrong; it names the column.
    """


def _sql_type(hint: Any) -> str:
    kind = bare(hint)
    if kind in (int, bool):
        return "INTEGER"
    return "REAL" if kind is float else "TEXT"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _is_word(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _decoder(hint: Any, name: str) -> Callable[[Any], Any] | None:
    """From what lies in the column to what stands in the fact; None: it is the same."""
    kind = bare(hint)
    if kind is bool:
        return bool
    if _is_word(kind):
        return {str(word): word for word in kind}.__getitem__
    if get_origin(kind) is tuple:
        decode = msgspec.json.Decoder(limited(kind, name)).decode
        return (lambda text: plainly(decode(text))) if "str" in str(kind) else decode
    return _text if kind is str else None


def _fitted(hint: Any) -> bool:
    """Whether others say what stands in such a column: texts, and figures that may be missing."""
    kind = bare(hint)
    if get_origin(kind) is tuple:
        return any(part is str or _fitted(part) for part in get_args(kind) if part is not Ellipsis)
    return kind is str or (kind is float and kind is not hint)


def _text(value: str) -> str:
    return plain(value, KEPT)


class FactTable(Generic[Fact]):
    """How one kind of fact lies in its table.

    Args:
        name: the table.
        fact: the type whose fields are the columns.
        inner: fields whose own fields are columns in their place.
    """

    def __init__(self, name: str, fact: type[Fact], inner: Mapping[str, type[Any]] | None = None) -> None:
        self.name = name
        self._fact = fact
        self._inner = {field: FactTable("", kind) for field, kind in (inner or {}).items()}
        hints = get_type_hints(fact)
        fields: tuple[str, ...] = fact.__struct_fields__  # type: ignore[attr-defined]
        self._hints = {field: hints[field] for field in fields if field not in self._inner}
        inner_hints = {column: hint for table in self._inner.values() for column, hint in table.hints.items()}
        self.hints: dict[str, Any] = {**self._hints, **inner_hints}
        """Column name to its type in the fact."""
        at = {field: place for place, field in enumerate(fields)}
        self._inner_at = [(at[field], table) for field, table in self._inner.items()]
        kinds = {field: bare(hint) for field, hint in self._hints.items()}
        self._fit_at = [(at[field], field) for field, hint in self._hints.items() if _fitted(hint)]
        self._lists_at = [at[field] for field, kind in kinds.items() if get_origin(kind) is tuple]
        self._words_at = [at[field] for field, kind in kinds.items() if _is_word(kind)]
        self._required = {each.name for each in msgspec.structs.fields(fact) if each.required}  # type: ignore[arg-type]

    @property
    def time(self) -> str:
        """The column that says when it was."""
        return "t_s" if "t_s" in self._hints else "end_ns"

    @property
    def columns(self) -> dict[str, str]:
        """Column name to SQL type."""
        return {field: _sql_type(hint) for field, hint in self.hints.items()}

    def row(self, fact: Fact) -> tuple[SqlValue, ...]:
        """As it is kept: in it is nothing that `reader` would not take."""
        values: list[Any] = list(msgspec.structs.astuple(fact))  # type: ignore[arg-type]
        for at, field in self._fit_at:
            if values[at] is not None:
                values[at] = fitting(values[at], field)
        for at in self._lists_at:
            if values[at] is not None:
                values[at] = _json(values[at])
        for at in self._words_at:
            if values[at] is not None:
                values[at] = values[at]._value_  # what is not quite a text costs SQLite a search for how to keep it
        if not self._inner_at:
            return tuple(values)
        parts = [part for at, table in self._inner_at for part in table.row(values[at])]
        places = {at for at, _ in self._inner_at}
        return (*(value for at, value in enumerate(values) if at not in places), *parts)

    def lacks(self, columns: Collection[str]) -> str | None:
        """A column that no fact can do without and that is not there."""
        mine = next((name for name in self._hints if name in self._required and name not in columns), None)
        return mine or next(filter(None, (table.lacks(columns) for table in self._inner.values())), None)

    def reader(self, columns: Sequence[str]) -> Callable[[Sequence[SqlValue]], Fact]:
        """A function from a row with these columns, all of them known ones, to the fact.

        The function raises BrokenRow for a value of another type, out of its range, or missing where it is needed.
        """
        stored_as = [(name, stored(self.hints[name], name)) for name in columns]
        row_type = msgspec.defstruct(self.name or "row", stored_as, array_like=True, forbid_unknown_fields=True)
        decoders = [(at, decode) for at, name in enumerate(columns) if (decode := _decoder(self.hints[name], name))]
        make = self._maker()

        def broken(at: int, value: SqlValue) -> BrokenRow:
            name = columns[at]
            return BrokenRow(f"{name} must be {wanted(self.hints[name], name)}, and is {found(value)}")

        def fact(row: Sequence[SqlValue]) -> Fact:
            try:
                msgspec.convert(row, row_type)
            except msgspec.MsgspecError as error:
                place = _PLACE.search(str(error))
                at = int(place[1]) if place else 0
                raise broken(at, row[at]) from error
            values: list[Any] = list(row)
            for at, decode in decoders:
                if values[at] is not None:
                    try:
                        values[at] = decode(values[at])
                    except (msgspec.MsgspecError, RecursionError) as error:
                        raise broken(at, row[at]) from error
            try:
                return make(dict(zip(columns, values, strict=True)))
            except ValueError as error:
                raise BrokenRow(str(error)) from error

        return fact

    def _maker(self) -> Callable[[dict[str, Any]], Fact]:
        whole, inner = self._fact, self._inner
        if not inner:
            return lambda values: whole(**values)

        def make(values: dict[str, Any]) -> Fact:
            parts = {
                field: table._fact(**{name: values.pop(name) for name in table.hints if name in values})
                for field, table in inner.items()
            }
            return whole(**values, **parts)

        return make


REQUEST = FactTable("request", RequestRecord)
BIN = FactTable("bin", LoadBin)
SERVER = FactTable("server_sample", ServerSnapshot)
GPU = FactTable("gpu_sample", GpuSnapshot)
CLIENT = FactTable("client_sample", ClientSample)
CHANGE = FactTable("load_change", LoadChange, inner={"point": LoadPoint})
"""The point's fields are columns of their own, so that SQL can plot the load."""
MARK = FactTable("mark", Mark)
EVENT = FactTable("event", Event)
CHAPTER = FactTable("chapter", Chapter)
TESTED = FactTable("tested", JudgedLevel)
SEARCH_END = FactTable("search_end", SearchEnded)
CANARY = FactTable("canary", Canary)
CALL = FactTable("call", Call)
LOAD_WORKER = FactTable("load_worker", LoadWorker)
SCALE_STEP = FactTable("scale_step", ScaleStep)

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
    "canaries": CANARY,
    "calls": CALL,
    "workers": LOAD_WORKER,
    "scaling": SCALE_STEP,
}
"""Field of `FactBatch` to the table that holds it."""

ADDED = (CHAPTER, TESTED, SEARCH_END, CANARY, CALL, LOAD_WORKER, SCALE_STEP)
"""Tables that older versions do not have."""


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
