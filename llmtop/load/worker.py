"""One load worker: `python -m llmtop.load.worker`, started by `Workers`. It ends when its stdin does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

from msgspec.structs import replace

from llmtop import __version__, channel
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import FactBatch
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.clock import StampingLoop
from llmtop.errors import FileError, UsersError
from llmtop.load.files import cores
from llmtop.load.here import Here, WorkerFacts
from llmtop.load.luggage import laid_down
from llmtop.load.messages import Close, Cut, Follow, Greeting, Ping, Renew, WorkerSetup, orders, packed, receive
from llmtop.load.pacer import Pacer
from llmtop.load.setup import Setup
from llmtop.load.visits import visits_of
from llmtop.workload.carrying import Carried
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot

if TYPE_CHECKING:
    from llmtop.workload.recorded import Recorded

TELL_S, SELDOM_S = 0.05, 0.25
"""Between two messages of a worker, at least and at most."""
HEARD_PER_S = 800
"""Messages that a parent hears from all of them: each costs it some 60 us, however little it tells."""
LOOKS = 30
"""So many times within a lease it is looked whether that has run out."""


SETUP_S = 60.0
"""How long it waits for its setup: of a parent that is cut off before, nothing would be heard for ever."""


def tell_s(workers: int) -> float:
    """Seconds between two messages of one of so many workers."""
    return min(max(TELL_S, workers / HEARD_PER_S), SELDOM_S)


async def work(orders_in: asyncio.StreamReader, facts_out: asyncio.StreamWriter) -> None:
    """Do what the parent says until it says no more, or, on another machine, is not heard for as long as its lease.

    On its parent's machine it lets its load go then, as that stands still, and waits.
    """
    setup = await _awaited(orders_in, facts_out)
    if setup is None:
        return
    os.environ.update(setup.environment)
    with contextlib.ExitStack() as cleared:
        try:
            if setup.files:
                folder = cleared.enter_context(tempfile.TemporaryDirectory(prefix="llmtop-"))
                setup = laid_down(setup, Path(folder))
            client = EndpointClient(setup.endpoint, setup.info, setup.caps, setup.origin_ns)
            here = Here(_setup_of(setup, client))
        except FileError as error:
            nothing = FactBatch(t_s=setup.now() / 1e9)
            facts_out.write(packed(WorkerFacts(nothing, 0, fault=(error.path, error.problem))))
            await facts_out.drain()
            return
        await _drive(setup, client, here, orders_in, facts_out)


async def _drive(
    setup: WorkerSetup,
    client: EndpointClient,
    here: Here,
    orders_in: asyncio.StreamReader,
    facts_out: asyncio.StreamWriter,
) -> None:
    """Until the load is over, or who steers it is gone."""
    load = asyncio.create_task(here.run(lambda: None))
    telling = asyncio.create_task(_tell(here, load, facts_out, tell_s(setup.workers)))
    ear = _Ear(here, orders_in, facts_out)
    listening = asyncio.create_task(ear.listen())
    expiring = None if setup.lease_s is None else ear.let_go(setup) if setup.waits else ear.expire(setup.lease_s)
    watching = None if expiring is None else asyncio.create_task(expiring)
    try:
        await asyncio.wait({telling, watching or telling}, return_when=asyncio.FIRST_COMPLETED)
        if telling.done():
            telling.result()
        else:  # the lease: who does not speak does not hear, either, and would keep us waiting
            sys.stderr.write(f"nothing was heard for {setup.lease_s:g} s: the load was ended\n")
    except ConnectionError:  # the parent is gone, and nobody is left to tell
        pass
    finally:
        here.close()
        for task in filter(None, (telling, listening, watching)):
            task.cancel()
        await asyncio.wait({load})
        await client.close()


async def _awaited(orders_in: asyncio.StreamReader, facts_out: asyncio.StreamWriter) -> WorkerSetup | None:
    """The setup, before which the parent may ask for the time; None: it does not come."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(SETUP_S):
            while isinstance(order := await receive(orders_in, orders), Ping):
                facts_out.write(packed(WorkerFacts(FactBatch(t_s=0.0), 0, pong=(order.number, perf_counter_ns()))))
                await facts_out.drain()
            return order if isinstance(order, WorkerSetup) else None
    return None


async def _tell(here: Here, load: asyncio.Task[None], facts_out: asyncio.StreamWriter, pause_s: float) -> None:
    """Tell what becomes known until the load has ended, each time after `pause_s`. Raises what a bug in it raised."""
    while not load.done():
        facts_out.write(packed(here.take_with_account()))
        await facts_out.drain()
        await asyncio.wait({load}, timeout=pause_s)
    fault = None
    try:
        await load
    except UsersError as error:
        fault = error.path, error.problem
    facts_out.write(packed(replace(here.take_with_account(), fault=fault)))
    await facts_out.drain()


def _setup_of(setup: WorkerSetup, client: EndpointClient) -> Setup:
    """Raises FileError: the users' file cannot be imported."""
    prompts = PromptSource(
        setup.workload,
        max_model_len=setup.info.max_model_len if setup.info is not None else None,
        salt=setup.salt,
        start=setup.begins_at,
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
        carried=Carried(setup.workload, setup.seed, start=setup.begins_at, step=setup.workers),
        start=setup.start,
        worker=setup.worker,
    )


def _recorded(packed: bytes) -> Recorded | None:
    if not packed:
        return None
    from llmtop.workload.recorded import Recorded  # takes numpy in, which other sources do without

    return Recorded.unpacked(packed)


class _Ear:
    """Hears what the parent says, carries it out, and knows how long ago that was."""

    def __init__(self, here: Here, orders_in: asyncio.StreamReader, facts_out: asyncio.StreamWriter) -> None:
        self._here, self._orders_in, self._facts_out = here, orders_in, facts_out
        self._heard_s = asyncio.get_running_loop().time()
        self._unheard_s = 0.0
        """For how long nothing was heard while we were awake ourselves."""
        self._has_let_go = False

    async def listen(self) -> None:
        """Until orders end, which is also the end of the load: nobody is left to steer it."""
        try:
            while True:
                order = await receive(self._orders_in, orders)
                self._heard_s, self._unheard_s = asyncio.get_running_loop().time(), 0.0
                if self._has_let_go and order is not None:
                    self._has_let_go = False
                    self._facts_out.write(packed(replace(self._here.take_with_account(), let_go=True)))
                if isinstance(order, Ping):
                    pong = (order.number, perf_counter_ns())
                    self._facts_out.write(packed(replace(self._here.take_with_account(), pong=pong)))
                elif isinstance(order, Follow):
                    self._here.follow(order.pacer, order.start_ns)
                elif isinstance(order, Cut):
                    self._here.cut(order.keep)
                elif isinstance(order, Renew):
                    self._here.renew()
                elif order is None or isinstance(order, Close):
                    return
        finally:
            self._here.close()

    async def expire(self, lease_s: float) -> None:
        """Returns when nothing was heard for so long. Looks often: after a pause, what waits is read first."""
        loop = asyncio.get_running_loop()
        while loop.time() - self._heard_s < lease_s:  # noqa: ASYNC110 - it is time itself that is waited for
            await asyncio.sleep(lease_s / LOOKS)

    async def let_go(self, setup: WorkerSetup) -> None:
        """Let the load go whenever nothing was heard for the lease; never returns.

        What has stopped us too (a closed lid, a machine that is short of everything) has silenced nobody: of a pause of
        our own two looks count.
        """
        loop, lease_s = asyncio.get_running_loop(), setup.lease_s or 0.0
        looked_s = loop.time()
        while True:
            await asyncio.sleep(lease_s / LOOKS)
            now_s = loop.time()
            self._unheard_s += min(now_s - looked_s, 2 * lease_s / LOOKS)
            looked_s = now_s
            if self._unheard_s >= lease_s and self._here.in_flight and not self._has_let_go:
                self._has_let_go = True
                self._here.follow(Pacer.hold(LoadPoint(concurrency=0)), setup.now())
                self._here.cut()


async def _main(greets: bool) -> None:
    orders_in, facts_out = await channel.streams(sys.stdin.buffer, os.fdopen(channel.claim_stdout(), "wb"))
    if greets:
        facts_out.write(Greeting(__version__, os.getpid(), cores()).line())
    await work(orders_in, facts_out)
    facts_out.close()


def main(greets: bool = False) -> int:
    """`greets`: begin with a `Greeting`, for a parent that may be of another version."""
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        runner.run(_main(greets))
    return 0


if __name__ == "__main__":
    sys.exit(channel.ends_in_words(main))
