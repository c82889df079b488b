"""Finding out what an endpoint is, and saying what is wrong with it when it is not one."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from typing import Any

import pytest

from llmtop.domain.endpoint import Dialect, EndpointInfo
from llmtop.domain.load import Caps
from llmtop.endpoint import connection, lookedup, trial
from llmtop.endpoint import probe as probe_module
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe
from llmtop.endpoint.question import PAGE_BYTES
from llmtop.endpoint.waiting import PATIENCE_S
from llmtop.errors import EndpointAuthFailed, EndpointError, EndpointUnreachable, EndpointUnusable

from .conftest import DATA, Request, chat, stream_ok, usage

QUICK = Caps(connect_timeout_s=0.3)


async def probed(client: EndpointClient) -> EndpointInfo:
    return await probe(client.endpoint, client.caps)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTOP_TEST_KEY", "secret-key")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


def pages(answers: dict[str, Any], stream: Any = stream_ok) -> Any:
    """A script that answers paths from a table and everything else with 404."""

    async def script(request: Request) -> None:
        if request.path in ("/v1/chat/completions", "/v1/completions") and request.path not in answers:
            await stream(request)
            return
        found = answers.get(request.path)
        if callable(found):
            await found(request)
        elif found is None:
            await request.answer(404, {"detail": "Not Found"})
        elif isinstance(found, str):
            await request.answer(200, found.encode(), content_type="text/plain; version=0.0.4")
        else:
            await request.answer(200, found, answers.get("headers", ""))

    return script


def models(*names: str, **fields: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, **fields} for name in names]}


def found(info: EndpointInfo, name: str) -> Any:
    return next(finding for finding in info.findings if finding.name == name)


VLLM = {
    "/v1/models": models("tiny", "alias", owned_by="vllm", max_model_len=2048),
    "/version": {"version": "0.32.0"},
    "/metrics": '# HELP x y\nvllm:num_requests_running{engine="0"} 0.0\n',
    "/tokenize": {"count": 9, "max_model_len": 2048, "tokens": []},
    "/server_info?config_format=json": {"vllm_config": {"scheduler_config": {"max_num_seqs": 8}}},
}
LLAMACPP = {
    "headers": "Server: llama.cpp\r\n",
    "/v1/models": models("gemma", owned_by="llamacpp", meta={"n_ctx": 2048}),
    "/props": {"total_slots": 4, "default_generation_settings": {"n_ctx": 2048}, "build_info": "b0-unknown"},
    "/tokenize": {"tokens": [1, 2]},
    "/metrics": "llamacpp:requests_processing 0\n",
    "/api/tags": {"models": []},
}


async def test_vllm_is_found_with_all_it_can(serve: Any, connect: Any) -> None:
    server = await serve(pages(VLLM))
    info = await probed(connect(server.url, dialect=None, model=None))
    assert (info.dialect, info.model, info.models) == (Dialect.VLLM, "tiny", ("tiny", "alias"))
    assert (info.server, info.max_model_len, info.max_num_seqs) == ("vLLM 0.32.0", 2048, 8)
    assert info.flags == (("max_model_len", "2048"), ("max_num_seqs", "8"))
    assert found(info, "settings").found == "max_model_len 2048, max_num_seqs 8"
    assert (info.has_tokenize, info.has_metrics, info.pins_output, info.has_usage) == (True, True, True, True)
    assert info.apis == ("chat", "completions")
    assert all(finding.ok is not False for finding in info.findings)
    trials = [request.json for request in server.requests if request.path.startswith("/v1/c")]
    assert [trial["max_tokens"] for trial in trials] == [2, 2]


async def test_llamacpp_is_found_and_its_connections_are_not_reused(serve: Any, connect: Any) -> None:
    server = await serve(pages(LLAMACPP))
    client = connect(server.url, dialect=None, model="anything goes")
    info = await probed(client)
    assert (info.dialect, info.model) == (Dialect.LLAMACPP, "anything goes")
    assert (info.max_model_len, info.max_num_seqs, info.server) == (2048, 4, "llama.cpp b0-unknown")
    assert not EndpointClient(client.endpoint, info, Caps(), 0)._pool.reuse


@pytest.mark.parametrize(
    ("answers", "dialect"),
    [
        ({"/metrics": "sglang:num_running_reqs 0\n"}, Dialect.SGLANG),
        ({"/get_server_info": {"tp_size": 1, "mem_fraction_static": 0.8, "version": "0.5"}}, Dialect.SGLANG),
        ({"/info": {"model_id": "m", "max_concurrent_requests": 128, "version": "3"}}, Dialect.TGI),
        ({"/prometheus/metrics": "trtllm_num_requests_running 0\n", "/version": {"version": "1"}}, Dialect.TRTLLM),
        ({"/metrics": "dynamo_frontend_inflight_requests 0\n"}, Dialect.DYNAMO),
        ({"/metrics": "lmdeploy:num_requests_running 0\n"}, Dialect.LMDEPLOY),
        ({"/api/version": {"version": "0.9"}}, Dialect.OPENAI),
        ({"/api/version": {"version": "0.9"}, "/v1/models": models("m", owned_by="library")}, Dialect.OLLAMA),
        ({"/api/version": {"version": "0.9"}, "/api/tags": {"models": [{"digest": "a"}]}}, Dialect.OLLAMA),
        ({"/api/tags": {"models": [{"digest": "a"}]}}, Dialect.OPENAI),
        ({"/metrics": "python_info 1\n"}, Dialect.OPENAI),
    ],
)
async def test_each_dialect_is_known_by_what_only_it_says(
    serve: Any, connect: Any, answers: dict[str, Any], dialect: Dialect
) -> None:
    server = await serve(pages({"/v1/models": models("m"), **answers}))
    info = await probed(connect(server.url, dialect=None, model=None))
    assert info.dialect is dialect


async def test_a_dialect_that_is_told_is_believed(serve: Any, connect: Any) -> None:
    server = await serve(pages(VLLM))
    info = await probed(connect(server.url, dialect=Dialect.SGLANG, model=None, probed=False))
    assert info.dialect is Dialect.SGLANG
    assert not info.has_metrics
    assert found(info, "metrics").advice == "--enable-metrics"


async def test_what_is_missing_is_said_with_what_closes_the_gap(serve: Any, connect: Any) -> None:
    async def poor(request: Request) -> None:
        extra = sorted(set(request.json) & {"ignore_eos", "min_tokens", "stream_options"})
        if extra:
            await request.answer(422, {"detail": f"Unexpected fields in the request: {extra}"})
            return
        await request.start_stream()
        await request.event(chat("a"))
        await request.event(chat("b", "stop"))
        await request.end()

    answers = {**LLAMACPP, "/v1/completions": None}
    del answers["/metrics"]
    del answers["/tokenize"]
    server = await serve(pages(answers, poor))
    info = await probed(connect(server.url, dialect=None, model=None))
    assert info.apis == ("chat",)
    assert not info.has_usage
    assert not info.pins_output
    assert found(info, "metrics").advice == "--metrics"
    assert found(info, "completions API").ok is False
    assert "refused" in found(info, "output length").found
    assert found(info, "tokenizer").ok is False
    assert all(finding.advice for finding in info.findings if finding.ok is False)


async def test_pinning_of_an_unknown_server_is_not_taken_for_granted(serve: Any, connect: Any) -> None:
    server = await serve(pages({"/v1/models": models("m")}))
    info = await probed(connect(server.url, dialect=None, model=None))
    assert not info.pins_output
    assert found(info, "output length").ok is None


async def test_an_empty_stream_is_a_stream(serve: Any, connect: Any) -> None:
    async def empty(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("", "length"))
        await request.event(usage(3, 2))
        await request.end()

    server = await serve(pages(VLLM, empty))
    assert (await probed(connect(server.url, dialect=None, model=None))).has_usage


async def test_a_stream_without_an_end_is_ended_and_said(serve: Any, connect: Any) -> None:
    async def endless(request: Request) -> None:
        await request.start_stream()
        while True:
            await request.event(chat("x"))
            await asyncio.sleep(0)

    server = await serve(pages(VLLM, endless))
    info = await asyncio.wait_for(probed(connect(server.url, dialect=None, model=None)), 20)
    assert info.apis == ("chat", "completions")
    assert not info.pins_output
    assert "more than 64 tokens where 2 were asked" in found(info, "output length").found


async def test_streams_that_do_not_come_are_not_waited_for_twice_as_long(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmtop.endpoint.trial._TRIAL_S", 0.2)
    monkeypatch.setattr("llmtop.endpoint.trial._TRIAL_AGAIN_S", 0.1)

    async def comments(request: Request) -> None:
        await request.start_stream()
        while True:
            await request.chunk(": wait\n\n")
            await asyncio.sleep(0.02)

    error = await asyncio.wait_for(fails(serve, connect, VLLM, comments), 20)
    assert "no stream within 0.2 s" in str(error)


# What is wrong


async def fails(
    serve: Any, connect: Any, answers: dict[str, Any], stream: Any = stream_ok, **fields: Any
) -> EndpointError:
    server = await serve(pages(answers, stream))
    client = connect(server.url, **{"dialect": None, "model": None, **fields})
    with pytest.raises(EndpointError) as caught:
        await probed(client)
    assert server.url in str(caught.value)
    return caught.value


async def test_nothing_listens(connect: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(EndpointUnreachable, match=f"nothing listens on port {port}: is the server up"):
        await probed(connect(f"http://127.0.0.1:{port}", dialect=None, model=None))


async def test_the_addresses_that_a_name_has_are_said(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(pages({"/v1/models": models("m")}), host="0.0.0.0")
    port = int(server.url.rpartition(":")[2])

    async def look_up(host: str, port: int) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (1, 2)]

    for module in (connection, lookedup):
        monkeypatch.setattr(module, "look_up", look_up)
    info = await probe(connect(f"http://localhost:{port}").endpoint, Caps())
    assert found(info, "addresses").found == "2 addresses: 127.0.0.1, 127.0.0.2: connections go to each in turn"


async def test_the_api_that_is_not_under_v1_is_found_and_said(serve: Any, connect: Any) -> None:
    async def handle(request: Request) -> None:
        await (stream_ok(request) if request.path == "/v4/chat/completions" else request.answer(404, b"{}"))

    server = await serve(handle)
    info = await probe(connect(f"{server.url}/v4", model="m").endpoint, Caps())
    assert info.api_root == ""
    assert found(info, "address").found == f"chat is asked at {server.url}/v4/chat/completions"


async def test_an_unknown_host(connect: Any) -> None:
    with pytest.raises(EndpointUnreachable, match="check host and port"):
        await probed(connect("http://no-such-host.invalid:8000", dialect=None, model=None))


async def test_a_web_page(serve: Any, connect: Any) -> None:
    async def page(request: Request) -> None:
        await request.answer(200, b"<!DOCTYPE html><title>Grafana</title>", content_type="text/html")

    error = await fails(serve, connect, {"/v1/models": page})
    assert isinstance(error, EndpointUnusable)
    assert "Grafana" in str(error)
    assert "wrong port" in str(error)


async def drip(request: Request) -> None:
    """An answer that goes on for ever, a byte each 20 ms."""
    await request.write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n")
    while True:
        await request.write(" ")
        await asyncio.sleep(0.02)


async def test_an_answer_that_drips_is_not_waited_for(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmtop.endpoint.probe._ASK_S", 0.4)
    error = await asyncio.wait_for(fails(serve, connect, {"/v1/models": drip}), 20)
    assert isinstance(error, EndpointUnreachable)
    assert re.search(r"(took longer than|no answer within) 0\.4 s", str(error)), "a slow machine has not seen its head"
    monkeypatch.setattr("llmtop.endpoint.probe._ASK_S", 1.0)
    server = await serve(pages({**VLLM, "/server_info?config_format=json": drip}))
    info = await asyncio.wait_for(probed(connect(server.url, dialect=None, model=None)), 20)
    assert (info.dialect, info.max_num_seqs) == (Dialect.VLLM, None)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_is_wanted(serve: Any, connect: Any, status: int) -> None:
    async def locked(request: Request) -> None:
        await request.answer(status, {"error": "Unauthorized"})

    error = await fails(serve, connect, {"/v1/models": locked})
    assert isinstance(error, EndpointAuthFailed)
    assert f"status {status} (Unauthorized)" in str(error)
    assert "--api-key-env" in str(error)
    error = await fails(serve, connect, {"/v1/models": locked}, api_key_env="LLMTOP_TEST_KEY")
    assert "the key in LLMTOP_TEST_KEY was refused" in str(error)
    assert "secret-key" not in str(error)


async def test_a_key_is_wanted_only_for_streams(serve: Any, connect: Any) -> None:
    async def locked(request: Request) -> None:
        await request.answer(401, {"error": {"message": "no key"}})

    assert isinstance(await fails(serve, connect, {"/v1/models": models("m")}, locked), EndpointAuthFailed)


async def test_one_api_that_is_barred_is_no_matter_where_the_other_works(serve: Any, connect: Any) -> None:
    async def handle(request: Request) -> None:
        barred = request.path == "/v1/completions"
        await (request.answer(403, {"message": "Missing Authentication Token"}) if barred else stream_ok(request))

    server = await serve(pages({"/v1/models": models("m")}, handle))
    info = await probed(connect(server.url, dialect=None, model="m"))
    assert info.apis == ("chat",)
    assert "403: Missing Authentication Token" in found(info, "completions API").found


async def unknown_model(request: Request) -> None:
    if json.loads(request.body)["model"] in ("nope", "embedder"):
        await request.answer(404, {"error": {"message": "The model does not exist.", "code": 404}})
    else:
        await stream_ok(request)


async def test_an_unknown_model_names_those_that_exist(serve: Any, connect: Any) -> None:
    error = await fails(serve, connect, VLLM, unknown_model, model="nope")
    assert isinstance(error, EndpointUnusable)
    assert "no model 'nope': it has tiny, alias" in str(error)


async def test_why_there_is_no_list_is_told_where_a_model_must_be_named(serve: Any, connect: Any) -> None:
    async def full(request: Request) -> None:
        await request.answer(400, {"error": {"message": "tenant header is missing"}})

    error = await fails(serve, connect, {"/v1/models": full}, model=None)
    assert "status 400 (tenant header is missing)" in str(error)
    assert "name a model with --model" in str(error)


async def test_a_page_that_is_too_large_is_said_where_nothing_else_tells_the_server(serve: Any, connect: Any) -> None:
    async def large(request: Request) -> None:
        await request.answer(200, b"vllm:x 1\n" * (PAGE_BYTES // 9 + 1))

    server = await serve(pages({"/v1/models": models("m"), "/metrics": large}))
    info = await probed(connect(server.url, dialect=None, model=None))
    assert "nothing points to a server that is known; /metrics has more than 4 MB" in found(info, "dialect").found


async def test_a_pattern_is_no_model(serve: Any, connect: Any) -> None:
    server = await serve(pages({"/v1/models": models("*", "prov/*", "m")}))
    assert (await probed(connect(server.url, dialect=None, model=None))).model == "m"
    error = await fails(serve, connect, {"/v1/models": models("*", "prov/*")}, model=None)
    assert "lists patterns alone (*, prov/*): name one with --model" in str(error)


async def test_a_model_that_is_not_listed_is_tried(serve: Any, connect: Any) -> None:
    server = await serve(pages({"/v1/models": models("prov/*", "other")}))
    for name in ("prov/m", "alias-of-a-router"):
        assert (await probed(connect(server.url, dialect=None, model=name))).model == name


async def test_the_first_of_the_list_that_can_be_streamed_is_taken(serve: Any, connect: Any) -> None:
    server = await serve(pages({"/v1/models": models("embedder", "talker")}, unknown_model))
    info = await probed(connect(server.url, dialect=None, model=None))
    assert info.model == "talker"
    assert found(info, "model").found == "talker, for embedder cannot be streamed"
    error = await fails(serve, connect, {"/v1/models": models("embedder", "nope")}, unknown_model)
    assert "does not exist" in str(error)
    assert "--model" in str(error)


async def silence(request: Request) -> None:
    await asyncio.sleep(60)


LISTS: dict[str, Any] = {
    "401": (401, {"error": "Unauthorized"}),
    "403": (403, {"error": {"message": "this key may not list models"}}),
    "a page that is not there": (404, b"<html><title>Not here</title></html>"),
    "405": (405, {"detail": "Method Not Allowed"}),
    "500": (500, b""),
    "503": (503, {"error": "loading"}),
    "a redirect": (307, b""),
    "garbage": (200, b"\xff\xfe{]"),
    "null": (200, {"data": None}),
    "nothing": (200, {"data": []}),
    "a bare list": (200, [{"id": "m"}]),
    "Ollama's": (200, {"models": [{"name": "m", "model": "m"}]}),
    "patterns": (200, {"data": [{"id": "*"}]}),
    "names": (200, {"data": ["m", 7, None]}),
}


@pytest.mark.parametrize("name", LISTS)
async def test_with_a_model_the_list_of_models_is_not_needed(serve: Any, connect: Any, name: str) -> None:
    async def answer(request: Request) -> None:
        await request.answer(*LISTS[name])

    server = await serve(pages({"/v1/models": answer}))
    info = await probed(connect(server.url, dialect=None, model="m"))
    assert (info.model, info.apis) == ("m", ("chat", "completions"))
    row = found(info, "models")
    assert not re.search("key in|port|path is missing|--model with", row.found), "the stream works: the cause is none"
    if row.ok is None:
        assert re.search(rf"status {LISTS[name][0]}|no list of models", row.found)
        assert (row.advice or "").startswith("keep --model")
    if name in ("a bare list", "Ollama's", "names"):
        assert (await probed(connect(server.url, dialect=None, model=None))).model == "m"
    elif name != "patterns":
        with pytest.raises(EndpointError, match=r"--model|API key|try again|status 5|redirects|status 40|web page"):
            await probed(connect(server.url, dialect=None, model=None))


BROKEN = {
    "it closes": "",
    "a body that is cut": "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
    "chunks that are cut": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{",
    "a length that is none": "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
    "a length below 0": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a chunk without a size": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "a coding that is none": "HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\n{}",
    "no head": "[]\r\n\r\n",
    "a status without end": f"HTTP/1.1 200 {'x' * 200_000}\r\n\r\n",
    "compressed": "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_with_a_model_a_list_that_is_no_http_is_not_needed(serve: Any, connect: Any, name: str) -> None:
    async def broken(request: Request) -> None:
        await request.write(BROKEN[name])
        request.writer.close()

    server = await serve(pages({"/v1/models": broken}))
    info = await probed(connect(server.url, dialect=None, model="m", caps=QUICK))
    assert (info.model, info.apis) == ("m", ("chat", "completions"))
    assert "not needed with --model" in found(info, "models").found
    with pytest.raises(EndpointError, match="is that the right port"):
        await probed(connect(server.url, dialect=None, model=None, caps=QUICK))


async def test_a_list_that_breaks_does_not_hide_where_the_api_is(serve: Any, connect: Any) -> None:
    async def handle(request: Request) -> None:
        if request.path.endswith("/models"):
            request.close()
        else:
            await (stream_ok(request) if request.path == "/v4/chat/completions" else request.answer(404, b"{}"))

    server = await serve(handle)
    info = await probe(connect(f"{server.url}/v4", model="m").endpoint, QUICK)
    assert (info.api_root, info.apis) == ("", ("chat",))


async def test_a_list_that_does_not_come_is_not_needed(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmtop.endpoint.probe._ASK_S", 0.2)
    server = await serve(pages({"/v1/models": silence}))
    info = await probed(connect(server.url, dialect=None, model="m"))
    assert info.model == "m"
    assert "not needed with --model" in found(info, "models").found


@pytest.mark.parametrize(
    ("refusal", "least"),
    [
        ("Invalid 'max_tokens': integer below minimum value. Expected a value >= 16, but got 2 instead.", 16),
        ("max_output_tokens must be at least 32", 32),
        ("max_tokens is too small", 16),
    ],
)
async def test_an_answer_that_must_be_longer_is_asked_longer(
    serve: Any, connect: Any, refusal: str, least: int
) -> None:
    async def strict(request: Request) -> None:
        if json.loads(request.body)["max_tokens"] < least:
            await request.answer(400, {"error": {"message": refusal}})
        else:
            await stream_ok(request)

    server = await serve(pages({"/v1/models": models("m")}, strict))
    info = await probed(connect(server.url, dialect=None, model=None))
    assert found(info, "least output").found.startswith(f"{least} tokens")


@pytest.mark.parametrize(
    "entry",
    [
        {"max_model_len": 4096},
        {"context_length": 4096},
        {"context_window": "4096"},
        {"max_context_length": 4096},
        {"top_provider": {"context_length": 4096}},
        {"meta": {"n_ctx": 4096, "n_ctx_train": 131072}},
    ],
)
async def test_the_context_is_that_of_the_model_that_is_driven(serve: Any, connect: Any, entry: dict[str, Any]) -> None:
    first = {"id": "big", "max_model_len": 131072, "context_length": 131072, "owned_by": "vllm"}
    server = await serve(pages({"/v1/models": {"data": [first, {"id": "small", **entry}]}}))
    assert (await probed(connect(server.url, dialect=None, model="small"))).max_model_len == 4096
    assert (await probed(connect(server.url, dialect=None, model="unlisted"))).max_model_len is None


async def test_a_version_alone_is_no_evidence_of_a_server(serve: Any, connect: Any) -> None:
    server = await serve(pages({"/v1/models": models("m"), "/version": {"version": "v4.9.0 (abc)"}}))
    assert (await probed(connect(server.url, dialect=None, model=None))).dialect is Dialect.OPENAI


async def test_a_limit_of_requests_is_no_fault_of_the_endpoint(serve: Any, connect: Any) -> None:
    async def busy(request: Request) -> None:
        await request.answer(429, {"error": {"message": "slow down"}})

    error = await fails(serve, connect, {"/v1/models": models("m")}, busy)
    assert "try again later" in str(error)


def refusing(status: int, body: object, headers: str = "") -> Any:
    async def refuse(request: Request) -> None:
        await request.answer(status, body, headers)

    return refuse


PAGE_OF_NGINX = b"<html><head><title>%s</title></head></html>"
REFUSALS: dict[str, tuple[Any, str, str]] = {
    "no credit": (refusing(402, {"error": {"message": "Payment"}}), "no credit left", "--api-key-env"),
    "quota": (
        refusing(429, {"error": {"message": "slow down", "code": "insufficient_quota"}}),
        "no credit left",
        "--api-key-env",
    ),
    "a limit": (refusing(429, {"error": "slow"}, "Retry-After: 30\r\n"), "limits how much", "try again in 30 s"),
    "a limit without a time": (refusing(429, {"error": "slow"}), "limits how much", "try again later"),
    "loading": (refusing(503, {"error": "Loading"}, "Retry-After: 5\r\n"), "not ready yet", "try again in 5 s"),
    "overloaded": (refusing(529, {"error": {"type": "overloaded_error", "message": "busy"}}), "overloaded", "later"),
    "broken": (refusing(500, {"error": "boom"}), "an error inside the server", "its log says more"),
    "a gateway": (refusing(502, PAGE_OF_NGINX % b"502 Bad Gateway"), "a proxy or gateway", "try again later"),
    "barred": (refusing(403, PAGE_OF_NGINX % b"403 Forbidden"), "a proxy or gateway", "ask whoever runs it"),
    "a login": (refusing(200, PAGE_OF_NGINX % b"Sign in"), "a login page", "--api-key-env"),
    "to a login": (refusing(302, b"", "Location: https://a.example/oauth2/start\r\n"), "a login page", "--header"),
    "basic": (refusing(401, {"error": "no"}, "WWW-Authenticate: Basic\r\n"), "a user and a pass", "--basic-auth env:"),
    "a header": (refusing(401, {"error": "api-key header is missing"}), "of its own", "--api-key-header api-key"),
    "an x- header": (refusing(403, {"error": "x-api-key required"}), "of its own", "--api-key-header x-api-key"),
    "a certificate": (
        refusing(400, PAGE_OF_NGINX % b"400 No required SSL certificate was sent"),
        "a client certificate",
        "--client-cert and its key with --client-key",
    ),
}


ONLY_THE_LIST = ("basic", "a header", "an x- header", "barred", "broken")
"""What may bar the list alone."""


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_is_told_with_what_it_means_and_what_to_type(serve: Any, connect: Any, name: str) -> None:
    refuse, means, types = REFUSALS[name]
    of_list = str(await fails(serve, connect, {"/v1/models": refuse}, refuse))
    of_trial = str(await fails(serve, connect, {"/v1/models": models("m")}, refuse))
    with_a_model = str(await fails(serve, connect, {"/v1/models": refuse}, refuse, model="m"))
    for said in (of_list, of_trial, with_a_model):
        assert means in said
        assert types in said
        assert "lists no model" not in said
    assert ("or name a model with --model" in of_list) is (
        name in ("basic", "a header", "an x- header", "barred", "broken")
    )


async def test_an_api_that_wants_a_key_does_not_hide_one_that_does_not(serve: Any, connect: Any) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        server = await serve(pages({"/v1/models": models("m"), path: refusing(403, {"error": "no"})}))
        info = await probed(connect(server.url, dialect=None, model=None))
        assert len(info.apis) == 1
        assert found(info, f"{'chat' if 'chat' in path else 'completions'} API").ok is False


@pytest.mark.parametrize(
    ("status", "said"), [(403, "You have no access to model embedder"), (403, "embedder: denied"), (404, "no embedder")]
)
async def test_a_model_that_the_key_may_not_ask_is_passed_over(
    serve: Any, connect: Any, status: int, said: str
) -> None:
    async def some(request: Request) -> None:
        mine = request.json["model"] != "embedder"
        await (stream_ok(request) if mine else request.answer(status, {"error": {"message": said}}))

    server = await serve(pages({"/v1/models": models("embedder", "talker")}, some))
    assert (await probed(connect(server.url, dialect=None, model=None))).model == "talker"
    error = str(await fails(serve, connect, {"/v1/models": models("embedder", "talker")}, some, model="embedder"))
    if status == 403:
        assert "name another with --model: it has talker, or another key with --api-key-env" in error


async def test_a_model_that_alone_is_listed_is_not_advised_again(serve: Any, connect: Any) -> None:
    for name in ("nope", None):
        error = str(await fails(serve, connect, {"/v1/models": models("nope")}, unknown_model, model=name))
        assert "it has nope" not in error
        assert "it lists no other: is this one loaded" in error


async def test_no_model_is_listed(serve: Any, connect: Any) -> None:
    error = await fails(serve, connect, {"/v1/models": models()})
    assert "--model" in str(error)


async def test_no_streaming(serve: Any, connect: Any) -> None:
    async def whole(request: Request) -> None:
        await request.answer(200, {"choices": [{"message": {"content": "hi"}}]})

    error = await fails(serve, connect, VLLM, whole)
    assert isinstance(error, EndpointUnusable)
    assert "does not stream" in str(error)


async def test_no_openai_api(serve: Any, connect: Any) -> None:
    async def missing(request: Request) -> None:
        await request.answer(404, {"detail": "Not Found"})

    error = await fails(serve, connect, {}, missing, model="m")
    assert isinstance(error, EndpointUnusable)
    assert "base path" in str(error)


async def test_a_redirect(serve: Any, connect: Any) -> None:
    async def away(request: Request) -> None:
        await request.answer(308, b"", "Location: https://llm.example/v1/models\r\n")

    error = await fails(serve, connect, {"/v1/models": away})
    assert "redirects to https://llm.example/v1/models" in str(error)


async def test_a_server_that_still_loads(serve: Any, connect: Any) -> None:
    async def loading(request: Request) -> None:
        await request.answer(503, {"error": {"message": "Loading model", "code": 503}})

    error = await fails(serve, connect, {"/v1/models": loading})
    assert isinstance(error, EndpointUnreachable)
    assert "Loading model" in str(error)


async def test_plain_to_tls_and_tls_to_plain(serve: Any, connect: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "loopback.pem", DATA / "loopback.key")
    secure = await serve(pages(VLLM), tls=context)
    plain = await serve(pages(VLLM))
    with pytest.raises(EndpointUnusable, match="speaks TLS: try https://"):
        await probed(connect(secure.url.replace("https", "http"), dialect=None, model=None))
    with pytest.raises(EndpointUnusable, match="does not speak TLS: try http://"):
        await probed(connect(plain.url.replace("http", "https"), dialect=None, model=None, caps=QUICK))
    with pytest.raises(EndpointUnusable, match="--ca-file"):
        await probed(connect(secure.url, dialect=None, model=None))
    info = await probed(connect(secure.url, dialect=None, model=None, insecure=True))
    assert found(info, "TLS").ok is False


async def test_a_peer_that_speaks_another_protocol(serve: Any, connect: Any) -> None:
    async def ssh(request: Request) -> None:
        await request.write("SSH-2.0-OpenSSH_9.6\r\n")
        request.close()

    server = await serve(ssh)
    with pytest.raises(EndpointUnusable, match="is that the right port"):
        await probed(connect(server.url, dialect=None, model=None, caps=QUICK))


async def test_a_proxy_is_named_in_the_findings(serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def proxied(request: Request) -> None:
        request.path = request.path.removeprefix("http://llm.example:8000")
        await pages(VLLM)(request)

    proxy = await serve(proxied)
    monkeypatch.setenv("http_proxy", proxy.url)
    info = await probed(connect("http://llm.example:8000", dialect=None, model=None))
    assert found(info, "transport").ok is False
    assert proxy.url in found(info, "transport").found


async def test_a_server_that_speaks_http2_alone_is_named(connect: Any) -> None:
    async def settings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        await writer.drain()
        await reader.read(100)
        writer.close()

    async with await asyncio.start_server(settings, "127.0.0.1") as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(EndpointUnusable, match="HTTP/2"):
            await probed(connect(url, dialect=None, model=None))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_behind_a_proxy_nothing_goes_past_it(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    async def closes(request: Request) -> None:
        request.close()

    async def looks(*_: object) -> bool:
        raise AssertionError("a look went past the proxy")

    for name in ("speaks_tls", "speaks_http2", "refused_after_handshake", "speaks_plainly", "failure_to_connect"):
        monkeypatch.setattr(f"llmtop.endpoint.reach.{name}", looks)
    proxy = await serve(closes)
    with pytest.raises(EndpointError) as caught:
        await probed(connect(f"{scheme}://llm.example:8000", dialect=None, model=None, proxy=proxy.url))
    assert f"the proxy {proxy.url}" in str(caught.value)
    assert "--proxy none" in str(caught.value)


def test_one_question_may_take_a_busy_server_a_while_and_a_dead_one_is_not_waited_for_long() -> None:
    assert 2.0 <= probe_module._ASK_S <= 10.0
    assert trial._TRIAL_S >= 30.0 > trial._TRIAL_AGAIN_S, "a model that is loaded by the first request takes its time"
    assert 1.0 <= PATIENCE_S <= 5.0


async def test_who_waits_hears_what_for(serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtop.endpoint.probe._ASK_S", 0.1)
    monkeypatch.setattr("llmtop.endpoint.trial._TRIAL_S", 0.1)
    monkeypatch.setattr("llmtop.endpoint.trial._TRIAL_AGAIN_S", 0.1)
    monkeypatch.setattr("llmtop.endpoint.waiting.PATIENCE_S", 0.03)
    told: list[str] = []
    hung = await serve(silence)
    with pytest.raises(EndpointError):
        await probe(connect(hung.url, dialect=None, model="m").endpoint, QUICK, told.append)
    assert [text.split(" (")[0] for text in told] == [
        "waiting for the list of models",
        "waiting for what the server says of itself",
        "waiting for a first stream by chat",
        "waiting for a first stream by completions",
    ]
    told.clear()
    monkeypatch.undo()
    await probe(connect((await serve(pages(VLLM))).url, dialect=None, model=None).endpoint, QUICK, told.append)
    assert told == []
