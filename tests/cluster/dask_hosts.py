"""A Dask scheduler and load hosts, as processes of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.drives import PATIENCE_S, ROOT


class Cluster:
    """A scheduler and the load hosts that were started; what they print is in `folder`.

    Args:
        port: of the scheduler; 0: of its own choice, which is known once it was started.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder / "state"),
            "DASK_TEMPORARY_DIRECTORY": str(folder / "dask"),
        }
        self.started: list[subprocess.Popen[bytes]] = []
        self.hosts: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"dask://127.0.0.1:{self.port}"

    def start_scheduler(self, *options: str) -> subprocess.Popen[bytes]:
        arguments = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--dashboard-address", ":0")
        self.scheduler = self.start("scheduler", "distributed.cli.dask_scheduler", *arguments, *options)
        self.until(lambda: re.search(r"Scheduler at: .*:\d+\n", self.said("scheduler")), "scheduler")
        self.port = int(re.findall(r"Scheduler at: .*:(\d+)\n", self.said("scheduler"))[0])
        return self.scheduler

    def start_host(
        self, processes: int = 2, url: str = "", name: str = "", **environment: str
    ) -> subprocess.Popen[bytes]:
        number = str(len(self.hosts))
        words = ("worker", url or self.url, "--processes", str(processes), *(("--name", name) if name else ()))
        host = self.start(f"host{number}", "llmtop", *words, **environment)
        self.hosts.append(host)
        return host

    def start(self, name: str, module: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self.environment, **environment},
                cwd=self.folder,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def said(self, name: str = "host0") -> str:
        return (self.folder / f"{name}.log").read_text()

    def joined(self, times: int) -> None:
        """Waits until Dask workers have joined so often, those of the first load host."""
        self.until(lambda: self.said().count("has joined") == times)

    def until(self, reached: Callable[[], object], by: str = "host0") -> None:
        """`by`: whose words say why it never came."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < deadline, self.said(by)
            time.sleep(0.02)

    def close(self) -> None:
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
