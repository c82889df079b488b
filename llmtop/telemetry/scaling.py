"""How a deployment scales, as it is seen once a second: what is wanted, begun, ready, at work or gone since then.

Times are those of the look in which something was first seen, on the run clock: what other machines say of the time is
not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.plain import LIMIT, plain
from llmtop.domain.run import ScaleKind, ScaleStep
from llmtop.endpoint.access import Access
from llmtop.endpoint.question import JSON_BYTES, NoAnswer, ask
from llmtop.telemetry.replicas import ReplicaSeen

LOOK_S = 1.0
LIMIT_S = 5.0
"""For one look: what takes longer is not known, and is asked again."""
REPLICAS = "/llmtop/replicas"
"""Where the simulated deployment says which replicas it has."""


class Standing(Struct, frozen=True):
    """One replica that was begun and is not gone."""

    name: str = ""
    """Empty: it has none that is known."""
    ready: bool = False
    serving: bool = False


class Deployed(Struct, frozen=True, kw_only=True):
    """A deployment at one look."""

    desired: int | None = None
    """None: nobody tells."""
    replicas: tuple[Standing, ...] = ()
    scales: bool = True
    """Whether something may change the number of replicas."""


class ScaleSource(Protocol):
    """Who knows what is wanted, begun and ready: whatever runs the deployment."""

    problem: str
    """What it does not tell now, and why; empty: nothing."""

    async def look(self) -> Deployed | None:
        """How it is now; None: it does not tell. Never raises for what is out there."""

    async def close(self) -> None: ...


def steps(before: Deployed | None, now: Deployed, t_s: float) -> list[ScaleStep]:
    """What has changed, each replica for itself; what was there at the first look (`before` is None) is `since`.

    Replayed by `ReplicaCounts`, the steps of all looks give the counts of the last one.
    """
    was, since = before or Deployed(), before is None
    told: list[ScaleStep] = []

    def tell(kind: ScaleKind, replicas: int, name: str = "") -> None:
        told.append(ScaleStep(t_s, kind, replicas, name, since))

    if now.desired is not None and now.desired != was.desired:
        tell("desired", now.desired)
    old, new = _named(was.replicas), _named(now.replicas)
    nameless = len(was.replicas) - len(old), len(now.replicas) - len(new)
    count = len(was.replicas)
    for name in [name for name in old if name not in new] + [""] * (nameless[0] - nameless[1]):
        count -= 1
        tell("gone", count, name)
    for name in [name for name in new if name not in old] + [""] * (nameless[1] - nameless[0]):
        count += 1
        tell("created", count, name)
    kinds: tuple[ScaleKind, ...] = ("ready", "serving")
    for kind in kinds:
        stayed = {name for name, replica in old.items() if name in new and getattr(replica, kind)}
        left = min(_nameless(was.replicas, kind), nameless[1])
        count, wanted = len(stayed) + left, _nameless(now.replicas, kind)
        for name in sorted(stayed - _in(new, kind)) + [""] * (left - wanted):
            count -= 1
            tell(kind, count, name)
        for name in [name for name in new if name in _in(new, kind) - stayed] + [""] * (wanted - left):
            count += 1
            tell(kind, count, name)
    return told


def _named(replicas: Iterable[Standing]) -> dict[str, Standing]:
    return {replica.name: replica for replica in replicas if replica.name}


def _in(named: dict[str, Standing], kind: str) -> set[str]:
    return {name for name, replica in named.items() if getattr(replica, kind)}


def _nameless(replicas: Iterable[Standing], kind: str) -> int:
    return sum(not replica.name and getattr(replica, kind) for replica in replicas)


class ScaleWatch:
    """Sees a deployment scale, by whoever runs it, by the replicas' own pages, or by both.

    A deployment of one replica that nothing scales tells nothing.

    Args:
        source: whoever runs it; None: nobody can be asked.
    """

    def __init__(self, source: ScaleSource | None) -> None:
        self.several = False
        """There are several replicas, or there may be."""
        self._source = source
        self._run: Deployed | None = None
        """What the source told last."""
        self._before: Deployed | None = None
        self._held: list[ScaleStep] = []
        """Not told yet: there was one replica, and nothing to make it more."""
        self._answered: set[str] = set()
        self._served: set[str] = set()

    @property
    def problem(self) -> str:
        """Why the source does not tell all; empty: it does."""
        return "" if self._source is None else self._source.problem

    async def look(self, now_s: Callable[[], float], seen: Sequence[ReplicaSeen]) -> list[ScaleStep]:
        """What has changed since the look before."""
        if self._source is not None:
            self._run = await self._source.look() or self._run  # what was known stays so
        return self.take(now_s(), self._run, seen)

    def take(self, now_s: float, run: Deployed | None, seen: Sequence[ReplicaSeen]) -> list[ScaleStep]:
        """The same by what a look has brought."""
        self._served -= {replica.name for replica in seen if replica.answers}
        self._served |= {replica.name for replica in seen if replica.served}
        self._answered |= {replica.name for replica in seen if replica.answers}
        self._answered -= {replica.name for replica in seen if replica.gone}
        now = self._by_pages(seen) if run is None else self._with_pages(run)
        if now is None:
            return []
        if now.desired is None and self._before is not None:
            now = msgspec.structs.replace(now, desired=self._before.desired)
        told = [*self._held, *steps(self._before, now, now_s)]
        self._before = now
        self.several = self.several or now.scales or len(now.replicas) > 1 or (now.desired or 0) > 1
        self._held = [] if self.several else told
        return told if self.several else []

    def _by_pages(self, seen: Sequence[ReplicaSeen]) -> Deployed | None:
        """Who has no page any more is gone; who answers is ready, unless its place says that it is not."""
        standing = tuple(
            Standing(
                replica.name,
                replica.name in self._answered if replica.ready is None else replica.ready,
                replica.name in self._served,
            )
            for replica in seen
            if not replica.gone
        )
        return Deployed(replicas=standing, scales=False) if standing else None

    def _with_pages(self, run: Deployed) -> Deployed:
        """Who has served and is ready, where whoever runs it does not know."""
        standing = tuple(
            replica
            if replica.serving
            else msgspec.structs.replace(replica, serving=replica.ready and replica.name in self._served)
            for replica in run.replicas
        )
        return msgspec.structs.replace(run, replicas=standing)

    async def close(self) -> None:
        if self._source is not None:
            await self._source.close()


class _Listed(Struct):
    name: str
    ready: bool
    serving_s: float | None = None


class _Listing(Struct):
    desired: int
    scales: bool
    replicas: tuple[_Listed, ...]


class SimulatedDeployment:
    """What the simulated deployment says of itself."""

    def __init__(self, endpoint: Endpoint) -> None:
        access = Access(endpoint)
        self.problem = ""
        self._heard = access.heard
        self._client = access.stock_client()

    async def look(self) -> Deployed | None:
        try:
            answer = await ask(self._client, REPLICAS, limit_s=LIMIT_S, limit_bytes=JSON_BYTES)
            told = msgspec.json.decode(answer.body, type=_Listing)
        except (NoAnswer, msgspec.MsgspecError) as error:
            self.problem = self._heard(f"{REPLICAS}: {plain(str(error), LIMIT)}")
            return None
        self.problem = ""
        standing = tuple(
            Standing(self._heard(each.name), each.ready, each.serving_s is not None) for each in told.replicas
        )
        return Deployed(desired=told.desired, replicas=standing, scales=told.scales)

    async def close(self) -> None:
        await self._client.aclose()
