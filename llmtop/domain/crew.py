"""Where load is sent from: `--workers`, read and written back."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from llmtop.domain.bounds import WORKERS
from llmtop.domain.plain import plain
from llmtop.errors import UsageError

Where = Literal["here", "dask", "tls", "ssh"]
DASK_PORT = 8786
SHOWN = 60
"""Characters of what was typed that an error shows."""
FORM = {"dask": f"dask://HOST:{DASK_PORT}", "tls": f"tls://HOST:{DASK_PORT}", "ssh": "ssh://USER@HOST1,HOST2"}
FORMS = f"N, auto, {FORM['dask']}, {FORM['tls']} or {FORM['ssh']}"
SCHEDULERS = f"{FORM['dask']} or {FORM['tls']}"
_HOST = re.compile(r"(?:([^@:/\s]+)@)?(\[[0-9A-Fa-f:.]+\]|[^@:/,\s\[\]-][^@:/,\s\[\]]*)(?::(\d{1,5}))?")
"""User, host (that is no option of a command) and port."""
_PATH = re.compile(r"(?:~/)?[\w.+@%:,/][\w.+@%:,/-]*")
"""What no shell reads as anything but a path."""


class LoadHost(Struct, frozen=True):
    """A machine that load workers are started on, or a scheduler that knows some."""

    name: str
    user: str = ""
    port: int | None = None

    def __str__(self) -> str:
        """As it is typed."""
        at, port = f"{self.user}@" if self.user else "", "" if self.port is None else f":{self.port}"
        return f"{at}{self.name}{port}"


class CrewSpec(Struct, frozen=True):
    """Which load workers a run has. `count` is of this machine's processes, or of each machine's; 0: as many as fit."""

    where: Where = "here"
    count: int = 1
    hosts: tuple[LoadHost, ...] = ()
    """Of ssh those to start workers on, of dask and tls the one scheduler."""
    options: tuple[tuple[str, str], ...] = ()
    """What stands behind the `?`: (name, value)."""

    @property
    def is_here(self) -> bool:
        return self.where == "here"

    def __str__(self) -> str:
        """As it is typed."""
        if self.is_here:
            return str(self.count) if self.count else "auto"
        query = "&".join(f"{name}={value}" for name, value in self.options)
        return f"{self.where}://{','.join(map(str, self.hosts))}{'?' if query else ''}{query}"


OPTIONS: dict[str, tuple[str, ...]] = {
    "dask": (),
    "tls": ("ca", "cert", "key"),
    "ssh": ("processes", "llmtop"),
}
"""Of tls the PEM files; of ssh load processes on each host, and the path of its llmtop."""


def parse_scheduler(text: str) -> CrewSpec:
    """What a load host joins. Raises UsageError, which says what is allowed."""
    if text.partition("://")[0] not in ("dask", "tls") or "://" not in text:
        raise UsageError(f"{plain(text, SHOWN)!r}: a load host joins a scheduler: {SCHEDULERS}")
    return parse_crew(text)


def parse_crew(text: str) -> CrewSpec:
    """What `--workers` means. Raises UsageError, which says what is allowed."""
    if text == "auto":
        return CrewSpec(count=0)
    where, colon, rest = text.partition("://")
    if not colon:
        try:
            return CrewSpec(count=WORKERS.read_whole(text))
        except ValueError as error:
            raise UsageError(f"{plain(text, SHOWN)!r}: {error}; or {FORMS}") from None
    if where not in OPTIONS:
        raise UsageError(f"{plain(text, SHOWN)!r}: must be {FORMS}")
    address, _, query = rest.partition("?")
    hosts = _as_one_user([_host(each, text, FORM[where]) for each in address.rstrip("/").split(",")])
    pairs = (each.partition("=") for each in query.split("&") if each)
    options = tuple((name, value) for name, _, value in pairs)
    count = 0
    for name, value in options:
        if name not in OPTIONS[where] or not value:
            allowed = " and ".join(f"{each}=…" for each in OPTIONS[where]) or "nothing"
            raise UsageError(f"{plain(text, SHOWN)!r}: {plain(name, SHOWN)!r}: after the ? may stand {allowed}")
        if name == "llmtop" and _PATH.fullmatch(value) is None:
            said = f"llmtop={plain(value, SHOWN)}: must be a path, without spaces and quotes"
            raise UsageError(f"{plain(text, SHOWN)!r}: {said}")
        if name == "processes":
            try:
                count = WORKERS.read_whole(value)
            except ValueError as error:
                raise UsageError(f"{plain(text, SHOWN)!r}: processes: {error}") from None
    if where != "ssh":
        if len(hosts) > 1 or hosts[0].user:
            raise UsageError(f"{plain(text, SHOWN)!r}: one scheduler is meant: {where}://HOST:{DASK_PORT}")
        hosts = (LoadHost(hosts[0].name, port=hosts[0].port or DASK_PORT),)
    if len(set(map(str, hosts))) < len(hosts):
        raise UsageError(f"{plain(text, SHOWN)!r}: names a host twice; ?processes=2 starts two on each")
    return CrewSpec(where, count, hosts, options)  # type: ignore[arg-type]


def _as_one_user(hosts: list[LoadHost]) -> tuple[LoadHost, ...]:
    """A host without a user has that of the host before it."""
    found: list[LoadHost] = []
    for host in hosts:
        user = host.user or (found[-1].user if found else "")
        found.append(LoadHost(host.name, user, host.port))
    return tuple(found)


def _host(text: str, whole: str, form: str) -> LoadHost:
    found = _HOST.fullmatch(text)
    if found is None or int(found[3] or 1) not in range(1, 65536):
        raise UsageError(f"{plain(whole, SHOWN)!r}: {plain(text, SHOWN)!r} is no host; must be {form}")
    return LoadHost(found[2], found[1] or "", int(found[3]) if found[3] else None)
