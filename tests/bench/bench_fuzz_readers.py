"""Fuzz the readers of what a server streams: no input makes them crash, hang, grow, or read otherwise when it is cut.

    python tests/bench/bench_fuzz_readers.py [--inputs 20000] [--seed 1] [--kind http sse reader] [--laws]

Prints inputs/s, the slowest input, and resident memory before and after. With `--laws` each input is also read cut in
several ways and by other readers (h11, the standard word by word), about 20 times slower; tests/endpoint does that too.
A failure ends with the seed and number of the input: `--seed S --from N` begins there.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "endpoint"))
import reading

from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.reader import StreamReader
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.wire import ResponseParser

SLOWEST_S = 1.0
GROWTH_MB = 20.0


class Deaf:
    def first_token(self, trace: Trace) -> None:
        pass

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        pass


EVENTS = (
    *(
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    ),
    *(
        b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}\n\n',
        b"data: [DONE]\n\n",
        b": ping\n\n",
    ),
    *(
        b'event: error\ndata: {"error":{"message":"x"}}\n\n',
        b'data: {"error":[{"a":[[{}]]}]}\r\n\r\n',
        b"<html><title>x",
    ),
    *(
        b'data: {"choices":[{"text":["a",{"text":"b"}],"delta":null}],"timings":{"predicted_n":3}}\n\n',
        b'{"choices":[]}',
    ),
)


def http(dice: Random, laws: bool) -> None:
    data = reading.some_response(dice)
    if laws:
        reading.check_response(data, dice)
    else:
        reading.read_response([data], eof=True)


def sse(dice: Random, laws: bool) -> None:
    data = reading.some_stream(dice)
    if laws:
        reading.check_stream(data, dice)
    else:
        reading.read_events([data])


def reader(dice: Random, laws: bool) -> None:
    """A whole answer: what is told of it must be an outcome in words."""
    data = reading.mutated(b"".join(dice.choice(EVENTS) for _ in range(dice.randint(0, 6))), dice)
    response = ResponseParser()
    response.status = dice.choice((200, 200, 200, 429, 500))
    told = []
    for parts in ([data], *reading.cuts(data, dice)) if laws else ([data],):
        stream = StreamReader(Trace(), Deaf(), Stamper(0), 10)
        stream.sent(0, 0)
        stream.head(response, 1)
        for part in parts:
            stream.body(part, 2)
        stream.close(3)
        trace = stream.trace
        assert trace.outcome is not None
        assert trace.error or not trace.outcome.is_error, data
        told.append((trace.outcome, trace.output_tokens, trace.prompt_tokens, trace.finish_reason, trace.error))
    assert all(each == told[0] for each in told), (data, told)


KINDS: dict[str, Callable[[Random, bool], None]] = {"http": http, "sse": sse, "reader": reader}


def fuzz(kind: str, seed: int, first: int, inputs: int, laws: bool) -> None:
    process = psutil.Process()
    run = KINDS[kind]
    slowest_s = 0.0
    before_mb = 0.0
    started = time.perf_counter()
    for number in range(first, first + inputs):
        if number == first + min(2_000, inputs // 10):
            gc.collect()
            before_mb = process.memory_info().rss / 1e6
        began = time.process_time()
        try:
            run(Random(f"{seed} {kind} {number}"), laws)
        except BaseException:
            print(f"{kind}: --seed {seed} --from {number}", file=sys.stderr)
            raise
        slowest_s = max(slowest_s, time.process_time() - began)
    took_s = time.perf_counter() - started
    gc.collect()
    after_mb = process.memory_info().rss / 1e6
    print(
        f"{kind:7} {inputs} inputs, {inputs / took_s:.0f}/s, the slowest {slowest_s * 1e3:.1f} ms of CPU, "
        f"resident {before_mb:.1f} MB before, {after_mb:.1f} MB after",
        flush=True,
    )
    assert slowest_s < SLOWEST_S
    assert after_mb - before_mb < GROWTH_MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--laws", action="store_true")
    options = parser.parse_args()
    for kind in options.kind:
        fuzz(kind, options.seed, options.first, options.inputs, options.laws)


if __name__ == "__main__":
    main()
