"""The APIs beside chat and completions: responses are counted as a chat's are, embeddings have an end and no token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect, EndpointInfo, RequestShape
from llmtop.domain.load import Caps
from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.bodies import RequestBodies
from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.embeddings import MOST_BYTES, EmbeddingReader
from llmtop.endpoint.probe import probe, unchecked
from llmtop.endpoint.reader import StreamReader
from llmtop.endpoint.responses import as_chat
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.trial import Wanted
from llmtop.endpoint.urls import endpoint_from_url, read_url
from llmtop.endpoint.wire import ResponseParser
from llmtop.errors import EndpointUnusable

from .conftest import Recorder, Request, stream_ok

USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 12,
}


def event(kind: str, *, named: bool = True, **fields: Any) -> bytes:
    name = f"event: {kind}\n" if named else ""
    return f"{name}data: {json.dumps({'type': kind, **fields})}\n\n".encode()


BEGIN = (
    event("response.created", response={"status": "in_progress", "usage": None}),
    event("response.in_progress", response={"status": "in_progress", "usage": None}),
    event("response.output_item.added", item={"type": "message", "content": []}),
    event("response.content_part.added", part={"type": "output_text", "text": ""}),
)
DELTAS = (
    event("response.reasoning_text.delta", delta="hm"),
    event("response.output_text.delta", delta=" a"),
    event("response.output_text.delta", delta=" b"),
)
REPEATED = (
    event("response.output_text.done", text=" a b"),
    event("response.output_item.done", item={"type": "message", "content": [{"type": "output_text", "text": " a b"}]}),
)


def completed(**response: Any) -> bytes:
    return event("response.completed", response={"status": "completed", "usage": USAGE, **response})


def read(*events: bytes, status: int = 200, lost: str | None = None) -> tuple[Trace, Recorder]:
    """The trace of an answer whose events come a millisecond apart, the first at 1 ms."""
    trace, heard = Trace(), Recorder()
    reader = StreamReader(trace, heard, Stamper(0), 64, translate=as_chat)
    reader.sent(0, 0)
    head = ResponseParser()
    head.status = status
    reader.head(head, 500_000)
    for place, data in enumerate(events, 1):
        reader.body(data, place * 1_000_000)
    reader.close((len(events) + 1) * 1_000_000, lost)
    return trace, heard


def test_a_response_is_counted_as_a_chat_is() -> None:
    trace, heard = read(*BEGIN, *DELTAS, *REPEATED, completed())
    assert (trace.outcome, trace.error) == (Outcome.OK, None)
    assert (trace.first_token_ns, trace.first_answer_ns, trace.last_token_ns) == (5_000_000, 6_000_000, 7_000_000)
    assert (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens) == (9, 4, 3)
    assert trace.token_source is TokenSource.USAGE
    assert (trace.chunks, trace.finish_reason) == (3, "stop")
    assert [stamp for _, stamp, gap in heard.arrivals if gap is not None] == [6_000_000, 7_000_000]


def test_how_its_reads_are_cut_changes_nothing() -> None:
    whole = b"".join((*BEGIN, *DELTAS, *REPEATED, completed()))
    told = {
        (trace.outcome, trace.output_tokens, trace.prompt_tokens)
        for cut in range(1, len(whole), 41)
        for trace, _ in [read(whole[:cut], whole[cut:])]
    }
    assert told == {(Outcome.OK, 3, 9)}


def test_events_without_names_are_known_by_their_type() -> None:
    trace, _ = read(
        event("response.output_text.delta", named=False, delta="x"),
        event("response.completed", named=False, response={"status": "completed"}),
    )
    assert (trace.outcome, trace.output_tokens, trace.token_source) == (Outcome.OK, 1, TokenSource.CHUNKS)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (event("response.incomplete", response={"incomplete_details": {"reason": "max_output_tokens"}}), "length"),
        (event("response.incomplete", response={"incomplete_details": {"reason": "content_filter"}}), "content_filter"),
        (completed(status="incomplete"), "length"),
        (event("response.incomplete"), "length"),
        (completed(usage=None), "stop"),
    ],
)
def test_why_it_ended(last: bytes, reason: str) -> None:
    trace, _ = read(*BEGIN, *DELTAS, last)
    assert (trace.outcome, trace.finish_reason) == (Outcome.OK, reason)


@pytest.mark.parametrize(
    "last",
    [
        event("response.failed", response={"error": {"code": "server_error", "message": "out of memory"}}),
        event("error", code="server_error", message="out of memory", param=None),
        event("error", error={"message": "out of memory"}),
        event("response.cancelled", response={"error": {"message": "out of memory"}}),
    ],
)
def test_an_error_in_the_stream_is_one(last: bytes) -> None:
    trace, _ = read(*BEGIN, *DELTAS[:2], last)
    assert trace.outcome is Outcome.STREAM_ERROR
    assert trace.error == "out of memory"


def test_a_response_that_breaks_off_is_truncated() -> None:
    trace, _ = read(*BEGIN, *DELTAS, lost="the server closed the connection in the middle of its answer")
    assert trace.outcome is Outcome.TRUNCATED
    assert read(*BEGIN, *DELTAS)[0].outcome is Outcome.TRUNCATED


def test_a_call_of_a_tool_holds_tokens() -> None:
    calls = [event("response.function_call_arguments.delta", delta=piece) for piece in ('{"', "q", '":1}')]
    trace, _ = read(*BEGIN, *calls, completed())
    assert (trace.outcome, trace.chunks, trace.output_tokens) == (Outcome.OK, 3, 3)


@pytest.mark.parametrize(
    "odd",
    [
        event("response.output_text.delta"),
        event("response.output_text.delta", delta=None),
        event("response.output_text.delta", delta={"x": [1]}),
        event("response.output_text.delta", delta=7),
        event("response.completed", response=[]),
        b"event: response.output_text.delta\ndata: \n\n",
        b"event: ping\ndata: {}\n\n",
        event("response.some_new_thing", delta="no token"),
    ],
)
def test_an_odd_event_is_no_token_and_ends_nothing(odd: bytes) -> None:
    trace, _ = read(*BEGIN, *DELTAS, odd, completed())
    assert (trace.outcome, trace.output_tokens) == (Outcome.OK, 3)


def test_a_response_in_one_piece_is_no_stream() -> None:
    trace, _ = read(json.dumps({"object": "response", "status": "completed", "output": []}).encode())
    assert trace.outcome is Outcome.STREAM_ERROR
    assert "does not stream" in (trace.error or "")


# Embeddings

VECTORS = {"object": "list", "data": [{"embedding": [0.5] * 64}], "usage": {"prompt_tokens": 7, "total_tokens": 7}}


def embedded(*pieces: bytes, status: int = 200, lost: str | None = None) -> tuple[Trace, Recorder]:
    trace, heard = Trace(), Recorder()
    reader = EmbeddingReader(trace, heard, Stamper(0))
    reader.sent(0, 0)
    head = ResponseParser()
    head.status = status
    reader.head(head, 1_000_000)
    for place, data in enumerate(pieces, 2):
        reader.body(data, place * 1_000_000)
    reader.close((len(pieces) + 9) * 1_000_000, lost)
    return trace, heard


def test_an_embedding_ends_with_its_last_byte_and_has_no_token() -> None:
    body = json.dumps(VECTORS).encode()
    trace, heard = embedded(body[:30], body[30:])
    assert (trace.outcome, trace.prompt_tokens, trace.output_tokens) == (Outcome.OK, 7, 0)
    assert (trace.first_token_ns, trace.last_token_ns) == (None, 3_000_000)
    record = trace.record(trace.end_ns or 0, asked_prompt_tokens=5, asked_output_tokens=1, stage=None, worker=0)
    assert (record.ttft_s, record.tpot_s, record.e2e_s) == (None, None, 0.003)
    assert not heard.arrivals
    assert not heard.firsts


@pytest.mark.parametrize(
    ("body", "status", "outcome", "words"),
    [
        (b'{"data":[]}', 200, Outcome.STREAM_ERROR, "no event stream"),
        (b'{"error":{"message":"no such model"}}', 200, Outcome.STREAM_ERROR, "no such model"),
        (b"<html><title>Log in</title></html>", 200, Outcome.STREAM_ERROR, "a web page"),
        (b'{"data":[{"embedding":[1', 200, Outcome.STREAM_ERROR, "no event stream"),
        (b'{"error":{"message":"does not support Embeddings"}}', 400, Outcome.HTTP_ERROR, "does not support"),
        (b"", 500, Outcome.HTTP_ERROR, "status 500"),
    ],
)
def test_what_is_no_vector_is_an_error_with_the_servers_words(
    body: bytes, status: int, outcome: Outcome, words: str
) -> None:
    trace, _ = embedded(body, status=status)
    assert trace.outcome is outcome
    assert words in (trace.error or "")
    assert trace.last_token_ns is None


def test_an_embedding_that_breaks_off_or_floods_is_an_error() -> None:
    assert embedded(b'{"data":[{', lost="closed")[0].outcome is Outcome.TRUNCATED
    trace, _ = embedded(*[b" " * (MOST_BYTES // 4)] * 5)
    assert "more than 32 MiB" in (trace.error or "")


# What is sent


@pytest.mark.parametrize("dialect", [Dialect.VLLM, Dialect.OPENAI])
def test_bodies_of_these_apis(dialect: Dialect) -> None:
    bodies = RequestBodies(DIALECTS[dialect].request, "m", RequestShape())
    told = json.loads(bodies.body("hi", 9, "responses"))
    assert told == {
        "model": "m",
        "stream": True,
        "store": False,
        "ignore_eos": True,
        "input": "hi",
        "max_output_tokens": 9,
    }
    assert json.loads(bodies.body("hi", 9, "responses", None, b',"store":true'))["store"] is True
    assert json.loads(bodies.body("hi", 9, "embeddings", "e", b',"dimensions":8')) == {
        "model": "e",
        "dimensions": 8,
        "input": "hi",
    }


def test_messages_are_the_input_of_a_response() -> None:
    bodies = RequestBodies(DIALECTS[Dialect.VLLM].request, "m", RequestShape())
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
    ]
    given = json.loads(bodies.body(messages, 9, "responses"))["input"]
    assert [part["type"] for message in given[:2] for part in message["content"]] == ["input_text", "output_text"]
    assert given[2] == messages[2]


@pytest.mark.parametrize("api", ["responses", "embeddings"])
def test_a_url_in_full_stands_for_its_api(api: str) -> None:
    base, found = read_url(f"http://h:1/x/v1/{api}?api-version=1")
    assert base == "http://h:1/x"
    assert (found.only, found.root) == (api, "/v1")
    assert found.url(base, api) == f"http://h:1/x/v1/{api}?api-version=1"
    assert found.url(base, "models") == "http://h:1/x/v1/models?api-version=1"


# What is tried before the load


async def only(request: Request) -> None:
    """A server of two models that has embeddings alone, and takes no field `odd`."""
    if request.path == "/v1/models":
        await request.answer(200, {"object": "list", "data": [{"id": "a"}, {"id": "b"}]})
    elif request.path != "/v1/embeddings":
        await request.answer(404, {"detail": "Not Found"})
    elif request.json["model"] not in ("a", "b", "c"):
        await request.answer(404, {"error": {"message": f"The model `{request.json['model']}` does not exist."}})
    elif "odd" in request.json:
        await request.answer(400, {"error": {"message": "odd is not permitted"}})
    else:
        await request.answer(200, VECTORS)


async def probed(serve: Any, wanted: Wanted) -> EndpointInfo:
    server = await serve(only)
    return await probe(endpoint_from_url(server.url), Caps(), wanted=wanted)


async def test_the_api_that_is_asked_is_tried_and_no_other(serve: Any) -> None:
    info = await probed(serve, Wanted(api="embeddings", models=("a", "b", "c")))
    assert (info.apis, info.model) == (("embeddings",), "a")
    with pytest.raises(EndpointUnusable, match="responses answers 404"):
        await probed(serve, Wanted(api="responses"))


async def test_a_model_that_shares_the_load_and_is_not_there_is_named_before_it(serve: Any) -> None:
    with pytest.raises(EndpointUnusable, match="has no model 'nope': it has a, b"):
        await probed(serve, Wanted(api="embeddings", models=("a", "nope")))


async def test_a_field_that_is_refused_is_named_before_the_load(serve: Any) -> None:
    with pytest.raises(EndpointUnusable, match="your own field 'odd': odd is not permitted"):
        await probed(serve, Wanted(api="embeddings", extra=b',"odd":1'))


def test_without_checks_the_first_of_the_models_is_the_endpoints() -> None:
    info = unchecked(endpoint_from_url("http://127.0.0.1:1"), Wanted(api="responses", models=("x", "y")))
    assert (info.model, info.apis) == ("x", ("responses",))


async def test_a_server_that_does_not_know_how_to_pin_a_response_is_asked_without(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        if "ignore_eos" in request.json:
            await request.answer(400, {"error": {"message": "Unknown parameter: 'ignore_eos'."}})
            return
        await request.start_stream()
        for data in (*BEGIN, *DELTAS, *REPEATED, completed()):
            await request.chunk(data)
        await request.end()

    client = connect((await serve(script)).url, dialect=Dialect.OPENAI)
    trace = Trace()
    await client.generate("hi", 3, "responses", trace, Recorder())
    assert trace.outcome is Outcome.OK
    assert client.bodies.shape.dropped == ("ignore_eos",)


async def test_the_load_of_a_chat_is_tried_as_ever(serve: Any) -> None:
    async def script(request: Request) -> None:
        if request.path == "/v1/models":
            await request.answer(200, {"object": "list", "data": [{"id": "m"}]})
        elif request.method == "POST" and request.path.startswith("/v1/c"):
            await stream_ok(request)
        else:
            await request.answer(404, {})

    server = await serve(script)
    info = await probe(endpoint_from_url(server.url), Caps(), wanted=Wanted(api="completions", extra=b',"seed":1'))
    assert info.apis == ("chat", "completions")
    tried = [request.json for request in server.requests if request.path.endswith("completions") and request.body]
    assert all(body["seed"] == 1 for body in tried if "model" in body)
