"""A server that a command of the user's starts, or changes: begun, waited for, proven, and ended.

Blocking: call it from a thread, or where nothing else waits.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct, structs

from llmtop.domain.endpoint import Endpoint, EndpointInfo, safe_url
from llmtop.domain.load import Caps
from llmtop.domain.server_command import ServerCommand
from llmtop.endpoint.probe import probe
from llmtop.endpoint.trial import Wanted
from llmtop.errors import INTERRUPTED, EndpointAuthFailed, EndpointError, EndpointUnreachable, PortTaken, ServeError
from llmtop.session.keeper import ToKeep
from llmtop.session.kept import TAIL_LINES, KeptCommand, Log
from llmtop.session.ports import is_taken, listener
from llmtop.session.proof import Proof, proof_of
from llmtop.telemetry.gpu import GpuReader
from llmtop.telemetry.scraper import Scraper
from llmtop.wording.serving import ended_text, loading_text, not_ready_text, taken_text

__all__ = ["Limits", "Proof", "Served", "ServerCommand"]

Cancelled = Callable[[], bool]
Tell = Callable[[str], None]
T = TypeVar("T")
READY_S = 900.0
"""DeepSeek-V4-Flash on eight GPUs takes 8 min from a warm disk; a model that must be fetched first takes longer."""
LOOK_S = 0.1
"""How soon a death or a wish to end is noticed."""
PAUSE_S = 0.5
"""Between two tries of a server that is not ready."""
PROBE_S = 90.0
"""As long as a session waits: the first request may load the model."""
GPU_SLACK = 1 << 29
"""Bytes of GPU memory that may be more in use than before the first start: others come and go."""


class Limits(Struct, frozen=True, kw_only=True):
    """How long to wait, in seconds."""

    ready_s: float = READY_S
    """For a server, from its start until it has generated a token; also for a command that applies."""
    grace_s: float = 30.0
    """From SIGTERM to SIGKILL: vLLM ends its engine processes one after the other."""
    release_s: float = 60.0
    """For the port and the memory of the GPUs after a server of ours has ended."""
    settle_s: float = 10.0
    """For a server that was changed and does not say that it restarted: the old one may answer for a while."""


class Served:
    """A server behind a command. `put` and `close` may be called from any thread.

    Args:
        endpoint: where the server answers.
        wanted: what the load will ask of it.
        tell: hears, about once a second, what is waited for.
        environment: of the command; None: this process's.
    """

    def __init__(
        self,
        command: ServerCommand,
        endpoint: Endpoint,
        *,
        caps: Caps | None = None,
        wanted: Wanted | None = None,
        limits: Limits | None = None,
        tell: Tell | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = command
        self.last_start_s: float | None = None
        """How long the last start took, until a token was generated."""
        self._endpoint = endpoint
        self._caps, self._limits = caps or Caps(), limits or Limits()
        self._wanted = wanted
        self._tell = tell
        self._environment = dict(os.environ if environment is None else environment)
        self._log: Log | None = None
        self._kept: KeptCommand | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._ended_at_s: float | None = None
        """When the last server of ours ended."""
        self._gpus = GpuReader()
        self._gpu_bytes: float | None = None
        """In use before the first start."""

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines that the commands have written."""
        return () if self._log is None else self._log.tail(TAIL_LINES)

    @property
    def log_path(self) -> Path | None:
        """Where all of it is; None: nowhere."""
        return None if self._log is None else self._log.path

    @property
    def runs(self) -> bool:
        """Whether a server of ours does, by all that was heard of it."""
        kept = self._kept
        return kept is not None and kept.ended is None

    @property
    def died(self) -> str | None:
        """How the server that runs here came to its end without being asked to; None: it lives, or none was begun."""
        kept = self._kept
        code = None if kept is None else kept.look()
        return None if code is None else ended_text("serve", code).removesuffix(" before it was ready")

    def put(self, values: Mapping[str, str], cancelled: Cancelled = lambda: False) -> Proof:
        """Start the server with these settings, ending the one that runs; or apply them. Ready when it returns.

        Raises UsageError: a setting is missing, unknown, or cannot be quoted. ServeError: it did not come, the command
        failed, or `cancelled`; no server of ours runs then.
        """
        line = self.command.filled(values)
        with self._lock:
            work = _Work(self, cancelled)
            if self._log is None:
                self._log = Log()
            self._log.note(line)
            if self.command.kind == "serve":
                return self._serve(line, values, work)
            return self._run(self._apply(line, values, work))

    def close(self) -> None:
        """End the server, where this started it. One that is under way is not waited for. May be called twice."""
        self._closing.set()
        with self._lock:
            self._end()
            self._gpus.close()
            if self._log is not None:
                log, self._log = self._log, None
                log.close()

    # ── serve ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _serve(self, line: str, values: Mapping[str, str], work: _Work) -> Proof:
        self._end()
        self._run(self._until_free(work))
        begun_s = time.monotonic()
        self._kept = kept = self._begin(line)
        try:
            info = self._run(self._until_ready(kept, begun_s, work))
        except BaseException:
            self._end()
            raise
        self.last_start_s = time.monotonic() - begun_s
        return proof_of(values, info, True)  # nobody answered before, and what was started is alive

    def _begin(self, line: str) -> KeptCommand:
        assert self._log is not None
        seen = tuple(os.fsencode(f"{name}={value}") for name, value in self._environment.items())
        return KeptCommand(ToKeep(line, self.command.kind, self._limits.grace_s, seen), self._log)

    def _end(self) -> None:
        if self._kept is not None:
            kept, self._kept = self._kept, None
            kept.end()
            self._ended_at_s = time.monotonic()

    async def _until_free(self, work: _Work) -> None:
        """Wait until the port and the GPUs are free of the server of before. Raises ServeError: the port is not."""
        ended_s = self._ended_at_s
        begun_s = time.monotonic()
        while await is_taken(self._endpoint):
            waited_s = time.monotonic() - begun_s
            if ended_s is None or waited_s > self._limits.release_s:
                by = await asyncio.to_thread(listener, self._endpoint)
                raise PortTaken(taken_text(safe_url(self._endpoint.base_url), by, waited_s))
            await work.pause(PAUSE_S, "the port to be free")
        while (used := await asyncio.to_thread(self._gpu_memory)) is not None:
            if self._gpu_bytes is None:
                self._gpu_bytes = used
            late = time.monotonic() - begun_s > self._limits.release_s
            if ended_s is None or late or used <= self._gpu_bytes + GPU_SLACK:
                return
            await work.pause(PAUSE_S, "the memory of the GPUs to be free")

    def _gpu_memory(self) -> float | None:
        """Bytes in use on the GPUs beside us; None: there are none that can be read."""
        if not self._endpoint.is_here:
            return None
        used = [each.memory_used_bytes for each in self._gpus.read(0.0) if each.memory_used_bytes is not None]
        return sum(used) if used else None

    async def _until_ready(self, kept: KeptCommand, begun_s: float, work: _Work) -> EndpointInfo:
        def check() -> None:
            self._check(kept, begun_s, work)

        while True:
            try:
                return await work.unless_over(self._probe(), check)
            except EndpointAuthFailed as error:
                raise ServeError(f"the server is up, but does not let us in: {error.problem}", kept.tail()) from None
            except EndpointError as error:
                work.problem, work.is_silent = error.problem, isinstance(error, EndpointUnreachable)
            await work.pause(PAUSE_S, None, check)

    def _check(self, kept: KeptCommand, begun_s: float, work: _Work) -> None:
        """Raises ServeError: the server has died or is too late."""
        waited_s = time.monotonic() - begun_s
        work.tell(loading_text(waited_s, self.last_start_s, None if work.is_silent else work.problem))
        if (code := kept.look()) is not None:
            raise ServeError(ended_text("serve", code), kept.tail())
        if waited_s > self._limits.ready_s:
            raise ServeError(not_ready_text(self._limits.ready_s, work.problem), kept.tail())

    async def _probe(self) -> EndpointInfo:
        try:
            async with asyncio.timeout(PROBE_S):
                return await probe(self._endpoint, self._caps, wanted=self._wanted)
        except TimeoutError:
            raise EndpointUnreachable(self._endpoint.base_url, f"no answer within {PROBE_S:g} s") from None

    # ── apply ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _apply(self, line: str, values: Mapping[str, str], work: _Work) -> Proof:
        begun_s = time.monotonic()
        watch = _RestartWatch(self._endpoint)
        try:
            await watch.begin(await work.unless_over(self._probe()))
        except EndpointError as error:
            watch.went = isinstance(error, EndpointUnreachable)
        kept = self._begin(line)
        try:
            while (code := kept.look()) is None:
                await watch.look()
                if time.monotonic() - begun_s > self._limits.ready_s:
                    raise ServeError(not_ready_text(self._limits.ready_s, "the command does not return"), kept.tail())
                await work.pause(LOOK_S, "the command to return")
            if code != 0:
                raise ServeError(ended_text("apply", code), kept.tail())
            return await self._until_applied(kept, values, watch, begun_s, work)
        finally:
            await watch.close()
            kept.end()

    async def _until_applied(
        self, kept: KeptCommand, values: Mapping[str, str], watch: _RestartWatch, begun_s: float, work: _Work
    ) -> Proof:
        returned_s = time.monotonic()
        while True:
            try:
                info = await work.unless_over(self._probe())
            except EndpointAuthFailed as error:
                raise ServeError(f"the server is up, but does not let us in: {error.problem}", kept.tail()) from None
            except EndpointError as error:
                work.problem = error.problem
                watch.went = watch.went or isinstance(error, EndpointUnreachable)
            else:
                await watch.look()
                settled = time.monotonic() - returned_s > self._limits.settle_s
                if watch.restarted or settled:
                    self.last_start_s = time.monotonic() - begun_s
                    return proof_of(values, info, watch.restarted)
            waited_s = time.monotonic() - begun_s
            if waited_s > self._limits.ready_s:
                raise ServeError(not_ready_text(self._limits.ready_s, work.problem), kept.tail())
            await work.pause(PAUSE_S, None)
            work.tell(loading_text(waited_s, self.last_start_s, work.problem))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)


class _Work:
    """One `put` under way: whether it is to go on, and what it says."""

    def __init__(self, served: Served, cancelled: Cancelled) -> None:
        self._served, self._cancelled = served, cancelled
        self._told_s = 0.0
        self.problem: str | None = None
        """Why the server is not ready, the last time that it was asked."""
        self.is_silent = False
        """That is because nobody answers, as is usual at first."""

    def go_on(self) -> None:
        """Raises ServeError: nobody wants it any more."""
        if self._served._closing.is_set() or self._cancelled():
            raise ServeError("interrupted before the server was ready", exit_code=INTERRUPTED)

    def tell(self, text: str) -> None:
        """At most once a second."""
        now_s = time.monotonic()
        if self._served._tell is not None and now_s - self._told_s >= 1.0:
            self._told_s = now_s
            self._served._tell(text)

    async def pause(self, pause_s: float, what: str | None, check: Callable[[], None] = lambda: None) -> None:
        """Wait, and say for what. Raises ServeError as `go_on` and `check`."""
        if what is not None:
            self.tell(f"waiting for {what}")
        until_s = time.monotonic() + pause_s
        while (left_s := until_s - time.monotonic()) > 0:
            self.go_on()
            check()
            await asyncio.sleep(min(LOOK_S, left_s))

    async def unless_over(self, work: Coroutine[Any, Any, T], check: Callable[[], None] = lambda: None) -> T:
        """What the work comes to. Raises ServeError as `go_on` and `check`; the work is given up then."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                self.go_on()
                check()
                await asyncio.wait({task}, timeout=LOOK_S)
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})


class _RestartWatch:
    """Whether the server at an address was started anew since `begin`, by its metrics or by a refused connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.went = False
        """Nobody answered there for a moment."""
        self._endpoint = endpoint
        self._scraper: Scraper | None = None
        self._started_s: float | None = None
        self._is_new = False
        self._looked_s = 0.0

    async def begin(self, info: EndpointInfo) -> None:
        endpoint = structs.replace(self._endpoint, model=info.model)
        self._scraper = Scraper(endpoint, info.dialect, time.perf_counter_ns())
        await self.look()

    async def look(self) -> None:
        """At most once in half a second."""
        now_s = time.monotonic()
        if self._scraper is None or now_s - self._looked_s < PAUSE_S:
            return
        self._looked_s = now_s
        snapshot = await self._scraper.scrape()
        self._is_new = self._is_new or self._scraper.restarted
        self._started_s = snapshot.process_start_s if self._scraper.fresh else None

    @property
    def restarted(self) -> bool | None:
        """None: there is nothing to tell it by."""
        if self._is_new:
            return True
        if self._started_s is not None:
            return False
        return True if self.went else None

    async def close(self) -> None:
        if self._scraper is not None:
            await self._scraper.close()
