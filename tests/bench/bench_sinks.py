"""What it costs to tell sinks of a request, and to render all that is known: `python tests/bench/bench_sinks.py`.

The bar is 50 µs a request in the host's thread; nothing of it is in the process that sends the load.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "sinks"))
sys.path.insert(0, str(Path(__file__).parents[2]))

from msgspec.structs import replace
from sinks_fakes import META, accumulator, request, second

from llmtop.sinks.lines import line
from llmtop.sinks.otlp import payload
from llmtop.sinks.page import page

SECONDS, A_SECOND = 200, 500


def timed(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    figures = accumulator()
    batches = []
    for t_s in range(1, SECONDS + 1):
        ends = [int((t_s - 1 + n / A_SECOND) * 1e9) for n in range(A_SECOND)]
        batches.append(second(float(t_s), *(replace(request(), end_ns=end, dispatched_ns=end) for end in ends)))
    told_s = timed(lambda: [figures.tell(batch) for batch in batches])
    print(f"tell          {told_s / SECONDS / A_SECOND * 1e6:6.1f} µs a request")
    now = figures.now()
    assert now.requests["ok"] == SECONDS * A_SECOND
    for name, render in (
        ("figures", figures.now),
        ("page", lambda: page(now)),
        ("push", lambda: json.dumps(payload(now, META.started_at))),
        ("line", lambda: line(now)),
    ):
        print(f"{name:<13} {timed(render) * 1e3:6.2f} ms")


if __name__ == "__main__":
    main()
