"""Files of this user: where they lie, and how they come to be whole, private, and in the place of nothing of others.

All files that llmtop makes are for their owner alone (600, folders 700), whatever the umask: they name endpoints and
hold what servers said. No symbolic link is followed to a file that is written.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

import platformdirs

from llmtop.errors import FileError

FILE_MODE, FOLDER_MODE = 0o600, 0o700
SQLITE = b"SQLite format 3\0"
"""Every recording begins so."""
LOOKED_AT = 1 << 26
"""Bytes of an existing file that are read to see whose it is; a longer one is no report of ours."""

Kind = Literal["data", "config", "state", "log"]
IsOurs = Callable[[bytes], bool]
_FOLDERS: dict[Kind, tuple[str, str]] = {
    "data": ("XDG_DATA_HOME", ".local/share/llmtop"),
    "config": ("XDG_CONFIG_HOME", ".config/llmtop"),
    "state": ("XDG_STATE_HOME", ".local/state/llmtop"),
    "log": ("XDG_STATE_HOME", ".local/state/llmtop/log"),
}


# ── Where ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def user_folder(kind: Kind) -> Path:
    """This user's folder for `kind`; nothing is made. A relative XDG variable counts as none, as its standard asks.

    Where there is no home, the folder lies in one that does not exist, so that it is empty and cannot be made.
    """
    asked = Path(getattr(platformdirs, f"user_{kind}_dir")("llmtop"))
    if asked.is_absolute():
        return asked
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.expanduser raises where there is no home
    return (home if home.is_absolute() else Path(os.devnull) / "no-home") / _FOLDERS[kind][1]


def ignored(kind: Kind) -> str:
    """Why the folder for `kind` is not where the environment says, in words; empty: it is."""
    name = _FOLDERS[kind][0]
    value = os.environ.get(name, "")
    return f"{name} is ignored: {value!r} is no absolute path" if value and not Path(value).is_absolute() else ""


def temporary_folder() -> Path:
    """A folder of this user alone among the temporary ones: the same each time, if nobody else has taken its name.

    Raises OSError: there is none that can be written.
    """
    folder = usual_temporary_folder()
    with contextlib.suppress(FileExistsError):
        folder.mkdir(FOLDER_MODE)
        folder.chmod(FOLDER_MODE)
    status = folder.lstat()
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    return folder if private and os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="llmtop-"))


def usual_temporary_folder() -> Path:
    """Where `temporary_folder` is, if nobody else has taken its name; it may not be there."""
    return Path(tempfile.gettempdir()) / f"llmtop-{os.getuid()}"


def run_name(name: str, started_at: float) -> str:
    """What a run is called, by its label or profile: `YYYYmmdd-HHMMSS-name`, in order of time."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:60] or "run"
    return f"{datetime.fromtimestamp(started_at):%Y%m%d-%H%M%S}-{plain}"


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing; what is there is left as it is. Raises FileError."""
    missing = []
    with _mapped(folder):
        while not folder.is_dir():
            missing.append(folder)
            if folder == folder.parent:
                break
            folder = folder.parent
        for each in reversed(missing):
            each.mkdir(FOLDER_MODE)
            each.chmod(FOLDER_MODE)  # the umask may have taken from us what we need


def create(path: Path) -> int:
    """A descriptor of a new, empty file. Raises OSError: FileExistsError for anything in its place, links included."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor


# ── Writing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_new(path: Path) -> Path:
    """The path, where a file can be made; a missing folder of it, too. Nothing is made. Raises FileError: and why."""
    with _mapped(path):
        if _status(path) is not None:
            raise FileError(path, "exists already: give another name")
        folder = path.parent
        while _status(folder) is None and folder != folder.parent:
            folder = folder.parent
        _check_folder(path, folder)
    return path


def check_target(path: Path, is_ours: IsOurs, *, force: bool = False) -> Path:
    """The path, where `write_whole` can write. Nothing is changed. Raises FileError: it cannot, and why."""
    with _mapped(path):
        status = _status(path)
        if _status(path.parent) is None:
            raise FileError(path, f"there is no folder {path.parent}")
        if status is None or not _is_device(path):
            _check_folder(path, path.parent)
        if status is not None:
            _check_old(path, status, is_ours, force)
    return path


def write_whole(path: Path, content: bytes, is_ours: IsOurs, *, force: bool = False) -> bool:
    """Write a file beside and put it in its place when it is whole. Returns whether something else was there before.

    Args:
        is_ours: whether what is there was written by llmtop, by its bytes; else it is not written over.
        force: write over what is not ours, too; a recording is never written over.

    Raises FileError: there is no such folder, what is there is not ours, or it cannot be written.
    """
    check_target(path, is_ours, force=force)
    with _mapped(path):
        if _is_device(path):
            _hand_over(path, content)
            return False
        before = _content(path)
        beside = _beside(path.parent)
        try:
            descriptor = create(beside)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            beside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
    return before is not None and before != content


def append(path: Path, content: bytes) -> None:
    """Write behind what somebody else's file has, in one piece; one that is not there is made. No FIFO is waited for.

    Raises FileError: it cannot be written, and why.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with _mapped(path), os.fdopen(os.open(path, flags, FILE_MODE), "wb") as file:
        file.write(content)


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(path, f"cannot be written: {error.strerror or error}") from None
    except ValueError as error:
        raise FileError(ascii(str(path)), f"is no name of a file: {error}") from None


def _status(path: Path) -> os.stat_result | None:
    """Of the path itself, not of where a link leads; None: nothing is there."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _is_device(path: Path) -> bool:
    """Such as /dev/null or /dev/stdout, which takes what is written and is not to be replaced."""
    try:
        return stat.S_ISCHR(path.stat().st_mode) or path.parent in (Path("/dev"), Path("/dev/fd"))
    except FileNotFoundError:
        return False


def _hand_over(path: Path, content: bytes) -> None:
    """Write to a device, behind what others have written there."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC), "wb") as device:
        device.write(content)


def _beside(folder: Path) -> Path:
    return folder / f".llmtop-{os.urandom(6).hex()}"


def _check_folder(path: Path, folder: Path) -> None:
    """That a file can be made there: one is. Raises FileError or OSError."""
    if not folder.is_dir():
        raise FileError(path, f"{folder} is not a folder")
    beside = _beside(folder)
    os.close(create(beside))
    beside.unlink()


def _check_old(path: Path, status: os.stat_result, is_ours: IsOurs, force: bool) -> None:
    """That what is there may be written over. Raises FileError or OSError."""
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        raise FileError(path, "is a folder: name a file in it")
    if _is_device(path):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise FileError(path, "is no file: give another name")
    content = _content(path)
    if content is not None and content.startswith(SQLITE):
        raise FileError(path, "is a recording or another database, and is not written over: give another name")
    if force:
        return
    if stat.S_ISLNK(mode):
        raise FileError(path, "is a symbolic link, and is not followed: give another name, or remove it")
    if content and not is_ours(content):
        raise FileError(path, "is not as llmtop wrote it, and is not written over: give another name, or remove it")


def _content(path: Path) -> bytes | None:
    """What is there; None: nothing. No FIFO is waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(LOOKED_AT)
