"""What an interrupted tune has measured already: kept until the tune is done, so that none of it is driven twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, MutableMapping
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from llmtop.analysis.tuning import Outcome
from llmtop.errors import FileError
from llmtop.files import make_folder, user_folder, write_whole

STALE_S = 6 * 3600.0
"""What was measured longer ago is measured again: clocks, drivers and neighbours change within a day."""
MOST_BYTES = 4_000_000
_HEAD = b'{"llmtop":"tune"'


class _Kept(Struct, frozen=True):
    llmtop: str
    saved_at: float
    outcomes: dict[str, Outcome]


class Past(MutableMapping[str, Outcome]):
    """Outcomes by the key of their task, on disk as soon as they are known. A disk that takes nothing costs only the
    way back into an interrupted tune.

    Args:
        same: all that must be the same for an outcome to count: endpoint, command, settings, load, SLO.
        fresh: begin anew.
    """

    def __init__(self, same: object, *, fresh: bool = False) -> None:
        digest = sha256(msgspec.json.encode(same)).hexdigest()[:24]
        self._path = user_folder("log").parent / "tune" / f"{digest}.json"
        self._outcomes = {} if fresh else _read(self._path)

    def __getitem__(self, key: str) -> Outcome:
        return self._outcomes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)

    def __setitem__(self, key: str, outcome: Outcome) -> None:
        self._outcomes[key] = outcome
        kept = {each: known for each, known in self._outcomes.items() if not known.problem}
        with contextlib.suppress(FileError, OSError):
            make_folder(self._path.parent)
            body = msgspec.json.encode(_Kept("tune", time.time(), kept))
            write_whole(self._path, body, lambda content: content.startswith(_HEAD))

    def __delitem__(self, key: str) -> None:
        del self._outcomes[key]

    def forget(self) -> None:
        """The tune is done: the next one measures again."""
        self._outcomes.clear()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Outcome]:
    """What is there, without what is stale or whose run file is gone; nothing where it cannot be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return {}
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return {}
    if not 0 <= time.time() - kept.saved_at < STALE_S:
        return {}
    runs = {key: each.run_file for key, each in kept.outcomes.items()}
    return {key: each for key, each in kept.outcomes.items() if (run := runs[key]) is None or Path(run).exists()}
