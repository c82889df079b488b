"""What a screen shows where strangers look on: endpoint, model, names and paths under words for them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import cache, lru_cache
from pathlib import PurePath
from typing import Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from llmtop.domain.endpoint import Endpoint, EndpointStatus
from llmtop.domain.shown import Shown
from llmtop.wording.crew import HERE
from llmtop.wording.running import ITS_PLAN

ENDPOINT, MODEL, RUN, NAME, FILE, LABEL, SCREEN = "endpoint", "model", "RUN", "name", "FILE", "label", "another screen"
LOAD_HOST = "load host"
NO_LOG = "not shown on a private screen"
_ADDRESS = re.compile(
    r"\b\w+://[^\s,;'\")]+|\b(?:\d{1,3}\.){3}\d{1,3}\b(?::\d+)?|\[[0-9a-fA-F:]*::?[0-9a-fA-F:]*\](?::\d+)?"
)
"""URLs and addresses, in whatever an error says."""
_PATH = re.compile(r"(?<![\w/.~])(?:~|(?:/[\w.+@%=-]+))(?:/[\w.+@%=-]+)+")
"""Of a file, from its root or from the home folder."""
_TERMINAL = re.compile(r"\bpts/\d+|\btty\w*\d+\b")
"""Of a screen that has, or had, the wheel."""
_PORT = re.compile(rf"({ENDPOINT}['\"], |\b[Pp]ort )\d{{1,5}}\b")
"""Where it stands apart from its address: `('10.0.0.1', 8000)`."""
_LEAST = 2
"""Names of fewer letters are part of every word."""


def private(shown: Shown) -> Shown:
    """All of it, with what tells whose run this is under words for that: host, port, model, headers, label, names that
    the user gave, and paths. What is recorded and exported stays as it is.
    """
    hidden = _hidden(shown)
    frame = shown.frame
    if frame is not None:
        frame = hidden.of(frame)
        status = frame.endpoint
        changes: dict[str, Any] = {"named": ""}
        if not status.simulated:
            changes |= {"label": ENDPOINT, "model": MODEL if status.model else None}
        if status.command is not None:
            log = (NO_LOG,) if status.command.log else ()
            changes["command"] = replace(status.command, log=log, log_path=None)
        frame = replace(
            frame,
            endpoint=replace(status, **changes),
            run_file=None if frame.run_file is None else RUN,
            profile=None,
        )
    return replace(
        shown,
        frame=frame,
        assessment=hidden.of(shown.assessment),
        answer=hidden.of(shown.answer),
        steering=hidden.of(shown.steering),
        wheel=hidden.of(shown.wheel),
        scene=hidden.of(shown.scene),
        sinks=hidden.of(shown.sinks),
        ended=hidden.of(shown.ended),
    )


def private_text(text: str, shown: Shown) -> str:
    """One text about that run, as `private` would show it."""
    return str(_hidden(shown).of(text))


def _hidden(shown: Shown) -> _Hidden:
    return _hidden_by(tuple(_words(shown).items()))


def _words(shown: Shown) -> dict[str, str]:
    """What is hidden, and under which word."""
    words: dict[str, str] = {}
    if shown.frame is not None and not shown.frame.endpoint.simulated:
        words |= _of_status(shown.frame.endpoint)
    if shown.frame is not None:
        words |= _of_file(shown.frame.run_file)
        words |= {host: LOAD_HOST for each in shown.frame.crew.worst if (host := each.name.rpartition(":")[0]) != HERE}
    if shown.meta is not None:
        if not shown.meta.endpoint.simulated:
            words |= _of_endpoint(shown.meta.endpoint)
            words |= {} if shown.meta.info is None else _of_model(shown.meta.info.model)
        words |= dict.fromkeys((shown.meta.label or "", *shown.meta.baselines), LABEL)
        words[shown.meta.host] = ENDPOINT
    found = shown.assessment
    if found is not None:
        words |= {figures.name: MODEL for figures in found.by_model}
        names = dict.fromkeys((*(each.name for each in found.by_name), *(each.name for each in found.calls)))
        words |= {name: f"{NAME} {number}" for number, name in enumerate(names, 1)}
    words |= {name: f"R{number}" for number, name in enumerate(_replicas(shown), 1)}
    if shown.wheel.holder != ITS_PLAN:
        words[shown.wheel.holder] = SCREEN
    preset = None if shown.frame is None else shown.frame.endpoint.preset
    return {name: word for name, word in words.items() if len(name) >= _LEAST and name != preset}


def _replicas(shown: Shown) -> Iterator[str]:
    """Names of replicas, each once, in the order in which they came. Engines of one server have numbers."""
    came = () if shown.assessment is None else shown.assessment.replicas
    server = None if shown.frame is None else shown.frame.server
    rows = () if server is None else server.replicas
    names = dict.fromkeys((*(each.name for each in came), *(name for name, *_ in rows)))
    return (name for name in names if not name.isdecimal())


def _of_status(status: EndpointStatus) -> dict[str, str]:
    return {status.label: ENDPOINT, _host(status.label): ENDPOINT, **_of_model(status.model)}


def _of_endpoint(endpoint: Endpoint) -> dict[str, str]:
    urls = (endpoint.base_url, *endpoint.metrics_urls, *([endpoint.proxy] if "://" in endpoint.proxy else []))
    words: dict[str, str] = {}
    for url in urls:
        address = urlsplit(url).netloc
        words |= dict.fromkeys((url, address, _host(address), urlsplit(url).hostname or ""), ENDPOINT)
    headers = [name for name, _ in (*endpoint.headers, *endpoint.headers_env)]
    keys = [endpoint.api_key_env, endpoint.api_key_header, endpoint.basic_auth_env]
    words |= dict.fromkeys([*headers, *(key for key in keys if key), *(name for _, name in endpoint.headers_env)], NAME)
    for path in (endpoint.ca_file, endpoint.client_cert, endpoint.client_key, endpoint.unix_socket):
        words |= _of_file(path, FILE)
    return words | _of_model(endpoint.model)


def _of_model(model: str | None) -> dict[str, str]:
    """The whole name, and its parts: a header shows the last."""
    return {} if not model else dict.fromkeys((model, *model.split("/")), MODEL)


def _of_file(path: str | None, word: str = RUN) -> dict[str, str]:
    if not path:
        return {}
    pure = PurePath(path)
    return {path: word, pure.name: word, pure.stem: word}


def _host(label: str) -> str:
    return label.rpartition(":")[0] or label


class _Hidden:
    """Writes words for names in every text of a value that a user reads.

    Args:
        words: (name, word).
    """

    def __init__(self, words: tuple[tuple[str, str], ...]) -> None:
        self._words = dict(words)
        longest = sorted(filter(None, self._words), key=len, reverse=True)
        names = "|".join(map(re.escape, longest))
        self._names = re.compile(rf"(?<!\w)(?:{names})(?!\w)") if names else None

    def of(self, value: Any) -> Any:
        """The value; itself, where nothing is hidden in it."""
        if isinstance(value, str):
            return value if isinstance(value, Enum) else self._text(value)
        if isinstance(value, Struct):
            changed = {name: new for name, new in self._fields(value) if new is not getattr(value, name)}
            return replace(value, **changed) if changed else value
        if isinstance(value, tuple):
            if not value or isinstance(value[0], float | int):
                return value
            items = [self.of(each) for each in value]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else tuple(items)
        return value

    def _fields(self, value: Struct) -> Iterator[tuple[str, Any]]:
        for name in _telling(type(value)):
            yield name, self.of(getattr(value, name))

    def _text(self, text: str) -> str:
        told = text if self._names is None else self._names.sub(lambda match: self._words[match[0]], text)
        told = _TERMINAL.sub(SCREEN, _PATH.sub(FILE, _ADDRESS.sub(ENDPOINT, told)))
        return _PORT.sub(r"\1-", told)


@lru_cache(maxsize=4)
def _hidden_by(words: tuple[tuple[str, str], ...]) -> _Hidden:
    """Made once for a set of names: it is asked at every tick."""
    return _Hidden(words)


@cache
def _telling(kind: type[Struct]) -> tuple[str, ...]:
    """The fields that may hold a text of somebody's: not numbers, and none of a few words that code goes by."""
    return tuple(name for name, hint in get_type_hints(kind).items() if _may_tell(hint))


def _may_tell(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return False
    parts = get_args(hint)
    if parts:
        return any(_may_tell(part) for part in parts)
    return isinstance(hint, type) and issubclass(hint, str | Struct) and not issubclass(hint, Enum)
