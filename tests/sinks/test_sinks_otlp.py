"""What is pushed is what a collector takes; one that does not take it is told of, and tried again."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest
from msgspec.structs import replace
from sinks_fakes import META, SECRET, Answer, collecting, toy

from llmtop.errors import UsageError
from llmtop.sinks import otlp
from llmtop.sinks.otlp import VARIABLES, Push, payload, read_headers, read_url
from llmtop.sinks.pump import Undelivered
from tests.ports import unused_port


def values(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in attributes}


def test_it_is_the_json_of_protobuf() -> None:
    told = payload(toy(), META.started_at, "completions", "vllm")
    (resource,) = json.loads(json.dumps(told, allow_nan=False))["resourceMetrics"]
    about = values(resource["resource"]["attributes"])
    assert (about["service.name"], about["service.instance.id"]) == ("llmtop", toy().run)
    (scope,) = resource["scopeMetrics"]
    metrics = {each["name"]: each for each in scope["metrics"]}
    first = metrics["gen_ai.client.operation.time_to_first_chunk"]["histogram"]
    (point,) = first["dataPoints"]
    assert first["aggregationTemporality"] == 2
    assert (point["startTimeUnixNano"], point["timeUnixNano"]) == ("1794000000000000000", "1794000001000000000")
    assert (point["count"], point["sum"]) == ("4", pytest.approx(0.56))
    assert len(point["bucketCounts"]) == len(point["explicitBounds"]) + 1
    assert sum(map(int, point["bucketCounts"])) == 4
    asked = values(point["attributes"])
    assert asked == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": toy().model,
        "server.address": "127.0.0.1",
        "server.port": "8000",
    }
    duration = metrics["gen_ai.client.operation.duration"]["histogram"]["dataPoints"]
    assert [values(each["attributes"]).get("error.type") for each in duration] == [None, "503"]
    used = metrics["gen_ai.client.token.usage"]["histogram"]["dataPoints"]
    assert {values(each["attributes"])["gen_ai.token.type"]: each["sum"] for each in used} == {
        "input": 512.0,
        "output": 44.0,
    }
    counted = metrics["llmtop.requests"]["sum"]
    assert (counted["isMonotonic"], counted["aggregationTemporality"]) == (True, 2)
    assert {values(p["attributes"])["llmtop.outcome"]: p["asInt"] for p in counted["dataPoints"]}["ok"] == "4"
    assert metrics["llmtop.in_flight_requests"]["gauge"]["dataPoints"][0]["asInt"] == "2"
    assert "llmtop.slo_ok" not in metrics, "what is not known is left out"
    assert all(isinstance(each["unit"], str) and each["description"] for each in metrics.values())


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/metrics"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/metrics"),
        (
            "https://otel.example/api/v1/otlp/v1/metrics?tenant=a",
            "https://otel.example/api/v1/otlp/v1/metrics?tenant=a",
        ),
        ("http://[::1]:4318", "http://[::1]:4318/v1/metrics"),
    ],
)
def test_a_url_without_a_path_gets_the_usual_one(url: str, asked: str) -> None:
    assert read_url(url) == asked


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:4318", "ftp://h", "http://", "http://h:x", "http://h:99999", "http://h:0", "http://h h"),
        *("http://[::1", "grpc://h:4317", f"http://user:{SECRET}@h:4318", f"http://{SECRET}/x@h"),
    ],
)
def test_a_url_that_is_none_is_refused_and_no_secret_shown(url: str) -> None:
    if url == f"http://{SECRET}/x@h":
        assert read_url(url)  # a host and a path
        return
    with pytest.raises(UsageError) as refused:
        read_url(url)
    assert str(refused.value).startswith("--out otlp=")
    assert SECRET not in str(refused.value)


def test_headers_come_from_the_environment_as_the_specification_writes_them() -> None:
    general, own = VARIABLES
    found = read_headers({general: "Authorization=Basic%20abc, X-Scope = a,", own: "X-Scope=b"})
    assert found == {"Authorization": "Basic abc", "X-Scope": "b"}
    for wrong in (SECRET, f"Authorization: {SECRET}", f"a b={SECRET}", f"X={SECRET}%0Ay"):
        with pytest.raises(UsageError, match=general) as refused:
            read_headers({general: wrong})
        assert SECRET not in str(refused.value)


def push(url: str, headers: dict[str, str] | None = None) -> Push:
    return Push(read_url(url), headers or {})


def test_it_arrives_with_its_headers() -> None:
    with collecting() as collector:
        push(collector.url, {"X-Key": SECRET}).deliver(toy())
        ((path, headers, body),) = collector.pushed
    assert (path, headers["X-Key"], headers["Content-Type"]) == ("/v1/metrics", SECRET, "application/json")
    assert "resourceMetrics" in json.loads(body)


def test_before_a_run_is_known_nothing_is_pushed() -> None:
    with collecting() as collector:
        push(collector.url).deliver(replace(toy(), model=""))
        assert collector.pushed == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, "text/plain", b"no"), "HTTP 404 Not Found: it takes no OTLP metrics there; check the URL"),
        ((405, "text/plain", b""), "HTTP 405 Method Not Allowed: it takes no OTLP metrics there"),
        ((401, "text/plain", b""), "OTEL_EXPORTER_OTLP_HEADERS"),
        ((301, "text/plain", b""), "no redirection is followed"),
        ((503, "text/plain", b""), "HTTP 503 Service Unavailable"),
        ((429, "text/plain", b""), "HTTP 429 Too Many Requests"),
        ((200, "text/html", b"<!doctype html><html>"), "web page; check the URL"),
        (
            (
                200,
                "application/json",
                f'{{"partialSuccess":{{"rejectedDataPoints":"3","errorMessage":"too many {SECRET}"}}}}'.encode(),
            ),
            "it does not take all: 3 figures rejected: too many ***",
        ),
    ],
)
def test_an_answer_that_is_no_yes_is_said(answer: Answer, said: str) -> None:
    with collecting(answer) as collector:
        sink = push(collector.url, {"X-Key": SECRET})
        with pytest.raises(Undelivered) as problem:
            sink.deliver(toy())
        assert said in str(problem.value)
        assert SECRET not in str(problem.value)
        collector.answer = (200, "application/json", b"")
        sink.deliver(toy())
        assert len(collector.pushed) == 2


@pytest.mark.parametrize("body", [b"", b"{}", b'{"partialSuccess":{}}', b'{"partialSuccess":null}', b"\x0a\x00", b"[]"])
def test_a_yes_is_one_in_whatever_words(body: bytes) -> None:
    with collecting((200, "application/x-protobuf", body)) as collector:
        push(collector.url).deliver(toy())


def test_nobody_there_is_said() -> None:
    with pytest.raises(Undelivered, match=r"connection refused$"):
        push(f"http://127.0.0.1:{unused_port()}").deliver(toy())


def test_one_that_hangs_or_dribbles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "PATIENCE_S", 0.2)
    with collecting() as collector:
        collector.hangs.clear()
        with pytest.raises(Undelivered, match=r"no answer within 0.2 s"):
            push(collector.url).deliver(toy())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_dribble, args=(listening,), daemon=True).start()
        with pytest.raises(Undelivered, match=r"no answer within 0.2 s"):
            push(f"http://127.0.0.1:{listening.getsockname()[1]}").deliver(toy())


def _dribble(listening: socket.socket) -> None:
    """A header that never ends, a letter at a time."""
    taken, _ = listening.accept()
    with taken:
        try:
            taken.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                taken.sendall(b"a")
                threading.Event().wait(0.02)
        except OSError:
            return


def test_what_is_no_http_server_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            taken, _ = listening.accept()
            with taken:
                taken.recv(100)
                taken.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(Undelivered, match=r"no HTTP server; check the URL|connection reset"):
            push(f"http://127.0.0.1:{listening.getsockname()[1]}").deliver(toy())
