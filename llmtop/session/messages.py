"""What crosses between a host and the session's process: MessagePack, both ways."""

from __future__ import annotations

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
decode_message = msgspec.msgpack.Decoder(Message).decode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_options = msgspec.msgpack.Decoder(SessionOptions).decode


def packed(value: Message | Command | SessionOptions) -> bytes:
    """As it goes over the channel."""
    return framed(encode(value))
