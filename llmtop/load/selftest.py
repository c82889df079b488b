"""What this machine's client can drive, and how wrong its clock is, against a server whose token times are known.

The server is `llmtop.simulator.server.schedule`, in a process of its own on this machine: it reads the same system-wide
clock right before each token leaves it. So the errors below need no assumption about the server, not even that it keeps
its schedule. They are upper bounds: each includes the time that the kernel takes to carry the bytes over, and the TTFT
error also the time until the server has read the request.

    stamp error = arrival as stamped here - departure as stamped there, of every token
    TTFT error  = TTFT as measured here - (departure of the first token - arrival of the request), as stamped there
"""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import takewhile
from time import perf_counter_ns
from typing import Any

import numpy as np
from msgspec import Struct

from llmtop.channel import Server
from llmtop.domain.client import ClientHealth
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.endpoint.caller import Caller
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.control import control
from llmtop.endpoint.probe import probe
from llmtop.endpoint.said import Said
from llmtop.endpoint.trace import Sink, Trace
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.load.engine import LoadEngine
from llmtop.load.here import Here
from llmtop.load.pacer import Pacer
from llmtop.load.setup import Setup
from llmtop.meter.client import AMBER_CPU, ClientJudge
from llmtop.wording.figures import TEXT
from llmtop.wording.sentences import client_reason
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot

LEVELS = (1, 16, 64, 128, 256, 512, 1024)
TTFT_MS = 50.0
TPOT_MS = 50.0
TOKENS = 32
SETTLE_S = 1.0
LEAST_SECONDS = 2.0
"""Time for a whole second of the client's health and, together with `SETTLE_S`, for whole streams."""
CUT_S = 0.3
"""For what was in flight to be gone."""
SOUND_STAMP_US = 1000.0
SOUND_TTFT_MS = 0.1 * TTFT_MS
HEAD_CHARACTERS = 120
"""Of a prompt, as the server quotes them: enough to tell all prompts apart."""
_STAMPS_BYTES = 1 << 28
"""Of what our own server tells of a level: 20 bytes a token."""
HEADING = "streams  chunks/s   stamp error p50 / p99   TTFT error p50 / p99   CPU of one core   client"


class Row(Struct, frozen=True, kw_only=True):
    """One load level."""

    streams: int
    chunks_per_s: float
    stamp_error_p50_us: float
    stamp_error_p99_us: float
    ttft_error_p50_ms: float
    ttft_error_p99_ms: float
    cpu: float
    """Mean over the level's seconds."""
    state: str
    """green, amber or red: the middle one of the level's seconds."""
    reason: str | None = None
    tokens: int = 0
    """Tokens that were compared."""

    @property
    def sound(self) -> bool:
        """Whether what was measured at this level can be trusted: no red client, and small errors."""
        return (
            self.state != "red" and self.stamp_error_p99_us < SOUND_STAMP_US and self.ttft_error_p99_ms < SOUND_TTFT_MS
        )

    def __str__(self) -> str:
        stamps = f"{_count(self.stamp_error_p50_us)} / {_count(self.stamp_error_p99_us)} us"
        ttft = f"{_latency(self.ttft_error_p50_ms)} / {_latency(self.ttft_error_p99_ms)}"
        load = f"{self.streams:>7}  {TEXT.count(self.chunks_per_s):>8}"
        return f"{load}   {stamps:>21}   {ttft:>20}   {TEXT.percent(self.cpu):>15}   {self.state}"


def _count(value: float) -> str:
    return TEXT.count(None if math.isnan(value) else value)


def _latency(milliseconds: float) -> str:
    return TEXT.latency(None if math.isnan(milliseconds) else milliseconds)


def verdict(rows: Sequence[Row]) -> str:
    """What the rows say about this machine, in one sentence."""
    sound = list(takewhile(lambda row: row.sound, rows))
    if not sound:
        return "This machine cannot drive even one stream without being the bottleneck: is something else busy on it?"
    best = sound[-1]
    limit = rows[len(sound)] if len(sound) < len(rows) else None
    text = (
        f"One process of this machine drives {best.streams} streams ({TEXT.count(best.chunks_per_s)} chunks/s) at "
        f"{TEXT.percent(best.cpu)} of a core, with a stamp error below {_count(best.stamp_error_p99_us)} us and a "
        f"TTFT error below {_latency(best.ttft_error_p99_ms)} (p99)"
    )
    if limit is None:
        return f"{text}; more was not tried."
    why = limit.reason if limit.state == "red" else f"TTFT error {_latency(limit.ttft_error_p99_ms)}"
    if limit.cpu < AMBER_CPU:
        cure = f"its core was only {TEXT.percent(limit.cpu)} busy, so something else on this machine is in the way"
    else:
        cure = "more workers drive more"
    return f"{text}; at {limit.streams} streams it is the bottleneck ({why}): {cure}."


class _Ear:
    """Hears a stream before the load does and keeps the stamp of every token."""

    __slots__ = ("sink", "stamps")

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.stamps = array("q")

    def first_token(self, trace: Trace) -> None:
        self.sink.first_token(trace)

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        self.stamps.extend([stamp_ns] * n)
        self.sink.tokens(trace, n, stamp_ns, gap_ns)


class _Listener(EndpointClient):
    """A client that remembers every token's stamp, by the beginning of the prompt."""

    heard: dict[str, tuple[Trace, array[int]]]

    async def generate(
        self,
        prompt: str | Sequence[Any],
        output_tokens: int,
        api: str,
        trace: Trace,
        sink: Sink,
        caller: Caller | None = None,
        *,
        model: str | None = None,
        extra: bytes = b"",
        pinned: bool = True,
        words: Said | None = None,
        hang_up_s: float | None = None,
    ) -> None:
        ear = _Ear(sink)
        self.heard[str(prompt)[:HEAD_CHARACTERS]] = (trace, ear.stamps)
        await super().generate(
            prompt,
            output_tokens,
            api,
            trace,
            ear,
            caller,
            model=model,
            extra=extra,
            pinned=pinned,
            words=words,
            hang_up_s=hang_up_s,
        )


@asynccontextmanager
async def known_times(*arguments: str) -> AsyncIterator[str]:
    """A schedule server in a process of its own, which ends with this one. Gives its base URL."""
    server = await Server.launch("llmtop.simulator.server.schedule", *arguments, "--die-with-parent")
    try:
        yield server.base_url
    finally:
        await server.close()


async def run(
    levels: Sequence[int] = LEVELS, *, seconds: float = 4.0, variants: Sequence[str] = ()
) -> AsyncIterator[Row]:
    """Rising load, a row for each level; ends early once the client is the bottleneck.

    Args:
        levels: how many streams at once.
        seconds: how long each level's health is measured, after a second to settle; at least `LEAST_SECONDS`.
        variants: further arguments of the schedule server, such as `--burst`.
    """
    origin_ns = perf_counter_ns()
    schedule = (f"--ttft-ms={TTFT_MS}", f"--tpot-ms={TPOT_MS}", f"--tokens={TOKENS}")
    async with known_times(*schedule, *variants) as url:
        caps = Caps(max_concurrency=max(levels))
        endpoint = endpoint_from_url(url)
        client = _Listener(endpoint, await probe(endpoint, caps), caps, origin_ns)
        client.heard = {}
        script = OneShot(PromptSource(Workload()))
        setup = Setup(client=client, script=script, caps=caps, origin_ns=origin_ns, seed=0, api="chat")
        engine = LoadEngine(Here(setup), Pacer.hold(LoadPoint(concurrency=0)), caps, setup.now)
        running = asyncio.create_task(engine.run())
        try:
            for streams in levels:
                row = await _level(engine, client, streams, max(seconds, LEAST_SECONDS), origin_ns)
                yield row
                if row.state == "red":
                    break
        finally:
            await engine.close()
            await running
            await client.close()


async def _level(engine: LoadEngine, client: _Listener, streams: int, seconds: float, origin_ns: int) -> Row:
    """Every stream of the level is compared, the ones that start together at its beginning included."""
    heard: dict[str, tuple[Trace, array[int]]] = {}
    client.heard = heard
    engine.command(LoadPoint(concurrency=streams, output_tokens=TOKENS))
    await asyncio.sleep(SETTLE_S)
    judge = ClientJudge()
    judge.take(engine.take().client)
    await asyncio.sleep(seconds)
    health = [second.health for second in judge.take(engine.take().client)]
    engine.cut()
    await asyncio.sleep(CUT_S)
    departures = await control(client.endpoint, "GET", "/stamps", limit_bytes=_STAMPS_BYTES)
    stamp_errors_ns, ttft_errors_ns = _errors(heard, departures, origin_ns)
    return _row(streams, health, stamp_errors_ns / 1e3, ttft_errors_ns / 1e6)


def _errors(
    heard: dict[str, tuple[Trace, array[int]]], departures: Any, origin_ns: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(stamp errors, TTFT errors) in nanoseconds, of the streams that both sides saw from start to end."""
    stamp_errors, ttft_errors = [np.zeros(0)], []
    for stream in departures:
        trace, stamps = heard.get(stream["head"], (None, array("q")))
        left = np.array(stream["before_ns"], dtype=np.int64)
        if trace is None or len(stamps) != len(left) or trace.first_token_ns is None or trace.sent_ns is None:
            continue
        known = left >= 0
        stamp_errors.append((np.frombuffer(stamps, dtype=np.int64) + origin_ns - left)[known].astype(float))
        if known[0]:
            ttft_errors.append(trace.first_token_ns - trace.sent_ns - (left[0] - stream["received_ns"]))
    return np.concatenate(stamp_errors), np.array(ttft_errors, dtype=float)


def _row(
    streams: int,
    health: Sequence[ClientHealth],
    stamp_errors_us: np.ndarray[Any, Any],
    ttft_errors_ms: np.ndarray[Any, Any],
) -> Row:
    worst_first = sorted(health, key=lambda second: ("red", "amber", "green").index(second.state))
    middle = worst_first[len(worst_first) // 2]
    stamp_p50, stamp_p99 = np.percentile(stamp_errors_us, (50, 99)) if len(stamp_errors_us) else (np.nan, np.nan)
    ttft_p50, ttft_p99 = np.percentile(ttft_errors_ms, (50, 99)) if len(ttft_errors_ms) else (np.nan, np.nan)
    return Row(
        streams=streams,
        chunks_per_s=sum(second.chunks_per_s or 0.0 for second in health) / len(health),
        stamp_error_p50_us=float(stamp_p50),
        stamp_error_p99_us=float(stamp_p99),
        ttft_error_p50_ms=float(ttft_p50),
        ttft_error_p99_ms=float(ttft_p99),
        cpu=sum(second.cpu or 0.0 for second in health) / len(health),
        state=middle.state,
        reason=None if middle.reason is None else client_reason(middle.reason),
        tokens=len(stamp_errors_us),
    )
