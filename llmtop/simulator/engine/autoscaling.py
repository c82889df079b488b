"""How many replicas a simulated deployment has, and when: by a script, or by an autoscaler that looks at the queue."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

MOST_REPLICAS = 64
MOST_S = 3600.0
_Count = Annotated[int, Meta(ge=1, le=MOST_REPLICAS)]
_Seconds = Annotated[float, Meta(ge=0, le=MOST_S)]
_EXAMPLE = "at=30 replicas=3 created=5 ready=60"


class ScaleOrder(Struct, frozen=True):
    """That another number of replicas is wanted."""

    at_s: float
    replicas: int
    created_s: float | None = None
    """How long after that a new replica is begun; None: as the autoscaler's are."""
    ready_s: float | None = None
    """How long after that, not after it was begun, it takes requests."""


class Autoscaling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[autoscaling]` section. As it is by itself, there is one replica and nothing scales."""

    replicas: _Count = 1
    """At the start, and the fewest an autoscaler leaves."""
    max_replicas: _Count = 1
    autoscale_queue: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    """More requests than these waiting for each replica mean that more are wanted; None: there is no autoscaler."""
    autoscale_for_s: _Seconds = 10.0
    """So long they must have waited, at every look."""
    scale_delay_s: _Seconds = 1.0
    """From the decision until a replica is begun."""
    pod_start_s: _Seconds = 20.0
    """From then until it takes requests: the image is pulled, the weights are read."""
    scale_down_s: _Seconds | None = None
    """One replica goes once the others could have carried the load for so long; None: none ever goes."""
    scale: str = ""
    """A script: steps as `at=30 replicas=3 created=5 ready=60`, apart by `;`, in seconds after the start."""
    balance: Literal["request", "connection"] = "request"
    """What is given to a replica: each request to the one with the fewest, or a connection with all that it carries, as
    a Kubernetes service does."""

    def __post_init__(self) -> None:
        if self.max_replicas < self.replicas and self.autoscale_queue is not None:
            raise ValueError(f"max_replicas must be at least replicas, which is {self.replicas}")
        read_scale(self.scale)

    @property
    def scales(self) -> bool:
        """Whether the number of replicas may be another one some time."""
        return bool(self.scale) or self.autoscale_queue is not None


def read_scale(text: str) -> tuple[ScaleOrder, ...]:
    """The steps of a script, in the order of their times. Raises ValueError."""
    return tuple(sorted(map(_order, filter(str.strip, text.split(";"))), key=lambda order: order.at_s))


def _order(text: str) -> ScaleOrder:
    found: dict[str, float] = {}
    for word in text.split():
        name, _, value = word.partition("=")
        if name not in ("at", "replicas", "created", "ready"):
            raise ValueError(f"scale: {word[:40]!r} is not known; write a step like {_EXAMPLE}")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"scale: {word[:40]!r} is no number; write a step like {_EXAMPLE}") from None
        if not 0 <= found[name] <= MOST_S:
            raise ValueError(f"scale: {word[:40]!r} must be from 0 to {MOST_S:g}")
    replicas = found.get("replicas", 0.0)
    if not (replicas.is_integer() and 1 <= replicas <= MOST_REPLICAS):
        raise ValueError(f"scale: a step needs replicas=N from 1 to {MOST_REPLICAS}, like {_EXAMPLE}")
    created_s, ready_s = found.get("created"), found.get("ready")
    if created_s is not None and ready_s is not None and ready_s < created_s:
        raise ValueError(f"scale: ready={ready_s:g} comes before created={created_s:g}; both count from `at`")
    return ScaleOrder(found.get("at", 0.0), int(replicas), created_s, ready_s)
