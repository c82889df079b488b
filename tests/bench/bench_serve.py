"""What viewers in browsers cost the run that they look at: CPU of its session and of its host, with and without them.

python tests/bench/bench_serve.py [VIEWERS [SECONDS]]    default: 20 viewers, 20 s of each

Parts without and with viewers take turns in one run, so that a machine that is busy for a while is so for both; the
viewers are WebSockets that read all that is drawn, as browsers do. The last lines are ratios: 1.05 is 5 % more.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from aiohttp import ClientSession, WSMsgType

from llmtop.domain.commands import Seen
from llmtop.domain.load import LoadPlan, LoadPoint
from llmtop.domain.profile import Profile
from llmtop.host.attached import Attached
from llmtop.host.options import HostOptions
from llmtop.session.options import SessionOptions

USERS, ROUNDS, SETTLE_S = 32, 3, 5.0
PARTS = {"session": "llmtop.session.process", "host": "llmtop.host.process"}


def main(viewers: int = 20, seconds: float = 20.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {f"XDG_{name}_HOME": f"{folder}/{name}" for name in ("DATA", "CONFIG", "STATE")}
        profile = Profile(name="by hand", plan=LoadPlan(stages=(), base=LoadPoint(concurrency=USERS)))
        session = SessionOptions(profile=profile, run_file=f"{folder}/bench.llmtop")
        run = Attached.begin(HostOptions(session=session, slo=profile.slo))
        try:
            asyncio.run(measure(run, viewers, seconds))
        finally:
            run.close()


async def measure(run: Attached, viewers: int, seconds: float) -> None:
    seen = asyncio.create_task(keep_seeing(run))
    while not run.name or run.shown().frame is None or run.shown().frame.in_flight < USERS:
        await asyncio.sleep(0.1)
    family = psutil.Process().children(recursive=True)
    processes = {name: next(p for p in family if module in p.cmdline()) for name, module in PARTS.items()}
    words = [sys.executable, "-P", "-m", "llmtop", "serve", "--bind", "127.0.0.1:0"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    shares: dict[tuple[str, bool], list[float]] = {}
    server = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        assert server.stdout is not None
        link = (await server.stdout.readline()).decode().strip()
        for _ in range(ROUNDS):
            for watched in (False, True):
                async with ClientSession() as client:
                    looks = [asyncio.create_task(look(client, link)) for _ in range(viewers if watched else 0)]
                    await asyncio.sleep(SETTLE_S + viewers * watched)
                    for name, share in (await cpu(processes, seconds)).items():
                        shares.setdefault((name, watched), []).append(share)
                    loads = sum(p.name() != "" and PARTS["session"] in p.cmdline() for p in psutil.process_iter())
                    drawn = sum(task.done() for task in looks)
                    print(f"{len(looks)} viewers ({drawn} gone), {loads} session, {run.shown().wheel.screens} screens")
                    for task in looks:
                        task.cancel()
                    await asyncio.gather(*looks, return_exceptions=True)
    finally:
        server.terminate()
        await server.wait()
    seen.cancel()
    for name in PARTS:
        without, among = (statistics.median(shares[name, watched]) for watched in (False, True))
        print(f"{name}: {without:.1%} of a core without, {among:.1%} with {viewers} viewers: x{among / without:.3f}")


async def keep_seeing(run: Attached) -> None:
    while True:
        run.send(Seen())
        await asyncio.sleep(1.0)


async def look(client: ClientSession, link: str) -> int:
    """Read all that a viewer is sent; returns when the server ends it."""
    origin = "/".join(link.split("/")[:3])
    async with client.ws_connect(
        f"{link}screen/?width=120&height=40", headers={"Origin": origin}, max_msg_size=0
    ) as all_:
        return sum([len(message.data) async for message in all_ if message.type is WSMsgType.BINARY])


async def cpu(processes: dict[str, psutil.Process], seconds: float) -> dict[str, float]:
    """Share of a core that each has used."""
    before = {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}
    began = time.monotonic()
    await asyncio.sleep(seconds)
    spent = time.monotonic() - began
    return {name: (sum(process.cpu_times()[:2]) - before[name]) / spent for name, process in processes.items()}


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*(kind(text) for kind, text in zip((int, float), given, strict=False)))
