"""How replicas of a service are named, how their coming and going is told, and how uneven their loads are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llmtop.wording.figures import TEXT, Figures, clock

FULLEST = " at the fullest replica"
"""After a figure that is one replica's."""
OTHER_PLACE = "name the engines' own pages with --metrics-url http://HOST:PORT/metrics, once for each"

SHARE_OUT = "have the balancer share out by requests in flight: round robin and kept connections leave replicas idle"

NO_FLAG_YET = "no flag yet: one replica queues while another has room"
_WAIT = "wait for "
_BINDS = "the balancer, not the engine, is the limit"


def short_name(name: str, names: Sequence[str]) -> str:
    """A name without what all of them begin with, up to a dash, or up to the colon of a port; itself where they do not.

    `vllm-6f7c9-x2x4q` is `x2x4q` beside `vllm-6f7c9-7kq8d`, `127.0.0.1:8001` is `:8001` beside `127.0.0.1:8002`.
    """
    same = next((at for at, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1), 0)
    cut = max(name.rfind("-", 0, same) + 1, name.rfind(":", 0, same))
    return name[cut:] if cut > 0 else name


def started_anew(name: str) -> str:
    return f"replica {name} was started anew"


def counted(ready: int, desired: int | None) -> tuple[str, ...]:
    """`replicas 2/3 (ready/desired)`, and shorter."""
    if desired is None:
        return (f"replicas {ready}",)
    return (f"replicas {ready}/{desired} (ready/desired)", f"replicas {ready}/{desired}", f"{ready}/{desired} ready")


def times(ratio: float, style: Figures = TEXT) -> str:
    """`2.1 x`"""
    return f"{ratio:.1f}{style.gap}x"


def called(name: str) -> str:
    """A replica by its name; engines of one server have numbers."""
    return f"engine {name}" if name.isdecimal() else name


def uneven(name: str, ratio: float) -> str:
    """`pod-2 has 2.1 x the mean`"""
    return f"{called(name)} has {times(ratio)} the mean"


def balancer_binds(name: str, ratio: float) -> str:
    """That the load is spread so unevenly that one replica queues while another has room."""
    return f"{uneven(name, ratio)}: {_BINDS}"


def balancer_of(evidence: Sequence[str]) -> str:
    """What of a diagnosis' evidence says that the balancer is the limit; empty: nothing does."""
    return next((each for each in evidence if each.endswith(_BINDS)), "")


def wait_for(missing: int, since_s: float, serving: int, wanted: int) -> str:
    """`wait for 2 replicas coming since 01:31: 1 of 3 serves, no flag before they do`"""
    who, they = ("a replica", "it does") if missing == 1 else (f"{TEXT.whole(missing)} replicas", "they do")
    serve = "serves" if serving == 1 else "serve"
    return f"{_WAIT}{who} coming since {clock(since_s)}: {serving or 'none'} of {wanted} {serve}, no flag before {they}"


def waits(advice: str | None) -> bool:
    """Whether an advice is to wait for replicas that come."""
    return (advice or "").startswith(_WAIT)


def do_not_come(missing: int, since_s: float) -> str:
    """`2 replicas wanted since 01:31 do not come`"""
    who = "a replica" if missing == 1 else f"{TEXT.whole(missing)} replicas"
    return f"{who} wanted since {clock(since_s)} {'does' if missing == 1 else 'do'} not come"


def pages_missing(missing: int, all_of_them: int, first: str) -> str:
    """`1 of 2 metrics pages are missing: ...`"""
    return f"{missing} of {all_of_them} metrics pages are missing: {first}"


def nobody_there(place: str) -> str:
    return f"{place}: there is no replica at this time"


# ── DNS ─────────────────────────────────────────────────────


def no_addresses(url: str, host: str, why: str) -> str:
    return f"{url}: {host} has no address ({why}): is it the name of a headless service, asked from inside its cluster?"


# ── Kubernetes ──────────────────────────────────────────────


def no_kubectl(url: str) -> str:
    return f"{url}: there is no kubectl on PATH: install it, or {OTHER_PLACE}"


def forbidden(url: str, verb: str, resource: str, group: str, where: str, user: str) -> str:
    """Which verb on which resource is missing, and to whom."""
    whom = f"{user} " if user else "it "
    of_group = f".{group}" if group else ""
    return (
        f"{url}: kubectl is forbidden to {verb} {resource}{of_group} {where}: give {whom}a Role with that verb, "
        f"or {OTHER_PLACE}"
    )


def no_service(url: str, name: str, namespace: str) -> str:
    return f"{url}: there is no service {name} in namespace {namespace}: kubectl get services -n {namespace} lists them"


def no_pods(url: str, name: str) -> str:
    return f"{url}: service {name} has no pods at this time: do its selector's labels match any?"


def no_such_port(url: str, port: str, ports: Iterable[str]) -> str:
    known = ", ".join(ports)
    return (
        f"{url}: the service has no port {port}{f'; it has {known}' if known else ''}: name one of them, or its number"
    )


def kubectl_late(url: str, limit_s: float) -> str:
    return f"{url}: kubectl took longer than {TEXT.duration(limit_s)}: does kubectl get pods answer in this terminal?"


def kubectl_failed(url: str, said: str) -> str:
    told = said.rstrip(" .:?") or "nothing and fails"
    return f"{url}: kubectl says {told}: does kubectl get pods answer in this terminal?"


def kubectl_garbled(url: str) -> str:
    return f"{url}: what kubectl says is no list of endpointslices: is the kubectl on PATH the usual one?"


def not_reached(pod: str, said: str) -> str:
    """Neither its address nor a forward leads to a pod."""
    return f"pod {pod} cannot be reached from here, and kubectl port-forward says {said or 'nothing'}"


# ── Prometheus ──────────────────────────────────────────────


def no_series(url: str, title: str, selector: str) -> str:
    what = f" with {selector}" if selector else ""
    return f"{url}: it has no series of {title}{what}: does it scrape the pods, and are the labels those of its series?"
