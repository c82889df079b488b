"""The simulated engine in the loop of a test: ready when `start` returns, gone when `close` does."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from llmtop.simulator.server.serving import serve


class EngineHere:
    """Stands in for a `SimulatorProcess`."""

    control_token = "the control's"

    def __init__(self) -> None:
        self.port = 0
        self._stop = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, preset: str = "laptop", knobs: dict[str, Any] | None = None, seed: int = 0, **settings: Any
    ) -> Self:
        """`settings`: as of `serve`. Raises what that raises."""
        here, ready = cls(), asyncio.get_running_loop().create_future()
        asked = {"knobs": knobs, "seed": seed, "control_token": cls.control_token, **settings}
        here._serving = asyncio.create_task(serve(preset, stop=here._stop, on_ready=ready.set_result, **asked))
        await asyncio.wait({ready, here._serving}, return_when=asyncio.FIRST_COMPLETED)
        if here._serving.done():
            here._serving.result()
        here.port = ready.result()
        return here

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def close(self) -> None:
        """All its connections break off, and nothing listens any more. May be called twice."""
        self._stop.set()
        if self._serving is not None:
            await self._serving
