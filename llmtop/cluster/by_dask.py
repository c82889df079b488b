"""Load workers beside Dask workers, whose scheduler passes messages on."""

from __future__ import annotations

from llmtop.domain.crew import CrewSpec
from llmtop.load.messages import WorkerSetup
from llmtop.load.post import Post


class DaskCrew:
    """Implements `Crew`."""

    elsewhere = True

    @classmethod
    async def reach(cls, spec: CrewSpec) -> DaskCrew:
        raise NotImplementedError

    @property
    def size(self) -> int:
        raise NotImplementedError

    async def post(self, setup: WorkerSetup) -> Post:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
