"""Whose server it is, by what it answers. One rule for a whole endpoint, and for one page of metrics alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from llmtop.dialects import DIALECTS, DialectTable, dig
from llmtop.dialects.naming import naming_on
from llmtop.domain.endpoint import Dialect, safe_url
from llmtop.domain.plain import plain

_START = 60
"""Letters of a prefix that are shown."""
ClueKind = Literal["metrics", "json", "owned_by", "server"]
_WEIGHTS: dict[ClueKind, int] = {"metrics": 4, "json": 3, "owned_by": 2, "server": 1}


class Answers(Struct, frozen=True, kw_only=True):
    """What an endpoint has answered, all with status 200."""

    pages: Mapping[str, bytes]
    """Path or URL -> body."""
    json: Callable[[str], Any]
    """Path -> decoded answer, None where there is none. Decoded when it is asked for: together they may be large."""
    models: Any = None
    """The answer of /v1/models."""
    server: str = ""
    """The Server header."""
    named: tuple[str, ...] = ()
    """Metrics pages that the user named: they count for any dialect."""


class Clue(Struct, frozen=True):
    """One piece of evidence."""

    kind: ClueKind
    text: str

    @property
    def weight(self) -> int:
        return _WEIGHTS[self.kind]


def recognise(answers: Answers) -> tuple[Dialect, tuple[Clue, ...]]:
    """The dialect that most points to, and what does; OPENAI without a clue where nothing points to a known one."""
    found = {dialect: clues(table, answers) for dialect, table in DIALECTS.items()}
    best = max(found, key=lambda dialect: sum(clue.weight for clue in found[dialect]))
    return (best, found[best]) if found[best] else (Dialect.OPENAI, ())


def recognise_page(page: bytes) -> Dialect | None:
    """The dialect whose metrics are on a page, by the start of their names."""
    return next((dialect for dialect, table in DIALECTS.items() if naming_on(page, table) is not None), None)


def usual_ports() -> tuple[int, ...]:
    """Where servers listen unless they are told otherwise, each port once. Reads all tables."""
    ports = (table.default_port for table in DIALECTS.values())
    return tuple(dict.fromkeys(port for port in ports if port is not None))


def clues(table: DialectTable, answers: Answers) -> tuple[Clue, ...]:
    """Everything that points to one dialect."""
    detection = table.detection
    found = []
    for place in (table.metrics_path, *answers.named):
        naming = naming_on(answers.pages.get(place or "", b""), table)
        if naming is not None:
            start = naming.of(table.detection.metric_prefixes[0])
            names = f"{plain(start, _START)}*" if start else "names without a prefix"
            found.append(Clue("metrics", f"{names} on {safe_url(place or '')}"))
    for path, keys in detection.json_keys.items():
        answer = answers.json(path)
        if answer is not None and all(dig(answer, key) is not None for key in keys):
            found.append(Clue("json", path))
    owners = {owner for entry in _entries(answers.models) if isinstance(owner := entry.get("owned_by"), str)}
    found.extend(Clue("owned_by", f"owned_by {owner}") for owner in detection.owned_by if owner in owners)
    server = answers.server.lower()
    found.extend(Clue("server", f"Server {start}") for start in detection.server_headers if server.startswith(start))
    alone = len(found) == 1 and found[0].kind == "json" and found[0].text in detection.common
    return () if alone else tuple(found)


def _entries(models: object) -> Iterable[dict[str, Any]]:
    """The models of an answer of /v1/models, however odd it is."""
    listed = models.get("data") if isinstance(models, dict) else None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
