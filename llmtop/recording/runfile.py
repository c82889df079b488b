"""A run file being written, by one thread: whatever the disk does, no fact is in it twice, none is missing unsaid."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import sqlite3
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from llmtop.domain.run import Chapter, FactBatch, LoadChange, RunMeta
from llmtop.errors import FileError
from llmtop.files import create, temporary_folder
from llmtop.recording import schema
from llmtop.recording.rows import Piece, put, put_entries, size_of
from llmtop.wording import recording as words

SUFFIX = ".llmtop"
PIECE_FACTS = 5000
"""Of one transaction at most: an attempt that fails must not cost the load's process more than some 30 ms."""
COPY_PAGES = 4096
COPY_S, RESCUE_S = 30.0, 3.0
"""How long what is recorded may take to be copied into another file: while the run goes on, and when it is over."""
_BUSY, _LOCKED, _CORRUPT, _FULL, _NOT_ONE = 5, 6, 11, 13, 26
"""Primary result codes of SQLite."""


class Moved(Exception):
    """Where the file was is not our file any more.

    Args:
        why: in words.
        readable: whether what was recorded can still be read through the open connection.
    """

    def __init__(self, why: str, readable: bool) -> None:
        super().__init__(why)
        self.why, self.readable = why, readable


def beside(path: Path) -> Iterator[Path]:
    """Names like this one: itself, then with a number at its end."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


class RunFile:
    """The file, and what is not in it yet.

    A commit leaves one plain file (SQLite's rollback journal is there only while it lasts, synchronous NORMAL), so that
    the file alone, copied at any time, holds all that was committed. In the same transaction a number says up to which
    batch, and whose file it is: an attempt of which is not known whether it succeeded is never repeated, and nothing is
    written into a file that somebody has put in its place.

    Args:
        path: must not exist; its folder must.

    Raises OSError or sqlite3.Error: it cannot be made.
    """

    def __init__(self, path: Path, meta: RunMeta) -> None:
        self.path = path
        self._meta = meta
        self._kept: deque[tuple[int, Piece]] = deque()
        """What the disk does not have yet, numbered in the order in which it was told."""
        self._told = self._written = 0
        """Pieces; of those written, so many at least."""
        self.written_s = 0.0
        self.facts = 0
        """Up to when facts are on the disk, on the run clock, and how many."""
        self.left_out, self.left_out_why = 0, ""
        """Facts that no database can hold, and why the last of them."""
        self._change: LoadChange | None = None
        self._chapter: Chapter | None = None
        """The last that are written: a file that begins later begins with them."""
        self._identity = secrets.token_hex(8)
        self._filled: list[tuple[int, Piece]] = []
        self._unfit: list[str] = []
        self._ready = False
        """The open transaction holds all of `_filled`, and can be committed."""
        self._touched = self._damaged = False
        """Somebody else has written into the file; what is in it counts no more."""
        self._database: sqlite3.Connection | None = None
        self._place, self._size, self._changed_ns = (0, 0), 0, 0
        self._begin(path, None)

    # ── What is told ──────────────────────────────────────────────────────────────────────────────────────────────

    def tell(self, piece: Piece) -> None:
        self._told += 1
        self._kept.append((self._told, piece))

    @property
    def waits_since_s(self) -> float | None:
        """When what waits for the disk begins; None: nothing does."""
        return next((piece.t_s for _, piece in self._kept if isinstance(piece, FactBatch)), None)

    @property
    def saved(self) -> bool:
        """Whether the disk has everything."""
        return not self._kept

    # ── To the disk ───────────────────────────────────────────────────────────────────────────────────────────────

    def save(self) -> None:
        """Write what waits.

        Raises Moved, OSError, sqlite3.Error, MemoryError: and what was not written waits on.
        """
        self._look()
        while self._kept:
            self._transact()
            self._look()

    def _look(self) -> None:
        """That the path still leads to our file. By its name alone: closing a descriptor of it would end the locks."""
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise Moved(words.DELETED, readable=True) from None
        if (status.st_dev, status.st_ino) != self._place:
            raise Moved(words.REPLACED, readable=True)
        if status.st_size < self._size or self._damaged:
            self._damaged = True  # also if it cannot be left at once, and grows again
            raise Moved(words.CUT_SHORT, readable=False)
        if status.st_mtime_ns != self._changed_ns:
            self._undo()
            self._let_go()  # nothing that is remembered of it counts
            self._touched = True

    def _know(self) -> None:
        """The file as it is now is as we have left it."""
        status = self.path.stat()
        self._place, self._size = (status.st_dev, status.st_ino), status.st_size
        self._changed_ns = status.st_mtime_ns

    def _transact(self) -> None:
        """One transaction with the next pieces; also one that could not be committed because of a lock, again."""
        try:
            database = self._connection()
            if not database.in_transaction:
                self._fill(database)
            database.execute("COMMIT")
            self._know()
        except sqlite3.Error as error:
            code = _code(error)
            if code in (_BUSY, _LOCKED) and self._ready:
                raise  # the transaction stays open, and has not to be filled again
            self._undo()
            if code in (_CORRUPT, _NOT_ONE):
                self._damaged = True
                raise Moved(words.CUT_SHORT, readable=False) from error
            if code not in (_BUSY, _LOCKED, _FULL):
                self._let_go()
            raise
        except BaseException:
            self._undo()
            raise
        self.left_out += len(self._unfit)
        self.left_out_why = self._unfit[-1] if self._unfit else self.left_out_why
        if self._filled:
            self._forget(self._filled[-1][0])
        self._filled, self._unfit = [], []

    def _fill(self, database: sqlite3.Connection) -> None:
        self._filled, self._unfit, self._ready = [], [], False
        database.execute("BEGIN IMMEDIATE")
        self._forget(self._marked(database))
        if self._touched and database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            self._damaged = True
            raise Moved(words.CUT_SHORT, readable=False)
        self._touched = False
        room = PIECE_FACTS
        for number, piece in self._kept:
            room -= size_of(piece) if isinstance(piece, FactBatch) else 1
            if room < 0 and self._filled:
                break
            self._unfit += put(database, piece)
            self._filled.append((number, piece))
        if self._filled:
            put_entries(database, [("written", f"{self._identity} {self._filled[-1][0]}")])
        self._ready = True

    def _marked(self, database: sqlite3.Connection) -> int:
        """Up to which piece this file holds what was told. Raises Moved: it is another's, or an older copy."""
        try:
            row = database.execute("SELECT value FROM meta WHERE key = 'written'").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            row = None
        whose, _, number = str(row[0]).partition(" ") if row else ("", "", "")
        if whose != self._identity or int(number) < self._written:
            raise Moved(words.CUT_SHORT, readable=False)
        return int(number)

    def _forget(self, written: int) -> None:
        """The disk has the pieces up to this one."""
        self._written = written
        while self._kept and self._kept[0][0] <= written:
            _, piece = self._kept.popleft()
            if isinstance(piece, RunMeta):
                self._meta = piece
            else:
                self.written_s = piece.t_s
                self.facts += size_of(piece)
                self._change = piece.changes[-1] if piece.changes else self._change
                self._chapter = piece.chapters[-1] if piece.chapters else self._chapter

    # ── Connections ───────────────────────────────────────────────────────────────────────────────────────────────

    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = _connect(self.path)
        return self._database

    def _undo(self) -> None:
        if self._database is not None and self._database.in_transaction:
            try:
                self._database.execute("ROLLBACK")
            except sqlite3.Error:
                self._let_go()

    def _let_go(self) -> None:
        """The next attempt opens the file anew."""
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()

    def close(self) -> None:
        self._undo()
        self._let_go()

    def remove(self) -> None:
        """Take the file away again, if it is this one; it is closed. Raises OSError."""
        status = self.path.stat()
        if (status.st_dev, status.st_ino) == self._place:
            self.path.unlink()

    # ── Another file ──────────────────────────────────────────────────────────────────────────────────────────────

    def move(self, readable: bool) -> bool:
        """Go on in another file: at the old place if that is free, else beside, else in a temporary folder.

        Returns whether it has all of the run; else what was written before is lost.
        Raises OSError, sqlite3.Error: there is no such place.
        """
        places = beside(self.path)
        if not readable:
            next(places)
        return self._move(places, readable, COPY_S)

    def rescue(self) -> bool:
        """As `move`, into a temporary folder, and soon."""
        with contextlib.suppress(sqlite3.Error):
            self._connection()
        return self._move((), True, RESCUE_S)

    def _move(self, places: Iterable[Path], readable: bool, limit_s: float) -> bool:
        self._undo()
        source = self._database if readable and not self._damaged and self._sound() else None
        for path in places:
            with contextlib.suppress(FileExistsError):
                try:
                    return self._begin(path, source, limit_s)
                except (OSError, sqlite3.Error) as error:
                    if isinstance(error, FileExistsError):
                        raise
                    break
        for path in beside(temporary_folder() / self.path.name):
            with contextlib.suppress(FileExistsError):
                return self._begin(path, source, limit_s)
        raise FileExistsError("no name is free")

    def _sound(self) -> bool:
        """Whether the open connection reads what was written."""
        try:
            return self._database is not None and self._marked(self._database) >= 0
        except (sqlite3.Error, Moved):
            return False

    def _begin(self, path: Path, source: sqlite3.Connection | None, limit_s: float = 0.0) -> bool:
        """Make a file there, with all that `source` holds, and go on in it. Returns whether there was a source."""
        os.close(create(path))
        database = None
        try:
            database = _connect(path)
            if source is None:
                self._empty(database)
            else:
                _copy(source, database, limit_s)
        except BaseException:
            if database is not None:
                database.close()
            path.unlink(missing_ok=True)
            if source is not None:
                self._let_go()  # what cannot be copied now is not waited for
            raise
        self._let_go()
        self.path, self._database = path, database
        self._touched = self._damaged = False
        self._know()
        return source is not None

    def _empty(self, database: sqlite3.Connection) -> None:
        """A file without facts but those that say what was going on."""
        database.execute("BEGIN IMMEDIATE")
        for statement in schema.create_sql():
            database.execute(statement)
        put(database, self._meta)
        changes = () if self._change is None else (self._change,)
        chapters = () if self._chapter is None else (self._chapter,)
        put(database, FactBatch(t_s=self.written_s, changes=changes, chapters=chapters))
        put_entries(database, [("written", f"{self._identity} {self._written}")])
        database.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    """To a file that is there; it is not waited for a lock. Used by one thread at a time."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    database = sqlite3.connect(uri, uri=True, timeout=0.0, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA synchronous = NORMAL")
    return database


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, limit_s: float) -> None:
    """Raises TimeoutError: it took longer, also because of a lock, for which SQLite would wait for ever."""
    until_s = time.monotonic() + limit_s

    def look(status: int, left: int, total: int) -> None:
        if left and time.monotonic() > until_s:
            raise TimeoutError(f"{left} of {total} pages could not be copied within {limit_s:g} s")

    source.backup(target, pages=COPY_PAGES, progress=look, sleep=0.05)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0: none was told."""
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def reason(error: BaseException) -> str:
    """Why the disk did not take something, in words."""
    if isinstance(error, sqlite3.Error):
        return {_BUSY: words.LOCKED, _LOCKED: words.LOCKED, _FULL: words.FULL}.get(_code(error), str(error))
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return error.problem if isinstance(error, FileError) else f"{type(error).__name__} {error}".strip()


def is_lock(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and _code(error) in (_BUSY, _LOCKED)
