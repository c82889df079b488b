"""Generations over loopback: shape of every event against a recording of vLLM, counts, lengths, refusals."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from llmtop.simulator.server.answers import WORDS

HI = [{"role": "user", "content": "hi"}]


def shape(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Keys in order with the types of their values."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in shape(inner, f"{path}.{key}")] or [(path, "{}")]
    if isinstance(value, list):
        return [pair for inner in value[:1] for pair in shape(inner, f"{path}[]")] or [(path, "[]")]
    return [(path, type(value).__name__)]


def recorded_events(answer: dict[str, str]) -> list[Any]:
    """Data of a recorded stream, de-chunked."""
    text = re.sub(r"(?:^|\r\n)[0-9a-f]+\r\n", "", answer["body"])
    lines = [event.removeprefix("data: ") for event in text.split("\n\n") if event.strip()]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("name", "path", "fields"),
    [
        ("chat_usage", "/v1/chat/completions", {"messages": HI, "stream_options": {"include_usage": True}}),
        (
            "chat_continuous_usage",
            "/v1/chat/completions",
            {"messages": HI, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        ("chat_no_usage", "/v1/chat/completions", {"messages": HI}),
        ("completions_usage", "/v1/completions", {"prompt": "hi", "stream_options": {"include_usage": True}}),
    ],
)
async def test_every_event_has_the_shape_of_the_recorded_one(
    client: Any, recorded: Any, name: str, path: str, fields: dict[str, Any]
) -> None:
    theirs = recorded_events(recorded[name])
    tokens = sum("role" not in choice.get("delta", {}) for event in theirs[:-1] for choice in event["choices"])
    answer = await client.ask("POST", path, {**fields, "max_tokens": tokens, "ignore_eos": True, "stream": True})
    ours = answer.events
    assert len(ours) == len(theirs)
    assert ours[-1] == theirs[-1] == "[DONE]"
    for mine, real in zip(ours[:-1], theirs[:-1], strict=True):
        details = (".usage.prompt_tokens_details.cached_tokens", "int")  # Shown with --enable-prompt-tokens-details.
        assert [pair for pair in shape(mine) if pair != details] == shape(real)
    assert {event["id"] for event in ours[:-1]} == {ours[0]["id"]}


async def test_the_head_of_a_stream_is_vllms(client: Any, recorded: Any) -> None:
    answer = await client.complete()
    theirs = [line.partition(": ")[0] for line in recorded["completions_usage"]["head"].split("\r\n")[1:]]
    assert set(answer.headers) == set(theirs) - {"vary"}
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("max_tokens", [1, 2, 17])
@pytest.mark.parametrize("interval", [1, 4])
async def test_a_stream_has_exactly_the_tokens_that_were_asked_for(start: Any, max_tokens: int, interval: int) -> None:
    client = await start(stream_interval=interval)
    answer = await client.complete(max_tokens=max_tokens, stream_options={"include_usage": True})
    *tokens, usage, done = answer.events
    assert answer.whole
    assert done == "[DONE]"
    assert len(tokens) == 1 + -(-(max_tokens - 1) // interval)
    assert len(answer.text.split()) == usage["usage"]["completion_tokens"] == max_tokens
    assert [event["choices"][0]["finish_reason"] for event in tokens] == [None] * (len(tokens) - 1) + ["length"]


async def test_a_whole_answer_has_the_text_and_usage_of_its_stream(client: Any, recorded: Any) -> None:
    answer = await client.complete(stream=False)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["usage"] == {
        "prompt_tokens": 3,
        "total_tokens": 7,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert len(answer.json["choices"][0]["text"].split()) == 4
    assert answer.json["choices"][0].keys() <= json.loads(recorded["ok_completion"])["choices"][0].keys()
    chat = await client.ask("POST", "/v1/chat/completions", {"messages": HI, "max_tokens": 2, "ignore_eos": True})
    assert chat.json["object"] == "chat.completion"
    assert chat.json["choices"][0]["message"]["role"] == "assistant"
    assert chat.json["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("one two  three\nfour", 4),
        ([5, 6, 7, 8, 9], 5),
        (["one two"], 2),
        ([[1, 2, 3]], 3),
        ("x" * 400, 100),
    ],
)
async def test_prompts_are_counted(client: Any, prompt: Any, tokens: int) -> None:
    answer = await client.complete(prompt, 1, stream=False)
    assert answer.json["usage"]["prompt_tokens"] == tokens
    counted = await client.ask("POST", "/tokenize", {"prompt": prompt})
    assert counted.json["count"] == len(counted.json["tokens"]) == tokens


async def test_a_chat_template_costs_a_constant_and_a_message_its_words(client: Any) -> None:
    counts = []
    for content in ("one", "one two three", [{"type": "text", "text": "one two"}]):
        answer = await client.ask("POST", "/tokenize", {"messages": [{"role": "user", "content": content}]})
        counts.append(answer.json["count"])
    assert counts == [8, 10, 9]


async def test_an_answer_that_may_end_by_itself_does_and_min_tokens_holds_it(start: Any) -> None:
    client = await start(step_ms=0.1)
    body = {"prompt": "hi", "max_tokens": 2000, "stream": False}
    answers = await asyncio.gather(*(client.ask("POST", "/v1/completions", body) for _ in range(4)))
    lengths = [answer.json["usage"]["completion_tokens"] for answer in answers]
    assert len(set(lengths)) > 1
    assert max(lengths) < 2000
    assert {answer.json["choices"][0]["finish_reason"] for answer in answers} == {"stop"}
    held = await client.ask("POST", "/v1/completions", {**body, "max_tokens": 1500, "min_tokens": 1500})
    assert held.json["usage"]["completion_tokens"] == 1500


async def test_max_tokens_is_cut_to_what_the_context_leaves_and_has_vllms_defaults(client: Any) -> None:
    cut = await client.complete(list(range(2000)), 2048, stream=False)
    assert cut.json["usage"]["completion_tokens"] == 48
    short = await client.ask("POST", "/v1/completions", {"prompt": list(range(9)), "ignore_eos": True})
    assert short.json["usage"]["completion_tokens"] == 16
    body = {"messages": [{"role": "user", "content": "w " * 2000}], "ignore_eos": True, "max_tokens": None}
    chat = await client.ask("POST", "/v1/chat/completions", body)
    assert chat.json["usage"]["total_tokens"] == 2048


async def test_a_repeated_prompt_comes_from_the_prefix_cache(client: Any) -> None:
    prompt = " ".join(f"w{index}" for index in range(50))
    first = await client.complete(prompt, stream=False)
    again = await client.complete(prompt, stream=False)
    other = await client.complete("another " + prompt, stream=False)
    details = [answer.json["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in (first, again, other)]
    assert details == [0, 48, 0]


async def test_the_answers_id_carries_the_clients(client: Any) -> None:
    answer = await client.ask(
        "POST", "/v1/completions", {"prompt": "hi", "max_tokens": 1, "ignore_eos": True}, x_request_id="my-1"
    )
    assert answer.json["id"] == "cmpl-my-1"


async def test_equal_ids_in_flight_are_told_apart(client: Any) -> None:
    body = {"prompt": "hi", "max_tokens": 20, "ignore_eos": True}
    asks = [client.ask("POST", "/v1/completions", body, x_request_id="same") for _ in range(3)]
    answers = await asyncio.gather(*asks)
    assert len({answer.json["id"] for answer in answers}) == 3


@pytest.mark.parametrize(
    ("name", "path", "body", "status"),
    [
        ("err_bad_json", "/v1/completions", b'{"prompt": "x', 400),
        ("err_wrong_model", "/v1/completions", {"model": "nope", "prompt": "x"}, 404),
        ("err_wrong_type", "/v1/completions", {"prompt": "x", "max_tokens": "many"}, 400),
        ("err_no_messages", "/v1/chat/completions", {"model": "tiny-llama"}, 400),
        ("err_max_tokens_too_big", "/v1/completions", {"prompt": "x", "max_tokens": 5000}, 400),
        ("err_too_long_completions", "/v1/completions", {"prompt": list(range(3000)), "stream": True}, 400),
        ("err_404", "/nothing", {}, 404),
    ],
)
async def test_refusals_are_vllms_word_for_word(
    start: Any, recorded: Any, name: str, path: str, body: Any, status: int
) -> None:
    client = await start()
    if isinstance(body, dict) and body.get("model") == "tiny-llama":
        body = {**body, "model": "llmtop-tiny"}
    answer = await client.ask("POST", path, body)
    theirs = recorded[name].replace("tiny-llama", "llmtop-tiny")
    assert answer.status == status
    ours = answer.body.decode()
    if name == "err_bad_json":  # Where the text breaks off is told by another JSON parser.
        theirs, ours = (re.sub(r"body\.\d+", "body.N", text) for text in (theirs, ours))
    assert ours == theirs


@pytest.mark.parametrize(
    ("path", "fields", "says"),
    [
        ("/v1/completions", {"prompt": "x", "n": 2}, "n must be 1"),
        ("/v1/completions", {"prompt": ["a", "b"]}, "one prompt per request"),
        ("/v1/completions", {}, "prompt"),
        ("/v1/completions", {"prompt": "x", "max_tokens": 0}, "at least 1, got 0"),
        ("/v1/completions", {"prompt": "x", "max_tokens": 2, "min_tokens": 3}, "max_tokens=2, got 3"),
        ("/v1/completions", {"prompt": "x", "stream": "yes"}, "valid boolean"),
        ("/v1/completions", {"prompt": "x", "stream_options": {}}, "stream=True"),
        ("/v1/chat/completions", {"messages": []}, "at least 1 item"),
        ("/v1/chat/completions", {"messages": ["hi"]}, "Field required"),
    ],
)
async def test_what_cannot_be_run_is_refused_with_a_reason(
    client: Any, path: str, fields: dict[str, Any], says: str
) -> None:
    answer = await client.ask("POST", path, fields)
    assert answer.status == 400
    assert says in answer.json["error"]["message"]
    assert answer.json["error"]["code"] == 400


async def test_pages_are_vllms(client: Any, recorded: Any) -> None:
    models = (await client.ask("GET", "/v1/models")).json
    assert shape(models) == shape(json.loads(recorded["models"]))
    assert models["data"][0]["max_model_len"] == 2048
    assert {"version", "max_num_seqs"} <= (await client.ask("GET", "/version")).json.keys(), "and the slots"
    assert (await client.ask("GET", "/load")).json == json.loads(recorded["load"])
    health = await client.ask("GET", "/health")
    assert (health.status, health.body) == (200, b"")
    wrong = await client.ask("GET", "/v1/completions")
    assert (wrong.status, wrong.body.decode()) == (405, recorded["err_405"])
    assert wrong.headers["allow"] == "POST"


async def test_a_key_opens_v1_and_nothing_else_needs_it(start: Any, recorded: Any) -> None:
    client = await start(api_key="secret")
    for headers in ({}, {"authorization": "Bearer wrong"}):
        refused = await client.ask("GET", "/v1/models", **headers)
        assert (refused.status, refused.body.decode()) == (401, recorded["err_401"])
    assert (await client.ask("GET", "/v1/models", authorization="Bearer secret")).status == 200
    for path in ("/health", "/version", "/metrics", "/load"):
        assert (await client.ask("GET", path)).status == 200


async def test_a_full_queue_refuses_in_both_of_vllms_shapes(start: Any, recorded: Any) -> None:
    client = await start(max_num_queued_reqs=4, api_in_ms=300.0)
    asks = [asyncio.create_task(client.complete(max_tokens=2000)) for _ in range(6)]
    await client.until("vllm:admission_rejections_total{reason=max_num_queued_reqs}", 2.0)
    late = await client.complete()
    theirs = recorded["error_in_stream"]["body"]
    told = json.loads(theirs.partition("data: ")[2].partition("\n")[0])
    assert late.status == 503
    assert late.json == told
    refused = [ask for ask in asks if ask.done()]
    assert len(refused) == 2
    for answer in await asyncio.gather(*refused):
        assert answer.status == 200
        assert answer.events == [told, "[DONE]"]
        assert f"{len(answer.body) - len('data: [DONE]') - 2:x}" == theirs.partition("\r\n")[0]
    assert (await client.metrics())["vllm:admission_rejections_total{reason=max_num_queued_reqs}"] == 3
    await client.leave(*asks)


async def test_a_limit_on_queued_tokens_refuses_too(start: Any) -> None:
    client = await start(max_num_queued_tokens=100, step_ms=100.0)
    first = asyncio.create_task(client.complete(list(range(150)), 2))
    await client.until("vllm:num_requests_running{engine=0}", 1.0)
    second = await client.complete([1, 2, 3])
    assert second.status == 503
    assert (await first).status == 200


async def test_a_disconnect_frees_slot_and_blocks_at_once(start: Any) -> None:
    client = await start(step_ms=20.0)
    reader, writer = await client.open()
    body = json.dumps({"prompt": list(range(500)), "max_tokens": 1000, "stream": True})
    writer.write(f"POST /v1/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    await reader.readuntil(b"data: ")
    before = await client.metrics()
    assert before["vllm:num_requests_running{engine=0}"] == 1
    assert before["vllm:kv_cache_usage_perc{engine=0}"] > 0
    writer.transport.abort()
    after = await client.until("vllm:num_requests_running{engine=0}", 0.0)
    assert after["vllm:kv_cache_usage_perc{engine=0}"] == 0
    assert after["vllm:request_success_total{engine=0,finished_reason=abort}"] == 1


async def test_pipelined_generations_are_answered_in_order_on_one_connection(client: Any) -> None:
    bodies = [json.dumps({"prompt": "x", "max_tokens": n, "ignore_eos": True}) for n in (3, 1, 2)]
    wire = ""
    for body in bodies:
        head = "connection: close" if body is bodies[-1] else "x-other: 1"
        wire += f"POST /v1/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n{head}\r\n\r\n{body}"
    data = await client.exchange(wire.encode())
    counts = [int(n) for n in re.findall(rb'"completion_tokens":(\d+)', data)]
    assert counts == [3, 1, 2]


async def test_the_words_of_an_answer_are_single_tokens_and_the_same_for_the_same_request_number(start: Any) -> None:
    texts = []
    for _ in range(2):
        client = await start()
        texts.append((await client.complete(max_tokens=30)).text)
    assert texts[0] == texts[1]
    assert {word.encode() for word in re.findall(r" \w+", texts[0])} <= set(WORDS)


async def test_a_response_is_told_in_typed_events(client: Any) -> None:
    body = {"input": "one two", "max_output_tokens": 3, "stream": True, "ignore_eos": True}
    answer = await client.ask("POST", "/v1/responses", body)
    names, data = zip(*(event.split("\ndata: ") for event in answer.body.decode().split("\n\n") if event), strict=True)
    events = [json.loads(each) for each in data]
    assert [f"event: {event['type']}" for event in events] == list(names)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events][4:7] == ["response.output_text.delta"] * 3
    last = events[-1]["response"]
    assert (events[-1]["type"], last["status"]) == ("response.incomplete", "incomplete")
    assert last["output"][0]["content"][0]["text"] == "".join(e["delta"] for e in events if "delta" in e)
    assert (last["usage"]["output_tokens"], last["usage"]["input_tokens"]) == (3, 9)
    whole = (await client.ask("POST", "/v1/responses", {**body, "stream": False})).json
    assert shape(whole["usage"]) == shape(last["usage"])


async def test_embeddings_are_a_vector_for_each_input(client: Any) -> None:
    answer = (await client.ask("POST", "/v1/embeddings", {"input": ["one two", "three"]})).json
    assert [each["index"] for each in answer["data"]] == [0, 1]
    assert len(answer["data"][0]["embedding"]) == 64
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    for wrong in ({}, {"input": []}, {"input": [[1, 2]]}, {"input": ""}):
        assert (await client.ask("POST", "/v1/embeddings", wrong)).status == 400


async def test_a_model_is_served_by_each_of_its_names(start: Any) -> None:
    client = await start(names=("a", "b"))
    listed = (await client.ask("GET", "/v1/models")).json
    assert [card["id"] for card in listed["data"]] == ["a", "b"]
    body = {"prompt": "x", "max_tokens": 1}
    told = [(await client.ask("POST", "/v1/completions", {**body, "model": name})).json["model"] for name in "ab"]
    assert told == ["a", "b"]
    refused = await client.ask("POST", "/v1/completions", {**body, "model": "c"})
    assert (refused.status, refused.json["error"]["message"]) == (
        404,
        "The model `c` does not exist. Valid aliases: a, b.",
    )
