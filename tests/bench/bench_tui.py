"""What the cockpit costs: bytes to the terminal, CPU, time to the first paint.

    python tests/bench/bench_tui.py [--seconds 30] [--fps 2]

The app runs in a process of its own under a pty and is fed four encoded frames a second of a run that climbs past its
cliff, as a host would show them: decoding is counted, making the frames is not. Bounds: 12 KiB/s at 80x24,
25 KiB/s at 120x40, 10 % of a core, first paint within 1 s.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import resource
import select
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
FRAMES_PER_S = 4
SIZES = ((80, 24), (120, 40), (180, 45))


def make_frames(path: Path, seconds: int) -> None:
    """Encode the frames of `seconds` seconds, after a lead of two minutes, into one file."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "tui" / "data")]
    import msgspec
    from make_frames import frame_at, run

    lead = 125
    ladder = (4, 8, 16, 24, 32, 48, 64, 72, 80, 96, 112, 128)
    moments = run(lambda t: ladder[min(t * len(ladder) // (lead + seconds), len(ladder) - 1)], lead + seconds + 2)
    encoded = []
    for tick in range(seconds * FRAMES_PER_S):
        frame = frame_at(moments, lead + tick // FRAMES_PER_S, seq=tick)
        encoded.append(msgspec.msgpack.encode(frame))
    path.write_bytes(msgspec.msgpack.encode(encoded))


def child(path: Path, fps: float) -> None:
    """The app itself; ends when its frames are used up."""
    sys.path[:0] = [str(ROOT)]
    import msgspec

    from llmtop.domain.assessment import Assessment
    from llmtop.domain.frame import Frame
    from llmtop.domain.shown import Shown
    from llmtop.domain.slo import Slo
    from llmtop.domain.verdicts import CliffVerdict, Curve, Kind, LevelPoint
    from llmtop.tui.app import LlmtopApp

    encoded: list[bytes] = msgspec.msgpack.decode(path.read_bytes())
    decoder = msgspec.msgpack.Decoder(Frame)

    class FileHost:
        slo = Slo()
        left = False

        def __init__(self) -> None:
            self.started = time.monotonic()
            self.held: tuple[int, Shown] | None = None

        @property
        def index(self) -> int:
            return int((time.monotonic() - self.started) * FRAMES_PER_S)

        def shown(self) -> Shown:
            index = min(self.index, len(encoded) - 1)
            if self.held is None or self.held[0] != index:
                frame = decoder.decode(encoded[index])
                self.held = (index, Shown(frame=frame, assessment=self.assessment(index)))
            return self.held[1]

        def assessment(self, index: int) -> Assessment:
            points = tuple(
                LevelPoint(load=2.0**k, n=100, ttft_p50_ms=60.0 * 1.3**k, ttft_p95_ms=80.0 * 1.3**k)
                for k in range(3 + index // (10 * FRAMES_PER_S))
            )
            return Assessment(
                headline="SLO OK · no cliff yet · go on",
                cliff=CliffVerdict(kind=Kind.NONE),
                curves=(Curve(label="", points=points),),
            )

        def send(self, command: object) -> None:
            """Nobody drives a file."""

        def close(self) -> None:
            """A file has no load."""

    host = FileHost()
    app = LlmtopApp(host, fps=fps)

    def leave() -> None:
        if host.index >= len(encoded):
            app.exit()

    app.call_later(lambda: app.set_interval(0.2, leave))
    app.run()


def measure(size: tuple[int, int], path: Path, fps: float) -> dict[str, float]:
    """Run the child under a pty of `size` and count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.execv(sys.executable, [sys.executable, __file__, "--child", str(path), "--fps", str(fps)])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    first: float | None = None
    total = steady = biggest = 0
    steady_from = 0.0
    second = (0, 0)
    seen = b""
    while True:
        ready, _, _ = select.select([fd], [], [], 30)
        if not ready:
            break
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        now = time.monotonic()
        if b"\x1b[?2026$p" in chunk:
            os.write(fd, b"\x1b[?2026;2$y")
        if first is None:
            seen += chunk
            if b"TTFT" in seen:
                first = now - started
                steady_from = now + 1.0
        total += len(chunk)
        if steady_from and now > steady_from:
            steady += len(chunk)
            key = int(now - steady_from)
            second = (key, second[1] + len(chunk) if second[0] == key else len(chunk))
            biggest = max(biggest, second[1])
    ended = time.monotonic()
    os.waitpid(pid, 0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {
        "first_paint_s": first or float("nan"),
        "kib_per_s": steady / 1024 / max(ended - steady_from, 1e-9),
        "worst_kib_per_s": biggest / 1024,
        "cpu_s": cpu,
        "cpu_share": cpu / (ended - started),
    }


def time_charts() -> None:
    """One redraw of a chart: its dots, and next to it the load-latency curve by plotext."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "tui" / "data")]
    from make_frames import broken, frame_at, run

    from llmtop.domain.slo import Slo
    from llmtop.tui.loadcurve import draw_curve
    from llmtop.view.condition import Condition
    from llmtop.view.glyphs import UNICODE
    from llmtop.view.panels import panels
    from llmtop.view.raster import Picture, paint

    moments = run(lambda t: 1 + t, 130)
    view = panels(frame_at(moments, 125), Slo(), UNICODE, Condition())[0]
    for width, height in ((33, 4), (53, 6), (113, 15)):
        picture = Picture(axis=view.axis, layers=view.layers, top=5000.0, limit=2000.0, ticks=view.ticks)
        took_ms = median_ms(lambda: paint(picture, width, height))  # noqa: B023
        print(f"chart of {width}x{height} cells, two layers of 120 samples: {took_ms:.2f} ms")
    opinion = broken()
    for width, height in ((63, 13), (113, 30)):
        took_ms = median_ms(lambda: draw_curve(opinion.curves, opinion.cliff, 2000.0, "SLO ", "ttft", width, height))  # noqa: B023
        print(f"load-latency curve of {width}x{height} cells by plotext: {took_ms:.1f} ms")


def median_ms(call: Callable[[], object], runs: int = 20) -> float:
    took = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return sorted(took)[len(took) // 2] * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.fps)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames"
        make_frames(path, options.seconds)
        time_charts()
        short = Path(folder) / "short"
        make_frames(short, 5)
        for size in SIZES:
            start = measure(size, short, options.fps)
            long = measure(size, path, options.fps)
            running = (long["cpu_s"] - start["cpu_s"]) / (options.seconds - 5)
            print(
                f"{size[0]}x{size[1]}: first paint {min(start['first_paint_s'], long['first_paint_s']):.2f} s, "
                f"{long['kib_per_s']:.1f} KiB/s (worst second {long['worst_kib_per_s']:.1f}), "
                f"CPU {running * 100:.1f} % of a core once started"
            )


if __name__ == "__main__":
    main()
