"""What crosses between a host and the session's process: MessagePack, both ways."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from llmtop.channel import framed
from llmtop.domain.commands import Command
from llmtop.domain.frame import Frame
from llmtop.domain.run import Told
from llmtop.session.options import SessionOptions


class Framed(Struct, frozen=True, tag=True):
    """The newest frame wins; some are left out when the reader is slow."""

    frame: Frame


Message = Framed | Told
"""All that is told comes, in order; the last of it says how the run ended."""

encode = msgspec.msgpack.Encoder().encode


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """Made when it is needed: each process reads only some kinds."""
    return msgspec.msgpack.Decoder(kind)


def decode_message(body: bytes) -> Message:
    return _decoder(Message).decode(body)  # type: ignore[no-any-return]


def decode_command(body: bytes) -> Command:
    return _decoder(Command).decode(body)  # type: ignore[no-any-return]


def decode_options(body: bytes) -> SessionOptions:
    return _decoder(SessionOptions).decode(body)  # type: ignore[no-any-return]


def packed(value: Message | Command | SessionOptions) -> bytes:
    """As it goes over the channel."""
    return framed(encode(value))
