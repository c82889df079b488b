"""One load worker: `python -m llmtop.load.worker`, started by `Workers`. It ends when its stdin does."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmtop import channel
from llmtop.domain.run import FactBatch
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.clock import StampingLoop
from llmtop.errors import FileError, UsersError
from llmtop.load.here import Here, WorkerFacts
from llmtop.load.messages import Close, Cut, Follow, WorkerSetup, orders, packed, receive
from llmtop.load.setup import Setup
from llmtop.load.visits import visits_of
from llmtop.workload.carrying import Carried
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot

if TYPE_CHECKING:
    from llmtop.workload.recorded import Recorded

TELL_S = 0.05


async def work(orders_in: asyncio.StreamReader, facts_out: asyncio.StreamWriter) -> None:
    """Do what the parent says until it says no more."""
    setup = await receive(orders_in, orders)
    if not isinstance(setup, WorkerSetup):
        return
    client = EndpointClient(setup.endpoint, setup.info, setup.caps, setup.origin_ns)
    try:
        here = Here(_setup_of(setup, client))
    except FileError as error:
        nothing = FactBatch(t_s=setup.now() / 1e9)
        facts_out.write(packed(WorkerFacts(nothing, 0, fault=(error.path, error.problem))))
        await facts_out.drain()
        return
    load = asyncio.create_task(here.run(lambda: None))
    listening = asyncio.create_task(_obey(here, orders_in))
    fault = None
    try:
        while not load.done():
            facts_out.write(packed(here.take_with_account()))
            await facts_out.drain()
            await asyncio.wait({load}, timeout=TELL_S)
        try:
            await load
        except UsersError as error:
            fault = error.path, error.problem
        facts_out.write(packed(replace(here.take_with_account(), fault=fault)))
        await facts_out.drain()
    except ConnectionError:  # the parent is gone, and nobody is left to tell
        here.close()
        await load
    finally:
        listening.cancel()
        await client.close()


def _setup_of(setup: WorkerSetup, client: EndpointClient) -> Setup:
    """Raises FileError: the users' file cannot be imported."""
    prompts = PromptSource(
        setup.workload,
        max_model_len=setup.info.max_model_len if setup.info is not None else None,
        salt=setup.salt,
        start=setup.worker,
        step=setup.workers,
        recorded=_recorded(setup.recorded),
    )
    if setup.sizes is not None:
        prompts.settle(setup.sizes)
    return Setup(
        client=client,
        script=OneShot(prompts),
        visits=visits_of(setup.workload, prompts, client, setup.workers),
        caps=setup.caps,
        origin_ns=setup.origin_ns,
        seed=setup.seed,
        api=setup.api,
        carried=Carried(setup.workload, setup.seed, start=setup.worker, step=setup.workers),
        start=setup.start,
        worker=setup.worker,
    )


def _recorded(packed: bytes) -> Recorded | None:
    if not packed:
        return None
    from llmtop.workload.recorded import Recorded  # takes numpy in, which other sources do without

    return Recorded.unpacked(packed)


async def _obey(here: Here, orders_in: asyncio.StreamReader) -> None:
    """Carry out orders until they end, which is also the end of the load: nobody is left to steer it."""
    try:
        while True:
            order = await receive(orders_in, orders)
            if isinstance(order, Follow):
                here.follow(order.pacer, order.start_ns)
            elif isinstance(order, Cut):
                here.cut(order.keep)
            elif order is None or isinstance(order, Close):
                return
    finally:
        here.close()


async def _main() -> None:
    orders_in, facts_out = await channel.streams(sys.stdin.buffer, os.fdopen(channel.claim_stdout(), "wb"))
    await work(orders_in, facts_out)
    facts_out.close()


def main() -> int:
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        runner.run(_main())
    return 0


if __name__ == "__main__":
    sys.exit(channel.ends_in_words(main))
