"""A simulated server on loopback in the test's own loop, and a client that sees bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from llmtop.simulator.server.serving import serve

QUICK: dict[str, Any] = {
    "num_gpu_blocks": 512,
    "step_ms": 1.0,
    "bandwidth_gb_s": 1e5,
    "peak_tflops": 1e5,
    "per_sequence_us": 0.0,
    "jitter": 0.0,
    "api_in_ms": 0.2,
    "api_in_us_per_token": 0.0,
    "api_out_ms": 0.2,
}
"""A step of 1 ms, so that tests are quick."""


TOKEN = "a-token-for-tests"
"""Of the control."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    """De-chunked."""
    whole: bool
    """Whether the body ended as it should: at its content-length, or with a last chunk."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """SSE data as objects; the closing [DONE] as text."""
        lines = [event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    @property
    def text(self) -> str:
        choices = [event["choices"][0] for event in self.events[:-1] if event["choices"]]
        return "".join(choice.get("text") or choice.get("delta", {}).get("content", "") for choice in choices)


def read_answer(data: bytes) -> tuple[Answer, bytes]:
    """The first answer in `data`, as far as it has come, and the bytes after it."""
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split()[1])
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while rest:
            size, found, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            if not found or len(rest) < length + 2:
                return Answer(status, headers, body + rest[:length], False), b""
            body, rest = body + rest[:length], rest[length + 2 :]
            if length == 0:
                return Answer(status, headers, body, True), rest
        return Answer(status, headers, body, False), b""
    length = int(headers.get("content-length", len(rest)))
    return Answer(status, headers, rest[:length], len(rest) >= length), rest[length:]


def http(
    method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, *, close: bool = True
) -> bytes:
    """A request's bytes; `body` is bytes or goes as JSON."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"content-length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in {"host": "test", **(headers or {})}.items() if value]
    lines += ["connection: close"] if close else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class Client:
    """One server, a new connection for each request."""

    def __init__(self, port: int, token: str = TOKEN) -> None:
        self.port, self.token = port, token

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, data: bytes) -> bytes:
        """Everything that comes back until the server closes."""
        reader, writer = await self.open()
        writer.write(data)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if path == "/llmtop/control":
            let_in = {"host": f"127.0.0.1:{self.port}", "x-llmtop-control-token": self.token}
            named = {**let_in, "content-type": "application/json", **named}
        data = await self.exchange(http(method, path, body, named))
        answer, rest = read_answer(data)
        assert not rest
        return answer

    async def complete(self, prompt: Any = "one two three", max_tokens: int = 4, **fields: Any) -> Answer:
        """A streamed completion of exactly `max_tokens` tokens."""
        body = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "stream": True, **fields}
        return await self.ask("POST", "/v1/completions", body)

    async def control(self, **wishes: Any) -> Any:
        answer = await self.ask("POST", "/llmtop/control", wishes)
        assert answer.status == 200, answer.body
        return answer.json

    async def metrics(self) -> dict[str, float]:
        """Samples by name and labels in order, without the model's name and quotes: `vllm:x_total{engine=0}`."""
        samples = {}
        for line in (await self.ask("GET", "/metrics")).body.decode().splitlines():
            if not line.startswith("#"):
                series, _, value = line.rpartition(" ")
                name, _, labels = series.partition("{")
                shown = [pair for pair in labels.rstrip("}").split(",") if not pair.startswith("model_name")]
                samples[f"{name}{{{','.join(shown)}}}".replace('"', "")] = float(value)
        return samples

    async def until(self, key: str, value: float) -> dict[str, float]:
        """Wait until a gauge has a value, or a counter (`..._total`) has come to it; the figures of that moment."""
        async with asyncio.timeout(20):
            while True:
                figures = await self.metrics()
                if figures[key] == value or ("_total{" in key and figures[key] > value):
                    return figures
                await asyncio.sleep(0.001)

    async def leave(self, *asks: asyncio.Task[Answer]) -> None:
        """Go away in the middle of answers."""
        for ask in asks:
            ask.cancel()
        await asyncio.gather(*asks, return_exceptions=True)


Start = Callable[..., Awaitable[Client]]


@pytest.fixture
def serving_tasks() -> list[asyncio.Task[None]]:
    """The servers that `start` has started."""
    return []


@pytest.fixture
async def start(serving_tasks: list[asyncio.Task[None]]) -> AsyncIterator[Start]:
    """Start a server: `await start(max_num_seqs=4, faults={"hang": 1.0}, api_key="k")`."""
    stop = asyncio.Event()

    async def begin(
        *, faults: dict[str, float] | None = None, api_key: str | None = None, names: tuple[str, ...] = (), **knobs: Any
    ) -> Client:
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        serving = serve(
            "laptop",
            knobs={**QUICK, **knobs},
            faults=faults,
            api_key=api_key,
            control_token=TOKEN,
            names=names,
            stop=stop,
            on_ready=ready.set_result,
        )
        task = asyncio.create_task(serving)
        serving_tasks.append(task)
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        return Client(ready.result())

    yield begin
    stop.set()
    await asyncio.gather(*serving_tasks, return_exceptions=True)


@pytest.fixture
def client_of() -> Callable[[int], Client]:
    """A client of any server on a port."""
    return Client


@pytest.fixture
async def client(start: Start) -> Client:
    return await start()


@pytest.fixture(scope="session")
def recorded() -> dict[str, Any]:
    """Answers of a real vLLM."""
    return json.loads((Path(__file__).parent / "data" / "vllm_answers.json").read_text())


@pytest.fixture
def kept() -> Callable[[Client], AbstractAsyncContextManager[Callable[[], Awaitable[Answer]]]]:
    """One connection that is kept: `async with kept(client) as ask: await ask()` completes on it."""

    @asynccontextmanager
    async def opened(client: Client) -> AsyncIterator[Callable[[], Awaitable[Answer]]]:
        reader, writer = await client.open()

        async def ask() -> Answer:
            body = {"prompt": "one two three", "max_tokens": 2, "ignore_eos": True}
            writer.write(http("POST", "/v1/completions", body, close=False))
            data = b""
            async with asyncio.timeout(20):
                while b"\r\n\r\n" not in data or not read_answer(data)[0].whole:
                    data += await reader.read(65536)
            return read_answer(data)[0]

        try:
            yield ask
        finally:
            writer.close()

    return opened
