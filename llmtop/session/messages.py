"""What crosses between a screen and the session's process: MessagePack, both ways."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from llmtop.channel import framed
from llmtop.domain.commands import Command
from llmtop.domain.frame import Frame
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.session.options import SessionOptions


class Began(Struct, frozen=True, tag=True):
    """The session has a run file, or learned more about the endpoint."""

    meta: RunMeta


class Shown(Struct, frozen=True, tag=True):
    """A frame; the newest wins, and some are left out when the screen is slow."""

    frame: Frame


class Told(Struct, frozen=True, tag=True):
    """Batches of facts; all of them come, in order."""

    batches: tuple[FactBatch, ...]


class Ended(Struct, frozen=True, tag=True):
    """The last message. `error` is for the user; None: it ended because it was asked to."""

    error: str | None = None
    exit_code: int = 0


Message = Began | Shown | Told | Ended

encode = msgspec.msgpack.Encoder().encode
decode_message = msgspec.msgpack.Decoder(Message).decode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_options = msgspec.msgpack.Decoder(SessionOptions).decode


def packed(value: Message | Command | SessionOptions) -> bytes:
    """As it goes over the channel."""
    return framed(encode(value))
