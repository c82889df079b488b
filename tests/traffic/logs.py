"""Small files of every source of traffic, made of facts of their formats: the same four requests in each."""

from __future__ import annotations

import json
from typing import Any

from llmtop.traffic.read import parse
from llmtop.traffic.table import Traffic

BEGAN_AT = 1_794_000_000.0
"""2026-11-06 21:20:00 UTC."""
STARTS_S = (0.0, 0.0, 0.2, 0.24)
PROMPTS = (128, 60, 128, 1300)
OUTPUTS = (11, 7, 19, 3)
ENDS_S = (0.2, 0.24, 0.6, 0.49)
FIRSTS_S = (0.1, 0.12, 0.4, 0.38)
E2E_S = [end - start for end, start in zip(ENDS_S, STARTS_S, strict=True)]
TTFT_S = [at - start for at, start in zip(FIRSTS_S, STARTS_S, strict=True)]


def traffic_of(text: str | bytes, name: str = "mine.x", **asked: Any) -> Traffic:
    return parse(name, text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"), **asked)


def stamp(offset_s: float, zone: str = "Z") -> str:
    return f"2026-11-06T21:20:{offset_s:09.6f}{zone}"


def litellm(place: int, **other: Any) -> dict[str, Any]:
    return {
        "request_id": f"chatcmpl-{place}",
        "call_type": "acompletion",
        "prompt_tokens": PROMPTS[place],
        "completion_tokens": OUTPUTS[place],
        "startTime": stamp(STARTS_S[place]),
        "completionStartTime": stamp(FIRSTS_S[place]),
        "endTime": stamp(ENDS_S[place]),
        "session_id": f"s{place // 2}",
        "cache_hit": "False",
        "status": "success",
        "metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": place}}},
        "messages": [{"role": "user", "content": "SECRET of a request"}],
    } | other


def attribute(key: str, kind: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": {kind: value}}


VLLM = ("prompt_tokens", "completion_tokens")


def span(place: int, *, names: tuple[str, str] = VLLM, **other: Any) -> dict[str, Any]:
    def nanos(offset_s: float) -> str:
        return str(int(BEGAN_AT) * 10**9 + round(offset_s * 1e9))

    return {
        "traceId": f"{place + 1:032x}",
        "spanId": f"{place + 1:016x}",
        "name": "llm_request",
        "startTimeUnixNano": nanos(STARTS_S[place]),
        "endTimeUnixNano": nanos(ENDS_S[place]),
        "attributes": [
            attribute(f"gen_ai.usage.{names[0]}", "intValue", str(PROMPTS[place])),
            attribute(f"gen_ai.usage.{names[1]}", "intValue", str(OUTPUTS[place])),
            attribute("gen_ai.latency.time_to_first_token", "doubleValue", FIRSTS_S[place] - STARTS_S[place]),
            attribute("gen_ai.prompt", "stringValue", "SECRET of a request"),
        ],
    } | other


def otlp(spans: list[dict[str, Any]]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def completion(place: int, **other: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{place}",
        "object": "chat.completion",
        "created": BEGAN_AT + STARTS_S[place],
        "choices": [{"message": {"content": "SECRET of a request"}}],
        "usage": {"prompt_tokens": PROMPTS[place], "completion_tokens": OUTPUTS[place]},
    } | other


def flat(place: int, **other: Any) -> dict[str, Any]:
    return {
        "timestamp": stamp(STARTS_S[place]),
        "prompt_tokens": PROMPTS[place],
        "completion_tokens": OUTPUTS[place],
        "latency_ms": 1e3 * (ENDS_S[place] - STARTS_S[place]),
        "ttft_ms": 1e3 * (FIRSTS_S[place] - STARTS_S[place]),
        "request_id": f"r{place}",
        "prompt": "SECRET of a request",
    } | other


def nginx(place: int, **other: Any) -> dict[str, Any]:
    return {
        "msec": BEGAN_AT + ENDS_S[place],
        "request": "POST /v1/chat/completions HTTP/1.1",
        "status": 200,
        "request_time": round(ENDS_S[place] - STARTS_S[place], 3),
        "http_user_agent": "SECRET of a request",
    } | other


def envoy(place: int, **other: Any) -> dict[str, Any]:
    return {
        "start_time": stamp(STARTS_S[place]),
        "method": "POST",
        "path": "/v1/chat/completions?api-version=1",
        "response_code": 200,
        "duration": round(1e3 * (ENDS_S[place] - STARTS_S[place])),
        "user_agent": "SECRET of a request",
    } | other


def mooncake(place: int, **other: Any) -> dict[str, Any]:
    row = {"timestamp": 1e3 * STARTS_S[place], "input_length": PROMPTS[place], "output_length": OUTPUTS[place]}
    return row | {"hash_ids": list(range(-(-PROMPTS[place] // 512))), "text": "SECRET of a request"} | other


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(names: str, row: str) -> str:
    """`row` is a format of start, stamp, prompt, output and took."""
    rows = [
        row.format(
            start=STARTS_S[place],
            stamp=stamp(STARTS_S[place], "").replace("T", " "),
            end=stamp(ENDS_S[place], "").replace("T", " "),
            prompt=PROMPTS[place],
            output=OUTPUTS[place],
            took=ENDS_S[place] - STARTS_S[place],
            place=place,
        )
        for place in range(4)
    ]
    return "\n".join([names, *rows]) + "\n"


FOUR = range(4)
SOURCES: dict[str, str] = {
    "azure": table("TIMESTAMP,ContextTokens,GeneratedTokens,NumImages", "{stamp}0,{prompt},{output},SECRET"),
    "burstgpt": table(
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type",
        "{start},,{took},SECRET,{prompt},{output},9,API log",
    ),
    "csv": table("arrival_s,input_tokens,output_tokens,note", "{start},{prompt},{output},SECRET"),
    "mooncake": lines([mooncake(place) for place in FOUR]),
    "litellm": lines([litellm(place) for place in FOUR]),
    "litellm as CSV": table(
        "request_id,call_type,prompt_tokens,completion_tokens,startTime,endTime,cache_hit,messages",
        '{place},acompletion,{prompt},{output},{stamp},{end},,"[SECRET ""of\n a"" request]"',
    ),
    "otel": json.dumps(otlp([span(place) for place in FOUR]), indent=1),
    "otel by line": lines([otlp([span(place, names=("input_tokens", "output_tokens"))]) for place in FOUR]),
    "usage": lines([completion(place) for place in FOUR]),
    "usage, flat": lines([flat(place) for place in FOUR]),
    "usage as CSV": table("created_at;input_tokens;output_tokens;text", "{stamp};{prompt};{output};SECRET"),
    "nginx": lines([nginx(place) for place in FOUR]),
    "envoy": lines([envoy(place) for place in FOUR]),
}
TIMES_ONLY = ("nginx", "envoy")
