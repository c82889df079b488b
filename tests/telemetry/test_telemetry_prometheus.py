"""Traffic out of a Prometheus, asked of one on loopback that answers as Prometheus does."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from llmtop.cli.main import main
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.traffic import TrafficFigures
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.errors import EndpointAuthFailed, EndpointUnreachable, EndpointUnusable
from llmtop.profiles import load_profile
from llmtop.telemetry import prometheus, promql

NOW_S = 1_800_000_000.0
BUCKETS = {"100": 0, "200": 500, "500": 800, "1000": 1000, "+Inf": 1000}


class Prometheus:
    """Answers queries by the first of `answers` whose sign is in them; all that was asked is in `asked`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], str]] = []
        self.answers: dict[str, Callable[[dict[str, str]], object]] = {}
        self.raw: bytes | None = None
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            parts = urlsplit(head.split(" ")[1])
            parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self.asked.append((parts.path, parameters, head.lower()))
            if self.raw is not None:
                writer.write(self.raw)
            else:
                query = parameters["query"]
                result = next((answer(parameters) for sign, answer in self.answers.items() if sign in query), [])
                kind = "matrix" if "start" in parameters else "vector"
                body = json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    @property
    def endpoint(self) -> Endpoint:
        return endpoint_from_url(f"http://127.0.0.1:{self.port}")

    async def figures(self, days: float = 2.0, **more: object) -> TrafficFigures:
        endpoint = endpoint_from_url(f"http://127.0.0.1:{self.port}/graph", **more)
        return await prometheus.figures_of(endpoint, days, NOW_S)


@pytest.fixture
async def server() -> AsyncIterator[Prometheus]:
    made = Prometheus()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()


def one(value: float) -> Callable[[dict[str, str]], object]:
    return lambda _: [{"metric": {}, "value": [NOW_S, str(value)]}]


def buckets(counts: dict[str, int]) -> Callable[[dict[str, str]], object]:
    return lambda _: [{"metric": {"le": le}, "value": [NOW_S, str(count)]} for le, count in counts.items()]


def every_window(value: Callable[[float], float]) -> Callable[[dict[str, str]], object]:
    def answer(asked: dict[str, str]) -> object:
        start_s, end_s, step_s = (float(asked[name]) for name in ("start", "end", "step"))
        times = [start_s + place * step_s for place in range(int((end_s - start_s) / step_s) + 1)]
        assert len(times) <= 11_000, "Prometheus refuses more"
        return [{"metric": {}, "values": [[at_s, str(value(at_s))] for at_s in times]}]

    return answer


def vllm(server: Prometheus, rate: Callable[[float], float] = lambda _: 2.0) -> None:
    """A vLLM that has been scraped for as long as is asked."""
    peak_s = NOW_S - 36_000
    server.answers = {
        "vllm:request_prompt_tokens_bucket": buckets(BUCKETS),
        "vllm:request_prompt_tokens_sum": one(300_000),
        "vllm:request_prompt_tokens_count": one(1000),
        "vllm:request_generation_tokens_bucket": buckets({"1": 10, "10": 1000, "+Inf": 1000}),
        "vllm:request_generation_tokens_sum": one(5000),
        "vllm:request_generation_tokens_count": one(1000),
        "max_over_time": every_window(lambda at_s: 92 if at_s == peak_s else 10),
        "histogram_quantile": one(2.1),
        "prefix_cache_hits_total": one(0.25),
        "group by": lambda _: [{"metric": {"model_name": "m"}, "value": [NOW_S, "1"]}],
        "vllm:request_success_total": every_window(lambda at_s: rate(at_s) * 600),
    }


async def test_all_figures_of_days_are_asked_and_told(server: Prometheus) -> None:
    peak_s = NOW_S - 72_000
    vllm(server, lambda at_s: 6.0 if at_s == peak_s else 2.0)
    told = await server.figures()
    assert told.source == "vLLM in Prometheus"
    assert told.span_s == 2 * 86_400
    assert told.began_at == NOW_S - 2 * 86_400
    assert told.requests == 2 * 288 * 600 + 4 * 600
    assert told.peak is not None
    assert (told.peak.rate_rps, told.peak.begins_s) == (6.0, 2 * 86_400 - 72_000 - 600)
    assert told.mean_rps == pytest.approx(2 + 4 / 288)
    assert told.busiest_hour is not None
    assert told.busiest_hour.rate_rps == pytest.approx(2 + 4 / 6)
    assert (told.shared_prefix, told.shared_from) == (0.25, "cached")
    assert told.in_flight is not None
    assert (told.in_flight.most, told.in_flight.e2e_p50_s) == (92, 2.1)
    assert told.cv is None
    assert any("no single arrivals" in each for each in told.says)
    quantile = next(asked for _, asked, _ in server.asked if "histogram_quantile" in asked["query"])
    assert float(quantile["time"]) == NOW_S - 36_000
    assert {path for path, _, _ in server.asked} == {"/api/v1/query", "/api/v1/query_range"}


async def test_lengths_are_interpolated_in_the_logarithm_and_say_how_coarse(server: Prometheus) -> None:
    vllm(server)
    prompt = (await server.figures()).prompt
    assert prompt is not None
    assert prompt.mean == 300
    assert prompt.p50 == pytest.approx(200)
    assert prompt.p90 == pytest.approx(500 * math.sqrt(2))
    assert prompt.coarse == pytest.approx(2.5)
    assert sum(each.requests for each in prompt.histogram) == pytest.approx(1000, abs=3)


async def test_months_are_asked_in_pieces(server: Prometheus) -> None:
    vllm(server)
    told = await server.figures(days=90)
    assert told.span_s == 90 * 86_400
    assert told.mean_rps == pytest.approx(2.0)


async def test_a_model_is_picked_by_its_label_and_its_name_is_quoted(server: Prometheus) -> None:
    vllm(server)
    await server.figures(model='a"}) or vector(1) #')
    asked = [asked["query"] for _, asked, _ in server.asked]
    assert all('{model_name="a\\"}) or vector(1) #"}' in query for query in asked)


async def test_several_models_are_told_together_and_said(server: Prometheus) -> None:
    vllm(server)
    server.answers["group by"] = lambda _: [{"metric": {"model_name": each}} for each in ("b\x1b[31m", "a")]
    said = (await server.figures()).says
    assert said[0].startswith("of 2 models together: a, b")
    assert "\x1b" not in said[0]


async def test_what_is_not_kept_is_said(server: Prometheus) -> None:
    with pytest.raises(
        EndpointUnusable, match=r"has no vllm:request_prompt_tokens_bucket with requests in the last 2 days"
    ):
        await server.figures()
    server.answers["group by"] = lambda _: [{"metric": {"model_name": each}} for each in ("a", "b")]
    with pytest.raises(EndpointUnusable, match="has no requests of a model c in the last 2 days; there are a, b"):
        await server.figures(model="c")


async def test_days_without_figures_are_in_no_rate(server: Prometheus) -> None:
    vllm(server)
    away = NOW_S - 86_400
    server.answers["vllm:request_success_total"] = every_window(
        lambda at_s: math.nan if abs(at_s - away) < 9000 else 600
    )
    told = await server.figures()
    assert told.mean_rps == pytest.approx(1.0)
    assert any("has nothing" in each for each in told.says)


def answers(status: int, body: bytes, *lines: str) -> bytes:
    head = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("raw", "error", "says"),
    [
        (answers(200, b"<!doctype html><title>Grafana</title>"), EndpointUnusable, "a web page, and is no Prometheus"),
        (answers(200, b'{"object":"list","data":[]}'), EndpointUnusable, "something else, and is no Prometheus"),
        (answers(200, b'{"data":{"result":[{"value":[1]}]}}'), EndpointUnusable, "is no Prometheus"),
        (answers(200, b""), EndpointUnusable, "is no Prometheus"),
        (answers(404, b'{"detail":"Not Found"}'), EndpointUnusable, "answers 404, and is no Prometheus"),
        (answers(401, b""), EndpointAuthFailed, "answers 401: give --api-key-env"),
        (answers(302, b"", "location: http://other/login?k=SECRET"), EndpointUnusable, "leads on to http://other/login"),
        (
            answers(422, b'{"status":"error","errorType":"execution","error":"too many samples"}'),
            EndpointUnusable,
            "answers 422: too many samples",
        ),
        (answers(200, b"x", "content-encoding: gzip"), EndpointUnusable, "is compressed"),
        (b"SSH-2.0-x\r\n\r\n", EndpointUnusable, ""),
    ],
)  # fmt: skip
async def test_what_is_no_prometheus_is_an_error_in_words(
    server: Prometheus, raw: bytes, error: type[Exception], says: str
) -> None:
    server.raw = raw
    with pytest.raises(error) as caught:
        await server.figures()
    assert says in str(caught.value)
    assert "SECRET" not in str(caught.value)


async def test_an_answer_without_an_end_is_not_read(server: Prometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promql, "ANSWER_BYTES", 1000)
    server.raw = answers(200, b" " * 2000)
    with pytest.raises(EndpointUnusable, match="has more than"):
        await server.figures()


async def test_where_nobody_answers_is_said() -> None:
    with pytest.raises(EndpointUnreachable):
        await prometheus.figures_of(endpoint_from_url("http://127.0.0.1:1"), 1.0, NOW_S)


async def test_the_key_goes_along(server: Prometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROM_KEY", "tops")
    vllm(server)
    await server.figures(api_key_env="PROM_KEY")
    assert all("authorization: bearer tops" in head for _, _, head in server.asked)


async def test_the_command_makes_a_profile_of_it(
    server: Prometheus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vllm(server)
    target = tmp_path / "mine.toml"
    url = f"http://127.0.0.1:{server.port}/graph?g0.expr=up"
    assert await asyncio.to_thread(main, ["traffic", url, "--days", "3", "-o", str(target)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "in 3 days" in out
    assert "a percentile may be off by x" in out
    profile = load_profile(target)
    assert (profile.plan.base.prompt_tokens, profile.plan.base.output_tokens) == (300, 5)
    assert profile.plan.base.burstiness == 1
    assert [stage.name for stage in profile.plan.stages] == ["peak", "beyond the peak"], "the mean is the peak here"
