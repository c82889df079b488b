"""Lines of JSON as containers keep them: behind a time and a stream, behind a name, or as text in Docker's own JSON.

Kubernetes (CRI)          2026-11-26T12:00:00.1Z stdout F {"msec": ...}
Docker (json-file)        {"log": "{\\"msec\\": ...}\\n", "stream": "stdout", "time": "..."}
docker compose, kubectl   nginx-1  | {"msec": ...}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

MOST_BEFORE = 200
"""Bytes before a line's JSON: names of pods are long."""


class _Docker(Struct, gc=False):
    log: str


_KEPT = msgspec.json.Decoder(_Docker)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
Bare = Callable[[bytes], bytes]


def of_docker(line: bytes) -> bytes:
    """What a container has said, of a line of Docker's; another line as it is."""
    try:
        return _KEPT.decode(line).log.encode("utf-8", "surrogatepass")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return line


def behind(line: bytes) -> bytes:
    """The JSON that a line ends with; another line as it is."""
    at = line.find(b" {", 0, MOST_BEFORE)
    return line[at + 1 :] if at >= 0 and line[:1] != b"{" else line


def way_in(head: Sequence[bytes]) -> Bare | None:
    """How to come to the JSON of each line, by a file's first lines; None: it stands there bare, or there is none."""
    told = [line for line in head if line.strip()]
    for bare in (of_docker, behind):
        inner = [bare(line) for line in told]
        found = sum(new is not line and _is_object(new) for new, line in zip(inner, told, strict=True))
        if 2 * found > len(told):
            return bare
    return None


def _is_object(line: bytes) -> bool:
    try:
        _OBJECT.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True
