"""One Dask worker of a load host: `python -m llmtop.cluster.joining`, a child of `llmtop worker`.

It says in one line of JSON that it has joined, and ends when it has lost the scheduler, or when its stdin ends. Dask's
own `dask worker` would do; this one opens no page, watches no memory, takes a faster loop, and ends with its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import msgspec

from llmtop import channel
from llmtop.cluster import calm
from llmtop.cluster.scheduler import address_of, security_of
from llmtop.domain.crew import parse_crew
from llmtop.errors import SessionLost

JOIN_S = 30.0
"""How long a scheduler that is there may take to let it in."""
CLOSE_S = 1.0


async def _main(crew: str, name: str, scratch: Path, log: Path) -> None:
    spec = parse_crew(crew)
    distributed = calm.distributed(log, scratch)
    host = spec.hosts[0].name.strip("[]")
    worker = distributed.Worker(
        address_of(spec),
        nthreads=1,
        name=name or None,
        memory_limit=0,
        local_directory=str(scratch),
        host=distributed.utils.get_ip(host),
        dashboard=False,
        dashboard_address="127.0.0.1:0",
        death_timeout=JOIN_S,
        security=security_of(spec),
    )
    orders, facts = await channel.streams(sys.stdin.buffer, os.fdopen(channel.claim_stdout(), "wb"))
    left_alone = asyncio.create_task(orders.read())
    joining = asyncio.create_task(_joined(worker))
    try:
        await asyncio.wait({joining, left_alone}, return_when=asyncio.FIRST_COMPLETED)
        if joining.done():
            joining.result()
            facts.write(msgspec.json.encode({"joined": worker.address}) + b"\n")
            await asyncio.wait(
                {asyncio.create_task(worker.finished()), left_alone}, return_when=asyncio.FIRST_COMPLETED
            )
    finally:
        with contextlib.suppress(Exception):  # it is over, whatever is in its way
            async with asyncio.timeout(2 * CLOSE_S):
                await worker.close(timeout=CLOSE_S, executor_wait=False, nanny=False)


async def _joined(worker: object) -> None:
    try:
        await worker  # type: ignore[misc]
    except Exception as error:
        raise SessionLost(f"the scheduler does not take it: {error}") from None


def _loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if find_spec("uvloop") is None:
        return None
    import uvloop

    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


def main() -> int:
    crew, name, scratch, log = sys.argv[1:5]
    os.umask(0o077)
    try:
        with asyncio.Runner(loop_factory=_loop()) as runner:
            runner.run(_main(crew, name, Path(scratch), Path(log)))
    except SessionLost as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(channel.ends_in_words(main))
