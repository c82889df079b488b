"""The HTTP face of the simulated engine: what a vLLM server sends, on the engine's clock.

    python -m llmtop.simulator.server --preset laptop --port 8000

In a process of its own through `SimulatorProcess`, in this one through the coroutine `serve` (on a loop made by
`new_event_loop`, whose timers are exact). `ScheduleProcess` is
another kind of server: one whose token times are known, to measure a client's clock against.
"""

from __future__ import annotations

from llmtop.simulator.server.faults import FAULTS, Fault
from llmtop.simulator.server.loop import new_event_loop
from llmtop.simulator.server.process import ScheduleProcess, SimulatorProcess
from llmtop.simulator.server.serving import main, serve

__all__ = ["FAULTS", "Fault", "ScheduleProcess", "SimulatorProcess", "main", "new_event_loop", "serve"]
