"""Load: users, pacing, live control, the brake, and the client's own health; in one process or in several."""

from llmtop.load.engine import Harvest, LoadEngine
from llmtop.load.pacer import Pacer

__all__ = ["Harvest", "LoadEngine", "Pacer"]
