"""How whatever owns a service's pods scales, through the user's own kubectl: a Deployment, a StatefulSet, a
LeaderWorkerSet, and the autoscaler that turns it (also KEDA's, which makes one).

What is wanted is the autoscaler's `status.desiredReplicas`, else `spec.replicas`; who was begun and is ready is told by
the pods. Those are listed when the owner's own counts differ from theirs, and now and then. Where they may not be
listed, the counts of the owner's status stand for them, without names.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from llmtop.domain.places import KubeService
from llmtop.domain.plain import LIMIT, plain
from llmtop.telemetry.kubectl import LIMIT_S, Kubectl, KubectlFailed, NotFound
from llmtop.telemetry.kubernetes import in_words
from llmtop.telemetry.scaling import Deployed, Standing
from llmtop.wording import scale_steps as words

AUTOSCALER = "horizontalpodautoscaler"
EVERY_LOOKS = 30
"""So often the pods are listed even if their owner counts as many as were known."""
LEADER = "leaderworkerset.sigs.k8s.io/name"
"""The label of a pod of a LeaderWorkerSet, with the name of that."""
T = TypeVar("T")


class _Owner(Struct):
    kind: str = ""
    name: str = ""


class _Meta(Struct, rename="camel"):
    name: str = ""
    labels: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None
    deletion_timestamp: str | None = None


class _Condition(Struct):
    type: str = ""
    status: str = ""


class _PodStatus(Struct):
    phase: str = ""
    conditions: list[_Condition] | None = None


class _Pod(Struct):
    metadata: _Meta
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class _Pods(Struct):
    items: list[_Pod]


class _Spec(Struct, rename="camel"):
    replicas: int | None = None
    scale_target_ref: _Owner | None = None
    selector: dict[str, object] | None = None


class _Status(Struct, rename="camel"):
    replicas: int | None = None
    ready_replicas: int | None = None
    desired_replicas: int | None = None


class _Thing(Struct):
    kind: str = ""
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _Things(Struct):
    items: list[_Thing]


class KubeDeployment:
    """What scales one service, asked anew at every look.

    Args:
        url: of the place, as it may be shown.
    """

    def __init__(self, url: str, service: KubeService, kubectl: Kubectl) -> None:
        self.problem = ""
        self._url, self._service, self._kubectl = url, service, kubectl
        self._owner = service.scale
        self._autoscaler = ""
        self._selector = ""
        self._pods: tuple[Standing, ...] = ()
        """As told last."""
        self._looks = 0

    async def look(self) -> Deployed | None:
        self.problem = ""
        pods = None if self._owner else await self._tried(self._standing())
        things = await self._tried(self._scaled())
        if pods is None and self._is_to_be_listed(things):
            pods = await self._tried(self._standing())
        self._looks += 1
        if not self._owner:
            self.problem = self.problem or words.no_owner(self._url, self._service.name)
        if pods is None and things is None:
            return None
        self._pods = pods or self._pods
        owner, autoscaler = things or (_Thing(), None)
        desired = owner.spec.replicas
        if autoscaler is not None and autoscaler.status.desired_replicas:
            desired = autoscaler.status.desired_replicas
        status = owner.status
        replicas = self._pods if pods is not None or self._pods else _nameless(status.replicas, status.ready_replicas)
        return Deployed(desired=desired, replicas=replicas)

    async def close(self) -> None:
        """Nothing is kept; kubectl is whose it was."""

    def _is_to_be_listed(self, things: tuple[_Thing, _Thing | None] | None) -> bool:
        """Whether the pods that are known may be others by now."""
        if things is None or self._looks % EVERY_LOOKS == 0:
            return True
        status = things[0].status
        known = len(self._pods), sum(pod.ready for pod in self._pods)
        return known != (status.replicas or 0, status.ready_replicas or 0)

    async def _standing(self) -> tuple[Standing, ...]:
        """The pods behind the service, and who owns them."""
        if not self._selector:
            service = await self._get(_Thing, "service", self._service.name)
            labels = service.spec.selector or {}
            self._selector = ",".join(f"{name}={value}" for name, value in labels.items())
        pods = (await self._get(_Pods, "pods", "-l", self._selector)).items if self._selector else []
        if pods and not self._owner:
            self._owner = await self._owner_of(pods[0].metadata)
        return tuple(_stands(pod) for pod in pods if pod.status.phase not in ("Succeeded", "Failed"))

    async def _owner_of(self, pod: _Meta) -> str:
        """`deployment/vllm`; empty: nothing that is known owns it."""
        leader = (pod.labels or {}).get(LEADER)
        if leader:
            return f"leaderworkerset/{leader}"
        for owner in pod.owner_references or ():
            if owner.kind == "StatefulSet":
                return f"statefulset/{owner.name}"
            if owner.kind == "ReplicaSet":
                owners = (await self._get(_Thing, f"replicaset/{owner.name}")).metadata.owner_references
                return next((f"deployment/{each.name}" for each in owners or () if each.kind == "Deployment"), "")
        return ""

    async def _scaled(self) -> tuple[_Thing, _Thing | None] | None:
        """The owner, and the autoscaler that turns it, if there is one and it may be asked; None: none is known."""
        if not self._owner:
            return None
        kind, _, name = self._owner.partition("/")
        if not self._autoscaler:
            try:
                known = (await self._get(_Things, AUTOSCALER)).items
            except KubectlFailed:  # one may be allowed the owner alone, which follows it within a second
                known = []
            targets = ((each.metadata.name, each.spec.scale_target_ref) for each in known)
            found = (own for own, ref in targets if ref is not None and (ref.kind.lower(), ref.name) == (kind, name))
            self._autoscaler = f"{AUTOSCALER}/{own}" if (own := next(found, "")) else "-"
        if self._autoscaler == "-":
            return await self._get(_Thing, self._owner), None
        try:
            things = (await self._get(_Things, self._owner, self._autoscaler)).items
        except NotFound:  # one of both; which there are is looked up again
            self._autoscaler = ""
            raise
        owners = [each for each in things if each.kind.lower() == kind]
        return (owners or [_Thing()])[0], next((each for each in things if each not in owners), None)

    async def _get(self, type_: type[T], *what: str) -> T:
        """Raises KubectlFailed."""
        patience = f"--request-timeout={LIMIT_S - 1:g}s"
        answer = await self._kubectl.ask("get", *what, "-n", self._service.namespace, "-o", "json", patience)
        try:
            return msgspec.json.decode(answer, type=type_)
        except (msgspec.MsgspecError, RecursionError):
            raise KubectlFailed(words.garbled(what[0])) from None

    async def _tried(self, asking: Coroutine[Any, Any, T]) -> T | None:
        """What is told; None, with `problem` set: nothing."""
        try:
            return await asking
        except KubectlFailed as error:
            self.problem = self.problem or in_words(self._url, error)
            return None


def _stands(pod: _Pod) -> Standing:
    conditions = pod.status.conditions or ()
    is_ready = any(each.type == "Ready" and each.status == "True" for each in conditions)
    return Standing(plain(pod.metadata.name, LIMIT), is_ready and pod.metadata.deletion_timestamp is None)


def _nameless(replicas: int | None, ready: int | None) -> tuple[Standing, ...]:
    count, ready = min(max(replicas or 0, 0), 10_000), ready or 0
    return tuple(Standing("", place < ready) for place in range(count))
