"""Run files of anybody: read as a run, or refused in words, in time; never anything else."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import socket
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from run_mutants import (
    COLUMNS,
    DAMAGES,
    LENGTH_S,
    bytes_changed,
    damage,
    meta_becomes,
    opened,
    problem,
    swap,
    write_run,
)
from trying import Terminal, tried, tried_here

from llmtop.errors import RunFileError
from llmtop.recording import reader as reading
from llmtop.recording import schema
from llmtop.recording.reader import RunReader

MUTANTS = 400
"""Of each kind of damage to bytes."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run file as llmtop writes it."""
    return write_run(tmp_path_factory.mktemp("run") / "whole.llmtop")


@pytest.fixture
def run(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be damaged."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return renewed(whole, tmp_path / "run.llmtop")


def renewed(whole: Path, copy: Path) -> Path:
    copy.unlink(missing_ok=True)
    shutil.copyfile(whole, copy)
    return copy


def read(path: Path) -> int:
    """How many facts are in it."""
    with RunReader(path) as run:
        return sum(len(getattr(batch, kind)) for batch in run.batches() for kind in schema.BATCH_TABLES)


def refusal(path: Path) -> str:
    """Why it is not read."""
    with pytest.raises(RunFileError) as refused:
        read(path)
    assert str(path) in str(refused.value)
    return str(refused.value)


# ── Values ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_whole_run_has_every_table_and_is_read_by_all(run: Path) -> None:
    with RunReader(run) as opened_run:
        filled = {kind for batch in opened_run.batches() for kind in schema.BATCH_TABLES if getattr(batch, kind)}
    assert filled == set(schema.BATCH_TABLES)
    assert problem(run) is None


@pytest.mark.parametrize(
    ("table", "column", "kind", "said"),
    [
        ("request", "end_ns", "text", "request, row 2: end_ns must be a whole number"),
        ("request", "output_tokens", "minus one", "output_tokens must be a whole number from 0 to 9007199254740992"),
        ("request", "outcome", "text", "outcome must be one of ok, http_error"),
        ("request", "outcome", "nothing", "and is nothing"),
        ("request", "error", "a blob", "and is 3 bytes that are no text"),
        ("request", "error", "no UTF-8", "request, row 2: error must be text"),
        ("bin", "target", "infinity", "target must be a number from 0 to 1000000000, and is inf"),
        ("bin", "told_s", "nothing", "bin, row 2: told_s must be a number"),
        ("bin", "told_s", "zero", "told_s must be a number from 0.25, when the row before it was told"),
        ("bin", "told_s", "1e6", "to 78, and is 1000000.0"),
        ("bin", "t_s", "1e6", "its time lies after 0.5 s, when it was told"),
        ("bin", "ttft_ms", "deep JSON", "ttft_ms must be a list as JSON"),
        ("load_change", "rate_rps", "1e6", "a load is a concurrency or a rate, one of the two"),
        ("server_sample", "flops_total", "1e308", "flops_total must be a number from 0 to 1e+30, or nothing"),
        ("event", "severity", "text", "severity must be one of info, warning, error, and is text 'abc'"),
        ("client_sample", "state", "text", "state must be one of green, amber, red, or nothing"),
    ],
)
def test_what_cannot_be_is_named_by_table_row_and_column(
    run: Path, table: str, column: str, kind: str, said: str
) -> None:
    damage(run, table, column, kind)
    assert said in refusal(run)


def test_a_sample_of_damaged_values_is_read_or_refused_in_words(run: Path, whole: Path) -> None:
    kinds = list(DAMAGES)
    bad = []
    for number, (table, column) in enumerate(COLUMNS[::13]):
        kind = kinds[number * 7 % len(kinds)]
        damage(renewed(whole, run), table, column, kind)
        bad.append((table, column, kind, problem(run)))
    assert [each for each in bad if each[-1] is not None] == []


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", DAMAGES)
def test_every_column_in_turn_is_read_or_refused_in_words(run: Path, whole: Path, kind: str) -> None:
    bad = []
    for table, column in COLUMNS:
        damage(renewed(whole, run), table, column, kind)
        bad.append((table, column, problem(run)))
    assert [each for each in bad if each[-1] is not None] == []


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_columns_the_wrong_way_round_are_read_or_refused_in_words(run: Path, whole: Path) -> None:
    bad = []
    for (table, one), (other_table, other) in itertools.pairwise(COLUMNS):
        if table == other_table:
            swap(renewed(whole, run), table, one, other)
            bad.append((table, one, other, problem(run)))
    assert [each for each in bad if each[-1] is not None] == []


@pytest.mark.parametrize(
    ("table", "column", "kind"),
    [
        ("bin", "gap_ms", "nothing"),
        pytest.param("bin", "target", "1e9", marks=pytest.mark.faults),
        pytest.param("bin", "sent", "2^53", marks=pytest.mark.faults),
        pytest.param("server_sample", "running", "1e9", marks=pytest.mark.faults),
        pytest.param("server_sample", "flops_total", "1e30", marks=pytest.mark.faults),
        pytest.param("request", "output_tokens", "2^53", marks=pytest.mark.faults),
    ],
)
def test_a_whole_column_at_the_edge_of_what_is_admitted_is_judged(
    run: Path, table: str, column: str, kind: str
) -> None:
    damage(run, table, column, kind, every=1)
    assert read(run) > 0
    assert problem(run) is None


@pytest.mark.parametrize(
    ("factor", "where", "ended_s"),
    [
        (1.7e6, "TRUE", 3.1e7),
        (1.7e6, "rowid = (SELECT max(rowid) FROM {table})", None),
        pytest.param(5.5e4, "rowid = (SELECT max(rowid) FROM {table})", 1e6, marks=pytest.mark.faults),
        pytest.param(0.0, "TRUE", 0.0, marks=pytest.mark.faults),
    ],
    ids=["a year", "a last fact after a year", "a last fact after days", "no time at all"],
)
def test_a_run_of_a_time_that_no_run_has_is_read_by_all(
    run: Path, factor: float, where: str, ended_s: float | None
) -> None:
    """Nothing is reckoned second by second where nothing was told."""
    with opened(run) as database:
        for table in schema.BATCH_TABLES.values():
            stamps = [
                name for name in table.columns if name.endswith("_ns") and name not in ("connect_ns", "max_gap_ns")
            ]
            moved = [f"{name} = max(0, CAST({name} * {factor} AS INTEGER))" for name in stamps]
            moved += [f"{name} = {name} * {factor}" for name in ("told_s", *(("t_s",) if not stamps else ()))]
            database.execute(f"UPDATE {table.name} SET {', '.join(moved)} WHERE {where.format(table=table.name)}")
    meta_becomes(run, "ended_s", value=ended_s)
    assert read(run) > 0
    assert problem(run) is None


# ── Meta ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

_SLO = ("profile", "slo", "targets", 0)
_STAGE = ("profile", "plan", "stages", 0)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("started_at",), 1e300, "meta: run.started_at: must be a number from 0 to 250000000000"),
        (("started_at",), -1e12, "meta: run.started_at"),
        (("started_at",), "raw:NaN", "meta: run: JSON is malformed"),
        (("started_at",), "raw:" + "9" * 5000, "meta: run"),
        (("started_at",), "x", "meta: run.started_at: Expected `float`, got `str`"),
        (("ended_s",), -1, "meta: run.ended_s"),
        (("ended_s",), 1e9, "meta: run.ended_s"),
        ((*_SLO, "stat"), "p33", "meta: run.profile.slo.targets[0].stat: Invalid enum value 'p33'"),
        ((*_SLO, "stat"), None, "meta: run.profile.slo.targets[0].stat: ttft must have a statistic"),
        ((*_SLO, "limit"), 0, "meta: run.profile.slo.targets[0].limit: must be above zero"),
        ((*_SLO, "kind"), "answer", "meta: run.profile.slo.targets[0].kind: must be empty"),
        ((*_STAGE, "duration_s"), -5, "meta: run.profile.plan.stages[0].duration_s"),
        ((*_STAGE, "shape", "levels"), [-1.0], "meta: run.profile.plan.stages[0].shape.levels[0]"),
        (("profile", "caps", "max_concurrency"), 10**18, "meta: run.profile.caps.max_concurrency"),
        (("seed",), 2**70, "meta: run.seed"),
        (("label",), "x" * 100_000, "meta: run.label: must be text of at most"),
        (("endpoint", "dialect"), "klingon", "meta: run.endpoint.dialect"),
        (("endpoint", "base_url"), "http://[", "meta: run.endpoint.base_url"),
        (("profile",), "raw:" + "[" * 100_000 + "]" * 100_000, "meta: run"),
        (("other",), "raw:" + "[" * 100_000 + "]" * 100_000, "meta: run: is nested too deeply"),
        (("profile",), ..., "meta: run: Object missing required field `profile`"),
    ],
)
def test_a_value_of_the_meta_that_cannot_be_is_named_by_its_key(
    run: Path, keys: tuple[str | int, ...], value: object, said: str
) -> None:
    meta_becomes(run, *keys, value=value)
    assert said in refusal(run)


NONE: tuple[object, ...] = ("", "null", "[]", "{", "\x00", '"run"', b"\xff\xfe", 7, None, "9" * 5000, "x" * 20_000_000)


@pytest.mark.parametrize("text", NONE, ids=range(len(NONE)))
@pytest.mark.parametrize("key", ["schema", "run", "llmtop_version"])
def test_a_meta_that_is_none_is_refused(run: Path, key: str, text: object) -> None:
    with opened(run) as database:
        database.executescript("ALTER TABLE meta RENAME TO old; CREATE TABLE meta (key, value);")
        database.execute("INSERT INTO meta SELECT * FROM old")
        database.execute("UPDATE meta SET value = ? WHERE key = ?", (text, key))
    if key != "llmtop_version" or text == NONE[-1]:
        refusal(run)
    else:
        read(run)


def _leaves(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(leaf for key, part in parts for leaf in _leaves(part, (*path, key)))]


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "value", ["x", "", -1, 0, 1e-300, 1e30, 10**18, None, [], {}, [[1, 2]], True, ..., "raw:1e999"]
)
def test_every_value_of_the_meta_in_turn_is_read_or_refused_in_words(run: Path, whole: Path, value: object) -> None:
    with sqlite3.connect(whole) as database:
        told = json.loads(database.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()[0])
    bad = []
    for keys in _leaves(told):
        meta_becomes(renewed(whole, run), *keys, value=value)
        bad.append((keys, problem(run)))
    assert [each for each in bad if each[-1] is not None] == []


# ── Databases ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS told_s, i AS t_s, 'x' AS text FROM n"
)
HOSTILE: dict[str, str] = {
    "an endless view": f"DROP TABLE mark; CREATE VIEW mark AS {ENDLESS}",
    "an endless view of the meta": f"DROP TABLE meta; CREATE VIEW meta AS {ENDLESS}",
    "a view of a table": "ALTER TABLE bin RENAME TO bin_; CREATE VIEW bin AS SELECT rowid, * FROM bin_",
    "a view that calls": "DROP TABLE mark; CREATE VIEW mark AS SELECT load_extension('/x') AS told_s, 1 AS t_s",
    "a full-text table": "DROP TABLE mark; CREATE VIRTUAL TABLE mark USING fts5(told_s, t_s, text)",
    "a computed column": "DROP TABLE mark; CREATE TABLE mark (told_s REAL, t_s REAL AS (told_s), text TEXT)",
    "a stored one": "DROP TABLE mark; CREATE TABLE mark (told_s REAL, t_s REAL, text AS (hex(zeroblob(9e8))) STORED)",
    "no rowid": "DROP TABLE mark; CREATE TABLE mark (told_s REAL PRIMARY KEY, t_s REAL, text TEXT) WITHOUT ROWID",
    "a rowid of its own": "DROP TABLE mark; CREATE TABLE mark (told_s REAL, t_s REAL, text TEXT, rowid REAL)",
    "names that a terminal obeys": 'DROP TABLE mark; CREATE TABLE mark (told_s, "ROWID" AS (1), "\x1b[2J" AS (2))',
    "no table of bins": "DROP TABLE bin",
    "no column": "ALTER TABLE bin DROP COLUMN in_flight",
    "no told_s": "ALTER TABLE bin DROP COLUMN told_s",
}
LARGE: dict[str, str] = {
    "a huge text": "INSERT INTO mark SELECT max(told_s), 1, CAST(zeroblob(200000000) AS TEXT) FROM mark",
    "a huge blob": "INSERT INTO mark SELECT max(told_s), 1, zeroblob(200000000) FROM mark",
    "many rows": f"INSERT INTO mark SELECT 17, 1, text FROM ({ENDLESS}) LIMIT 2000000",
    "many tables": "".join(f"CREATE TABLE t{number} (a);" for number in range(2_000)),
}
HARMLESS: dict[str, str] = {
    "triggers": "CREATE TRIGGER t AFTER INSERT ON bin BEGIN DELETE FROM bin; END",
    "an index": "CREATE INDEX i ON bin (told_s DESC, t_s * 2) WHERE t_s > 3",
    "other tables": "CREATE TABLE bins (a); CREATE TABLE more (b); CREATE VIEW look AS SELECT * FROM bin",
    "other columns": "ALTER TABLE bin ADD COLUMN of_tomorrow TEXT DEFAULT 'x'",
    "a check": "CREATE TABLE c (a CHECK (a > 1)); PRAGMA user_version = 9",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_database_is_refused(run: Path, what: str) -> None:
    with opened(run) as database:
        database.executescript(HOSTILE[what])
    assert refusal(run).isprintable()


@pytest.mark.faults
@pytest.mark.parametrize("what", LARGE)
def test_a_large_database_takes_neither_time_nor_memory(run: Path, home: Path, what: str) -> None:
    with opened(run) as database:
        database.executescript(f"BEGIN; {LARGE[what]}; COMMIT")
    assert problem(run) is None
    ended = tried("assess", str(run), home=home)
    ended.is_in_words(2, 5)
    assert ended.peak_mb < 200


@pytest.mark.parametrize("what", HARMLESS)
def test_what_others_add_to_a_run_file_changes_nothing(run: Path, whole: Path, what: str) -> None:
    with opened(run) as database:
        database.executescript(HARMLESS[what])
    assert read(run) == read(whole)


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_database_of_another_encoding_is_read(run: Path, whole: Path, encoding: str) -> None:
    run.unlink()
    with opened(run) as database, sqlite3.connect(whole) as source:
        database.execute(f"PRAGMA encoding = '{encoding}'")
        database.executescript("\n".join(source.iterdump()))
        database.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    assert read(run) == read(whole)


def test_a_table_that_leads_back_into_itself_ends(run: Path) -> None:
    """Pages of a table that name the same page as their child again and again would be read for ever."""
    with opened(run) as database:
        (page,) = database.execute("PRAGMA page_size").fetchone()
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'request'").fetchone()
    content = bytearray(run.read_bytes())
    start = (root - 1) * page
    kind, cells = content[start], struct.unpack_from(">H", content, start + 3)[0]
    assert kind == 5, "the table has one page only"
    places = struct.unpack_from(f">{cells}H", content, start + 12)
    for place in places:
        content[start + place : start + place + 4] = content[start + places[0] : start + places[0] + 4]
    run.write_bytes(content)
    assert "request, row" in refusal(run)


def test_more_rows_than_can_be_judged_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_ROWS", 100)
    monkeypatch.setattr(reading, "RENEWED_EVERY", 10)
    assert "more than 100 rows" in refusal(run)


def test_rows_are_bounded_where_an_hour_of_high_load_still_fits() -> None:
    assert reading.MOST_ROWS >= 3600 * 1000
    assert reading.MOST_NOTES >= 24 * 3600


# ── Files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(path.parent)
        listening.bind(path.name)


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        lambda path: path.write_bytes(bytes(200_000)),
        lambda path: path.write_bytes(b"SQLite format 3\x00" + bytes(200_000)),
        _socket,
    ],
    ids=["a FIFO", "a folder", "a device", "a link to itself", "zeros", "a header and zeros", "a socket"],
)
def test_what_is_no_database_is_refused(
    tmp_path: Path, make: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "odd.llmtop"
    make(path)
    refusal(path)


def test_a_file_that_is_cut_is_read_or_refused_in_words(run: Path, whole: Path) -> None:
    content = whole.read_bytes()
    bad = []
    for length in range(0, len(content), 4096):
        renewed(whole, run).write_bytes(content[:length])
        bad.append((length, problem(run)))
    assert [each for each in bad if each[-1] is not None] == []


@pytest.mark.parametrize("mutants", [6, pytest.param(MUTANTS, marks=[pytest.mark.faults, pytest.mark.timeout(900)])])
def test_changed_bytes_are_read_or_refused_in_words(run: Path, whole: Path, mutants: int) -> None:
    content, bad = whole.read_bytes(), []
    for seed in range(mutants):
        rng = random.Random(seed)
        changed = bytes_changed(content, rng)
        if rng.random() < 0.2:
            changed = changed[: rng.randrange(len(changed))]
        run.unlink()
        run.write_bytes(changed)
        bad.append((seed, problem(run)))
    assert [each for each in bad if each[-1] is not None] == []


# ── The command ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_says_what_is_wrong_and_ends_with_2(run: Path, home: Path) -> None:
    damage(run, "request", "output_tokens", "a blob")
    ended = tried_here("assess", str(run), home=home)
    ended.is_in_words(2)
    assert "run.llmtop: request, row 2: output_tokens must be" in ended.said


@pytest.mark.faults
def test_a_replay_of_a_damaged_run_gives_the_terminal_back(run: Path, home: Path) -> None:
    damage(run, "server_sample", "waiting", "a blob")
    with Terminal("replay", str(run), home=home) as terminal:
        assert terminal.code() == 2
        terminal.is_restored()


@pytest.mark.faults
def test_a_replay_at_the_edge_of_what_is_admitted_goes_on(run: Path, home: Path) -> None:
    with opened(run) as database:
        database.execute("UPDATE bin SET target = 1e9, sent = 9007199254740992, in_flight = 1000000")
        database.execute("UPDATE server_sample SET waiting = NULL, running = 1e9, kv_usage = NULL")
    with Terminal("replay", str(run), "--speed", "50", home=home) as terminal:
        terminal.until(b"1049h")
        terminal.read(3)
        terminal.send(b"q")
        terminal.read(1)
        terminal.send(b"q")
        assert terminal.code() == 0
        terminal.is_restored()
    assert LENGTH_S < 60
