"""A server behind a command of the user's, as the target of a run."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping

from llmtop.domain.commands import InjectFault, SetKnob
from llmtop.domain.endpoint import CommandStatus, Endpoint
from llmtop.domain.load import Caps
from llmtop.domain.samples import ServerSnapshot
from llmtop.endpoint.access import Access
from llmtop.endpoint.trial import Wanted
from llmtop.errors import ServeError, UsageError
from llmtop.session.bank import Bank
from llmtop.session.options import Serving
from llmtop.session.proof import Proof
from llmtop.session.served import Limits, Served
from llmtop.simulator.server.process import KnobValue
from llmtop.wording.serving import not_resumed_text, working_text

READ_S = 1.0
"""Between two looks at the log."""
OURS = ("OPENBLAS_NUM_THREADS",)
"""Variables of this process that are no wish of the user's."""


class Commanded:
    """Started, or changed, by a command; what was started ends with the run."""

    def __init__(
        self,
        endpoint: Endpoint,
        serving: Serving,
        caps: Caps,
        knobs_url: str | None = None,
        wanted: Wanted | None = None,
    ) -> None:
        self._endpoint, self._serving = endpoint, serving
        self.bank = Bank(endpoint, knobs_url)
        self.faults: Mapping[str, float] = {}
        self.proof: Proof | None = None
        """Of the last start."""
        self.settings: dict[str, str] = dict(serving.settings)
        self._wanted: dict[str, str] = {}
        self._work = self._problem = ""
        self._log: tuple[str, ...] = ()
        self._read_s = 0.0
        self._given_up = threading.Event()
        self._heard = Access(endpoint).heard
        self._served = Served(
            serving.command,
            endpoint,
            caps=caps,
            wanted=wanted,
            limits=Limits(ready_s=serving.ready_within_s),
            tell=self._hear,
            environment={name: value for name, value in os.environ.items() if name not in OURS},
        )

    @property
    def status(self) -> CommandStatus:
        """For the screen."""
        now_s = time.monotonic()
        if now_s - self._read_s >= READ_S:
            self._read_s = now_s
            self._log = tuple(map(self._heard, self._served.tail))
        if not (self._work or self._problem) and (died := self._served.died) is not None:
            self._problem = died
        path = self._served.log_path
        return CommandStatus(
            serves=self._serving.command.kind == "serve",
            runs=self._serving.command.kind == "apply" or self._served.runs,
            settings=tuple((name, self.settings.get(name, "")) for name in self._serving.command.names),
            wanted=tuple(self._wanted.items()),
            work=self._work,
            problem=self._problem,
            start_s=self._served.last_start_s,
            log=self._log,
            log_path=None if path is None else str(path),
        )

    async def start(self) -> Endpoint:
        if self._serving.command.kind == "serve" or self._serving.settings:
            await self._put(dict(self._serving.settings))
        return self._endpoint

    @property
    def knobs(self) -> Mapping[str, float]:
        return self.bank.knobs

    def over(self, snapshot: ServerSnapshot) -> ServerSnapshot:
        return self.bank.over(snapshot)

    async def turn(self, wish: SetKnob | InjectFault) -> str:
        return await self.bank.turn(wish)

    async def restart(self, knobs: Mapping[str, KnobValue]) -> Endpoint:
        """Raises ServeError, too: it did not come, or it says that it has other settings."""
        await self._put({**self.settings, **{name: str(value) for name, value in knobs.items()}})
        return self._endpoint

    async def _put(self, values: dict[str, str]) -> None:
        self._wanted, self._problem = values, ""
        self._work = working_text(self._serving.command.kind, values)
        try:
            self.proof = proof = await asyncio.to_thread(self._served.put, values, self._given_up.is_set)
        except (ServeError, UsageError) as error:
            self._problem = str(error)
            raise
        finally:
            self._work = ""
        told = {name: seen for name, _, seen in proof.contradicted}
        self.settings = {**values, **told}
        if proof.ok is False:
            self._problem = not_resumed_text(proof.text)
            raise ServeError(proof.text, self._served.tail)
        self._wanted = {}

    def _hear(self, text: str) -> None:
        self._work = f"{working_text(self._serving.command.kind, self._wanted)}: {text}"

    async def close(self) -> None:
        self._given_up.set()
        await asyncio.to_thread(self._served.close)
