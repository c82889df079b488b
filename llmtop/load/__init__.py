"""Load: users, pacing, live control, the brake, and the client's own health; in one process or in several.

setup = Setup(client=client, prompts=prompts, caps=caps, origin_ns=origin_ns, seed=seed, api="chat")
engine = LoadEngine(Here(setup), Pacer.hold(LoadPoint(concurrency=8)), caps, setup.now)
running = asyncio.create_task(engine.run())
engine.command(LoadPoint(concurrency=64)); batch = engine.take(); engine.cut(); await engine.close()
"""

from llmtop.load.engine import Hands, LoadEngine
from llmtop.load.here import Here
from llmtop.load.messages import WorkerSetup
from llmtop.load.pacer import Pacer
from llmtop.load.pool import Workers, auto_workers
from llmtop.load.setup import Setup

__all__ = ["Hands", "Here", "LoadEngine", "Pacer", "Setup", "WorkerSetup", "Workers", "auto_workers"]
