"""A deployment that scales under the load: its steps as facts, and in words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import groupby

from llmtop.domain.endpoint import Endpoint, EndpointInfo
from llmtop.domain.replicas import ReplicaCounts
from llmtop.domain.run import EventKind, ScaleStep, Severity
from llmtop.session.bank import is_ours
from llmtop.telemetry.replicas import ReplicaSeen
from llmtop.telemetry.scaling import LOOK_S, ScaleSource, ScaleWatch, SimulatedDeployment
from llmtop.wording.scale_steps import steps_text, unseen_text

Tell = Callable[[EventKind, str, Severity], None]


class Scaling:
    """Looks once a second, beside the scraper.

    Args:
        source: whoever runs the deployment; None: nobody can be asked.
        now_s: seconds of the run clock.
        tell: hears what a reader of the run wants to know.
    """

    def __init__(self, source: ScaleSource | None, now_s: Callable[[], float], tell: Tell) -> None:
        self._watch = ScaleWatch(source)
        self._counts = ReplicaCounts()
        self._now_s, self._tell = now_s, tell
        self._untold: list[ScaleStep] = []
        self._problem = ""

    async def run(self, seen: Callable[[], Sequence[ReplicaSeen]]) -> None:
        """Look until cancelled; `seen`: what the last scrape saw of each replica."""
        while True:
            started_s = self._now_s()
            self.note(await self._watch.look(self._now_s, seen()))
            await asyncio.sleep(max(0.0, LOOK_S - (self._now_s() - started_s)))

    def note(self, steps: Sequence[ScaleStep]) -> None:
        """Keep the steps of one look, and say those of the run."""
        self._untold.extend(steps)
        for _, alike in groupby(steps, key=lambda step: (step.kind, step.since)):
            of_one_kind = list(alike)
            text = steps_text(of_one_kind, self._counts)
            if not of_one_kind[0].since:
                self._tell("server", text, "info")
        problem = self._watch.problem
        if problem and problem != self._problem:
            self._tell("server", unseen_text(problem), "warning")
        self._problem = problem or self._problem

    def take(self) -> tuple[ScaleStep, ...]:
        """The steps since the last call."""
        taken, self._untold = tuple(self._untold), []
        return taken

    async def close(self) -> None:
        await self._watch.close()


def source_of(endpoint: Endpoint, info: EndpointInfo) -> ScaleSource | None:
    """Who can be asked for the replicas of an endpoint; None: nobody."""
    return SimulatedDeployment(endpoint) if is_ours(info) else None
