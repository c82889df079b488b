"""What an endpoint's refusals have told of its requests is learned once, and handed to whoever asks it next."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Dialect, RequestShape
from llmtop.domain.load import Caps
from llmtop.domain.profile import Workload
from llmtop.domain.request import Outcome
from llmtop.endpoint.bodies import RequestBodies
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.probe import probe
from llmtop.endpoint.trace import Trace
from llmtop.load.messages import WorkerSetup, orders, packed

from .conftest import Recorder, Request, ScriptedServer, chat, stream_ok, usage

VLLM = DIALECTS[Dialect.VLLM].request


def complaint(body: dict[str, Any]) -> str | None:
    """What a strict gateway has against a body: one thing at a time."""
    for name in ("min_tokens", "stream_options", "ignore_eos"):
        if name in body:
            return f"body.{name}: Extra inputs are not permitted"
    if "max_tokens" in body:
        return (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
    asked = body["max_completion_tokens"]
    if asked < 16:
        return f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {asked}."
    return "max_completion_tokens is too small for this model" if asked < 64 else None


def trials(server: ScriptedServer) -> list[dict[str, Any]]:
    return [
        request.json for request in server.requests if request.method == "POST" and request.path.startswith("/v1/c")
    ]


async def strict(request: Request) -> None:
    if request.method != "POST" or not request.path.startswith("/v1/c"):
        await request.answer(404, {"detail": "Not Found"})
    elif (said := complaint(request.json)) is not None:
        await request.answer(400, {"error": {"message": said}})
    else:
        await stream_ok(request)


async def test_a_server_that_refuses_six_things_in_turn_fails_no_request(serve: Any, connect: Any) -> None:
    server = await serve(strict)
    client = connect(server.url)
    traces = [Trace() for _ in range(8)]
    await asyncio.gather(*(client.generate("hi", 3, "chat", trace, Recorder()) for trace in traces))
    assert [trace.outcome for trace in traces] == [Outcome.OK] * 8
    assert client.bodies.version == 6
    before = len(server.requests)
    await client.generate("hi", 3, "chat", Trace(), Recorder())
    assert len(server.requests) == before + 1


async def test_whoever_comes_after_the_probe_sends_the_right_body_at_once(serve: Any, connect: Any) -> None:
    server = await serve(strict)
    client = connect(server.url, probed=False)
    info = await probe(client.endpoint, Caps())
    assert info.request_shape == RequestShape(
        dropped=("ignore_eos", "min_tokens", "stream_options"), max_tokens="max_completion_tokens", least_tokens=64
    )
    assert not info.pins_output
    before = len(trials(server))
    second = EndpointClient(client.endpoint, info, Caps(), 0)
    trace = Trace()
    await second.generate("hi", 3, "chat", trace, Recorder())
    await second.close()
    assert (trace.outcome, len(trials(server)) - before) == (Outcome.OK, 1)

    setup = WorkerSetup(
        endpoint=client.endpoint,
        info=info,
        workload=Workload(),
        caps=Caps(),
        origin_ns=0,
        seed=0,
        api="chat",
        workers=2,
    )
    handed = orders.decode(packed(setup)[4:])
    assert isinstance(handed, WorkerSetup)
    worker = EndpointClient(handed.endpoint, handed.info, handed.caps, handed.origin_ns)
    assert json.loads(worker.bodies.body("hi", 3, "chat")) == trials(server)[-1]


async def test_an_api_that_cannot_be_used_takes_nothing_from_the_other(serve: Any, connect: Any) -> None:
    async def script(request: Request) -> None:
        if request.path == "/v1/chat/completions":
            await request.answer(400, {"error": {"message": "chat is not supported by this model"}})
        elif request.path == "/v1/completions":
            await request.start_stream()
            await request.event({"choices": [{"index": 0, "text": " a", "finish_reason": None}]})
            await request.event({"choices": [{"index": 0, "text": " b", "finish_reason": "length"}]})
            await request.event(usage(3, 2))
            await request.event("[DONE]")
            await request.end()
        else:
            await request.answer(404, {"detail": "Not Found"})

    info = await probe(connect((await serve(script)).url, probed=False).endpoint, Caps())
    assert (info.apis, info.request_shape, info.pins_output) == (("completions",), RequestShape(), True)


@pytest.mark.parametrize("refused", ["continuous_usage_stats", "stream_options.continuous_usage_stats"])
async def test_usage_in_every_event_is_given_up_alone(serve: Any, connect: Any, refused: str) -> None:
    async def script(request: Request) -> None:
        if "continuous_usage_stats" in request.json.get("stream_options", {}):
            await request.answer(422, {"detail": f"{refused}: Extra inputs are not permitted"})
            return
        await request.start_stream()
        await request.event(chat("several tokens come at once here"))
        await request.event(chat("and more", "length"))
        await request.event(usage(7, 40))
        await request.event("[DONE]")
        await request.end()

    client = connect((await serve(script)).url)
    traces = [Trace() for _ in range(3)]
    for trace in traces:
        await client.generate("hi", 40, "chat", trace, Recorder())
    assert [trace.outcome for trace in traces] == [Outcome.OK] * 3
    assert client.bodies.shape == RequestShape(continuous_usage=True, dropped=("continuous_usage_stats",))
    assert client.bodies.asks_usage


@pytest.mark.parametrize(
    "message",
    [
        "unknown field in the request",  # whatever is left out
        "bad request: {'ignore_eos': True, 'stream_options': {}} (id 1234)",  # quotes what was sent
        "max_tokens is too small",
        "max_completion_tokens is required",
    ],
)
def test_what_a_refusal_taught_in_vain_is_taken_back_and_not_tried_again(message: str) -> None:
    bodies = RequestBodies(VLLM, "m", RequestShape())
    before = bodies.body("x", 3, "chat")
    attempts = 0
    while bodies.learn(400, message.replace("1234", str(attempts)), bodies.version):
        attempts += 1
    assert 0 < attempts <= bodies.lessons
    assert bodies.shape == RequestShape()
    assert bodies.body("x", 3, "chat") == before
    assert not bodies.learn(400, message.replace("1234", "77"), bodies.version)


def test_what_has_worked_is_kept_whatever_is_refused_later() -> None:
    bodies = RequestBodies(VLLM, "m", RequestShape())
    assert bodies.learn(400, "unknown field in the request", bodies.version)
    learned = bodies.shape
    bodies.answered(bodies.version)
    assert not bodies.learn(400, "unknown field in the request", bodies.version)
    assert bodies.shape == learned


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "Unknown parameter: 'max_tokens'.",
        "body.max_tokens: Extra inputs are not permitted",
        "max_tokens is deprecated: use max_completion_tokens",
        "body.max_completion_tokens: Field required",
    ],
)
def test_the_newer_name_of_the_output_length_is_used_where_it_is_wanted(message: str) -> None:
    bodies = RequestBodies(VLLM, "m", RequestShape())
    assert bodies.learn(400, message, bodies.version)
    assert bodies.shape == RequestShape(max_tokens="max_completion_tokens")


@pytest.mark.parametrize(
    "message",
    [
        "'max_tokens' or 'max_completion_tokens' is too large: 256",
        "max_completion_tokens must be less than or equal to 40960",
        "max_tokens 5000 is not allowed: at most 4096",
        "An unexpected error occurred",
        "The model m is not supported",
        "Unsupported model",
        "image input is not supported",
        "API key not valid. Please pass a valid API key.",
        "unknown error",
        "this model does not support chat",
    ],
)
def test_a_refusal_of_something_else_than_a_field_drops_none(message: str) -> None:
    bodies = RequestBodies(VLLM, "m", RequestShape())
    assert not bodies.learn(400, message, bodies.version)
    assert bodies.shape == RequestShape()


@pytest.mark.parametrize(
    "message",
    [
        "Unrecognized request argument supplied",
        "Extra inputs are not permitted",
        "unknown fields in request",
        "Unsupported parameter(s)",
        "Additional properties are not allowed",
        "got an unexpected keyword argument",
        "parameter is not supported",
        "one of the request's properties is unknown",
    ],
)
def test_a_refusal_of_a_field_that_is_not_named_drops_all_that_are_optional(message: str) -> None:
    bodies = RequestBodies(VLLM, "m", RequestShape())
    assert bodies.learn(422, message, bodies.version)
    assert bodies.shape.dropped == ("ignore_eos", "min_tokens", "stream_options")


SHAPES = st.builds(
    RequestShape,
    dropped=st.sets(st.sampled_from(["ignore_eos", "min_tokens", "stream_options"])).map(
        lambda names: tuple(sorted(names))
    ),
    max_tokens=st.sampled_from([None, "max_completion_tokens"]),
    least_tokens=st.sampled_from([0, 16, 64]),
    continuous_usage=st.booleans(),
)
WORDS = [
    "ignore_eos",
    "min_tokens",
    "unknown field",
    "max_completion_tokens is required",
    "max_tokens is too small",
    "no",
]


@given(shape=SHAPES, messages=st.lists(st.sampled_from(WORDS), max_size=12))
def test_lessons_end_and_a_shape_is_all_that_was_learned(shape: RequestShape, messages: list[str]) -> None:
    bodies = RequestBodies(VLLM, "m", shape)
    lessons = bodies.lessons
    learned = 0
    for message in messages:
        before = bodies.shape
        teaches = bodies.learn(400, message, bodies.version)
        assert bodies.shape != before or not teaches
        learned += teaches
    assert learned <= lessons + 2 * len(set(messages))
    again = RequestBodies(VLLM, "m", bodies.shape)
    for api in ("chat", "completions"):
        assert again.body("x", 3, api) == bodies.body("x", 3, api)
