"""Serving a preset on a port, from a program or from a command line."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from llmtop.domain.endpoint import host_and_port
from llmtop.domain.plain import LONG, plain
from llmtop.errors import LlmtopError, SessionLost, UsageError
from llmtop.simulator.engine import Preset, load_preset
from llmtop.simulator.server.deployment import Deployment
from llmtop.simulator.server.face import Face
from llmtop.simulator.server.faults import read_fault
from llmtop.simulator.server.guard import TOKEN_HEADER, Guard
from llmtop.simulator.server.loop import Listener, run
from llmtop.simulator.server.process import API_KEY_VARIABLE, CONTROL_TOKEN_VARIABLE

MAX_PORT = 65535
MOST_INTERVAL = 256
"""Tokens of one event."""
REBIND_TRIES = 20
REBIND_PAUSE_S = 0.1


async def serve(
    preset: str | Path | Preset,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    knobs: dict[str, float | int | bool | str] | None = None,
    faults: dict[str, float | bool] | None = None,
    api_key: str | None = None,
    control_token: str | None = None,
    seed: int = 0,
    names: tuple[str, ...] = (),
    stop: asyncio.Event | None = None,
    on_ready: Callable[[int], None] | None = None,
) -> None:
    """Serve a simulated engine until `stop` is set (or for ever).

    Token times are exact only on a loop from `loop.new_event_loop`; on a stock loop they may be 1 ms late.

    Args:
        preset: a shipped name, the path of a TOML file, or a preset.
        port: 0 takes a free one.
        knobs: any key of the preset's sections, and `stream_interval`.
        faults: on from the start: name to figure, or to True for the usual figure.
        api_key: asked of every request to /v1 and to the control.
        control_token: asked of every request to the control; None: the control is off.
        names: by which its model is served; (): the preset's.
        on_ready: called with the port once connections are accepted.

    Raises:
        ProfileError, UsageError: a preset, knob or fault is wrong.
        OSError: the port cannot be had.
    """
    loaded = preset if isinstance(preset, Preset) else load_preset(preset)
    loaded, interval = with_settings(loaded, knobs or {})
    deployment = Deployment(loaded, seed=seed, stream_interval=interval, faults=_read_faults(faults or {}))
    face = Face(deployment, Guard(control_token, api_key, host), seed=seed, names=names)
    door = _Door(face, host, port)
    stopped = asyncio.ensure_future((stop or asyncio.Event()).wait())
    try:
        door.open()
        if on_ready is not None:
            on_ready(door.port)
        ends: set[asyncio.Future[Any]] = {stopped, door.lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if door.lost.done():
            door.lost.result()
    finally:
        stopped.cancel()
        door.close()
        face.drop_connections()
        deployment.close()


class _Door:
    """The listening socket: shut and opened again on the same port when the server restarts."""

    def __init__(self, face: Face, host: str, port: int) -> None:
        self.port = port
        self._face = face
        self._host = host
        self._listener: Listener | None = None
        self._reopening: asyncio.Task[None] | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails when somebody else has taken the port during a restart."""
        face.on_restart = self._shut_for

    def open(self) -> None:
        self._listener = Listener(self._face.connect, self._host, self.port)
        self.port = self._listener.port

    def close(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _shut_for(self, gone_s: float) -> None:
        self.close()
        self._reopening = asyncio.get_running_loop().create_task(self._reopen(gone_s))

    async def _reopen(self, gone_s: float) -> None:
        await asyncio.sleep(gone_s)
        for tries_left in reversed(range(REBIND_TRIES)):
            try:
                self.open()
                return
            except OSError as error:
                if not tries_left:
                    self.lost.set_exception(error)
                await asyncio.sleep(REBIND_PAUSE_S)


def _read_faults(faults: dict[str, float | bool]) -> dict[str, float]:
    if "restart" in faults:
        raise UsageError("fault restart: there is nothing to restart yet; ask for it at /llmtop/control")
    figures = {name: read_fault(name, value) for name, value in faults.items()}
    return {name: figure for name, figure in figures.items() if figure is not None}


def with_settings(preset: Preset, knobs: dict[str, float | int | bool | str]) -> tuple[Preset, int]:
    """The preset with its knobs turned, and `stream_interval`. Raises UsageError for one that cannot be turned so."""
    settings = dict(knobs)
    interval = _read_interval(settings.pop("stream_interval", 1))
    return preset.with_knobs(settings) if settings else preset, interval


def _read_interval(value: float | int | bool | str) -> int:
    try:
        interval = int(value)
    except (ValueError, OverflowError):
        interval = 0
    if not 1 <= interval <= MOST_INTERVAL:
        raise UsageError(f"knob stream_interval: {str(value)[:40]!r} must be a whole number from 1 to {MOST_INTERVAL}")
    return interval


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llmtop.simulator.server", description="The simulated engine.")
    parser.add_argument("--preset", default="laptop", help="shipped name or path of a TOML file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE", help="may be given several times")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME[=FIGURE]", help="on from the start")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--served-model-name", action="append", default=[], metavar="NAME", help="may be repeated")
    parser.add_argument("--die-with-parent", action="store_true", help="end when stdin does")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """`python -m llmtop.simulator.server`: prints one JSON line when ready, then serves."""
    asked = _parser().parse_args(arguments)
    if not 0 <= asked.port <= MAX_PORT:
        return _complain(f"--port {asked.port}: ports go from 0 to {MAX_PORT}", UsageError.exit_code)
    try:
        knobs = dict(_pair(text, "--set") for text in asked.set)
        faults = dict(_fault(text) for text in asked.fault)
        preset = load_preset(asked.preset)
    except LlmtopError as error:
        return _complain(str(error), error.exit_code)
    api_key = os.environ.get(API_KEY_VARIABLE) or None
    token = os.environ.get(CONTROL_TOKEN_VARIABLE) or None

    async def serve_until(stop: asyncio.Event) -> int:
        made = token or secrets.token_urlsafe(32)

        def announce(port: int) -> None:
            if not asked.die_with_parent:
                sys.stderr.write(_told(asked.host, port, None if token else made, api_key is not None))
                sys.stderr.flush()
            sys.stdout.write(msgspec.json.encode({"port": port, "preset": preset.name}).decode() + "\n")
            sys.stdout.flush()

        try:
            await serve(
                preset,
                host=asked.host,
                port=asked.port,
                knobs=knobs,
                faults=faults,
                api_key=api_key,
                control_token=made,
                seed=asked.seed,
                names=tuple(dict.fromkeys(asked.served_model_name)),
                stop=stop,
                on_ready=announce,
            )
        except LlmtopError as error:
            return _complain(str(error), error.exit_code)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else f"no name of a machine ({error})"
            code = SessionLost.exit_code if asked.die_with_parent else UsageError.exit_code  # whose port it was
            return _complain(f"cannot serve on {host_and_port(asked.host, asked.port)}: {why}", code)
        return 0

    return run(serve_until, die_with_parent=asked.die_with_parent)


def _told(host: str, port: int, token: str | None, has_key: bool) -> str:
    """What who starts a server by hand has to know: how its knobs are turned, and who else can reach it."""
    everybody = host in {"", "0.0.0.0", "::"}
    shown = f'"{TOKEN_HEADER}: ${CONTROL_TOKEN_VARIABLE}"' if token is None else f"'{TOKEN_HEADER}: {token}'"
    words = ["curl", f"http://{host_and_port('127.0.0.1' if everybody else host, port)}/llmtop/control", "-H", shown]
    words += ["-H", f'"authorization: Bearer ${API_KEY_VARIABLE}"'] if has_key else []
    words += ["-H", "'content-type: application/json'", "-d", """'{"knobs":{"max_num_seqs":64}}'"""]
    lines = [f"To turn a knob: {' '.join(words)}"]
    if everybody and not has_key:
        lines.append(f"Open to everybody who reaches this machine; {API_KEY_VARIABLE} sets a key that is asked for")
    return "".join(f"{line}\n" for line in lines)


def _complain(problem: str, exit_code: int) -> int:
    sys.stderr.write(plain(problem, LONG) + "\n")
    return exit_code


def _pair(text: str, option: str) -> tuple[str, float | int | bool | str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{option} {text!r}: write it like {option} max_num_seqs=64")
    return name.strip(), value.strip()


def _fault(text: str) -> tuple[str, float | bool]:
    """NAME or NAME=FIGURE."""
    name, equals, value = text.partition("=")
    try:
        return name, float(value) if equals else True
    except ValueError:
        raise UsageError(f"--fault {text!r}: {value!r} is not a number") from None
