"""Users that are a Python file, against those that llmtop has built in.

    flock /tmp/llmtop-bench.lock python tests/bench/bench_users.py [overhead] [stamps] [prefix] [--rounds 40]

overhead  CPU of a request with a client that answers at once: built in; `chat` of a text, one a visit, three a visit,
          and with the answers before it as history, many short rounds in turn (bar: 15 us over the built-in user)
stamps    errors of stamps and TTFT at 64 streams on a server of known times, in turn (bar: as of the built-in user)
prefix    256 users x 3 turns on the simulated engine: share of each turn's prompt that its prefix cache had
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from array import array
from collections import defaultdict
from pathlib import Path
from time import perf_counter_ns, process_time

from bench_load import QuickClient

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.request import RequestRecord
from llmtop.endpoint.calls import Calls
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.clock import StampingLoop
from llmtop.endpoint.probe import probe
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.load.engine import LoadEngine
from llmtop.load.here import Here
from llmtop.load.pacer import Pacer
from llmtop.load.selftest import HEADING, TOKENS, TPOT_MS, TTFT_MS, Row, _level, _Listener, known_times
from llmtop.load.setup import Setup
from llmtop.load.users import Users
from llmtop.load.visits import Visits
from llmtop.simulator.server.process import SimulatorProcess
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot
from llmtop.workload.userfile import load

BAR_US = 15.0
USERS = 64
REQUESTS = 1_500
"""Of one round of one kind."""
KINDS = {
    "built in": "",
    "one a visit": "    await user.chat(user.text(user.prompt_tokens))\n",
    "three a visit": "    for _ in range(3):\n        await user.chat(user.text(user.prompt_tokens))\n",
    "with history": (
        "    answer = await user.chat(user.text(user.prompt_tokens))\n"
        "    for _ in range(2):\n        answer = await user.chat('And why?', after=answer)\n"
    ),
}
TURNS = "    answer = await user.chat(user.text(160), output_tokens=8, name='turn 1')\n" + "".join(
    f"    answer = await user.chat(user.text(32), after=answer, output_tokens=8, name='turn {turn}')\n"
    for turn in (2, 3)
)


class AtOnce(QuickClient):
    """Answers with two tokens at the next turn of the loop."""

    apis = ("chat",)
    calls: Calls | None = None

    async def generate(self, *said: object, **carried: object) -> None:
        QuickClient.generate.__globals__["ANSWER_S"] = 0
        await super().generate(*said, **carried)


def visits_of(body: str, client: object, folder: Path) -> Visits | None:
    if not body:
        return None
    path = folder / f"users{abs(hash(body))}.py"
    path.write_text(f"async def run(user):\n{body}")
    return Visits(load(path), PromptSource(Workload(source="python", file=str(path))), client.calls)


async def cost_us(body: str, folder: Path) -> float:
    """CPU of one request."""
    origin_ns = perf_counter_ns()
    client, done = AtOnce(origin_ns), asyncio.Event()
    count, since = 0, 0.0

    def ended(number: int, record: RequestRecord) -> None:
        nonlocal count, since
        count += 1
        if count == REQUESTS // 10:
            since = process_time()
        if count == REQUESTS + REQUESTS // 10:
            done.set()

    setup = Setup(
        client=client,
        script=OneShot(PromptSource(Workload())),
        visits=visits_of(body, client, folder),
        caps=Caps(),
        origin_ns=origin_ns,
        seed=0,
        api="chat",
    )
    users = Users(setup, ended)
    users.point = LoadPoint(concurrency=USERS)
    users.keep(USERS)
    await done.wait()
    taken = process_time() - since
    await users.close()
    return taken / (count - REQUESTS // 10) * 1e6


def overhead(rounds: int, folder: Path) -> None:
    costs: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for kind, body in KINDS.items():
            costs[kind].append(asyncio.run(cost_us(body, folder)))
    print(
        "us of CPU a request: of the quickest tenth of the rounds, and over that of the built-in user; median of pairs"
    )
    quick = {kind: statistics.quantiles(own, n=10)[0] for kind, own in costs.items()}
    for kind, own in costs.items():
        pairs = statistics.median(each - base for each, base in zip(own, costs["built in"], strict=True))
        print(
            f"{kind:>13}: {quick[kind]:5.1f}  {quick[kind] - quick['built in']:+5.1f}  {pairs:+5.1f}  (bar {BAR_US:g})"
        )


async def level(body: str, folder: Path) -> Row:
    origin_ns = perf_counter_ns()
    schedule = (f"--ttft-ms={TTFT_MS}", f"--tpot-ms={TPOT_MS}", f"--tokens={TOKENS}")
    async with known_times(*schedule) as url:
        endpoint, caps = endpoint_from_url(url), Caps()
        client = _Listener(endpoint, await probe(endpoint, caps), caps, origin_ns)
        client.heard = dict[str, tuple[object, array]]()
        setup = Setup(
            client=client,
            script=OneShot(PromptSource(Workload())),
            visits=visits_of(body, client, folder),
            caps=caps,
            origin_ns=origin_ns,
            seed=0,
            api="chat",
        )
        engine = LoadEngine(Here(setup), Pacer.hold(LoadPoint(concurrency=0)), caps, setup.now)
        running = asyncio.create_task(engine.run())
        try:
            return await _level(engine, client, USERS, 5.0, origin_ns)
        finally:
            await engine.close()
            await running
            await client.close()


def stamps(rounds: int, folder: Path) -> None:
    print(HEADING)
    for _ in range(rounds):
        for kind in ("built in", "one a visit"):
            with asyncio.Runner(loop_factory=StampingLoop) as runner:
                print(f"{runner.run(level(KINDS[kind], folder))}   {kind}")


async def prefix(folder: Path, users: int = 256, seconds: float = 40.0) -> None:
    knobs = {"max_num_seqs": 256, "num_gpu_blocks": 8192, "peak_tflops": 100.0, "bandwidth_gb_s": 2000.0}
    server = await SimulatorProcess.start("laptop", knobs)
    records: list[RequestRecord] = []
    try:
        endpoint, caps, origin_ns = Endpoint(base_url=server.base_url, simulated=True), Caps(), perf_counter_ns()
        client = EndpointClient(endpoint, await probe(endpoint, caps), caps, origin_ns)
        setup = Setup(
            client=client,
            script=OneShot(PromptSource(Workload())),
            visits=visits_of(TURNS, client, folder),
            caps=caps,
            origin_ns=origin_ns,
            seed=0,
            api="chat",
        )
        crowd = Users(setup, lambda number, record: records.append(record))
        crowd.point = LoadPoint(concurrency=users)
        others = asyncio.all_tasks()
        crowd.open()
        for _ in range(users):  # each leaves after one visit
            crowd.arrive(setup.now())
            await asyncio.sleep(0.001)
        everybody = asyncio.all_tasks() - others
        _, late = await asyncio.wait(everybody, timeout=seconds)
        await crowd.close()
        await client.close()
    finally:
        await server.close()
    by_turn = defaultdict(list)
    for record in records:
        by_turn[record.turn].append(record)
    print(
        f"{len(records)} requests of {users} users, {len(late)} users late, {len({r.session for r in records})} visits"
    )
    for turn, own in sorted(by_turn.items()):
        failed = sum(record.outcome.is_error for record in own)
        hits = sum(record.cached_tokens or 0 for record in own) / sum(record.prompt_tokens for record in own)
        print(f"  turn {turn}: {len(own)} requests, {failed} failed, {hits:.1%} of the prompt was in the prefix cache")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="*", default=["overhead", "stamps", "prefix"])
    parser.add_argument("--rounds", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for what in asked.what:
            print(f"── {what}")
            if what == "overhead":
                overhead(asked.rounds, Path(name))
            elif what == "stamps":
                stamps(min(asked.rounds, 3), Path(name))
            else:
                asyncio.run(prefix(Path(name)))


if __name__ == "__main__":
    main()
