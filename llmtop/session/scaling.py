"""A deployment that scales under the load: its steps as facts and in words, a share of the load for each replica."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from copy import deepcopy

from llmtop.domain.endpoint import Endpoint, EndpointInfo, safe_url
from llmtop.domain.places import KubeService, place_in
from llmtop.domain.replicas import ReplicaCounts
from llmtop.domain.run import EventKind, ScaleStep, Severity
from llmtop.session.bank import is_ours
from llmtop.session.renewal import Renewals
from llmtop.telemetry.kube_scaling import KubeDeployment
from llmtop.telemetry.kubectl import Kubectl
from llmtop.telemetry.replicas import ReplicaSeen
from llmtop.telemetry.scaling import LOOK_S, ScaleSource, ScaleWatch, SimulatedDeployment
from llmtop.wording.scale_steps import idle_text, renewed_text, steps_text, unseen_text

Tell = Callable[[EventKind, str, Severity], None]


class Scaling:
    """Looks once a second, beside the scraper.

    Args:
        source: whoever runs the deployment; None: nobody can be asked.
        now_s: seconds of the run clock.
        renew: has requests open new connections; returns how many were kept (None: it cannot be said).
        waiting: requests that the server has waiting now.
        tell: hears what a reader of the run wants to know.
    """

    def __init__(
        self,
        source: ScaleSource | None,
        now_s: Callable[[], float],
        renew: Callable[[], int | None],
        waiting: Callable[[], float],
        tell: Tell,
    ) -> None:
        self._watch = ScaleWatch(source)
        self._counts = ReplicaCounts()
        self._now_s, self._renew, self._waiting, self._tell = now_s, renew, waiting, tell
        self._renewals = Renewals()
        self._untold: list[ScaleStep] = []
        self._old: set[str] = set()
        """Replicas that were ready when the run began: that they serve is no news."""
        self._problem = ""

    async def run(self, seen: Callable[[], Sequence[ReplicaSeen]]) -> None:
        """Look until cancelled; `seen`: what the last scrape saw of each replica."""
        while True:
            started_s = self._now_s()
            self.note(await self._watch.look(self._now_s, seen()))
            self.share()
            await asyncio.sleep(max(0.0, LOOK_S - (self._now_s() - started_s)))

    def note(self, steps: Sequence[ScaleStep]) -> None:
        """Keep the steps of one look, and say those of the run."""
        self._untold.extend(steps)
        ready = {step.name for step in steps if step.kind == "ready"}
        self._old |= {step.name for step in steps if step.since and step.kind == "ready"}
        for of_one_kind in self._alike(steps):
            step, before, serving = of_one_kind[0], self._counts.ready, self._counts.serving
            text = steps_text(of_one_kind, self._counts)
            left = self._counts.created if step.kind == "gone" else self._counts.ready
            is_fewer = step.kind == "gone" or (step.kind == "ready" and left < before)
            is_loss = is_fewer and left < (self._counts.desired or math.inf)
            names = {step.name for step in of_one_kind}
            known = {"created": ready, "serving": self._old if self._counts.serving > serving else ready}
            is_known = names <= known.get(step.kind, set())
            if not step.since and not is_known:
                self._tell("server", text, "warning" if is_loss else "info")
        self._renewals.note(steps)
        problem = self._watch.problem
        if problem and problem != self._problem:
            self._tell("server", unseen_text(problem), "warning")
        self._problem = problem or self._problem

    def _alike(self, steps: Sequence[ScaleStep]) -> list[list[ScaleStep]]:
        """The steps of one look by the sentences that say them: of one kind, and all up or all down."""
        counts, found = deepcopy(self._counts), list[list[ScaleStep]]()
        key: tuple[object, ...] = ()
        for step in steps:
            was, before = key, (counts.ready, counts.serving)
            counts.take(step)
            key = step.kind, step.since, step.kind in ("ready", "serving") and (counts.ready, counts.serving) > before
            found += [] if key == was else [[]]
            found[-1].append(step)
        return found

    def share(self) -> None:
        """Renew connections for whom it is due, and say who gets nothing all the same."""
        now_s, due = self._now_s(), self._renewals.due(self._now_s())
        kept = self._renew() if due else 0
        if kept != 0:
            self._renewals.done(due, now_s)
            first = [each.name for each in due if each.times == 1]
            if first:
                self._tell("server", renewed_text(first, kept), "info")
        for each in self._renewals.idle(now_s, self._waiting()):
            self._tell("server", idle_text(each.name, now_s - each.ready_s), "warning")

    def take(self) -> tuple[ScaleStep, ...]:
        """The steps since the last call."""
        taken, self._untold = tuple(self._untold), []
        return taken

    async def close(self) -> None:
        await self._watch.close()


def source_of(endpoint: Endpoint, info: EndpointInfo, kubectl: Kubectl) -> ScaleSource | None:
    """Who can be asked for the replicas of an endpoint; None: nobody."""
    for url in endpoint.metrics_urls:
        if isinstance(place := place_in(url), KubeService):
            return KubeDeployment(safe_url(url), place, kubectl)
    several = len(endpoint.metrics_urls) > 1  # its own pages tell more than one of several
    return SimulatedDeployment(endpoint) if is_ours(info) and not several else None
