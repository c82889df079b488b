"""A server whose token times are known: it tells how wrong a client's clock is.

Every request gets its first token `ttft_ms` after its last byte was read here, then one token each `tpot_ms`, to
absolute deadlines. What matters is not whether a deadline was met but when the bytes really left: `perf_counter_ns`
is read right before and right after each write, and `GET /stamps` gives those readings back, so that a client on the
same machine (the clock is system-wide on Linux) can be compared with what truly happened.

    python -m llmtop.simulator.server.schedule --ttft-ms 50 --tpot-ms 20 --tokens 64 [--burst] [--variant multi,crlf]

prints `{"port": ...}` and serves /v1/chat/completions, /v1/completions, /v1/models, /health, /version and /stamps on
127.0.0.1. Requests are not validated: everything is answered with a stream of `--tokens` tokens.

    GET /stamps            all finished streams, oldest first, and forgets them
    GET /stamps?id=ID      one, by the response's id or the request's x-request-id; stays
    [{"id", "request_id", "head", "received_ns", "before_ns": [...], "after_ns": [...]}]

`head` is the beginning of the prompt. One entry of before/after belongs to one token; tokens of one write share a
stamp, and a token that was split over two writes has the stamps of the write that completed it. A stamp is -1 when
the socket did not take the bytes at once.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from array import array
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from typing import NamedTuple

import msgspec

from llmtop.simulator.server.asked import shown
from llmtop.simulator.server.http import Connections, ServerConnection
from llmtop.simulator.server.incoming import Request
from llmtop.simulator.server.loop import Listener, run

VARIANTS = {
    "multi": "four tokens in one write, each four token times",
    "split": "each event in two writes, a quarter of a token time apart",
    "role": "an empty role event right after the headers (chat only)",
    "crlf": "events end with CR LF CR LF",
    "close": "the connection is closed after each stream although the headers promise keep-alive",
}
MULTI_TOKENS = 4
KEPT_STREAMS = 100_000
"""Finished streams whose stamps are kept; the oldest are forgotten."""


class Plan(msgspec.Struct, frozen=True):
    """The known times."""

    ttft_ns: int = 50_000_000
    tpot_ns: int = 20_000_000
    tokens: int = 64
    burst: bool = False
    """All streams emit at the same instants: their deadlines are rounded up to whole token times."""
    variants: frozenset[str] = frozenset()


class Stream:
    """One answer: its pieces, and when each left."""

    __slots__ = (
        "after_ns",
        "before_ns",
        "chat",
        "connection",
        "due_ns",
        "head",
        "id",
        "received_ns",
        "request_id",
        "sent",
    )

    def __init__(self, connection: ServerConnection, number: int, request: Request) -> None:
        self.received_ns = perf_counter_ns()
        self.connection = connection
        self.chat = request.path.endswith("/chat/completions")
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-{number:016x}"
        self.request_id = request.headers.get(b"x-request-id", b"").decode("latin-1") or None
        self.head = _prompt_head(request.body)
        self.sent = 0
        self.due_ns = 0
        self.before_ns = array("q")
        self.after_ns = array("q")

    def stamps(self) -> dict[str, object]:
        return {
            "id": self.id,
            "request_id": self.request_id,
            "head": self.head,
            "received_ns": self.received_ns,
            "before_ns": self.before_ns.tolist(),
            "after_ns": self.after_ns.tolist(),
        }


class _Rest(NamedTuple):
    """The second half of a write."""

    due_ns: int
    stream: Stream
    data: bytes
    tokens: int


class ScheduleServer:
    """All streams on one timer.

    Delays are the same for all streams, so each queue below is sorted by deadline as it is filled: no heap is needed
    and the timer only looks at the heads.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._connections = Connections()
        self._number = 0
        self._firsts: deque[Stream] = deque()
        self._nexts: deque[Stream] = deque()
        self._rests: deque[_Rest] = deque()
        self._finished: deque[Stream] = deque(maxlen=KEPT_STREAMS)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._step_tokens = MULTI_TOKENS if "multi" in plan.variants else 1
        self._tails = {chat: self._precompute(chat) for chat in (False, True)}
        self._heads: dict[bool, bytes] = {
            True: b'data: {"id":"%b","object":"chat.completion.chunk","created":0,"model":"known-times",',
            False: b'data: {"id":"%b","object":"text_completion","created":0,"model":"known-times",',
        }

    def connect(self) -> ServerConnection:
        return ServerConnection(self._answer, self._connections)

    def close(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def _answer(self, connection: ServerConnection, request: Request) -> None:
        if request.method == "POST":
            if request.path.endswith("/completions"):
                self._start(connection, request)
            else:
                connection.respond(404, b'{"detail":"Not Found"}')
        elif request.path == "/stamps":
            connection.respond(200, self._take_stamps(request.query))
        elif request.path in _PAGES:
            connection.respond(200, _PAGES[request.path])
        else:
            connection.respond(404, b'{"detail":"Not Found"}')

    def _take_stamps(self, query: str) -> bytes:
        wanted = query.removeprefix("id=")
        if wanted:
            found = [stream.stamps() for stream in self._finished if wanted in (stream.id, stream.request_id)]
        else:
            found = [stream.stamps() for stream in self._finished]
            self._finished.clear()
        return msgspec.json.encode(found)

    def _precompute(self, chat: bool) -> tuple[bytes, ...]:
        """What follows the head of each event, for each token; the same for all streams."""
        end = b"\r\n\r\n" if "crlf" in self._plan.variants else b"\n\n"
        tails = []
        for index in range(self._plan.tokens):
            reason = b'"length"' if index == self._plan.tokens - 1 else b"null"
            delta = b'"delta":{"content":" t%d"}' if chat else b'"text":" t%d"'
            choice = b'"choices":[{"index":0,%b,"logprobs":null,"finish_reason":%b}]}' % (delta % index, reason)
            tails.append(choice + end)
        return tuple(tails)

    def _start(self, connection: ServerConnection, request: Request) -> None:
        self._number += 1
        stream = Stream(connection, self._number, request)
        connection.begin_stream()
        if stream.chat and "role" in self._plan.variants:
            choice = b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}'
            end = b"\r\n\r\n" if "crlf" in self._plan.variants else b"\n\n"
            connection.write(connection.frame(self._heads[True] % stream.id.encode() + choice + end))
        stream.due_ns = self._aligned(stream.received_ns + self._plan.ttft_ns)
        self._firsts.append(stream)
        self._arm()

    def _aligned(self, due_ns: int) -> int:
        """In burst mode, the next whole token time."""
        return due_ns if not self._plan.burst else -(-due_ns // self._plan.tpot_ns) * self._plan.tpot_ns

    def _arm(self) -> None:
        """Set the one timer to the earliest deadline."""
        heads = [queue[0] for queue in (self._firsts, self._nexts, self._rests) if queue]
        if not heads:
            return
        due_ns = min(head.due_ns for head in heads)
        if self._timer is not None:
            if self._timer_ns == due_ns:
                return
            self._timer.cancel()
        self._timer_ns = due_ns
        delay_s = (due_ns - perf_counter_ns()) / 1e9
        self._timer = self._loop.call_later(max(delay_s, 0.0), self._tick)

    def _tick(self) -> None:
        """Do what is due, in the order of deadlines, so that a late tick mixes up no stream."""
        self._timer = None
        now_ns = perf_counter_ns()
        while True:
            queues = [queue for queue in (self._rests, self._firsts, self._nexts) if queue]
            if not queues:
                return
            due = min(queues, key=lambda queue: queue[0].due_ns)
            if due[0].due_ns > now_ns:
                break
            item = due.popleft()
            if isinstance(item, _Rest):
                self._write(item.stream, item.data, item.tokens)
            else:
                self._emit(item)
        self._arm()

    def _emit(self, stream: Stream) -> None:
        """Send the next tokens of `stream` and queue it again."""
        connection = stream.connection
        if not connection.is_open:
            return
        count = min(self._step_tokens, self._plan.tokens - stream.sent)
        head = self._heads[stream.chat] % stream.id.encode()
        tails = self._tails[stream.chat][stream.sent : stream.sent + count]
        data = b"".join([connection.frame(head + tail) for tail in tails])
        stream.sent += count
        if "split" in self._plan.variants:
            half = len(data) // 2
            connection.write(data[:half])
            self._rests.append(_Rest(stream.due_ns + self._plan.tpot_ns // 4, stream, data[half:], count))
        else:
            self._write(stream, data, count)
        if stream.sent < self._plan.tokens:
            stream.due_ns += self._plan.tpot_ns * self._step_tokens
            self._nexts.append(stream)

    def _write(self, stream: Stream, data: bytes, count: int) -> None:
        connection = stream.connection
        before_ns = perf_counter_ns()
        connection.write(data)
        after_ns = perf_counter_ns()
        if connection.unsent_bytes:
            before_ns = after_ns = -1
        stream.before_ns.extend([before_ns] * count)
        stream.after_ns.extend([after_ns] * count)
        if len(stream.after_ns) == self._plan.tokens:
            self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        connection = stream.connection
        tokens = self._plan.tokens
        end = b"\r\n\r\n" if "crlf" in self._plan.variants else b"\n\n"
        usage = b'"choices":[],"usage":{"prompt_tokens":1,"total_tokens":%d,"completion_tokens":%d}}' % (
            tokens + 1,
            tokens,
        )
        head = self._heads[stream.chat] % stream.id.encode()
        self._finished.append(stream)
        connection.finish(connection.frame(head + usage + end) + connection.frame(b"data: [DONE]" + end))
        if "close" in self._plan.variants:
            connection.close()


_PAGES = {
    "/v1/models": b'{"object":"list","data":[{"id":"known-times","object":"model","created":0,"owned_by":"llmtop",'
    b'"max_model_len":131072}]}',
    "/health": b"",
    "/version": b'{"version":"known-times"}',
}


def _prompt_head(body: bytes) -> str:
    """The first 120 characters of the prompt or of the first message's text."""
    try:
        asked = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(asked, dict):
        return ""
    prompt = asked.get("prompt")
    messages = asked.get("messages")
    if prompt is None and isinstance(messages, list) and messages and isinstance(messages[0], dict):
        prompt = messages[0].get("content")
    if prompt is None:
        return ""
    return (prompt if isinstance(prompt, str) else shown(prompt))[:120]


async def serve(plan: Plan, stop: asyncio.Event, on_ready: Callable[[int], None], *, port: int = 0) -> int:
    """Serve on 127.0.0.1 until `stop` is set. `on_ready` is called with the port once connections are accepted."""
    server = ScheduleServer(plan)
    listener = Listener(server.connect, "127.0.0.1", port)
    on_ready(listener.port)
    await stop.wait()
    listener.close()
    server.close()
    return 0


def _announce(port: int) -> None:
    sys.stdout.write(f'{{"port":{port}}}\n')
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m llmtop.simulator.server.schedule", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft-ms", type=float, default=50.0)
    parser.add_argument("--tpot-ms", type=float, default=20.0)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--burst", action="store_true", help="all streams emit at the same instants")
    parser.add_argument("--variant", default="", help="; ".join(f"{name}: {text}" for name, text in VARIANTS.items()))
    parser.add_argument("--die-with-parent", action="store_true", help="end when stdin does")
    asked = parser.parse_args(arguments)
    variants = frozenset(filter(None, asked.variant.split(",")))
    if not variants <= VARIANTS.keys():
        parser.error(f"unknown variant {', '.join(sorted(variants - VARIANTS.keys()))}; known: {', '.join(VARIANTS)}")
    if asked.tokens < 1 or asked.tpot_ms <= 0 or asked.ttft_ms < 0:
        parser.error("--tokens must be at least 1, --tpot-ms above 0 and --ttft-ms not below 0")
    plan = Plan(int(asked.ttft_ms * 1e6), int(asked.tpot_ms * 1e6), asked.tokens, asked.burst, variants)
    return run(lambda stop: serve(plan, stop, _announce, port=asked.port), die_with_parent=asked.die_with_parent)


if __name__ == "__main__":
    sys.exit(main())
