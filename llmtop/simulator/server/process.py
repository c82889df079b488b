"""A server of this room as a child process: ready when `start` returns, gone when its owner is."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Self

from llmtop.channel import Server

API_KEY_VARIABLE = "LLMTOP_SIM_API_KEY"
"""Environment variable of a simulated server with the key that /v1 and its control ask for."""
CONTROL_TOKEN_VARIABLE = "LLMTOP_SIM_CONTROL_TOKEN"
"""And with the token that its control asks for."""

KnobValue = float | int | bool | str


class SimulatorProcess(Server):
    """The simulated engine in a process of its own."""

    control_token = ""
    """Known to this process and to the server."""

    @classmethod
    async def start(
        cls,
        preset: str | Path = "laptop",
        knobs: dict[str, KnobValue] | None = None,
        seed: int = 0,
        *,
        faults: dict[str, float | bool] | None = None,
        port: int = 0,
        api_key: str | None = None,
    ) -> Self:
        """Ready when it returns.

        Raises UsageError for a preset, knob or fault that is wrong, SessionLost when the process does not come up.
        """
        arguments = ["--preset", str(preset), "--port", str(port), "--seed", str(seed)]
        for name, value in (knobs or {}).items():
            arguments += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
        for name, figure in (faults or {}).items():
            arguments += ["--fault", name if figure is True else f"{name}={float(figure)}"]
        environment = {CONTROL_TOKEN_VARIABLE: secrets.token_urlsafe(32), API_KEY_VARIABLE: api_key or ""}
        child = await cls.launch("llmtop.simulator.server", *arguments, "--die-with-parent", environment=environment)
        child.control_token = environment[CONTROL_TOKEN_VARIABLE]
        return child


class ScheduleProcess(Server):
    """The server of known times in a process of its own; see `llmtop.simulator.server.schedule`."""

    @classmethod
    async def start(
        cls,
        *,
        ttft_ms: float = 50.0,
        tpot_ms: float = 20.0,
        tokens: int = 64,
        burst: bool = False,
        variants: tuple[str, ...] = (),
    ) -> Self:
        """Ready when it returns. Raises UsageError for a variant that is not known."""
        arguments = ["--ttft-ms", str(ttft_ms), "--tpot-ms", str(tpot_ms), "--tokens", str(tokens)]
        arguments += ["--burst"] if burst else []
        arguments += ["--variant", ",".join(variants)] if variants else []
        return await cls.launch("llmtop.simulator.server.schedule", *arguments, "--die-with-parent")
