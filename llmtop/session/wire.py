"""What crosses between a screen and the session's process: length-prefixed MessagePack, both ways."""

from __future__ import annotations

import struct
from typing import IO

import msgspec
from msgspec import Struct

from llmtop.domain.commands import Command
from llmtop.domain.frame import Frame
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.session.options import SessionOptions

_LENGTH = struct.Struct("<I")


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


def packed(value: object) -> bytes:
    body = encode(value)
    return _LENGTH.pack(len(body)) + body


def read(stream: IO[bytes]) -> bytes | None:
    """The next body, waiting for it; None at the end of the stream, also when it was cut in the middle."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None
