"""The recordings of this user: which there are, the newest, what each is at a glance, and which may be thrown away.

None is read to be listed: its header says that it is one of ours, a few rows what it was. What was said of a run at its
end is remembered beside them, in a file of its own, as a run file holds facts only.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from llmtop.domain.plain import LONG, plain
from llmtop.errors import FileError, RunFileError
from llmtop.files import SQLITE, make_folder, user_folder, write_whole
from llmtop.inputs import path_of
from llmtop.recording import guard, schema
from llmtop.recording.meta import read_meta
from llmtop.recording.opening import Opened
from llmtop.recording.runfile import SUFFIX
from llmtop.recording.writer import runs_directory

LAST = "last"
"""The name of the newest recording."""
GOES_ON_S = 600.0
"""A recording without an end that was written to within so many seconds may be one that goes on."""
MOST_REMEMBERED = 2000
"""Runs of which what was said is kept."""
_MOST_BYTES = 8_000_000
_STAMP = re.compile(r"(\d{8}-\d{6})-")
_BESIDE = ("-journal", "-wal", "-shm")
_HEAD = b'{"llmtop":"said of runs"'


class Recording(Struct, frozen=True, kw_only=True):
    """A run file, by its name and its place alone."""

    path: Path
    begun_at: float
    """Wall clock, Unix seconds: by its name, else when the file was last changed."""
    changed_at: float
    size: int
    """Bytes."""

    @property
    def name(self) -> str:
        """What it may be called by: the stem among the user's runs, else the path."""
        return self.path.stem if self.path.parent == runs_directory() else str(self.path)


class Glance(Struct, frozen=True, kw_only=True):
    """What a recording was, without reading it. All None: it cannot be read, and `problem` says why."""

    profile: str | None = None
    label: str | None = None
    model: str | None = None
    target: str | None = None
    """URL, or the preset of the simulated engine."""
    length_s: float | None = None
    """None: it was cut off, or goes on."""
    requests: int | None = None
    problem: str | None = None


class _Said(Struct, frozen=True, kw_only=True):
    size: int
    sentence: str


class _Remembered(Struct, frozen=True, kw_only=True):
    llmtop: str = "said of runs"
    runs: dict[str, _Said] = {}


def recordings() -> tuple[Recording, ...]:
    """Those among the user's runs, and those elsewhere of which something is remembered; newest first."""
    found = {path: each for path in _among_runs() if (each := _recording(path)) is not None}
    for path in map(Path, _remembered().runs):
        if path not in found and (each := _recording(path)) is not None:
            found[path] = each
    return tuple(sorted(found.values(), key=lambda each: (each.begun_at, each.path.name), reverse=True))


def own_recordings() -> tuple[Recording, ...]:
    """Those among the user's runs that llmtop has named: what somebody has put there is not ours. Newest first."""
    there = (each for each in recordings() if each.path.parent == runs_directory())
    return tuple(each for each in there if _STAMP.match(each.path.name))


def newest() -> Path:
    """The recording that was begun last. Raises RunFileError: there is none."""
    found = recordings()
    if not found:
        raise RunFileError(runs_directory(), "there is no recording yet; the cockpit and `llmtop run` make them")
    return found[0].path


def named(name: str) -> Path | None:
    """The recording of that name among the user's runs, else the newest whose label it is; None: there is none."""
    if "/" in name or "\0" in name or name.startswith("."):
        return None
    path = runs_directory() / f"{name.removesuffix(SUFFIX)}{SUFFIX}"
    if _recording(path) is not None:
        return path
    return next((each.path for each in recordings() if _is_called(each, name)), None)


def _is_called(recording: Recording, name: str) -> bool:
    """By its label: in the name that llmtop gave its file, or in the file, where somebody else has named that."""
    if recording.path.parent == runs_directory() and _STAMP.match(recording.path.name):
        return _STAMP.sub("", recording.path.stem, count=1) == name
    return glance(recording.path).label == name


def run_path(text: str) -> Path:
    """The path of a run file: `last`, a name from `llmtop runs`, or a path. Raises FileError."""
    if text == LAST:
        return newest()
    path = path_of(text, RunFileError)
    if path.exists():
        return path
    if (known := named(text)) is not None:
        return known
    raise RunFileError(path, f"no such file; `llmtop runs` lists the recordings, {LAST!r} is the newest")


def glance(path: Path) -> Glance:
    """What it was. Nothing in the file is trusted."""
    try:
        opened = Opened(path)
        with contextlib.closing(opened):
            guard.hardened(opened.database)
            tables = guard.tables(opened.database)
            meta = read_meta(opened.database, path)
            requests = _last_row(opened.database) if "request" in tables else None
    except (RunFileError, sqlite3.Error, ValueError, TypeError) as error:
        return Glance(problem=plain(error.problem if isinstance(error, RunFileError) else str(error), LONG))
    endpoint = meta.endpoint
    return Glance(
        profile=meta.profile.name,
        label=meta.label,
        model=meta.info.model if meta.info else endpoint.model,
        target=f"--sim {meta.preset}" if endpoint.simulated else endpoint.base_url,
        length_s=meta.ended_s,
        requests=requests,
    )


def goes_on(recording: Recording, now: float) -> bool:
    """Whether somebody may still be writing it.

    Args:
        now: wall clock, Unix seconds.
    """
    return now - recording.changed_at < GOES_ON_S and glance(recording.path).length_s is None


def remove(recording: Recording) -> None:
    """Delete it, and what SQLite has left beside it. Raises FileError: it has changed, or cannot be deleted."""
    path = recording.path
    if _recording(path) != recording:
        raise FileError(path, "has changed since it was looked at, and is not deleted")
    try:
        path.unlink()
        for ending in _BESIDE:
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except OSError as error:
        raise FileError(path, f"cannot be deleted: {error.strerror or error}") from None


def remember(path: Path, sentence: str) -> None:
    """Keep what was said of a run at its end, for lists of runs; no harm is done where it cannot be kept."""
    with contextlib.suppress(OSError, ValueError, FileError):
        path = path.absolute()
        runs = {name: said for name, said in _remembered().runs.items() if Path(name).exists()}
        runs.pop(str(path), None)
        runs[str(path)] = _Said(size=path.stat().st_size, sentence=plain(sentence, LONG))
        kept = dict(list(runs.items())[-MOST_REMEMBERED:])
        make_folder(_place().parent)
        content = msgspec.json.encode(_Remembered(runs=kept))
        write_whole(_place(), content, is_ours=lambda old: old.startswith(_HEAD))


def said() -> Mapping[Path, str]:
    """What is remembered of recordings that are still as they were then."""
    told = {}
    for name, each in _remembered().runs.items():
        recording = _recording(Path(name))
        if recording is not None and recording.size == each.size:
            told[recording.path] = plain(each.sentence, LONG)
    return told


def _place() -> Path:
    return user_folder("data") / "said.json"


def _remembered() -> _Remembered:
    try:
        with _place().open("rb") as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=_Remembered)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        return _Remembered()


def _among_runs() -> Iterator[Path]:
    try:
        with os.scandir(runs_directory()) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX):
                    yield runs_directory() / entry.name
    except OSError:
        return


def _recording(path: Path) -> Recording | None:
    """None: it is not there, or no plain file of this user with the header of a run."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or not _has_our_header(path):
            return None
    except (OSError, ValueError):
        return None
    begun_at, stamp = status.st_mtime, _STAMP.match(path.name)
    if stamp is not None:
        with contextlib.suppress(ValueError, OverflowError, OSError):
            begun_at = datetime.strptime(stamp[1], "%Y%m%d-%H%M%S").timestamp()
    return Recording(path=path, begun_at=begun_at, changed_at=status.st_mtime, size=status.st_size)


def _has_our_header(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(72)
    return head.startswith(SQLITE) and head[68:72] == schema.APPLICATION_ID.to_bytes(4, "big")


def _last_row(database: sqlite3.Connection) -> int:
    row = database.execute("SELECT rowid FROM request NOT INDEXED ORDER BY rowid DESC LIMIT 1").fetchone()
    return row[0] if row is not None and isinstance(row[0], int) and row[0] >= 0 else 0
