"""Load workers on other machines, by Dask or by SSH: the extra `llmtop[cluster]`."""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.util import find_spec

from llmtop.domain.crew import CrewSpec
from llmtop.errors import UsageError
from llmtop.load.post import Crew

NEEDS = {"dask": "distributed", "tls": "distributed", "ssh": "asyncssh"}
"""The library that a crew is reached by."""


def check_extra(spec: CrewSpec) -> None:
    """Raises UsageError where what reaches such a crew is not installed."""
    if not spec.is_here and find_spec(NEEDS[spec.where]) is None:
        raise UsageError(f"--workers {spec}: needs {NEEDS[spec.where]}: pip install 'llmtop[cluster]'")


async def reach(spec: CrewSpec) -> Crew:
    """Connect to the load hosts of a crew that is not here.

    Raises UsageError without the extra, SessionLost when nobody can be reached or somebody's llmtop is another version.
    """
    check_extra(spec)
    if spec.where == "ssh":
        by_ssh = await asyncio.to_thread(import_module, "llmtop.cluster.by_ssh")
        return await by_ssh.SshCrew.reach(spec)  # type: ignore[no-any-return]
    from llmtop.cluster.by_dask import DaskCrew

    return await DaskCrew.reach(spec)
