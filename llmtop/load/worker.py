"""One load worker: `python -m llmtop.load.worker`, started by `WorkerPool`. It ends when its stdin does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from llmtop.endpoint import EndpointClient, StampingLoop
from llmtop.load.crew import Crew
from llmtop.load.pipe import Close, Cut, Follow, Setup, frame, orders, receive
from llmtop.workload import PromptSource

TELL_S = 0.05


async def work(orders_in: asyncio.StreamReader, facts_out: asyncio.StreamWriter) -> None:
    """Do what the parent says until it says no more."""
    setup = await receive(orders_in, orders)
    if not isinstance(setup, Setup):
        return
    client = EndpointClient(setup.endpoint, setup.info, setup.caps, setup.origin_ns)
    prompts = PromptSource(
        setup.workload,
        max_model_len=setup.info.max_model_len if setup.info is not None else None,
        salt=setup.salt,
        start=setup.worker,
        step=setup.workers,
    )
    crew = Crew(client, prompts, setup.caps, setup.origin_ns, setup.seed, setup.api, worker=setup.worker)
    load = asyncio.create_task(crew.run())
    listening = asyncio.create_task(_obey(crew, orders_in))
    try:
        while not load.done():
            facts_out.write(frame(crew.take()))
            await facts_out.drain()
            await asyncio.wait({load}, timeout=TELL_S)
        await load
        facts_out.write(frame(crew.take()))
        await facts_out.drain()
    except ConnectionError:  # the parent is gone, and nobody is left to tell
        crew.close()
        await load
    finally:
        listening.cancel()
        await client.close()


async def _obey(crew: Crew, orders_in: asyncio.StreamReader) -> None:
    while True:
        order = await receive(orders_in, orders)
        if isinstance(order, Follow):
            crew.follow(order.pacer(), order.start_ns)
        elif isinstance(order, Cut):
            crew.cut(order.keep)
        elif order is None or isinstance(order, Close):
            crew.close()
            return


async def _main() -> None:
    # Facts leave by a descriptor of their own, so that nothing that prints can damage them.
    facts = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    loop = asyncio.get_running_loop()
    orders_in = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders_in), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(facts, "wb")
    )
    await work(orders_in, asyncio.StreamWriter(transport, protocol, None, loop))
    transport.close()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    with asyncio.Runner(loop_factory=StampingLoop) as runner:
        runner.run(_main())


if __name__ == "__main__":
    main()
