"""The pods of a Kubernetes service and how they are reached, through the user's own kubectl.

Which there are is told by the service's EndpointSlices (discovery.k8s.io/v1): address, readiness and name of each pod.
A pod is asked at its address; where that is not reached from here, a `kubectl port-forward` leads to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from ipaddress import ip_address

import msgspec
from msgspec import Struct

from llmtop.domain.endpoint import host_and_port
from llmtop.domain.places import KubeService
from llmtop.domain.plain import LIMIT, plain
from llmtop.telemetry.kubectl import (
    LIMIT_S,
    Forbidden,
    Forward,
    Kubectl,
    KubectlFailed,
    KubectlLate,
    NoKubectl,
    NotFound,
)
from llmtop.telemetry.places import LOOK_S, Found
from llmtop.wording import replicas as words

REACH_S = 1.0
"""For a connection to a pod's address: those of its cluster are there within milliseconds, or never."""
MOST_PODS = 1000
_PREFERRED = ("metrics", "http-metrics", "http", "api")
"""Names of ports that have the page, where a service has several ports."""


class Pod(Struct, frozen=True):
    """One pod behind a service."""

    name: str
    address: str
    port: int
    ready: bool


class _Ref(Struct):
    kind: str = ""
    name: str = ""


class _Conditions(Struct):
    ready: bool | None = None


class _Endpoint(Struct, rename="camel"):
    addresses: list[str] = []
    conditions: _Conditions | None = None
    target_ref: _Ref | None = None


class _Port(Struct):
    name: str | None = None
    port: int | None = None


class _Slice(Struct, rename="camel"):
    address_type: str = "IPv4"
    endpoints: list[_Endpoint] | None = None
    ports: list[_Port] | None = None


class _Slices(Struct):
    items: list[_Slice]


def in_words(url: str, error: KubectlFailed) -> str:
    """Why a place does not tell, and what to do."""
    match error:
        case NoKubectl():
            return words.no_kubectl(url)
        case Forbidden(verb=verb, resource=resource, group=group, where=where, user=user):
            return words.forbidden(url, verb, resource, group, where, user)
        case KubectlLate():
            return words.kubectl_late(url, LIMIT_S)
        case _:
            return words.kubectl_failed(url, str(error))


class NoSuchPort(Exception):
    """The service has none of that name; `ports` are those it has."""

    def __init__(self, ports: Sequence[str]) -> None:
        super().__init__(", ".join(ports))
        self.ports = tuple(ports)


def pods_in(answer: bytes, port: str = "") -> tuple[Pod, ...]:
    """The pods that `kubectl get endpointslices -o json` tells of, by name.

    Args:
        port: a number, or the name of one of the service's ports; empty: the one it has, of several the likeliest.

    A pod that has addresses of both kinds is one, by its first IPv4. Readiness that is not told counts as ready, as the
    API has it. Raises ValueError: it is no such answer; NoSuchPort.
    """
    try:
        slices = msgspec.json.decode(answer, type=_Slices).items
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None
    found: dict[str, Pod] = {}
    lacking: list[str] = []
    for each in sorted(slices, key=lambda one: one.address_type != "IPv4"):
        if not each.endpoints or each.address_type not in ("IPv4", "IPv6"):
            continue
        number = _port_of(each.ports or [], port)
        if number is None:
            lacking += [name for one in each.ports or [] if (name := one.name or str(one.port or ""))]
            continue
        for endpoint in each.endpoints[:MOST_PODS]:
            for address in filter(_is_address, endpoint.addresses[:1]):
                ref = endpoint.target_ref
                name = ref.name if ref is not None and ref.kind == "Pod" and ref.name else address
                ready = endpoint.conditions is None or endpoint.conditions.ready is not False
                found.setdefault(name, Pod(plain(name, LIMIT), address, number, ready))
    if lacking and not found:
        raise NoSuchPort(tuple(dict.fromkeys(lacking)))
    return tuple(sorted(found.values(), key=lambda pod: pod.name))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _port_of(ports: Sequence[_Port], wanted: str) -> int | None:
    if wanted.isdecimal():
        return int(wanted)
    named = {each.name or "": each.port for each in ports if 0 < (each.port or 0) < 1 << 16}
    if wanted:
        return named.get(wanted)
    return next((named[name] for name in _PREFERRED if name in named), next(iter(named.values()), None))


class ServicePods:
    """The pods of one service: asked at their addresses, or through forwards."""

    every_s = LOOK_S

    def __init__(self, url: str, service: KubeService, usual: str, kubectl: Kubectl) -> None:
        self.problem: str | None = None
        self._url, self._service, self._kubectl = url, service, kubectl
        self._path = service.path or usual
        self._direct: set[str] = set()
        """Addresses that were reached."""
        self._forwards: dict[str, Forward] = {}

    async def look(self) -> tuple[Found, ...] | None:
        try:
            pods = pods_in(await self._slices(), self._service.port)
            self.problem = None if pods else await self._why_none()
        except NoSuchPort as error:
            self.problem = words.no_such_port(self._url, self._service.port or "of its own", error.ports)
            return ()
        except ValueError:
            self.problem = words.kubectl_garbled(self._url)
            return None
        except KubectlFailed as error:
            self.problem = in_words(self._url, error)
            return None
        self._leave(pods)
        return tuple(await asyncio.gather(*map(self._found, pods)))

    async def _slices(self) -> bytes:
        name, namespace = self._service.name, self._service.namespace
        chosen = f"kubernetes.io/service-name={name}"
        patience = f"--request-timeout={LIMIT_S - 1:g}s"
        return await self._kubectl.ask("get", "endpointslices", "-n", namespace, "-l", chosen, "-o", "json", patience)

    async def _why_none(self) -> str:
        """Asked when a service has no pods: whether there is such a service at all."""
        name, namespace = self._service.name, self._service.namespace
        try:
            await self._kubectl.ask("get", "service", name, "-n", namespace, "-o", "name")
        except NotFound:
            return words.no_service(self._url, name, namespace)
        except KubectlFailed:
            pass  # that one may not ask for it says nothing of it
        return words.no_pods(self._url, name)

    async def _found(self, pod: Pod) -> Found:
        port = None
        if pod.ready and pod.address not in self._direct and not await self._reaches(pod):
            port = await self._forwarded(pod)
        forward = self._forwards.get(pod.name)
        port = forward.port if port is None and forward is not None and forward.open else port
        host = host_and_port(pod.address, pod.port) if port is None else f"127.0.0.1:{port}"
        return Found(key=pod.name, name=pod.name, url=f"http://{host}{self._path}", ready=pod.ready)

    async def _reaches(self, pod: Pod) -> bool:
        """Whether a pod's address leads anywhere; one that refuses is there."""
        if pod.name in self._forwards and self._forwards[pod.name].open:
            return False
        try:
            async with asyncio.timeout(REACH_S):
                _, writer = await asyncio.open_connection(pod.address, pod.port)
        except ConnectionRefusedError:
            return True
        except (OSError, TimeoutError):
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._direct.add(pod.address)
        return True

    async def _forwarded(self, pod: Pod) -> int | None:
        """The port of this machine that leads to it; None, with `problem` set: there is none."""
        forward = self._forwards.get(pod.name)
        if forward is None or not forward.open:
            try:
                forward = await self._kubectl.forward(self._service.namespace, pod.name, pod.port)
            except KubectlFailed as error:
                said = in_words(self._url, error) if isinstance(error, Forbidden | NoKubectl) else str(error)
                self.problem = f"{self._url}: {words.not_reached(pod.name, said)}"
                return None
            self._forwards[pod.name] = forward
        return forward.port

    def _leave(self, pods: Sequence[Pod]) -> None:
        """End the forwards to pods that are no more."""
        there = {pod.name for pod in pods}
        for name in [name for name in self._forwards if name not in there]:
            self._forwards.pop(name).end()

    async def close(self) -> None:
        for forward in self._forwards.values():
            forward.end()
