"""The user's own kubectl: what it is asked, and the forwards that it keeps open, all in a process that ends with us.

`kubectl` is found on PATH, and never in the working directory. It sees what it needs to log in (`LOGIN`), and no key of
the endpoint's. The process beside us (`kubectl_keeper`) starts it, so that no start of a program interrupts the loop
that measures, and ends what it has started when we do.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from llmtop import channel
from llmtop.domain.places import KubeService, place_in

LIMIT_S = 5.0
"""For one question: an API server answers in 0.2 s, a plugin that logs in takes a second more."""
FORWARD_S = 10.0
"""Until a forward is open."""
ANSWER_BYTES = 16 << 20
LOGIN = ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
LOGIN_FAMILIES = ("AWS_", "AZURE_", "CLOUDSDK_", "GOOGLE_", "USE_GKE_")
"""Variables by which kubectl and its plugins find the user's login."""
_FORBIDDEN = re.compile(
    r'forbidden: (?:User "(?P<user>[^"]*)" )?cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]*)")?'
)

_LOGGED = re.compile(r"[EWI]\d{4} ")
"""How a line of its log begins, before what it says in the end."""


class KubectlFailed(Exception):
    """It gave no answer; the message is what it said."""


class NoKubectl(KubectlFailed):
    """There is none on PATH."""


class KubectlLate(KubectlFailed):
    """It took longer than was granted."""


class Forbidden(KubectlFailed):
    """The user may not do it (RBAC)."""

    def __init__(self, said: str, verb: str, resource: str, group: str, where: str, user: str) -> None:
        super().__init__(said)
        self.verb, self.resource, self.group, self.where, self.user = verb, resource, group, where, user


class NotFound(KubectlFailed):
    """What was asked for is not there."""


class Begin(Struct, frozen=True, array_like=True):
    """To the keeper: run kubectl so. `limit_s` 0: it goes on until `Stop`, and what counts is its first line."""

    id: int
    command: tuple[str, ...]
    limit_s: float


class Stop(Struct, frozen=True, array_like=True):
    id: int
    stop: bool = True


class Said(Struct, frozen=True, array_like=True):
    """From the keeper: how one ended, or the first line of one that goes on."""

    id: int
    code: int | None
    """None: it goes on, or took too long."""
    out: bytes = b""
    err: bytes = b""


def login_environment(urls: Iterable[str], secret: Iterable[str] = ()) -> dict[str, str]:
    """What of this process's environment the session is handed for kubectl; nothing where no place is Kubernetes's.

    Args:
        urls: of places and pages.
        secret: variables that hold what lets in at the endpoint: not for kubectl.
    """
    if not any(isinstance(place_in(url), KubeService) for url in urls):
        return {}
    return _login(secret)


def _login(secret: Iterable[str]) -> dict[str, str]:
    """The user's login, without what lets in at the endpoint."""
    wanted = {name for name in os.environ if name in LOGIN or name.startswith(LOGIN_FAMILIES)} - set(secret)
    return {name: os.environ[name] for name in wanted}


def find_kubectl() -> str:
    """Its absolute path. Raises NoKubectl."""
    folders = os.pathsep.join(filter(os.path.isabs, os.environ.get("PATH", "").split(os.pathsep)))
    found = shutil.which("kubectl", path=folders) if folders else None
    if found is None:
        raise NoKubectl("there is no kubectl on PATH")
    return found


class Kubectl:
    """Runs kubectl; nothing is started before it is asked.

    Args:
        secret: variables that it must not see.
    """

    def __init__(self, secret: Iterable[str] = ()) -> None:
        self._secret = tuple(secret)
        self._child: channel.Child | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Said]] = {}
        self._ended: set[int] = set()
        """Forwards that are no more."""

    async def ask(self, *arguments: str, limit_s: float = LIMIT_S) -> bytes:
        """What `kubectl ARGUMENTS` writes. Raises KubectlFailed."""
        said = await self._run(arguments, limit_s)
        if said.code is None:
            raise KubectlLate(f"took longer than {limit_s:g} s")
        if said.code:
            raise failure_of(said.err)
        return said.out

    async def forward(self, namespace: str, pod: str, port: int) -> Forward:
        """A port of this machine that leads to one of a pod. Raises KubectlFailed."""
        number = next(self._numbers)
        arguments = ("port-forward", "-n", namespace, f"pod/{pod}", f":{port}", "--address", "127.0.0.1")
        try:
            async with asyncio.timeout(FORWARD_S):
                said = await self._run(arguments, 0.0, number)
        except TimeoutError:
            self._send(Stop(number))
            raise KubectlLate(f"took longer than {FORWARD_S:g} s") from None
        found = re.search(rb"127\.0\.0\.1:(\d+)", said.out)
        if said.code is not None or found is None:
            self._send(Stop(number))
            raise failure_of(said.err or said.out)
        return Forward(self, number, int(found[1]))

    def has_ended(self, number: int) -> bool:
        return number in self._ended or self._child is None or not self._child.alive

    def stop(self, number: int) -> None:
        self._send(Stop(number))

    async def close(self) -> None:
        """End all of it."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._child is not None:
            await self._child.close()
            self._child = None

    async def _run(self, arguments: tuple[str, ...], limit_s: float, number: int | None = None) -> Said:
        command = (find_kubectl(), *arguments)
        await self._start()
        number = next(self._numbers) if number is None else number
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(Begin(number, command, limit_s))
            said: Said = await answer
            return said
        finally:
            self._waiting.pop(number, None)

    async def _start(self) -> None:
        async with self._starting:
            await self._started()

    async def _started(self) -> None:
        if self._child is not None and self._child.alive:
            return
        if self._child is not None:
            await self.close()
        handed = {name: value for name, value in channel.outward_environment().items() if name not in self._secret}
        environment = {**handed, **_login(self._secret)}
        self._child = channel.Child("llmtop.telemetry.kubectl_keeper", environment=environment)
        reader, self._writer = await self._child.streams()
        self._reading = asyncio.create_task(self._listen(reader))

    def _send(self, message: Begin | Stop) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(channel.framed(msgspec.json.encode(message)))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while (body := await channel.receive(reader)) is not None:
            said = msgspec.json.decode(body, type=Said)
            answer = self._waiting.get(said.id)
            if answer is not None and not answer.done():
                answer.set_result(said)
            elif said.code is not None:
                self._ended.add(said.id)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(Said(0, -1, b"", b"the process that keeps it is gone"))


class Forward:
    """A port of this machine that leads to a pod as long as it is wanted."""

    def __init__(self, kubectl: Kubectl, number: int, port: int) -> None:
        self.port = port
        self._kubectl, self._number = kubectl, number

    @property
    def open(self) -> bool:
        return not self._kubectl.has_ended(self._number)

    def end(self) -> None:
        self._kubectl.stop(self._number)


def failure_of(said: bytes) -> KubectlFailed:
    """What kubectl's own words come to."""
    text = said.decode("utf-8", "replace").strip()
    match = _FORBIDDEN.search(text)
    if match is not None:
        namespace = match["namespace"]
        where = f"in namespace {namespace}" if namespace else "in the cluster"
        return Forbidden(text, match["verb"], match["resource"], match["group"] or "", where, match["user"] or "")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _LOGGED.match(line)]
    last = lines[-1].removeprefix("error: ") if lines else ""
    return NotFound(last) if "(NotFound)" in last else KubectlFailed(last)
