"""Hosts with an SSH server each, on loopback: what is asked of them is done by processes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh

from tests.cluster.drives import ROOT


class Hosts:
    """What `ssh` needs to know of them lies in `home`, as it does for a user."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.ports: list[int] = []
        self.commands: list[str] = []
        self.connections: list[asyncssh.SSHServerConnection] = []
        self.children: list[asyncio.subprocess.Process] = []
        self.servers: list[asyncssh.SSHAcceptor] = []
        self._mine, self._theirs = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        (self.home / ".ssh").mkdir(parents=True)
        self.bin.mkdir()
        self._mine.write_private_key(self.home / ".ssh" / "id_ed25519")
        (self.home / "authorized_keys").write_bytes(self._mine.export_public_key())
        self.installed(f"PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m llmtop")

    def installed(self, command: str) -> None:
        """The llmtop of these hosts is that."""
        (self.bin / "llmtop").write_text(f'#!/bin/sh\n{command} "$@"\n')
        (self.bin / "llmtop").chmod(0o755)

    def name(self, number: int) -> str:
        return f"127.0.0.1:{self.ports[number]}"

    @property
    def all(self) -> str:
        return f"tester@{','.join(map(self.name, range(len(self.ports))))}"

    async def open(self) -> None:
        server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self._theirs],
            authorized_client_keys=str(self.home / "authorized_keys"),
            process_factory=self._serve,
            encoding=None,
        )
        self.servers.append(server)
        self.ports.append(server.get_port())
        self.trust()

    def trust(self, *, other: bool = False) -> None:
        """The keys of all hosts are known; `other`: as other ones."""
        key = (asyncssh.generate_private_key("ssh-ed25519") if other else self._theirs).export_public_key().decode()
        known = "".join(f"[127.0.0.1]:{port} {key}" for port in self.ports)
        (self.home / ".ssh" / "known_hosts").write_text(known)

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self.commands.append(process.command or "")
        self.connections.append(process.get_extra_info("connection"))
        child = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            process.command or "true",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(self.home), "PATH": os.pathsep.join((str(self.bin), *_without_llmtop()))},
        )
        self.children.append(child)
        into = asyncio.create_task(_copy(process.stdin, child.stdin, ends=True))
        await asyncio.gather(_copy(child.stdout, process.stdout), _copy(child.stderr, process.stderr))
        into.cancel()
        code = await child.wait()
        if code < 0:
            process.exit_with_signal({9: "KILL", 15: "TERM"}.get(-code, "ABRT"))
        else:
            process.exit(code)

    async def close(self) -> None:
        for server in self.servers:
            server.close()
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


async def _copy(reader, writer, *, ends: bool = False) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    if ends:  # as sshd does, also where the connection was lost
        with contextlib.suppress(OSError):
            writer.write_eof()


@contextlib.asynccontextmanager
async def hosts(folder: Path, count: int = 2) -> AsyncIterator[Hosts]:
    made = Hosts(folder)
    try:
        for _ in range(count):
            await made.open()
        yield made
    finally:
        await made.close()


def _without_llmtop() -> list[str]:
    """Folders of PATH but for those that have the one under test: what a host has is the test's to say."""
    return [each for each in os.environ["PATH"].split(os.pathsep) if not (Path(each) / "llmtop").exists()]
