"""`llmtop serve [RUN]`: a run that goes on, in browsers, to look at."""

from __future__ import annotations

import argparse
import asyncio
import errno
import importlib.util
import ipaddress
import signal
import socket

from llmtop.channel import Child
from llmtop.cli.output import complain, say
from llmtop.domain import bounds
from llmtop.domain.endpoint import host_and_port, is_loopback
from llmtop.domain.plain import plain
from llmtop.errors import INTERRUPTED, UsageError
from llmtop.host.running import find

NEEDS = ("aiohttp", "textual_serve")
TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
"""What the terminal in the page can do."""
SCREEN = "llmtop.tui.viewer"
LOCAL = "localhost"


def main(arguments: argparse.Namespace) -> int:
    address, port = _bound(arguments.bind)
    here = is_loopback(address)
    if not here and not arguments.yes:
        raise UsageError(
            f"--bind {plain(arguments.bind, 60)}: whoever reaches this machine and has the link could look at the run, "
            "and it goes over the network unencrypted; --yes if that is meant"
        )
    if any(importlib.util.find_spec(name) is None for name in NEEDS):
        raise UsageError("the view in a browser needs an extra: pip install 'llmtop[web]'")
    run = find(arguments.run)
    shown_as = [name for name in ("stage", "private") if getattr(arguments, name)]
    title = "llmtop" if arguments.private else f"llmtop {run.label or run.name}"

    def start(columns: int, rows: int) -> Child:
        return Child(SCREEN, run.name, str(columns), str(rows), *shown_as, environment=TERMINAL)

    from llmtop.web.gate import Gate, new_token
    from llmtop.web.server import Site, serve

    token = new_token()

    def ready(bound: int) -> None:
        say(f"http://{host_and_port(_reached_by(address), bound)}/{token}/")
        complain(f"{run.name} is shown there to whoever has the link, to look at; Ctrl-C ends that, not the run")

    site = Site(Gate(token, here=here), title, start)
    try:
        ended_by = asyncio.run(serve(site, address, port, ready))
    except OSError as error:
        raise UsageError(f"--bind {plain(arguments.bind, 60)}: {_problem(error)}") from None
    return INTERRUPTED if ended_by is signal.SIGINT else 0


def _bound(text: str) -> tuple[str, int]:
    """Address and port of `ADDRESS:PORT`. Raises UsageError."""
    host, _, number = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        port = bounds.PORT.read_whole(number)
        address = "127.0.0.1" if host == LOCAL else str(ipaddress.ip_address(host))
    except ValueError:
        raise UsageError(
            f"--bind {plain(text, 60)!r}: must be ADDRESS:PORT, as 127.0.0.1:8010, of an address of this machine"
        ) from None
    return address, port


def _reached_by(address: str) -> str:
    """What stands in the link: of all addresses of this machine, its name."""
    return socket.gethostname() if ipaddress.ip_address(address).is_unspecified else address


def _problem(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "something listens there already: give another port, or 0 for a free one"
    if error.errno == errno.EADDRNOTAVAIL:
        return "that is no address of this machine"
    return error.strerror or str(error)
