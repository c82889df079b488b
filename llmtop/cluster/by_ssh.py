"""Load workers over SSH: each is a process at the other end of a connection, whose pipes are its messages'.

Who may log in where is said by the user's own files and agent, as for the command ssh: this room asks for no password
and trusts no host that is not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from llmtop import __version__
from llmtop.domain.crew import CrewSpec, LoadHost
from llmtop.domain.plain import plain
from llmtop.errors import SessionLost
from llmtop.load.here import WorkerFacts
from llmtop.load.messages import Greeting, Order, WorkerSetup, facts, packed, receive
from llmtop.load.post import LEAVE_S, Post, nobody
from llmtop.wording.crew import died

logging.getLogger("asyncssh").setLevel(logging.CRITICAL + 1)  # what goes wrong it raises besides

CONNECT_S = 10.0
"""How long a host may take to let us in."""
GREET_S = 20.0
"""How long its llmtop may take to say its version."""
REACHING = 16
"""Hosts that are reached at the same time."""
SESSIONS = 8
"""Processes over one connection: sshd allows 10 unless it is told otherwise."""
PROCESSES = 8
"""On a host unless more are asked for; fewer where it has fewer cores."""
ALIVE_S = 5.0
"""A connection that has said nothing for so long is asked whether it lives, `ALIVES` times."""
ALIVES = 3
SAID_BYTES = 65_536
"""That a login shell may say before llmtop does."""
LAST_WORDS_BYTES = 2000
NOT_FOUND = 127
"""A shell's exit code for a command that is not there."""
SIGNALLED = 128
"""And for one that a signal has ended, less the signal's number."""


class SshCrew:
    """Implements `Crew`: `?processes=` load workers on each host."""

    elsewhere = True

    def __init__(self, spec: CrewSpec, hosts: list[_Host]) -> None:
        self._spec, self._hosts = spec, hosts
        self._places = [(host, place) for host in hosts for place in range(host.processes)]

    @classmethod
    async def reach(cls, spec: CrewSpec) -> SshCrew:
        """Log in on all hosts and look which llmtop they have. Raises SessionLost."""
        command = command_of(spec)
        hosts = [_Host(spec, host, command) for host in spec.hosts]
        room = asyncio.Semaphore(REACHING)
        try:
            await _all(host.reach(room) for host in hosts)
        except BaseException:
            await _closed(hosts)
            raise
        return cls(spec, hosts)

    @property
    def size(self) -> int:
        return len(self._places)

    async def post(self, setup: WorkerSetup) -> Post:
        host, place = self._places[setup.worker]
        return await host.post(place)

    async def more(self) -> Mapping[int, str]:
        return await nobody()

    async def close(self) -> None:
        await _closed(self._hosts)


def command_of(spec: CrewSpec) -> str:
    """What begins a load worker on a host, in the words of any login shell."""
    path = dict(spec.options).get("llmtop")
    if path is None:
        found = "p=$(command -v llmtop) || p=$HOME/.local/bin/llmtop"
    else:
        found = f'p="{path.replace("~/", "$HOME/", 1) if path.startswith("~/") else path}"'
    missing = f'command -v "$p" >/dev/null 2>&1 || exit {NOT_FOUND}'
    return f"sh -c '{found}; {missing}; exec \"$p\" worker --stdio'"


@dataclass
class _Host:
    """A machine that load workers are started on."""

    spec: CrewSpec
    host: LoadHost
    command: str
    processes: int = 0
    connections: list[asyncssh.SSHClientConnection] = field(default_factory=list)
    first: _Channel | None = None
    """Which has told its version and waits for somebody who needs it."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def reach(self, room: asyncio.Semaphore) -> None:
        async with room:
            self.first = await self._begin(0)
        self.processes = self.spec.count or max(1, min(self.first.greeting.cores, PROCESSES))

    async def post(self, place: int) -> _Channel:
        if place == 0 and self.first is not None:
            first, self.first = self.first, None
            return first
        return await self._begin(place)

    async def close(self) -> None:
        for connection in self.connections:
            connection.close()
        try:
            async with asyncio.timeout(LEAVE_S):
                await asyncio.gather(*(connection.wait_closed() for connection in self.connections))
        except TimeoutError:
            for connection in self.connections:
                connection.abort()

    async def _begin(self, place: int) -> _Channel:
        """Start a process, over a connection that has room for it. Raises SessionLost."""
        try:
            async with self.busy:  # one after the other: sshd counts those that have not logged in yet
                while place // SESSIONS >= len(self.connections):
                    self.connections.append(await self._connected())
            connection = self.connections[place // SESSIONS]
            process = await connection.create_process(self.command, encoding=None, stderr=asyncssh.PIPE)
        except (OSError, asyncssh.Error, ValueError, TimeoutError) as error:
            raise SessionLost(f"--workers {self.spec}: {_why_not(error, self.host)}") from None
        channel = _Channel(self.host, process)
        try:
            async with asyncio.timeout(GREET_S):
                await channel.greet()
        except TimeoutError:
            raise SessionLost(
                f"--workers {self.spec}: llmtop on {self.host.name} does not answer within {GREET_S:g} s"
            ) from None
        except SessionLost as error:
            raise SessionLost(f"--workers {self.spec}: {error}") from None
        return channel

    async def _connected(self) -> asyncssh.SSHClientConnection:
        named: dict[str, Any] = {"port": self.host.port, "username": self.host.user or None}
        async with asyncio.timeout(CONNECT_S):
            return await asyncssh.connect(
                self.host.name.strip("[]"),
                **{name: value for name, value in named.items() if value is not None},
                login_timeout=CONNECT_S,
                keepalive_interval=ALIVE_S,
                keepalive_count_max=ALIVES,
                compression_algs=["none"],
                x11_forwarding=False,
                agent_forwarding=False,
            )


class _Channel:
    """Implements `Post`: the way to a process on another machine."""

    def __init__(self, host: LoadHost, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._host, self._process = host, process
        self.name = host.name
        self.greeting = Greeting("", 0, 1)
        self._words = b""
        self._listening = asyncio.create_task(self._listen())

    async def greet(self) -> None:
        """Raises SessionLost where what answers is no llmtop of this version."""
        said = b""
        while len(said) < SAID_BYTES:
            line = await self._process.stdout.readline()
            greeting = Greeting.of_line(line)
            if greeting is not None:
                if greeting.version != __version__:
                    theirs = plain(greeting.version, 40)
                    raise SessionLost(
                        f"llmtop on {self._host.name} is {theirs} and here it is {__version__}: "
                        f"pip install 'llmtop=={__version__}' there"
                    )
                self.greeting, self.name = greeting, f"{self._host.name}:{greeting.pid}"
                return
            if not line:
                break
            said += line
        await self.close()
        words = self._last_words() or plain(said.decode(errors="replace").strip().rpartition("\n")[2], 200)
        raise SessionLost(_why_not_begun(self._host, self._process.exit_status, words))

    def send(self, *orders: Order) -> None:
        with contextlib.suppress(OSError):  # it is gone
            self._process.stdin.write(b"".join(map(packed, orders)))

    async def told(self) -> WorkerFacts | None:
        try:
            return await receive(self._process.stdout, facts)
        except (OSError, asyncssh.Error):  # the connection, or its other end
            return None

    async def fate(self) -> str:
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait_closed()
                await asyncio.wait({self._listening})
        except TimeoutError:
            return "has closed its messages"
        signal, status = self._process.exit_signal, self._process.exit_status
        if signal is None and status in (None, -1):
            return "was lost: the connection is closed"
        if signal is not None:
            return died(plain(signal[0], 20), self._last_words())
        code = SIGNALLED - status if status is not None and status > SIGNALLED else status
        return died(code, self._last_words())

    async def close(self) -> None:
        with contextlib.suppress(OSError):  # it is closed already
            self._process.stdin.write_eof()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait_closed()
                await asyncio.wait({self._listening})
        except TimeoutError:
            self._process.channel.abort()
            self._listening.cancel()

    async def _listen(self) -> None:
        """Keep the end of what it writes to stderr."""
        with contextlib.suppress(OSError, asyncssh.Error):  # the connection is lost
            while piece := await self._process.stderr.read(LAST_WORDS_BYTES):
                self._words = (self._words + piece)[-LAST_WORDS_BYTES:]

    def _last_words(self) -> str:
        return plain(self._words.decode(errors="replace").strip().rpartition("\n")[2], 200)


async def _all(tasks: Iterable[Any]) -> None:
    """Do all; the first that fails ends the others, and is raised when they are gone."""
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _closed(hosts: Iterable[_Host]) -> None:
    await asyncio.gather(*(host.close() for host in hosts), return_exceptions=True)


def _why_not(error: Exception, host: LoadHost) -> str:
    """Why a host does not let us in, and what to do."""
    by_hand = f"ssh {f'-p {host.port} ' if host.port else ''}{LoadHost(host.name, host.user)}"
    place = f"{host.name}:{host.port or 'ssh'}"
    said = plain(str(error), 200)
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return f"the key of {host.name} is not known, or is not the known one: say once by hand {by_hand}"
        case asyncssh.PermissionDenied():
            return f"{host.name} does not let {host.user or 'this user'} in: {by_hand} must work without a password"
        case TimeoutError():
            return f"{place} does not answer within {CONNECT_S:g} s"
        case socket.gaierror():
            return f"there is no host {host.name}: {plain(error.strerror or said, 200)}"
        case ConnectionRefusedError():
            return f"{place} refuses connections: is sshd running there, and on that port?"
        case asyncssh.Error():
            return f"{host.name}: {plain(error.reason, 200)}"
        case OSError(strerror=str(reason)):
            return f"{place}: {plain(reason, 200)}"
        case _:
            return f"{host.name}: {said}"


def _why_not_begun(host: LoadHost, status: int | None, said: str) -> str:
    """Why no load worker begins there, and what to do."""
    if status == NOT_FOUND:
        return (
            f"llmtop is not installed on {host.name}, or not on its PATH and not in ~/.local/bin: "
            f"pip install 'llmtop=={__version__}' there, or say where it is: ?llmtop=PATH"
        )
    how = "without an exit code" if status is None else f"with exit code {status}"
    return (
        f"llmtop on {host.name} has ended {how}{': ' if said else ''}{said.rstrip('.')}. "
        f"Is it {__version__}, as here? pip install 'llmtop=={__version__}' there"
    )
