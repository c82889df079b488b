"""A user's own file, read at one border: whatever a name may lead to ends in its bytes or in a FileError."""

from __future__ import annotations

import os
import re
import select
import stat
import tomllib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from llmtop.domain.plain import plain
from llmtop.errors import FileError

MOST_NAME = 4096
"""Characters of a path; Linux takes no more."""
SHOWN = 120
"""Characters of a name that are shown where it leads nowhere."""
PIPE_PATIENCE_S = 5.0
"""How long a pipe may say nothing."""
MOST_DEPTH = 32
"""Tables in tables of a TOML file."""
_CHUNK = 1 << 20
_STRINGS = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*+(?:""")?|"(?:[^"\\\n]|\\.)*+"?|#[^\n]*'''
    + r"""|'''(?:[^']|'(?!''))*+(?:''')?|'[^'\n]*'?""",
    re.DOTALL,
)
"""And comments: brackets and dots in them open nothing."""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]+[ \t]*\.[ \t]*){{{MOST_DEPTH}}}")


def expanded(text: str | Path, kind: type[FileError] = FileError) -> Path:
    """The path that a text names, `~` resolved. Raises `kind` for a name that no file can have."""
    name, shown = str(text), plain(str(text), SHOWN)
    if not name.strip():
        raise kind(repr(shown), "is no name of a file")
    if "\0" in name or len(name) > MOST_NAME:
        raise kind(shown, f"is no name of a file: {'it has a NUL' if chr(0) in name else 'it is too long'}")
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise kind(shown, "there is no such user: write the path in full") from None


def path_of(text: str | Path, kind: type[FileError] = FileError) -> Path:
    """As `expanded`, where the way to the file may be gone. Raises `kind`; for no such file it does not."""
    path = expanded(text, kind)
    try:
        path.stat()
    except FileNotFoundError:
        return path
    except (OSError, ValueError) as error:
        raise kind(plain(str(text), SHOWN), f"cannot be read: {reason(error)}") from None
    return path


def bytes_of(path: Path, most: int, kind: type[FileError] = FileError) -> bytes:
    """The content of a file, or what a pipe gives (`<(...)`) until it ends.

    Args:
        most: bytes; a larger file is refused before it is read.
        kind: of the error.

    Raises `kind`: it cannot be read, is no file, is too large, or a pipe that nobody writes to.
    """
    return b"".join(parts_of(path, most, kind))


def parts_of(path: Path, most: int, kind: type[FileError] = FileError) -> Iterator[bytes]:
    """As `bytes_of`, part by part as it is read, so that a file larger than the memory can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise kind(path, f"cannot be read: {reason(error)}") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise kind(path, "is a folder: name a file in it")
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISFIFO(status.st_mode):
            raise kind(path, "is a device or a socket: name a file")
        if status.st_size > most:
            raise kind(path, _too_large(most))
        yield from _parts(path, descriptor, most, kind, pipe=stat.S_ISFIFO(status.st_mode))
    except OSError as error:
        raise kind(path, f"cannot be read: {reason(error)}") from None
    finally:
        os.close(descriptor)


def text_of(path: Path, most: int, kind: type[FileError] = FileError) -> str:
    """As `bytes_of`, as text in UTF-8, a byte order mark left out."""
    data = bytes_of(path, most, kind)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise kind(path, f"is not UTF-8 text (byte {error.start})") from None


def tables_of(text: str, path: object, kind: type[FileError] = FileError) -> dict[str, Any]:
    """The tables of a TOML file. Raises `kind`: it is no TOML, or nested too deep to be one that somebody wrote."""
    bare = _STRINGS.sub("s", text)
    depth = max(
        accumulate((character in "[{") - (character in "]}") for character in bare if character in "[{]}"), default=0
    )
    if depth > MOST_DEPTH or _LONG_KEY.search(bare):
        raise kind(path, f"is nested deeper than {MOST_DEPTH} tables")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problem = "a number in it has too many digits" if "integer string conversion" in str(error) else str(error)
        raise kind(path, f"is not TOML: {plain(problem)}") from None


def reason(error: OSError | ValueError) -> str:
    """What the system says of a file that it does not give."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "its name has a NUL"


def _parts(path: Path, descriptor: int, most: int, kind: type[FileError], *, pipe: bool) -> Iterator[bytes]:
    size = 0
    while True:
        if pipe and not select.select([descriptor], [], [], PIPE_PATIENCE_S)[0]:
            raise kind(path, "is a pipe that nobody writes to")
        try:
            part = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            continue
        if not part:
            break
        size += len(part)
        if size > most:
            raise kind(path, _too_large(most))
        yield part
    if pipe and not size:
        raise kind(path, "is a pipe that nobody writes to")


def _too_large(most: int) -> str:
    return f"is larger than {most / 1e6:,.0f} MB, the most that is read"
