"""How long the next prompt takes: word pieces against cutting a text to length with the tokenizer.

python tests/bench/bench_prompts.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Workload
from llmtop.workload.prompts import PromptSource
from llmtop.workload.tokens import encoding

LENGTHS = (64, 192, 512, 2048, 8192, 32768)


def microseconds(call: Callable[[], object], times: int) -> float:
    """Median of single calls."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent) * 1e6


def main() -> None:
    started = time.perf_counter()
    source = PromptSource(Workload())
    print(f"source ready in {(time.perf_counter() - started) * 1e3:.1f} ms; no tokenizer loaded")
    started = time.perf_counter()
    ranks = encoding()
    print(f"packaged ranks loaded in {(time.perf_counter() - started) * 1e3:.0f} ms (datasets only)")
    print(f"{'tokens':>7} {'next us':>9} {'cut by tokenizer us':>20} {'ratio':>7}")
    for length in LENGTHS:
        point = LoadPoint(concurrency=1, prompt_tokens=length)
        text = source.next(LoadPoint(concurrency=1, prompt_tokens=length + 8)).text
        times = max(20, 200_000 // length)
        ours = microseconds(lambda point=point: source.next(point), times)  # type: ignore[misc]
        peer = microseconds(
            lambda text=text, length=length: ranks.decode(ranks.encode_ordinary(text)[:length]),  # type: ignore[misc]
            max(20, times // 20),
        )
        print(f"{length:>7} {ours:>9.1f} {peer:>20.1f} {peer / ours:>6.0f}x")


if __name__ == "__main__":
    main()
