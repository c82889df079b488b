"""Every way a request can end, against a scripted server."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from llmtop.domain.endpoint import Dialect, Endpoint
from llmtop.domain.load import Caps
from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.control import control
from llmtop.endpoint.trace import Trace
from llmtop.errors import EndpointUnreachable, EndpointUnusable, UsageError

from .conftest import Recorder, Request, chat, stream_ok, usage


async def run(
    client: EndpointClient, *, tokens: int = 3, api: str = "chat", prompt: Any = "hi"
) -> tuple[Trace, Recorder]:
    trace, recorder = Trace(), Recorder()
    await client.generate(prompt, tokens, api, trace, recorder)
    return trace, recorder


async def test_a_good_stream_fills_the_trace(serve: Any, connect: Any) -> None:
    server = await serve(stream_ok)
    client = connect(server.url)
    trace, recorder = await run(client)
    assert trace.outcome is Outcome.OK
    assert (trace.status, trace.finish_reason, trace.output_tokens, trace.prompt_tokens) == (200, "length", 3, 7)
    assert trace.token_source is TokenSource.USAGE
    stamps = [trace.sent_ns, trace.headers_ns, trace.first_token_ns, trace.last_token_ns, trace.end_ns]
    assert None not in stamps
    assert stamps == sorted(stamps)  # type: ignore[type-var]
    assert trace.connect_ns > 0
    assert recorder.firsts == [trace]
    assert recorder.total == 3
    assert client.stamp_source in ("kernel", "protocol")
    again, _ = await run(client)
    assert again.connect_ns == 0
    assert server.connections == 1


async def test_what_is_sent_pins_the_output_and_asks_for_usage(serve: Any, connect: Any) -> None:
    server = await serve(stream_ok)
    client = connect(server.url + "/base", api_key_env="LLMTOP_TEST_KEY", headers=(("X-Team", "a"),))
    await run(client, tokens=9)
    await run(client, tokens=9, api="completions", prompt=[1, 2, 3])
    first, second = server.requests
    assert first.path == "/base/v1/chat/completions"
    assert first.json == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "min_tokens": 9,
    }
    head = first.head.lower()
    assert "accept-encoding: identity\r\n" in head
    assert "authorization: bearer secret-key\r\n" in head
    assert "x-team: a\r\n" in head
    assert second.path == "/base/v1/completions"
    assert second.json["prompt"] == [1, 2, 3]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTOP_TEST_KEY", "secret-key")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


async def test_messages_are_sent_as_they_are(serve: Any, connect: Any) -> None:
    server = await serve(stream_ok)
    messages = ({"role": "system", "content": "s"}, {"role": "user", "content": "u"})
    await run(connect(server.url), prompt=messages)
    assert server.requests[0].json["messages"] == list(messages)


@pytest.mark.parametrize("transport", ["auto", "httpx"])
@pytest.mark.parametrize(
    ("status", "body", "headers", "says"),
    [
        (400, {"error": {"message": "prompt too long", "type": "BadRequestError"}}, "", "prompt too long"),
        (401, {"error": "Unauthorized"}, "", "Unauthorized"),
        (404, {"detail": "Not Found"}, "", "Not Found"),
        (422, {"detail": [{"loc": ["body", "model"], "msg": "field required"}]}, "", "body.model: field required"),
        (429, {"error": "Model is overloaded"}, "Retry-After: 3\r\n", "Model is overloaded"),
        (500, b"Internal Server Error", "", "Internal Server Error"),
        (502, b"<html><head><title>502 Bad Gateway</title></head></html>", "", "502 Bad Gateway"),
        (503, b"", "Retry-After: 7\r\n", "status 503 without a message"),
        (307, b"", "Location: https://elsewhere/v1\r\n", "https://elsewhere/v1"),
    ],
)
async def test_a_refusal_is_an_http_error_in_the_servers_words(
    serve: Any, connect: Any, transport: str, status: int, body: object, headers: str, says: str
) -> None:
    server = await serve(lambda request: request.answer(status, body, headers))
    trace, recorder = await run(connect(server.url, transport=transport))
    assert (trace.outcome, trace.status) == (Outcome.HTTP_ERROR, status)
    assert says in (trace.error or "")
    assert trace.retry_after_s == {429: 3.0, 503: 7.0}.get(status)
    assert recorder.arrivals == []


async def test_nothing_listening_is_an_http_error_without_a_status(connect: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    trace, _ = await run(connect(f"http://127.0.0.1:{port}"))
    assert (trace.outcome, trace.status) == (Outcome.HTTP_ERROR, None)
    assert "refused" in (trace.error or "")


async def test_an_unknown_name_is_an_http_error_without_a_status(connect: Any) -> None:
    trace, _ = await run(connect("http://no-such-host.invalid:1"))
    assert (trace.outcome, trace.status) == (Outcome.HTTP_ERROR, None)
    assert "no connection" in (trace.error or "")


@pytest.mark.parametrize("transport", ["auto", "httpx"])
async def test_an_error_inside_a_stream(serve: Any, connect: Any, transport: str) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("a"))
        await request.event({"error": {"message": "engine died", "code": 500}})
        await request.event("[DONE]")
        await request.end()

    trace, recorder = await run(connect((await serve(script)).url, transport=transport))
    assert (trace.outcome, trace.status, trace.error) == (Outcome.STREAM_ERROR, 200, "engine died")
    assert trace.output_tokens == recorder.total == 1


@pytest.mark.parametrize("transport", ["auto", "httpx"])
@pytest.mark.parametrize("how", ["end", "close", "abort"])
async def test_a_stream_that_breaks_off_is_truncated(serve: Any, connect: Any, how: str, transport: str) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("a"))
        await request.event(chat("b"))
        await asyncio.sleep(0.05)
        if how == "end":
            await request.end()
        elif how == "close":
            request.writer.close()
        else:
            request.close()

    trace, _ = await run(connect((await serve(script)).url, transport=transport))
    assert (trace.outcome, trace.status, trace.output_tokens) == (Outcome.TRUNCATED, 200, 2)
    assert trace.error


async def test_a_server_that_closes_without_an_answer(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        request.close()

    server = await serve(script)
    trace, _ = await run(connect(server.url))
    assert (trace.outcome, trace.status) == (Outcome.HTTP_ERROR, None)
    assert "without sending an answer" in (trace.error or "")
    assert server.connections == 1


async def test_a_peer_that_speaks_no_http(serve: Any, connect: Any) -> None:
    server = await serve(lambda request: request.write("SSH-2.0-OpenSSH_9.6\r\n"))
    trace, _ = await run(connect(server.url))
    assert (trace.outcome, trace.status) == (Outcome.HTTP_ERROR, None)
    assert "no HTTP" in (trace.error or "")


async def test_broken_framing_inside_a_stream(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("a"))
        await request.write("nonsense\r\n")

    trace, _ = await run(connect((await serve(script)).url))
    assert trace.outcome is Outcome.TRUNCATED
    assert "chunk size" in (trace.error or "")


@pytest.mark.parametrize("transport", ["auto", "httpx"])
@pytest.mark.parametrize(
    ("caps", "sends", "says"),
    [
        (Caps(first_token_timeout_s=0.1), 0, "first-token timeout: no token within 0.1 s"),
        (Caps(idle_timeout_s=0.1), 2, "idle timeout: no token for 0.1 s after 2 tokens"),
        (Caps(total_timeout_s=0.5, idle_timeout_s=10), 2, "total timeout: not done within 0.5 s"),
        (Caps(total_timeout_s=0.1), -1, "total timeout"),
        (Caps(first_token_timeout_s=0.1), -1, "not even headers"),
    ],
)
async def test_each_timeout_says_which_it_was(
    serve: Any, connect: Any, caps: Caps, sends: int, says: str, transport: str
) -> None:
    async def script(request: Request) -> None:
        if sends >= 0:
            await request.start_stream()
        for _ in range(sends):
            await request.event(chat("a"))
        await asyncio.sleep(5)

    trace, _ = await run(connect((await serve(script)).url, caps=caps, transport=transport))
    assert trace.outcome is Outcome.TIMEOUT
    assert says in (trace.error or "")
    assert trace.output_tokens == max(sends, 0)


async def test_comments_do_not_hold_off_a_timeout(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        for _ in range(50):
            await request.chunk(": keep-alive\n\n")
            await asyncio.sleep(0.02)

    trace, _ = await run(connect((await serve(script)).url, caps=Caps(first_token_timeout_s=0.1)))
    assert trace.outcome is Outcome.TIMEOUT


async def test_a_connection_that_is_never_accepted_times_out(connect: Any) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = []
        for _ in range(3):  # the backlog is full: the kernel drops further SYNs
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(address)
        await asyncio.sleep(0.05)
        trace, _ = await run(connect(f"http://127.0.0.1:{address[1]}", caps=Caps(connect_timeout_s=0.2)))
        for one in waiting:
            one.close()
    assert trace.outcome is Outcome.TIMEOUT
    assert "connect timeout: no connection within 0.2 s" in (trace.error or "")


@pytest.mark.parametrize("transport", ["auto", "httpx"])
@pytest.mark.parametrize("after", [0, 2])
async def test_a_cancelled_request_closes_its_connection(serve: Any, connect: Any, after: int, transport: str) -> None:
    gone = asyncio.Event()

    async def script(request: Request) -> None:
        await request.start_stream()
        for _ in range(after):
            await request.event(chat("a"))
        try:
            await request.reader.read()
        finally:
            gone.set()

    trace, recorder = Trace(), Recorder()
    client = connect((await serve(script)).url, transport=transport)
    task = asyncio.create_task(client.generate("hi", 5, "chat", trace, recorder))
    while trace.headers_ns is None or trace.tokens_seen < after:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert trace.outcome is Outcome.CANCELLED
    assert trace.end_ns is not None
    assert trace.output_tokens == after
    await asyncio.wait_for(gone.wait(), 2)


async def test_refused_optional_fields_are_dropped_once_and_for_good(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        extra = set(request.json) & {"ignore_eos", "min_tokens"}
        if extra:
            await request.answer(422, {"detail": f"Unexpected fields in the request: {extra}"})
        else:
            await stream_ok(request)

    server = await serve(script)
    client = connect(server.url)
    trace, recorder = await run(client)
    assert trace.outcome is Outcome.OK
    assert recorder.total == 3
    assert client.bodies.shape.dropped == ("ignore_eos", "min_tokens")
    assert not client.bodies.pins_output
    await run(client)
    assert len(server.requests) == 3


async def test_requests_under_way_when_a_field_was_learned_are_tried_again(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        if "stream_options" in request.json:
            await asyncio.sleep(0.02)
            await request.answer(400, {"error": {"message": "stream_options: Extra inputs are not permitted"}})
        else:
            await stream_ok(request)

    client = connect((await serve(script)).url)
    traces = [Trace() for _ in range(5)]
    await asyncio.gather(*(client.generate("hi", 3, "chat", trace, Recorder()) for trace in traces))
    assert {trace.outcome for trace in traces} == {Outcome.OK}
    assert client.bodies.shape.dropped == ("stream_options",)
    assert not client.bodies.asks_usage


async def test_max_tokens_changes_its_name_where_it_must(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        if "max_tokens" in request.json:
            text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            await request.answer(400, {"error": {"message": text}})
        else:
            assert request.json["max_completion_tokens"] == 3
            await stream_ok(request)

    trace, _ = await run(connect((await serve(script)).url))
    assert trace.outcome is Outcome.OK


async def test_a_refusal_of_the_request_itself_is_not_repeated(serve: Any, connect: Any) -> None:
    server = await serve(lambda request: request.answer(400, {"error": {"message": "maximum context length is 2048"}}))
    trace, _ = await run(connect(server.url))
    assert trace.outcome is Outcome.HTTP_ERROR
    assert len(server.requests) == 1


async def test_usage_in_every_event_is_asked_for_once_events_hold_several_tokens(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("several tokens come at once here"))
        await request.event(chat("and more", "length"))
        await request.event(usage(5, 40))
        await request.end()

    server = await serve(script)
    client = connect(server.url)
    await run(client)
    await run(client)
    assert server.requests[0].json["stream_options"] == {"include_usage": True}
    assert server.requests[1].json["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


async def test_a_key_that_a_server_repeats_is_masked(serve: Any, connect: Any) -> None:
    server = await serve(lambda request: request.answer(401, {"error": "bad key secret-key"}))
    trace, _ = await run(connect(server.url, api_key_env="LLMTOP_TEST_KEY"))
    assert trace.error == "bad key ***"


def test_a_missing_key_is_a_usage_error(connect: Any) -> None:
    with pytest.raises(UsageError, match="LLMTOP_NO_SUCH_KEY"):
        connect("http://127.0.0.1:1", api_key_env="LLMTOP_NO_SUCH_KEY")


def test_a_missing_ca_file_is_a_usage_error(connect: Any) -> None:
    with pytest.raises(UsageError, match=r"no-such-ca\.pem"):
        connect("https://127.0.0.1:1", ca_file="no-such-ca.pem")


async def test_tokenize_asks_the_dialects_own_path(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        if request.path == "/tokenize" and request.json == {"prompt": "a b c", "model": "m"}:
            await request.answer(200, {"count": 3, "tokens": [1, 2, 3]})
        elif request.path == "/tokenize" and request.json == {"content": "a b c"}:
            await request.answer(200, {"tokens": [1, 2, 3, 4]})
        else:
            await request.answer(404, {"detail": "Not Found"})

    server = await serve(script)
    assert await connect(server.url).tokenize("a b c") == 3
    assert await connect(server.url, dialect=Dialect.LLAMACPP).tokenize("a b c") == 4
    assert await connect(server.url, dialect=Dialect.TGI).tokenize("a b c") is None
    assert await connect(server.url, dialect=Dialect.OPENAI).tokenize("a b c") is None


async def test_control_is_a_plain_json_call(serve: Any) -> None:
    async def script(request: Request) -> None:
        if request.method == "POST":
            await request.answer(200, {"got": request.json})
        else:
            await request.answer(404, {"detail": "no such thing"})

    endpoint = Endpoint(base_url=(await serve(script)).url)
    assert await control(endpoint, "POST", "/llmtop/control", {"knobs": {"a": 1}}) == {"got": {"knobs": {"a": 1}}}
    with pytest.raises(EndpointUnusable, match="404: no such thing"):
        await control(endpoint, "GET", "/llmtop/control")
    with pytest.raises(EndpointUnreachable):
        await control(Endpoint(base_url="http://127.0.0.1:1"), "GET", "/x")


async def test_lag_is_reported_and_starts_anew(serve: Any, connect: Any) -> None:
    client = connect((await serve(stream_ok)).url)
    await run(client)
    lag = client.take_lag()
    assert lag.reads >= 1
    assert 0 <= lag.coalesced <= lag.reads
    assert client.take_lag().reads == 0


async def test_closing_ends_what_is_in_flight(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        await request.start_stream()
        await request.event(chat("a"))
        await asyncio.sleep(5)

    client = connect((await serve(script)).url)
    trace = Trace()
    task = asyncio.create_task(client.generate("hi", 5, "chat", trace, Recorder()))
    while trace.tokens_seen == 0:
        await asyncio.sleep(0.005)
    await client.close()
    await task
    assert trace.outcome is Outcome.TRUNCATED
    late = Trace()
    await client.generate("hi", 5, "chat", late, Recorder())
    assert late.outcome is Outcome.HTTP_ERROR
