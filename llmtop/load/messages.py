"""What a load worker and its parent tell each other: MessagePack, both ways."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any, Self, TypeVar

import msgspec

from llmtop.channel import Reader, framed
from llmtop.channel import receive as receive_body
from llmtop.domain.endpoint import Endpoint, EndpointInfo
from llmtop.domain.load import Caps, Start
from llmtop.domain.profile import Workload
from llmtop.load.here import WorkerFacts
from llmtop.load.pacer import Pacer
from llmtop.workload.sizing import Sizes

Message = TypeVar("Message")
GREETS = b"llmtop worker "


class Greeting(msgspec.Struct, frozen=True):
    """The first line of a worker whose parent may be of another version: all versions must read it."""

    version: str
    pid: int
    cores: int
    """That its processes may run on."""

    def line(self) -> bytes:
        return GREETS + msgspec.json.encode(self) + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Self | None:
        """None: something else, that a login shell has said."""
        if not line.startswith(GREETS):
            return None
        try:
            return msgspec.json.decode(line.removeprefix(GREETS), type=cls)
        except msgspec.MsgspecError:
            return None


class SentFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that a worker on another machine needs: what it is for, its name here, and what it holds."""

    what: str
    name: str
    packed: bytes = b""
    """By zlib; empty: it is not sent, and must be there already, with the same `digest`."""
    digest: bytes = b""
    """SHA-256."""


class WorkerSetup(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The first message to a worker: everything that does not change."""

    endpoint: Endpoint
    info: EndpointInfo | None
    workload: Workload
    caps: Caps
    origin_ns: int
    """Zero of the run clock, by the perf_counter_ns of whom it is sent to: that counts from the same instant in all
    processes of a machine (Linux, macOS)."""
    seed: int
    api: str
    start: Start = "staggered"
    salt: int = 0
    sizes: Sizes | None = None
    worker: int = 0
    workers: int = 1
    first: int | None = None
    """Number of its first prompt, each further one being `workers` more; None: `worker`."""
    recorded: bytes = b""
    """A trace, `Recorded.packed`: read once, by the parent. Empty: prompts are of another source."""
    lease_s: float | None = None
    """It ends its load when it has heard nothing for so long; None: never, as its stdin ends with its parent."""
    waits: bool = False
    """Then it lets its load go and waits to be heard of again, as it is on its parent's machine; else it ends."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that let somebody in at the endpoint, of one on another machine."""
    files: tuple[SentFile, ...] = ()
    """And the files that it needs of ours; keys among them."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        hidden = {"environment": [name for name, _ in self.environment], "files": [file.name for file in self.files]}
        return [(name, hidden.get(name, getattr(self, name))) for name in self.__struct_fields__]

    def __repr__(self) -> str:
        return f"WorkerSetup({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    @property
    def begins_at(self) -> int:
        """The number of its first prompt."""
        return self.worker if self.first is None else self.first

    def now(self) -> int:
        """Nanoseconds of the run clock."""
        return perf_counter_ns() - self.origin_ns


class Follow(msgspec.Struct, frozen=True, tag=True):
    """Do what this pacer says, whose elapsed time counts from `start_ns` of the run clock."""

    pacer: Pacer
    start_ns: int


class Cut(msgspec.Struct, frozen=True, tag=True):
    """Cancel what is in flight, but for the `keep` oldest requests."""

    keep: int = 0


class Renew(msgspec.Struct, frozen=True, tag=True):
    """Keep no connection that is there any longer than its exchange."""


class Close(msgspec.Struct, frozen=True, tag=True):
    """Cancel everything, tell the rest, end."""


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Somebody is still here. Answer at once, with `WorkerFacts.pong`; also before the setup has come."""

    number: int


Order = WorkerSetup | Follow | Cut | Renew | Close | Ping

orders = msgspec.msgpack.Decoder(Order)
facts = msgspec.msgpack.Decoder(WorkerFacts)
_encoder = msgspec.msgpack.Encoder()


def packed(message: Order | WorkerFacts) -> bytes:
    """As it goes over the channel."""
    return framed(_encoder.encode(message))


async def receive(reader: Reader, decoder: msgspec.msgpack.Decoder[Message]) -> Message | None:
    """The next message; None: the other side is gone."""
    body = await receive_body(reader)
    return None if body is None else decoder.decode(body)
