"""How our own processes do while they send the load: the client, and each of several load workers."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from llmtop.domain.samples import ClientState


class ClientCause(StrEnum):
    """What slows the client down."""

    LAG = "lag"
    """Bytes are read late."""
    COALESCED = "coalesced"
    """Reads hold several tokens: they come too late."""
    CPU = "cpu"
    LOOP = "loop"
    """The event loop wakes late."""
    TOLD = "told"
    """As text, in run files of schema 1."""


class ClientReason(Struct, frozen=True, kw_only=True):
    """Why the client was not green in one second."""

    cause: ClientCause
    value: float = 0.0
    """Milliseconds late, reads that held several tokens, or share of a core."""
    of: float | None = None
    """TPOT in milliseconds, where the lag is over half of it; all reads of the second."""
    worker: int | None = None
    """Whose it was, where there are several."""
    name: str = ""
    """Of that worker: `h2:4711`, where it is known."""
    text: str = ""


class ClientHealth(Struct, frozen=True, kw_only=True):
    """How our own processes did over one second: each figure that of the worst of them. None = not known."""

    t_s: float
    state: ClientState = "green"
    """Of all together: red, and the second's figures void, where enough of them were."""
    reason: ClientReason | None = None
    lag_p99_ms: float | None = None
    """Receive lag: time between the kernel's stamp and our read."""
    loop_lag_ms: float | None = None
    send_slip_p99_ms: float | None = None
    cpu: float | None = None
    """Of a core, 0 to 1."""
    chunks_per_s: float | None = None
    """Of all processes together."""
    workers: int = 1
    workers_lost: int = 0


WorkerState = Literal["green", "amber", "red", "silent", "lost"]


class WorkerFigures(Struct, frozen=True, kw_only=True):
    """How one of several load workers did: in its last second, or at worst over a run."""

    worker: int
    name: str = ""
    """`h2:4711`, where it is known."""
    state: WorkerState = "green"
    """Silent: it tells nothing. Lost: its requests are, too."""
    red_s: int = 0
    """Seconds of the run in which it was the bottleneck."""
    share: float | None = None
    """Of all chunks that the load workers have read."""
    chunks_per_s: float | None = None
    cpu: float | None = None
    """Of a core, 0 to 1."""
    lag_p99_ms: float | None = None
    loop_lag_ms: float | None = None
    offset_s: float = 0.0
    """What its clock shows beyond ours, wrong by `error_s` at most."""
    error_s: float = 0.0


class CrewFigures(Struct, frozen=True, kw_only=True):
    """How several load workers did. Without any, this process alone has sent the load."""

    began: int = 0
    heard: int = 0
    """So many of them tell what they do."""
    worst: tuple[WorkerFigures, ...] = ()
    """The worst first, at most so many as were asked for."""
    rest: int = 0
    """So many more are as good as the last of these, or better."""
    rest_share: float | None = None
    rest_chunks_per_s: float | None = None
