"""What a load worker and its parent tell each other: MessagePack, both ways."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import TypeVar

import msgspec

from llmtop.channel import framed
from llmtop.channel import receive as receive_body
from llmtop.domain.endpoint import Endpoint, EndpointInfo
from llmtop.domain.load import Caps, Start
from llmtop.domain.profile import Workload
from llmtop.load.here import WorkerFacts
from llmtop.load.pacer import Pacer
from llmtop.workload.sizing import Sizes

Message = TypeVar("Message")


class WorkerSetup(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The first message to a worker: everything that does not change."""

    endpoint: Endpoint
    info: EndpointInfo | None
    workload: Workload
    caps: Caps
    origin_ns: int
    """perf_counter_ns counts from the same instant in all processes of a machine (Linux, macOS)."""
    seed: int
    api: str
    start: Start = "staggered"
    salt: int = 0
    sizes: Sizes | None = None
    worker: int = 0
    workers: int = 1
    recorded: bytes = b""
    """A trace, `Recorded.packed`: read once, by the parent. Empty: prompts are of another source."""

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


class Close(msgspec.Struct, frozen=True, tag=True):
    """Cancel everything, tell the rest, end."""


Order = WorkerSetup | Follow | Cut | Close

orders = msgspec.msgpack.Decoder(Order)
facts = msgspec.msgpack.Decoder(WorkerFacts)
_encoder = msgspec.msgpack.Encoder()


def packed(message: Order | WorkerFacts) -> bytes:
    """As it goes over the channel."""
    return framed(_encoder.encode(message))


async def receive(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[Message]) -> Message | None:
    """The next message; None: the other side is gone."""
    body = await receive_body(reader)
    return None if body is None else decoder.decode(body)
