"""A run that flows out, told by hand; and servers that take what is pushed, or do not."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from llmtop.domain.endpoint import Dialect, Endpoint, EndpointInfo
from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch, LoadChange, RunMeta
from llmtop.domain.samples import ClientSample, LoadBin, ServerSnapshot
from llmtop.domain.slo import parse_slo
from llmtop.sinks.figures import Accumulator, Figures
from tests.waiting import PATIENCE_S

SECRET = "sk-verysecret"
META = RunMeta(
    llmtop_version="0",
    started_at=1_794_000_000.0,
    endpoint=Endpoint(base_url=f"http://user:{SECRET}@127.0.0.1:8000"),
    profile=Profile(name="toy", slo=parse_slo("ttft_p95<1.7s,tpot_p95<45ms,e2e_p95<12s,answer.ttft_p95<0.33s")),
    info=EndpointInfo(dialect=Dialect.VLLM, model='to"y\\'),
)
NOT_KNOWN_YET = replace(META, info=None)


def request(
    *, end_s: float = 0.5, ttft_s: float = 0.1, outcome: Outcome = Outcome.OK, status: int | None = 200, worker: int = 0
) -> RequestRecord:
    """One of a 128-token prompt and 11 tokens of answer that ended at `end_s`, its first token `ttft_s` after it was
    sent at 0, or at `end_s` where that was earlier."""
    first, end = int(min(ttft_s, end_s) * 1e9), int(end_s * 1e9)
    failed = outcome.is_error
    return RequestRecord(
        scheduled_ns=0,
        dispatched_ns=0,
        sent_ns=0,
        connect_ns=0,
        headers_ns=0,
        first_token_ns=None if failed else first,
        first_answer_ns=None if failed else first,
        last_token_ns=None if failed else end,
        end_ns=end,
        started_at=0.0,
        asked_prompt_tokens=128,
        asked_output_tokens=11,
        prompt_tokens=128,
        output_tokens=0 if failed else 11,
        chunks=11,
        outcome=outcome,
        status=status,
        worker=worker,
    )


def second(t_s: float, *records: RequestRecord, red: bool = False, **fields: Any) -> FactBatch:
    """What became known of one second of a run."""
    load = LoadBin(t_s=t_s, span_s=1.0, target=2, in_flight=2, output_tokens=11 * len(records))
    client = (ClientSample(t_s=t_s, cpu=0.95 if red else 0.1),)
    server = (ServerSnapshot(t_s=t_s, running=2.0, waiting=0.0, kv_usage=0.25),)
    return FactBatch(t_s=t_s, bins=(load,), requests=records, client=client, server=server, **fields)


def accumulator(meta: RunMeta = META, clock: Callable[[], float] = lambda: 1_794_000_001.0) -> Accumulator:
    made = Accumulator(clock)
    made.begin(meta)
    return made


def toy() -> Figures:
    """Four good requests and a 503 at concurrency 2."""
    figures = accumulator()
    good = [request(end_s=0.2, ttft_s=ttft_s) for ttft_s in (0.1, 0.12, 0.2, 0.14)]
    failed = request(end_s=0.49, outcome=Outcome.HTTP_ERROR, status=503)
    change = LoadChange(t_s=0.0, point=LoadPoint(concurrency=2))
    figures.tell(second(1.0, *good, failed, changes=(change,)))
    return figures.now()


@st.composite
def runs(draw: st.DrawFn) -> list[FactBatch]:
    """A few seconds, some of them void, with requests that ended in them."""
    batches = []
    for t_s in range(1, draw(st.integers(1, 6)) + 1):
        ends = draw(st.lists(st.floats(t_s - 0.99, t_s), max_size=6))
        records = [
            request(
                end_s=end_s,
                ttft_s=draw(st.floats(0.001, 5.0)),
                outcome=draw(st.sampled_from(Outcome)),
                status=draw(st.sampled_from((None, 200, 429, 500))),
                worker=draw(st.integers(0, 1)),
            )
            for end_s in sorted(ends)
        ]
        batches.append(second(float(t_s), *records, red=draw(st.booleans())))
    return batches


Answer = tuple[int, str, bytes]
"""Status, content type, body."""
YES: Answer = (200, "application/json", b"{}")


class Collector:
    """Keeps what is pushed to it, and answers as it is told."""

    def __init__(self, answer: Answer = YES) -> None:
        self.answer = answer
        self.pushed: list[tuple[str, dict[str, str], bytes]] = []
        self.hangs = threading.Event()
        """Set: it does not hang any more."""
        self.hangs.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.pushed.append((self.path, dict(self.headers.items()), body))
                collector.hangs.wait(PATIENCE_S)
                status, kind, content = collector.answer
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.hangs.set()
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def collecting(answer: Answer = YES) -> Iterator[Collector]:
    collector = Collector(answer)
    try:
        yield collector
    finally:
        collector.close()
