"""The sockets at which runs can be found: among the run files, each with its run's name, for their owner alone."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from llmtop.errors import FileError, shortage
from llmtop.files import FILE_MODE, make_folder, temporary_folder, usual_temporary_folder
from llmtop.recording.runfile import beside
from llmtop.recording.writer import runs_directory

SUFFIX = ".sock"
WAITING = 16
"""So many may be at the door at once."""
MOST_NAMES = 100
"""Of runs that are called alike."""
_PEER = struct.Struct("3i")
_mine: set[Path] = set()
"""Those at which this process listens."""


def opened(name: str) -> tuple[socket.socket, Path]:
    """A socket that is listened at, and where it is. One that is there already keeps its name.

    Raises OSError: there is no place for it.
    """
    failed: OSError | None = None
    for folder in (runs_directory, lambda: _apart(temporary_folder())):
        try:
            return _opened_in(folder(), name)
        except OSError as error:  # no such folder, a path that is too long, a file system without sockets
            if shortage(error) is not None:
                raise
            failed = error
    assert failed is not None
    raise failed


def _apart(folder: Path) -> Path:
    """Those of the runs that lie elsewhere are elsewhere here, too."""
    return folder / f"runs-{hashlib.sha256(os.fsencode(runs_directory())).hexdigest()[:8]}"


def _opened_in(folder: Path, name: str) -> tuple[socket.socket, Path]:
    try:
        make_folder(folder)
    except FileError as error:
        raise OSError(error.problem) from None
    for path in islice(beside(folder / f"{name}{SUFFIX}"), MOST_NAMES):
        door = socket.socket(socket.AF_UNIX)
        try:
            door.bind(os.fspath(path))
            path.chmod(FILE_MODE)  # nobody can come in before it listens
            door.listen(WAITING)
            door.setblocking(False)
        except OSError as error:
            door.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            _mine.add(path)
            return door, path
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def found() -> Iterator[Path]:
    """Paths of this user's sockets, whether somebody listens there or not."""
    for folder in (runs_directory(), _apart(usual_temporary_folder())):
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(SUFFIX))
        except OSError:
            continue
        yield from (folder / name for name in names if is_own(folder / name))


def is_own(path: Path) -> bool:
    """Whether it is a socket of this user, and no link to one."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == os.getuid()


def remove_mine() -> None:
    """For a process that ends at once."""
    for path in tuple(_mine):
        remove(path)


def forget(path: Path) -> None:
    """What lies there is none of ours any more."""
    _mine.discard(path)


def remove(path: Path) -> None:
    forget(path)
    with contextlib.suppress(OSError):
        path.unlink()
        if path.parent != runs_directory():
            path.parent.rmdir()  # if it was the last one there


def peer_of(connection: socket.socket) -> tuple[int, int] | None:
    """User and process at its other end; None: the system does not tell."""
    if sys.platform != "linux":
        return None
    pid, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return uid, pid
