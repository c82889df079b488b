"""Load workers over SSH: each is a process at the other end of a connection, whose pipes are its messages'."""

from __future__ import annotations

from llmtop.domain.crew import CrewSpec
from llmtop.load.messages import WorkerSetup
from llmtop.load.post import Post


class SshCrew:
    """Implements `Crew`."""

    elsewhere = True

    @classmethod
    async def reach(cls, spec: CrewSpec) -> SshCrew:
        raise NotImplementedError

    @property
    def size(self) -> int:
        raise NotImplementedError

    async def post(self, setup: WorkerSetup) -> Post:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
