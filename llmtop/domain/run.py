"""A run: who drove what, and the facts of it in the order in which they became known."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from itertools import chain
from typing import Literal

from msgspec import Struct, field, structs

from llmtop.domain.endpoint import Endpoint, EndpointInfo, EndpointState, safe_endpoint
from llmtop.domain.load import LoadPoint
from llmtop.domain.plainly import plainly
from llmtop.domain.profile import Profile, safe_profile
from llmtop.domain.request import RequestRecord
from llmtop.domain.samples import ClientSample, GpuSnapshot, LoadBin, ServerSnapshot

ChangeReason = Literal["hand", "stage", "brake", "stop", "search", "hold", "map", "demo"]
EventKind = Literal["endpoint", "server", "client", "load", "recording", "simulator"]
Severity = Literal["info", "warning", "error"]


class LoadChange(Struct, frozen=True):
    """The commanded load changed: by hand, by a stage or by a brake."""

    t_s: float
    point: LoadPoint
    reason: ChangeReason = "hand"
    stage: str | None = None


class Mark(Struct, frozen=True):
    """An annotation that the user set."""

    t_s: float
    text: str


class Event(Struct, frozen=True):
    """Something that happened and that a reader of the run wants to know."""

    t_s: float
    kind: EventKind
    text: str
    severity: Severity = "info"
    state: EndpointState | None = None
    """The endpoint's state from now on, where the event is a change of it."""


class Chapter(Struct, frozen=True):
    """The configuration of what is driven changed: what is measured from here on is another curve."""

    t_s: float
    text: str
    """What changed, for a reader: `max_num_seqs 32 → 48`."""
    key: str
    """The configuration from here on; a key that comes back is the same configuration."""
    traits: tuple[tuple[str, str], ...] = ()
    """`EndpointInfo.traits` from here on; (): not told, those of before."""


class JudgedLevel(Struct, frozen=True, kw_only=True, tag=True):
    """A load that a capacity search has judged."""

    t_s: float
    load: int
    slo: str
    """What it was judged by."""
    failed: tuple[str, ...] = ()
    """Names of the limits that it broke; none: it held."""
    n: int = 0
    """Requests it rests on."""
    in_service: float | None = None
    requests_per_s: float | None = None
    ttft_mean_s: float | None = None
    worst: tuple[tuple[str, float], ...] = ()
    """(name, value) of the statistic of each latency limit."""


class SearchEnded(Struct, frozen=True, tag=True):
    """A capacity search has given the wheel back."""

    t_s: float
    reason: Literal["done", "budget", "limit", "hand", "client"]
    """It knows; its time or requests were used up; the load ends there; somebody took the wheel; the client is late."""
    text: str = ""


class Canary(Struct, frozen=True, tag=True):
    """A lone small request beside the load, outside all statistics of it: what a new user feels at that moment."""

    t_s: float
    """When it was sent."""
    ttft_s: float | None = None
    """Of an embedding, which comes whole, its end. None: no token came."""
    error: str = ""
    """Why none came."""


class Call(Struct, frozen=True, kw_only=True, tag=True):
    """A request of a user's that is none to the model: a search, a tool. In no figure of the endpoint."""

    t_s: float
    """When it ended."""
    duration_s: float
    name: str
    status: int | None = None
    """None: nobody answered."""
    error: str = ""
    session: int | None = None
    worker: int = 0


class LoadWorker(Struct, frozen=True, tag=True):
    """Who one of several load workers is, and how its clock stands against the run clock.

    Known when it begins, and told again when its clock has moved and when it is lost. Only durations of one clock are
    ever subtracted.
    """

    t_s: float
    worker: int
    """Its number, as in records and samples."""
    name: str
    """Where it runs: `h2:4711`, host and process."""
    offset_s: float = 0.0
    """What its clock shows beyond ours at the same instant."""
    error_s: float = 0.0
    """By so much at most that is wrong: half of the shortest answer to a question for the time."""
    lost: bool = False
    """It is gone, and its requests with it."""


ScaleKind = Literal["desired", "created", "ready", "serving", "gone"]


class ScaleStep(Struct, frozen=True, tag=True):
    """A step of a deployment to more replicas or fewer, when it was first seen.

    `desired`: somebody has decided on another number. `created`: a replica was begun. `ready`: it takes requests.
    `serving`: it has generated its first token. `gone`: it is none any more.
    """

    t_s: float
    kind: ScaleKind
    replicas: int
    """How many are so from then on: desired, created, ready, or serving; of `gone` how many are left."""
    name: str = ""
    """Of the replica; empty: of none alone (desired), or it has no name."""
    since: bool = False
    """It was so when the run began to look: no step of the run's own."""


class Ending(StrEnum):
    """How a run came to its end."""

    PLAN = "plan"
    """Its plan was over, or its search."""
    HAND = "hand"
    """Somebody ended it."""
    BRAKE = "brake"
    """Too many requests failed."""
    RESTART = "restart"
    """The server was started anew under it."""
    HANG = "hang"
    """The server took requests and answered nothing."""
    GONE = "gone"
    """Nothing answered any more."""
    UNSEEN = "unseen"
    """Nobody could see the load any more."""


LOST = (Ending.RESTART, Ending.HANG, Ending.GONE)
"""The server fell away under the run."""
INTERRUPTED = (Ending.HAND, Ending.UNSEEN)
"""What was to be driven was not."""


class RunMeta(Struct, frozen=True, kw_only=True):
    """What a run was. Fixed at its start, but for what a probe finds (`info`, the endpoint's model) and `ended_s`."""

    llmtop_version: str
    started_at: float
    """Wall clock, Unix seconds."""
    endpoint: Endpoint
    info: EndpointInfo | None = None
    began: EndpointInfo | None = None
    """As it was found first, where the server was another one later; None: as `info`."""
    profile: Profile
    label: str | None = None
    seed: int = 0
    host: str = ""
    stamp_source: str | None = None
    preset: str | None = None
    """Of the simulated engine."""
    settings: tuple[tuple[str, str], ...] = ()
    """What was set of the server by us, at the start, instead of its own or its preset's: (name, value)."""
    baselines: tuple[str, ...] = ()
    """Names of the earlier measurements that it was shown beside."""
    ended_s: float | None = None
    """Length of the run; None: it was cut off."""
    ending: Ending | None = None
    """How it ended; None: it goes on, it was cut off, or nobody noted it."""


def safe_meta(meta: RunMeta) -> RunMeta:
    """The meta as it may be shown and kept: without what may let somebody in, and every text `plain`."""
    endpoint, profile = safe_endpoint(meta.endpoint), safe_profile(meta.profile)
    return plainly(structs.replace(meta, endpoint=endpoint, profile=profile))


class FactBatch(Struct, frozen=True, kw_only=True):
    """The facts of one tick. A run is its meta and its batches, live or read back from a run file.

    Batches are in order: every `bins` entry ends at or before `t_s` and after the batch before.
    """

    t_s: float
    bins: tuple[LoadBin, ...] = ()
    requests: tuple[RequestRecord, ...] = ()
    server: tuple[ServerSnapshot, ...] = ()
    gpu: tuple[GpuSnapshot, ...] = ()
    client: tuple[ClientSample, ...] = ()
    changes: tuple[LoadChange, ...] = ()
    marks: tuple[Mark, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    tested: tuple[JudgedLevel, ...] = ()
    searches: tuple[SearchEnded, ...] = ()
    canaries: tuple[Canary, ...] = ()
    calls: tuple[Call, ...] = ()
    workers: tuple[LoadWorker, ...] = ()
    scaling: tuple[ScaleStep, ...] = ()
    events: tuple[Event, ...] = field(default_factory=tuple)


def joined(t_s: float, batches: Iterable[FactBatch]) -> FactBatch:
    """One batch told at `t_s` of all the facts in `batches`, in their order."""
    told = tuple(batches)
    kinds = [name for name in FactBatch.__struct_fields__ if name != "t_s"]
    return FactBatch(t_s=t_s, **{kind: tuple(chain.from_iterable(getattr(b, kind) for b in told)) for kind in kinds})


class Ended(Struct, frozen=True):
    """How a run came to its end. `error` is for the user; None: it ended because it was asked to."""

    error: str | None = None
    exit_code: int = 0


class Told(Struct, frozen=True, kw_only=True, tag=True):
    """What became known of a run since it was asked last. Every batch is told once, in order."""

    meta: RunMeta | None = None
    """None: not known yet, or as it was told before."""
    batches: tuple[FactBatch, ...] = ()
    anew: bool = False
    """What was told before does not count any more (a recording was wound back)."""
    ended: Ended | None = None
    """Nothing more will come."""
