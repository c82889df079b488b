"""Files of this machine that a load worker on another one needs: they go with its setup and lie there meanwhile."""

from __future__ import annotations

import hashlib
import socket
import zlib
from pathlib import Path

from msgspec.structs import replace

from llmtop.errors import FileError, UsageError
from llmtop.inputs import bytes_of, expanded
from llmtop.load.messages import SentFile, WorkerSetup
from llmtop.traffic.rows import path_of_workload

MOST_BYTES = 64 << 20
"""Of one file."""
MOST_SENT = 1 << 30
"""To all workers together, packed."""
_OF_ENDPOINT = ("ca_file", "client_cert", "client_key")


def sent_files(setup: WorkerSetup) -> tuple[SentFile, ...]:
    """Raises FileError, UsageError."""
    named = {key: getattr(setup.endpoint, key) for key in _OF_ENDPOINT}
    sent = [SentFile(key, path, _packed(expanded(path))) for key, path in named.items() if path is not None]
    workload = setup.workload
    if workload.source == "python":
        path = path_of_workload(workload).absolute()
        sent.append(SentFile("users", str(path), digest=_digest(path)))
    elif workload.file is not None and not setup.recorded:
        path = path_of_workload(workload)
        sent.append(SentFile("rows", path.name, _packed(path)))
    total = setup.workers * sum(len(file.packed) for file in sent)
    if total > MOST_SENT:
        raise UsageError(
            f"{workload.file}: {total >> 20} MiB would have to be sent to {setup.workers} load workers, and "
            f"{MOST_SENT >> 20} are the most: take fewer rows, or fewer workers"
        )
    return tuple(sent)


def laid_down(setup: WorkerSetup, folder: Path) -> WorkerSetup:
    """The setup with the files that came with it in `folder`, where nobody else can read them.

    Raises FileError where users are to be imported from a file that is not here, or is another one.
    """
    endpoint, workload = setup.endpoint, setup.workload
    for file in setup.files:
        if file.what == "users":
            _check_users(file)
            workload = replace(workload, file=file.name)
            continue
        place = folder / f"{file.what}-{Path(file.name).name}"
        place.write_bytes(zlib.decompress(file.packed))
        if file.what == "rows":
            workload = replace(workload, file=str(place))
        else:
            endpoint = replace(endpoint, **{file.what: str(place)})
    return replace(setup, endpoint=endpoint, workload=workload, files=())


def _check_users(file: SentFile) -> None:
    """Their code imports what lies beside it, and so is not sent. Raises FileError."""
    host = socket.gethostname()
    path = Path(file.name)
    if not path.exists():
        raise FileError(path, f"is not on {host}: copy it there under the same name, with what it imports")
    if _digest(path) != file.digest:
        raise FileError(path, f"is another file on {host}: copy the one that is here")


def _packed(path: Path) -> bytes:
    return zlib.compress(bytes_of(path, MOST_BYTES), 1)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(bytes_of(path, MOST_BYTES)).digest()
