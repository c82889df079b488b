"""Load workers on other machines, by Dask or by SSH: the extra `llmtop[cluster]`."""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.util import find_spec

from llmtop.domain.crew import CrewSpec, LoadHost
from llmtop.domain.endpoint import Endpoint, is_loopback, safe_url
from llmtop.errors import UsageError
from llmtop.load.post import Crew

NEEDS = {"dask": "distributed", "tls": "distributed", "ssh": "asyncssh"}
"""The library that a crew is reached by."""


def check_way(spec: CrewSpec) -> None:
    """Raises UsageError where what reaches such a crew is not installed, FileError where a file of its is not there."""
    if not spec.is_here and find_spec(NEEDS[spec.where]) is None:
        raise UsageError(f"--workers {spec}: needs {NEEDS[spec.where]}: pip install 'llmtop[cluster]'")
    if spec.where == "tls":
        from llmtop.cluster.scheduler import check_files

        check_files(spec)


def check_reaches(spec: CrewSpec, endpoint: Endpoint | None) -> None:
    """Raises UsageError where load hosts cannot reach the endpoint, as it is this machine's alone.

    Args:
        endpoint: None: the simulated engine, which listens here and nowhere else.
    """
    if spec.is_here or all(map(_is_here, spec.hosts)):
        return
    if endpoint is None:
        raise UsageError(f"--workers {spec}: the simulated engine is on this machine alone: --workers 2 drives it")
    if endpoint.is_here:
        where = endpoint.unix_socket or safe_url(endpoint.base_url)
        raise UsageError(
            f"--workers {spec}: {where} means another server on each of those hosts: "
            "give the endpoint by a name or an address that they reach it by"
        )


def _is_here(host: LoadHost) -> bool:
    """Whether it is this machine, by its own name for itself."""
    return host.name == "localhost" or is_loopback(host.name.strip("[]"))


async def reach(spec: CrewSpec) -> Crew:
    """Connect to the load hosts of a crew that is not here.

    Raises UsageError and FileError as `check_way`, SessionLost when nobody can be reached or somebody's llmtop is
    another version.
    """
    check_way(spec)
    if spec.where == "ssh":
        by_ssh = await asyncio.to_thread(import_module, "llmtop.cluster.by_ssh")
        return await by_ssh.SshCrew.reach(spec)  # type: ignore[no-any-return]
    from llmtop.cluster.by_dask import DaskCrew

    return await DaskCrew.reach(spec)
