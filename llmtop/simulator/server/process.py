"""A server of this room as a child process: ready when `start` returns, gone when its owner is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Self

import msgspec

import llmtop
from llmtop.errors import SessionLost, UsageError

READY_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 3.0

KnobValue = float | int | bool | str


class _Child:
    """A child that prints a JSON line with its port when it is ready, and ends when its stdin does.

    The child watches the other end of its stdin: it dies with us even after kill -9, and no orphan stays.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], module: str) -> None:
        self._process = process
        self._errors = errors
        self._module = module
        self.port = 0

    @classmethod
    async def _launch(cls, module: str, arguments: list[str], environment: dict[str, str]) -> Self:
        """Run `python -m MODULE ARGUMENTS --die-with-parent` and wait until it serves."""
        package = str(Path(llmtop.__file__).parent.parent)
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - a file, so that nobody has to read along; `close` closes it
        process = subprocess.Popen(  # noqa: ASYNC220 - a fork takes a millisecond; what takes time is awaited
            [sys.executable, "-m", module, *arguments, "--die-with-parent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl+C on a terminal is for the owner to act on.
        )
        child = cls(process, errors, module)
        try:
            await child._read_port()
        except BaseException:
            await child.close()
            raise
        return child

    async def _read_port(self) -> None:
        assert self._process.stdout is not None
        reading = asyncio.to_thread(self._process.stdout.readline)
        try:
            line = await asyncio.wait_for(reading, READY_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            raise SessionLost(f"{self._module} was not ready within {READY_TIMEOUT_S:g} s") from None
        if not line:
            raise await self._failure()
        self.port = int(msgspec.json.decode(line)["port"])

    async def _failure(self) -> UsageError | SessionLost:
        """Why the child ended before it was ready, in its own words."""
        code = await asyncio.to_thread(self._process.wait)
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        if code == UsageError.exit_code and said:
            return UsageError(said.splitlines()[-1])
        return SessionLost(f"{self._module} ended with exit code {code} before it was ready: {said[-2000:]}")

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def close(self) -> None:
        """Ask it to end, and make it when it does not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            await asyncio.to_thread(self._process.wait, CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._process.stdout.close()
        self._errors.close()


class SimulatorProcess(_Child):
    """The simulated engine in a process of its own."""

    @classmethod
    async def start(
        cls,
        preset: str | Path = "laptop",
        knobs: dict[str, KnobValue] | None = None,
        seed: int = 0,
        *,
        faults: dict[str, float | bool] | None = None,
        port: int = 0,
        api_key: str | None = None,
    ) -> Self:
        """Ready when it returns.

        Raises UsageError for a preset, knob or fault that is wrong, SessionLost when the process does not come up.
        """
        arguments = ["--preset", str(preset), "--port", str(port), "--seed", str(seed)]
        for name, value in (knobs or {}).items():
            arguments += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
        for name, figure in (faults or {}).items():
            arguments += ["--fault", name if figure is True else f"{name}={float(figure)}"]
        environment = {} if api_key is None else {"LLMTOP_SIM_API_KEY": api_key}
        return await cls._launch("llmtop.simulator.server", arguments, environment)


class ScheduleProcess(_Child):
    """The server of known times in a process of its own; see `llmtop.simulator.server.schedule`."""

    @classmethod
    async def start(
        cls,
        *,
        ttft_ms: float = 50.0,
        tpot_ms: float = 20.0,
        tokens: int = 64,
        burst: bool = False,
        variants: tuple[str, ...] = (),
    ) -> Self:
        """Ready when it returns. Raises UsageError for a variant that is not known."""
        arguments = ["--ttft-ms", str(ttft_ms), "--tpot-ms", str(tpot_ms), "--tokens", str(tokens)]
        arguments += ["--burst"] if burst else []
        arguments += ["--variant", ",".join(variants)] if variants else []
        return await cls._launch("llmtop.simulator.server.schedule", arguments, {})
