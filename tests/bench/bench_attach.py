"""What screens cost a run: CPU with none, three and twenty of them, what coming and going leaves behind, and stamps.

    python tests/bench/bench_attach.py [--seconds 20] [--cycles 100] [--load 32]

One run against the simulated engine, detached, at one load: blocks of `--seconds` with 0, 3, 20 and again 0 viewers, so
that a machine that changes shows in the two of 0. Then `--cycles` times a screen comes and goes. Last, runs with
nothing beside them and with three viewers and the sinks of `--out` in turn: p99 of receive lag, by which stamps could
be wrong without the kernel's, and of TTFT.

Bounds: CPU of the session with 20 viewers at most 1.05 of that with none; nothing grows over the cycles; lag and TTFT
p99 unchanged.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

import psutil  # noqa: E402

from llmtop.domain.commands import Detach, Seen  # noqa: E402
from llmtop.domain.load import LoadPlan, LoadPoint  # noqa: E402
from llmtop.domain.profile import Profile  # noqa: E402
from llmtop.domain.slo import Slo  # noqa: E402
from llmtop.host.attached import Attached  # noqa: E402
from llmtop.host.options import HostOptions  # noqa: E402
from llmtop.host.running import find, running, stop  # noqa: E402
from llmtop.recording.reader import RunReader  # noqa: E402
from llmtop.session.options import SessionOptions  # noqa: E402


class Run:
    """A detached run at one load, and its processes."""

    def __init__(self, path: Path, load: int, sinks: Sequence[str] = ()) -> None:
        base = LoadPoint(concurrency=load, prompt_tokens=192, output_tokens=64)
        session = SessionOptions(
            profile=Profile(name="attach", plan=LoadPlan(stages=(), base=base)), run_file=str(path)
        )
        first = Attached.begin(HostOptions(session=session, slo=Slo(), sinks=tuple(sinks), detached_for_s=3600.0))
        while not first.name or first.shown().frame is None or first.shown().frame.in_flight < load:
            if first.shown().ended is not None:
                raise SystemExit(f"no run: {first.shown().ended}")
            time.sleep(0.05)
        first.send(Detach())
        while not first.left:
            time.sleep(0.05)
        first.close()
        self.about = next(run for run in running() if run.name == path.stem)
        self.host = psutil.Process(self.about.pid)
        self.session = next(
            each for each in self.host.children() if any("session.process" in word for word in each.cmdline())
        )

    def viewers(self, count: int) -> list[Attached]:
        return [Attached.join(self.about, view=True) for _ in range(count)]

    def cpu_s(self) -> tuple[float, float]:
        """Of session and host."""
        times = [process.cpu_times() for process in (self.session, self.host)]
        return times[0].user + times[0].system, times[1].user + times[1].system

    def block(self, viewers: int, seconds: float) -> tuple[float, float]:
        """CPU of session and host, as a share of a core, while so many look on."""
        there = self.viewers(viewers)
        time.sleep(1.0)
        before, begun = self.cpu_s(), time.monotonic()
        while time.monotonic() - begun < seconds:
            time.sleep(1.0)
            for viewer in there:
                viewer.send(Seen())
        passed_s, after = time.monotonic() - begun, self.cpu_s()
        for viewer in there:
            viewer.close()
        return (after[0] - before[0]) / passed_s, (after[1] - before[1]) / passed_s

    def end(self) -> None:
        stop(find(self.about.name))


def cost_of_viewers(run: Run, seconds: float) -> None:
    print(f"{'viewers':>8}{'session':>10}{'of none':>9}{'host':>9}{'of none':>9}   CPU, share of a core")
    none: tuple[float, float] | None = None
    for viewers in (0, 3, 20, 0):
        session, host = run.block(viewers, seconds)
        none = none or (session, host)
        print(f"{viewers:>8}{session:>10.3f}{session / none[0]:>9.2f}{host:>9.3f}{host / none[1]:>9.2f}")


def what_cycles_leave(run: Run, cycles: int) -> None:
    print(f"{'cycles':>8}{'host MB':>10}{'files':>7}{'threads':>9}   of the host")
    for cycle in range(cycles + 1):
        if cycle in (0, 5) or cycle % 25 == 0:
            time.sleep(0.3)
            memory = run.host.memory_info().rss / 1e6
            print(f"{cycle:>8}{memory:>10.1f}{run.host.num_fds():>7}{run.host.num_threads():>9}")
        screen = Attached.join(run.about, view=False)
        while screen.shown().meta is None:
            time.sleep(0.005)
        screen.close()


def lag_ms(path: Path) -> tuple[float, float, int]:
    """p99 of the loop's lag and of TTFT over a recording, and requests."""
    import numpy

    lags, ttfts = [], []
    with RunReader(path) as reader:
        for batch in reader.batches():
            lags += [sample.lag_p99_ms for sample in batch.client if sample.lag_p99_ms is not None]
            ttfts += [
                (record.first_token_ns - record.sent_ns) / 1e6
                for record in batch.requests
                if record.first_token_ns is not None and record.sent_ns is not None
            ]
    return float(numpy.quantile(lags, 0.99)), float(numpy.quantile(ttfts, 0.99)), len(ttfts)


def stamps(folder: Path, load: int, seconds: float, sinks: Sequence[str]) -> None:
    print(f"{'viewers':>8}{'sinks':>7}{'lag p99 ms':>12}{'TTFT p99 ms':>13}{'n':>7}")
    for turn, (viewers, flows) in enumerate([(0, ()), (3, sinks)] * 2):
        path = folder / f"stamps{turn}.llmtop"
        run = Run(path, load, flows)
        run.block(viewers, seconds)
        run.end()
        lag, ttft, n = lag_ms(path)
        print(f"{viewers:>8}{len(flows):>7}{lag:>12.2f}{ttft:>13.2f}{n:>7}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--load", type=int, default=32)
    parser.add_argument("--out", action="append", default=[], help="a sink for the last part; give two")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attach") as name:
        folder = Path(name)
        os.environ.update(XDG_DATA_HOME=name, XDG_STATE_HOME=name, XDG_CONFIG_HOME=name)
        run = Run(folder / "attach.llmtop", arguments.load)
        try:
            cost_of_viewers(run, arguments.seconds)
            what_cycles_leave(run, arguments.cycles)
        finally:
            run.end()
        stamps(folder, arguments.load, arguments.seconds, arguments.out)


if __name__ == "__main__":
    main()
