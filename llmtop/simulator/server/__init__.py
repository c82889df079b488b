"""The HTTP face of the simulated engine: what a vLLM server sends, on the engine's clock.

    python -m llmtop.simulator.server --preset laptop --port 8000

In a process of its own through `process.SimulatorProcess`, in this one through the coroutine `serving.serve` (on a loop
made by `loop.new_event_loop`, whose timers are exact). `process.ScheduleProcess` is another kind of server: one whose
token times are known, to measure a client's clock against.
"""
