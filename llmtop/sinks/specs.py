"""What `--out` may say, and whether it can be, before anything starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from llmtop.domain.alike import meant
from llmtop.domain.endpoint import Endpoint, host_and_port, is_loopback
from llmtop.domain.plain import plain
from llmtop.endpoint.addresses import pinned
from llmtop.errors import UsageError
from llmtop.files import check_target
from llmtop.inputs import expanded
from llmtop.sinks.lines import Lines, is_lines
from llmtop.sinks.otlp import Push, read_headers, read_url
from llmtop.sinks.page import Page, try_port, unbound
from llmtop.sinks.pump import Sink

KINDS = ("prometheus", "otlp", "json")
USUAL_HOST, USUAL_PORT = "127.0.0.1", 9464
"""The port that OpenTelemetry's own exporters have for Prometheus."""
MOST_PORT = 65535
SHOWN = 60
"""Characters of what was given that are shown in an error."""
HOW = "use prometheus=127.0.0.1:9464, otlp=http://127.0.0.1:4318 or json=FILE"


def check(
    specs: Sequence[str],
    *,
    yes: bool = False,
    ask: Callable[[str], bool] | None = None,
    taken: Mapping[str, Path] | None = None,
) -> None:
    """See that figures can flow to all of `specs`. Nothing is opened, and no file is changed.

    Args:
        yes: listen beyond this machine without asking.
        ask: puts a question to the user; None: there is nobody to ask.
        taken: files that the run writes otherwise, by the options that name them.

    Raises:
        UsageError: what is wrong, and what to do.
        FileError: a file cannot be written, or is not ours to write over.
    """
    seen: set[str] = set()
    for spec in specs:
        kind, where = _parted(spec)
        if kind == "prometheus":
            key = _check_page(where, yes, ask)
        elif kind == "otlp":
            key = read_url(where)
            Push(key, read_headers(os.environ))
        else:
            key = str(_file(where).resolve())
            for option, path in (taken or {}).items():
                if str(path.resolve()) == key:
                    raise UsageError(f"--out json and {option} name the same file, {plain(where, SHOWN)}: give two")
        if f"{kind} {key}" in seen:
            raise UsageError(f"--out {kind}: the same place is named twice; give it once")
        seen.add(f"{kind} {key}")


def sink_of(spec: str) -> Sink:
    """The sink that a text names. Raises UsageError, FileError."""
    kind, where = _parted(spec)
    if kind == "prometheus":
        host, port, address = _address(where)
        return Page(address or host, port, _shown(host, port))
    if kind == "otlp":
        return Push(read_url(where), read_headers(os.environ))
    return Lines(_file(where))


def _parted(spec: str) -> tuple[str, str]:
    kind, equals, where = spec.partition("=")
    kind, where = kind.strip().lower(), where.strip()
    if kind not in KINDS:
        raise UsageError(f"--out {plain(kind, SHOWN)!r} is no kind of sink; {meant(kind, KINDS)}{HOW}")
    if not where and (equals or kind != "prometheus"):
        raise UsageError(f"--out {kind}: does not say where to; {HOW}")
    return kind, where


def _address(where: str) -> tuple[str, int, str]:
    """(host, port, the loopback address that the host stands for; empty: it is none of this machine alone)."""
    text = where or f"{USUAL_HOST}:{USUAL_PORT}"
    host, colon, port = text.rpartition(":")
    if not colon and text.isascii() and text.isdigit():
        host, port = "", text
    host = host.removeprefix("[").removesuffix("]") or USUAL_HOST
    right = port.isascii() and port.isdigit() and 0 < int(port[:6]) <= MOST_PORT
    bare = ":" in host and not text.startswith("[")  # ::1:9464 could be read in two ways
    if not right or bare or "/" in text or not host.isprintable() or " " in host:
        shown = plain(text, SHOWN)
        raise UsageError(f"--out prometheus={shown}: no address to listen on; write it like 127.0.0.1:9464")
    if is_loopback(host):
        return host, int(port), host
    found = pinned(Endpoint(base_url=f"http://{host_and_port(host)}"))
    return host, int(port), next(iter(found.addresses_of(host)), "")


def _shown(host: str, port: int) -> str:
    return host_and_port(plain(host, SHOWN), port)


def _check_page(where: str, yes: bool, ask: Callable[[str], bool] | None) -> str:
    """The address as it is compared by. Raises UsageError."""
    host, port, address = _address(where)
    shown = _shown(host, port)
    if not address and not yes:
        what = f"{shown} can be read from beyond this machine"
        if ask is None:
            raise UsageError(f"--out prometheus={shown}: {what}: say --yes if it may, or listen on 127.0.0.1:{port}")
        if not ask(f"{what}: everybody who reaches it sees the figures of this run. Go on? [y/N] "):
            raise UsageError("nothing was started")
    try:
        try_port(address or host, port)
    except OSError as error:
        raise UsageError(f"--out prometheus={shown}: {unbound(error)}; {_way_out(port)}") from None
    return f"{address or host}:{port}"


def _way_out(port: int) -> str:
    other = port + 1 if port < MOST_PORT else port - 1
    return f"end what listens there, or take another, as prometheus=127.0.0.1:{other}"


def _file(where: str) -> Path:
    """Raises FileError, UsageError."""
    path = expanded(where)
    streams = path.is_absolute() and path.parts[1:2] in (("dev",), ("proc",)) and path != Path(os.devnull)
    if where == "-" or streams:
        why = "standard output has the result of the run" if where in ("-", "/dev/stdout") else "that is no plain file"
        raise UsageError(f"--out json={plain(where, SHOWN)}: {why}; name a file, and follow it with `tail -F FILE`")
    return check_target(path, is_lines)
