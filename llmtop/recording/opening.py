"""Opening a run file to read it: where nothing may be written, while it is being written, and after a kill, too."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmtop.errors import RunFileError
from llmtop.recording import schema
from llmtop.recording.runfile import is_lock, reason

WAIT_S = 5.0
"""For another program's lock; a writer of ours holds one for milliseconds."""
COPIED_BYTES = 1 << 30
"""A longer file is read where it lies, also while it is being written."""
COPIES = 3
"""A file and its journal are two: while somebody writes, they may have to be copied again to belong together."""
_WAL = 2


class Opened:
    """A connection to a run file, and what is known of the file beside its rows.

    Raises RunFileError: no such file, no database, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        """Of a copy; removed with it."""
        with self._mapped():
            self._real = path.resolve()
            self._log_of_its_own = _has_log(path)
            self.database = self._open()

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            said = reason(error) if is_lock(error) else f"not a run file of llmtop, or damaged ({error})"
            raise RunFileError(self.path, said) from error
        except OSError as error:
            raise RunFileError(self.path, f"cannot be read: {error.strerror or error}") from None
        except (ValueError, RuntimeError) as error:  # a name with a NUL; links that lead in a circle
            raise RunFileError(ascii(str(self.path)), f"is no name of a file: {error}") from None

    @property
    def lacks(self) -> Path | None:
        """The log that belongs to the file, if it is not beside it: its last facts are missing then."""
        log = self._beside("wal")
        return log if self._log_of_its_own and not log.exists() else None

    def _beside(self, kind: str) -> Path:
        return self._real.with_name(f"{self._real.name}-{kind}")

    def _open(self) -> sqlite3.Connection:
        journals = [self._beside(kind) for kind in ("wal", "journal")]
        with_journal = any(journal.exists() and journal.stat().st_size for journal in journals)
        if not with_journal:
            # Without a log nobody has such a file open; SQLite would want to make one to read it.
            return _connected(self._real, "mode=ro&immutable=1" if self._log_of_its_own else "mode=ro")
        try:
            return _connected(self._real, "mode=ro")
        except sqlite3.OperationalError as error:
            if is_lock(error):
                raise
            return _connected(self._copied(journals), "mode=rw")  # a journal that is to be played back

    def _copied(self, journals: list[Path]) -> Path:
        """The file and what lies beside it, as they belong together, where it can be written."""
        self._folder = tempfile.TemporaryDirectory(prefix="llmtop-")
        copy = Path(self._folder.name) / "run"
        for _ in range(COPIES):
            before = _stamps(self._real, *journals)
            shutil.copyfile(self._real, copy)
            for journal, kind in zip(journals, ("wal", "journal"), strict=True):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(journal, copy.with_name(f"run-{kind}"))
            if before == _stamps(self._real, *journals):
                break
        return copy

    def detach(self) -> bool:
        """Go on with a copy, and let whoever writes the file write. Returns whether the connection is another one."""
        if self._folder is not None or self._real.stat().st_size > COPIED_BYTES:
            return False
        copy = sqlite3.connect("")  # of its own: in memory, or in a temporary file where it is large
        try:
            self.database.backup(copy, pages=-1)
        except sqlite3.Error:
            copy.close()
            return False
        self.database.close()
        self.database = copy
        return True

    def close(self) -> None:
        self.database.close()
        if self._folder is not None:
            self._folder.cleanup()


def _has_log(path: Path) -> bool:
    """Whether changes to the file are first written to a log beside it, by its header. Raises OSError, RunFileError."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise RunFileError(path, "no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise RunFileError(
            path, f"not a run file, but a {'folder' if stat.S_ISDIR(status.st_mode) else 'device or pipe'}"
        )
    with path.open("rb") as file:
        head = file.read(20)
    return len(head) == 20 and head[18] == _WAL


def _connected(path: Path, how: str) -> sqlite3.Connection:
    """With its first page read, so that what cannot be opened says so. Raises sqlite3.Error."""
    database = sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=WAIT_S)
    try:
        (identity,) = database.execute("PRAGMA application_id").fetchone()
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    if identity != schema.APPLICATION_ID:
        database.close()
        raise sqlite3.DatabaseError("its header is another program's")
    return database


def _stamps(*paths: Path) -> list[tuple[int, int] | None]:
    stamps: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
            stamps.append((status.st_size, status.st_mtime_ns))
        except FileNotFoundError:
            stamps.append(None)
    return stamps
