"""What the load of one process needs, and what does not change while it runs."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns

from msgspec import Struct

from llmtop.domain.load import Caps, Start
from llmtop.endpoint.client import EndpointClient
from llmtop.load.visits import Visits
from llmtop.workload.carrying import PLAIN, Carried
from llmtop.workload.script import Script


class Setup(Struct, frozen=True, kw_only=True):
    client: EndpointClient
    """Talks to the endpoint."""
    script: Script
    """What its users say; where they are a Python file, it hears alone how their prompts are counted."""
    visits: Visits | None = None
    """Of users that are a Python file."""
    caps: Caps
    """Where the load ends by itself."""
    origin_ns: int
    """Zero of the run clock, by `clock`."""
    seed: int
    """Of staggering, pauses and talks."""
    api: str
    """chat, completions, responses or embeddings."""
    carried: Carried = PLAIN
    """What its requests carry."""
    start: Start = "staggered"
    worker: int = 0
    """Number of this process among several."""
    clock: Callable[[], int] = perf_counter_ns
    """Nanoseconds, running like the event loop's time."""

    def now(self) -> int:
        """Nanoseconds of the run clock."""
        return self.clock() - self.origin_ns
