"""What crosses between the host of a run and its screens: MessagePack, each message after its length.

The host speaks first, on a socket: a map that says which run it is and how it writes (`Running`), which every version
of llmtop can read. A screen answers with an `Ask`; then come `Part`s down and commands up. The screen that began the
run has pipes, and says its `HostOptions` instead.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from llmtop.channel import framed
from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import Command
from llmtop.domain.endpoint import EndpointState
from llmtop.domain.frame import Frame, NewUser
from llmtop.domain.run import Ended, RunMeta
from llmtop.domain.shown import Answer, Scene, Shown, SinkState, Wheel
from llmtop.domain.slo import Slo
from llmtop.domain.steering import Steering
from llmtop.domain.terminal import TerminalState
from llmtop.host.options import HostOptions

PROTOCOL = 1
"""Counts up with every change to `Ask` or `Part`; of what they carry, the version of llmtop tells."""
ASKED_BYTES = 1 << 20
"""A longer message of a screen is none."""


class Running(Struct, frozen=True, kw_only=True):
    """A run that goes on, as it says of itself. Fields may be added; `name`, `version`, `protocol` and `pid` stay."""

    name: str
    """Of its run file, without the ending."""
    path: str = ""
    """Of its socket."""
    pid: int = 0
    """Of its host's process."""
    version: str = ""
    """Of llmtop."""
    protocol: int = 0
    """How its messages are written; another number is another llmtop's, and can be stopped, not joined."""
    started_at: float = 0.0
    """Wall clock, Unix seconds."""
    run_file: str | None = None
    label: str | None = None
    endpoint: str = ""
    """As it is shown."""
    load: str = ""
    """`32 in flight`"""
    headline: str = ""
    """Its verdict in one line."""
    alone_s: float = 0.0
    """A detached run ends by itself when nobody who can drive it has looked at it for so long."""
    detached: bool = False
    """No screen holds it: it goes on until somebody ends it, or its limit does."""
    screens: int = 0
    holder: str = ""
    """Who has the wheel: `pts/3`; empty: nobody."""
    headless: bool = False
    """A run that is driven by its plan: it can be looked at and stopped."""


class Ask(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody at the door wants. `asks` stays as it is in all versions."""

    asks: Literal["join", "stop"]
    version: str
    protocol: int
    view: bool = False
    terminal: TerminalState | None = None
    """What a screen is about to take; given back if that dies without a word."""


class Parting(Struct, frozen=True, kw_only=True):
    """What is said of a run once it is over, besides the last that is shown of it."""

    felt: NewUser | None = None
    """By canaries of the whole run; None: there were none."""
    states: tuple[EndpointState, ...] = ()
    """Those that the endpoint was in."""
    unread: str | None = None
    """Why an earlier measurement could not be read."""
    failed: str | None = None
    """Why an output (a sink) failed."""
    exit_code: int = 0
    """Of what could not be read, or has failed."""


class Part(Struct, frozen=True, kw_only=True):
    """What is new of `Shown`, by the same names, and what a screen is told besides. The newest of each counts."""

    frame: Frame | UnsetType | None = UNSET
    assessment: Assessment | UnsetType | None = UNSET
    meta: RunMeta | UnsetType | None = UNSET
    steering: Steering | UnsetType = UNSET
    answer: Answer | UnsetType | None = UNSET
    wheel: Wheel | UnsetType = UNSET
    scene: Scene | UnsetType | None = UNSET
    sinks: tuple[SinkState, ...] | UnsetType = UNSET
    ended: Ended | UnsetType | None = UNSET
    slo: Slo | UnsetType = UNSET
    """What the run is judged by; told first."""
    name: str | UnsetType = UNSET
    """Of the run, as soon as it can be joined by it."""
    left: bool | UnsetType = UNSET
    """The screen has left the run, which goes on."""
    parting: Parting | UnsetType = UNSET
    """The run is over; nothing more comes."""


SHOWN = tuple(name for name in Part.__struct_fields__ if name in Shown.__struct_fields__)
OWN = ("answer", "wheel")
"""Parts that each screen has its own of."""
SHARED = tuple(name for name in SHOWN if name not in OWN)

encode = msgspec.msgpack.Encoder().encode


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """Made when it is needed: one for all that is shown takes as long as the rest that comes before the session."""
    return msgspec.msgpack.Decoder(kind)


def decode_part(body: bytes) -> Part:
    return _decoder(Part).decode(body)  # type: ignore[no-any-return]


def decode_ask(body: bytes) -> Ask:
    return _decoder(Ask).decode(body)  # type: ignore[no-any-return]


def decode_command(body: bytes) -> Command:
    return _decoder(Command).decode(body)  # type: ignore[no-any-return]


def decode_options(body: bytes) -> HostOptions:
    return _decoder(HostOptions).decode(body)  # type: ignore[no-any-return]


def packed(value: Part | Running | Ask | Command | HostOptions) -> bytes:
    """As it goes over the channel."""
    return framed(encode(value))


def part_of(name: str, value: Any) -> bytes:
    """One part, as it goes over the channel."""
    return packed(Part(**{name: value}))


def news_of(part: Part) -> dict[str, Any]:
    """What it tells anew of what is shown, by name."""
    told = ((name, getattr(part, name)) for name in SHOWN)
    return {name: value for name, value in told if value is not UNSET}


def decode_running(body: bytes) -> Running:
    """What a host says first; of one that says more or less than ours, what can be read.

    Raises msgspec.MsgspecError: it is none.
    """
    try:
        run: Running = _decoder(Running).decode(body)
        return run
    except msgspec.ValidationError:
        told = msgspec.msgpack.decode(body, type=dict[str, Any])
        name, version = str(told.get("name", "")), str(told.get("version", ""))
        return Running(name=name, version=version, protocol=-1)
