"""What a run from 200 load workers costs the session, with no sockets and on a virtual clock.

    flock /tmp/llmtop-bench.lock python tests/bench/bench_controller.py [--workers 200] [--streams 512] [--seconds 10]
                                                                        [--drift MS] [--profile]

200 workers x 512 streams, answers of 256 tokens 50 ms apart: 100 000 streams, 2 million tokens/s, 7 900 requests/s.
What the workers tell is made beside the clock; everything from its bytes on is the session's own code: messages,
accounts, bins, brake, frames, run file, and what the host is told. CPU is that of the one thread that does it all here;
sockets and pipes are not in it.

Bar: 0.5 s of CPU per second of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import itertools
import os
import pstats
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import thread_time
from typing import Any
from unittest.mock import patch

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "load")]

import fleet  # noqa: E402
from jumping import VirtualLoop  # noqa: E402

from llmtop.domain.load import Caps, LoadPoint  # noqa: E402
from llmtop.domain.profile import Profile  # noqa: E402
from llmtop.domain.run import Told  # noqa: E402
from llmtop.load import account, merging, pool  # noqa: E402
from llmtop.load import engine as engine_module  # noqa: E402
from llmtop.load.engine import LoadEngine  # noqa: E402
from llmtop.load.pacer import Pacer  # noqa: E402
from llmtop.meter.facts import Facts  # noqa: E402
from llmtop.meter.frames import FrameBuilder  # noqa: E402
from llmtop.recording import writer as writer_module  # noqa: E402
from llmtop.session import journal as journal_module  # noqa: E402
from llmtop.session import messages  # noqa: E402
from llmtop.session import session as session_module  # noqa: E402
from llmtop.session.options import SessionOptions  # noqa: E402
from llmtop.session.session import Session  # noqa: E402

BAR = 0.5
WARM_S = 16
"""All begin at once: after the first answers they are spread evenly."""


Sizes = tuple[float, float, int, int, int]
"""Once a second: CPU of this thread, of what was invented; bytes from workers, to the host, on the disk."""


class Parts:
    """Seconds of CPU by part, each without those that it calls."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            began = thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = thread_time() - began
                self.spent[name] += took - self._inner.pop()
                self._inner[-1] += took

        return call


class VirtualSession(Session):
    """A session on the loop's time."""

    @property
    def t_s(self) -> float:
        return asyncio.get_running_loop().time()


class StillWriter(writer_module.RunWriter):
    """A run file that is written when the bench says so, on its own thread."""

    def _work(self) -> None:
        self._closing.wait()
        super()._work()


WATCHED = (
    ("decode", fleet.facts, None),
    ("accounts of requests", account.Worker, "account"),
    ("groups", merging.Merger, "add"),
    ("merge", pool.Workers, "take"),
    ("brake, client", LoadEngine, "_absorb"),
    ("tick", VirtualSession, "_tick"),
    ("frame builder", FrameBuilder, "consume"),
    ("frame", FrameBuilder, "frame"),
    ("pack for the host", messages, "packed"),
    ("run file", StillWriter, "step"),
)


async def drive(args: argparse.Namespace, folder: Path, parts: Parts) -> None:
    loop = asyncio.get_running_loop()
    fleet.CLOCK.now_s = loop.time
    crew = fleet.Fleet(args.workers, args.streams, round(args.drift * 1e6))
    setup = fleet.setup_of(args.workers, args.streams)
    caps = Caps(max_concurrency=args.workers * args.streams)
    session = VirtualSession(SessionOptions(endpoint=setup.endpoint, profile=Profile(name="fleet", caps=caps)))
    session._recorder.open(str(folder / "run.llmtop"), "fleet", session.meta)
    writer = session._recorder._writer
    assert isinstance(writer, StillWriter)
    everything = LoadPoint(concurrency=args.workers * args.streams)
    session._contact.engine = LoadEngine(pool.Workers(setup, crew), Pacer.hold(everything), caps, setup.now)
    running = asyncio.create_task(session._contact.engine.run())
    host = Host()
    sizes: list[Sizes] = []
    told = 0
    for tick in range(round((WARM_S + args.seconds) / session_module.TICK_S) + 1):
        await asyncio.sleep(max(0.0, tick * session_module.TICK_S - loop.time()))
        if tick * session_module.TICK_S == WARM_S:
            parts.spent.clear()
            host.clear()
        session._tick()
        body = messages.packed(Told(batches=session.take_facts()))
        framed = messages.packed(messages.Framed(session.frame()))
        told += len(body) + len(framed)
        if tick % 2 == 0:
            writer.step()
        before = thread_time()
        host.hear(body, framed)
        crew.invented_s += thread_time() - before
        if tick % 4 == 0:
            sizes.append((thread_time(), crew.invented_s, crew.told_bytes, told, writer.path.stat().st_size))
    report(args, parts, sizes, host, crew)
    await session._contact.engine.close()
    await running
    session._recorder.close(loop.time(), None)


class Host:
    """What the host does at once with what it is told."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.clear()

    def clear(self) -> None:
        self.decode_s = self.extend_s = self.frame_s = 0.0
        self.requests = 0

    def hear(self, body: bytes, framed: bytes) -> None:
        began = thread_time()
        told = messages.decode_message(body[4:])
        decoded = thread_time()
        assert isinstance(told, Told)
        for batch in told.batches:
            self.facts.extend(batch)
            self.requests += len(batch.requests)
        extended = thread_time()
        messages.decode_message(framed[4:])
        self.decode_s += decoded - began
        self.extend_s += extended - decoded
        self.frame_s += thread_time() - extended


def report(
    args: argparse.Namespace,
    parts: Parts,
    sizes: list[tuple[float, float, int, int, int]],
    host: Host,
    crew: fleet.Fleet,
) -> None:
    seconds = args.seconds
    own = [now[0] - before[0] - (now[1] - before[1]) for before, now in itertools.pairwise(sizes)]
    steady = own[WARM_S:]
    total = sum(steady) / seconds
    first, last = sizes[WARM_S], sizes[-1]
    print(f"{args.workers} workers x {args.streams} streams, {seconds} s after {WARM_S} s")
    beginning = max(own[:WARM_S])
    print(f"CPU of the session  {total:6.3f} s/s, at worst {max(steady):.3f}, while all begin {beginning:.3f}")
    for name, spent in sorted(parts.spent.items(), key=lambda part: -part[1]):
        print(f"  {name:22} {spent / seconds:6.3f}")
    print(f"  {'event loop, the rest':22} {total - sum(parts.spent.values()) / seconds:6.3f}")
    for name, place in (("in from workers", 2), ("out to the host", 3), ("to the disk", 4)):
        print(f"{name:18} {(last[place] - first[place]) / seconds / 1e6:7.2f} MB/s")
    print(f"requests           {host.requests / seconds:7.0f} /s")
    print(f"messages           {crew.messages / (WARM_S + seconds):7.0f} /s")
    print(f"CPU of the host     decode {host.decode_s / seconds:.3f}, facts {host.extend_s / seconds:.3f}, ", end="")
    print(f"frame {host.frame_s / seconds:.3f} s/s; requests {len(host.facts.requests)} kept")
    print(f"bar {BAR}: {'met' if total <= BAR else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--streams", type=int, default=512)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--drift", type=float, default=0.0, metavar="MS", help="of the clock of each worker")
    parser.add_argument("--profile", action="store_true", help="instead of parts, what cProfile sees")
    args = parser.parse_args()
    os.environ["XDG_DATA_HOME"] = tempfile.gettempdir()
    parts = Parts()
    profile = cProfile.Profile(thread_time)
    with tempfile.TemporaryDirectory() as folder, patch("llmtop.session.recorder.RunWriter", StillWriter):
        if not args.profile:
            watch(parts)
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            if args.profile:
                runner.get_loop().call_at(WARM_S + 0.1, profile.enable)
            runner.run(drive(args, Path(folder), parts))
    if args.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


def watch(parts: Parts) -> None:
    class Decoder:
        decode = staticmethod(parts.timed("decode", fleet.facts.decode))

    fleet.facts = Decoder()
    for name, owner, attribute in WATCHED[1:]:
        setattr(owner, attribute, parts.timed(name, getattr(owner, attribute)))
    pool.shifted = parts.timed("shift of stamps", pool.shifted)
    joined = parts.timed("join", engine_module.joined)
    engine_module.joined = journal_module.joined = joined


if __name__ == "__main__":
    main()
