"""Load: users, pacing, live control, the brake, and the client's own health; in one process or in several.

engine = LoadEngine(client, prompts, Pacer.hold(LoadPoint(concurrency=8)), caps, origin_ns, seed, "chat")
running = asyncio.create_task(engine.run())
engine.command(LoadPoint(concurrency=64)); harvest = engine.drain(); engine.cut(); await engine.close()
"""

from llmtop.load.engine import Harvest, LoadEngine, SteeredLoad
from llmtop.load.pacer import Pacer
from llmtop.load.pool import WorkerPool, auto_workers

__all__ = ["Harvest", "LoadEngine", "Pacer", "SteeredLoad", "WorkerPool", "auto_workers"]
