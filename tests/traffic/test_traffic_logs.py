"""Logs of every source: the same four requests come out of each, and what is odd in one is said and counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from logs import (
    BEGAN_AT,
    E2E_S,
    FOUR,
    OUTPUTS,
    PROMPTS,
    SOURCES,
    STARTS_S,
    TIMES_ONLY,
    TTFT_S,
    attribute,
    completion,
    envoy,
    flat,
    lines,
    litellm,
    nginx,
    otlp,
    span,
    stamp,
    traffic_of,
)

from llmtop.errors import FileError, UsageError
from llmtop.traffic.otel import sampled_share

NEAR = {"rel": 1e-12}


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_requests_come_out_of_every_source(name: str) -> None:
    traffic = traffic_of(SOURCES[name])
    source = name.split(",")[0].split()[0]
    assert traffic.start_s == pytest.approx(STARTS_S, **NEAR)
    timed = source in TIMES_ONLY
    assert traffic.prompt.tolist() == ([0] * 4 if timed else list(PROMPTS))
    assert traffic.output.tolist() == ([0] * 4 if timed else list(OUTPUTS))
    assert traffic.began_at == (
        None if source in ("mooncake", "csv", "burstgpt") else pytest.approx(BEGAN_AT, abs=1e-6)
    )
    if traffic.e2e_s is not None:
        assert traffic.e2e_s == pytest.approx(E2E_S, **NEAR)
    if traffic.ttft_s is not None:
        assert traffic.ttft_s == pytest.approx(TTFT_S, **NEAR)
    assert traffic_of(SOURCES[name], source=source).says == traffic.says


def test_what_only_some_sources_tell() -> None:
    told = traffic_of(SOURCES["litellm"])
    assert told.session is not None
    assert told.cached is not None
    assert (told.session.tolist(), told.cached.tolist(), told.says) == ([0, 0, 1, 1], [0, 1, 2, 3], ())
    assert told.ttft_s is not None
    assert traffic_of(SOURCES["litellm as CSV"]).ttft_s is None
    assert traffic_of(SOURCES["otel"]).ttft_s is not None
    for name in ("nginx", "envoy", "burstgpt", "usage, flat", "otel"):
        assert traffic_of(SOURCES[name]).e2e_s is not None
    for name in ("azure", "csv", "mooncake", "usage"):
        assert traffic_of(SOURCES[name]).e2e_s is None


def said(rows: list[dict[str, Any]], left: int = 4) -> str:
    """What is said of a log, of which so many requests are left."""
    traffic = traffic_of(lines(rows))
    assert len(traffic) == left
    return "; ".join(traffic.says)


GOOD = [litellm(place) for place in FOUR]
LITELLM = [
    (litellm(0, request_id="x", status="failure", completion_tokens=0), "1 that failed"),
    (litellm(0, request_id="x", cache_hit="True"), "1 that LiteLLM's own cache answered"),
    (litellm(0, request_id="x", cache_hit=True), "1 that LiteLLM's own cache answered"),
    (litellm(2), "1 that stand there again under the same id"),
    (litellm(0, request_id="x", startTime=None), "1 without a time"),
    (litellm(0, request_id="x", startTime="yesterday"), "1 with startTime that is no time"),
    (litellm(0, request_id="x", startTime="1970-01-01T00:00:00Z"), "1 with startTime that is no time"),
    (litellm(0, request_id="x", prompt_tokens=0), "1 without tokens"),
    (litellm(0, request_id="x", prompt_tokens=[7]), "1 with a field that is missing or of another type"),
    (litellm(0, request_id="x", call_type="aembedding"), "passed over, no requests to an LLM: 1 embeddings"),
    (litellm(0, request_id="x", call_type="aimage_generation"), "passed over, no requests to an LLM: 1 images"),
    (litellm(0, request_id="x", call_type="list_mcp_tools"), "passed over, no requests to an LLM: 1 other calls"),
]


@pytest.mark.parametrize(("odd", "why"), LITELLM)
def test_of_litellm_what_did_not_reach_the_engine_is_left_out(odd: dict[str, Any], why: str) -> None:
    assert said([odd, *GOOD]).endswith(why)
    if "same id" not in why:
        with pytest.raises(FileError):
            traffic_of(lines([odd]))


def test_of_litellm_a_failed_try_leaves_the_good_one_under_its_id() -> None:
    failed = litellm(0, status="failure", prompt_tokens=0)
    assert said([failed, *GOOD]) == "mine.x: 1 of 5 rows left out: 1 that failed"


def test_an_answer_without_a_stream_has_no_first_token() -> None:
    traffic = traffic_of(lines([litellm(0, completionStartTime=litellm(0)["endTime"]), litellm(1)]))
    assert traffic.ttft_s is not None
    assert [first == first for first in traffic.ttft_s] == [False, True]


def test_rows_without_outputs_are_kept_and_a_log_without_any_says_what_to_enable() -> None:
    assert said([*GOOD[:3], litellm(3, completion_tokens=0)]) == "1 of 4 requests tell no output tokens"
    none = said([litellm(place, completion_tokens=0) for place in FOUR])
    assert none.startswith("no output tokens in it: ")
    assert "include_usage" in none
    assert "include_usage" in said([completion(place, usage={"prompt_tokens": 9}) for place in FOUR])
    assert "--otlp-traces-endpoint" in said([nginx(place) for place in FOUR])


def test_times_without_a_zone_are_utc_and_said() -> None:
    bare = [litellm(place) for place in FOUR]
    for row in bare:
        row.update({key: row[key].replace("Z", "") for key in ("startTime", "endTime", "completionStartTime")})
    assert said(bare) == "times name no zone: taken as UTC"
    assert said([*GOOD[:3], bare[3]]) == "3 of 12 times name no zone: taken as UTC"
    east = litellm(0, startTime="2026-11-06T22:20:00+01:00", endTime="2026-11-06 22:20:01 +0100")
    assert traffic_of(lines([east])).began_at == BEGAN_AT


@pytest.mark.parametrize("form", ["[{0},\n{1}]", '{{"data": [\n{0},{1}],\n "total": 2}}'])
def test_a_list_or_an_answer_with_a_list_is_read_and_its_entries_are_named(form: str) -> None:
    good, bad = json.dumps(litellm(0)), json.dumps(litellm(1, prompt_tokens=0))
    assert len(traffic_of(form.format(good, bad))) == 1
    with pytest.raises(FileError, match="entry 1, prompt_tokens: must be"):
        traffic_of(form.format(bad, bad))


def test_spans_that_are_no_requests_are_passed_over_and_counted() -> None:
    tool = span(0, name="execute", attributes=[attribute("gen_ai.operation.name", "stringValue", "execute_tool")])
    agent = span(1)
    agent["attributes"].append(attribute("gen_ai.operation.name", "stringValue", "invoke_agent"))
    http = span(2, name="GET /", attributes=[])
    four = [span(place) for place in FOUR]
    words = "rows passed over, no requests to an LLM: 3 other spans"
    assert said([otlp([tool, agent, http, *four])]) == words
    assert said([tool, agent, http, *four]) == words
    old = {"resourceSpans": [{"instrumentationLibrarySpans": [{"spans": four}]}]}
    assert (said([old]), said([{"batches": otlp(four)["resourceSpans"]}])) == ("", "")


def test_odd_spans_are_left_out_and_the_others_of_their_batch_are_used() -> None:
    four = [span(place) for place in FOUR]
    odd = [
        (span(0, spanId="a", status={"code": 2}), "1 that failed"),
        (span(0, spanId="a", startTimeUnixNano="0"), "1 without a time"),
        (span(0, spanId="a", attributes=[attribute("gen_ai.usage.input_tokens", "intValue", "many")]), "1 other spans"),
        (span(0, spanId="a", attributes=7), "1 with a field that is missing or of another type"),
        (four[1], "1 that stand there again under the same id"),
    ]
    for row, why in odd:
        if "other spans" not in why:
            assert said([otlp([row, *four])]) == f"mine.x: 1 of 5 rows left out: {why}"


def test_a_request_that_client_and_engine_tell_is_counted_once() -> None:
    clients = [span(place, spanId=f"c{place}", name="chat toy") for place in FOUR]
    for row in clients:
        row["attributes"] = [entry for entry in row["attributes"] if "latency" not in entry["key"]]
    assert said([otlp(clients)]) == ""
    both = said([otlp([*clients, *(span(place) for place in range(3))])])
    assert both == "mine.x: 3 of 7 rows left out: 3 of clients, whose requests the engine's own spans tell, too"


def test_a_sample_of_spans_says_so() -> None:
    assert [sampled_share(state) for state in ("", "a=b", "ot=th:0", "ot=th:c", "x=1,ot=rv:1;th:8", "ot=p:3")] == [
        *(1, 1, 1, 0.25, 0.5, 0.125)
    ]
    assert "a sample, 1 of 4: " in said([otlp([span(place, traceState="ot=th:c") for place in FOUR])])


USAGE = [
    (completion(0, id="x", usage=None), "1 without tokens"),
    (completion(0, id="x", error={"message": "no"}), "1 that failed"),
    (completion(0, id="x", status="failed"), "1 that failed"),
    (completion(0, id="x", created=None), "1 without a time"),
    (completion(0, id="x", created=7), "1 with a time of another kind than the first"),
    (completion(0, id="x", object="list"), "passed over, no requests to an LLM: 1 embeddings"),
    (completion(2), "1 that stand there again under the same id"),
]


@pytest.mark.parametrize(("odd", "why"), USAGE)
def test_of_usage_odd_rows_are_left_out_and_counted(odd: dict[str, Any], why: str) -> None:
    assert said([*(completion(place) for place in FOUR), odd]).endswith(why)


def test_usage_is_found_wherever_logs_have_it() -> None:
    inner = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}
    anthropic = {"input_tokens": 1, "output_tokens": 7, "cache_read_input_tokens": 4}
    rows: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
        ({"created": BEGAN_AT, "usage": inner}, (5, 7, 2)),
        ({"created_at": BEGAN_AT, "object": "response", "usage": {"input_tokens": 5, "output_tokens": 7}}, (5, 7, -1)),
        (
            {"custom_id": "a", "response": {"status_code": 200, "body": completion(0, usage=inner)}},
            (5, 7, 2),
        ),
        ({"ts": BEGAN_AT * 1e3, "response": {"usage": inner}}, (5, 7, 2)),
        ({"@timestamp": "06/Nov/2026:21:20:00 +0000", "promptTokens": "5", "completionTokens": "7.0"}, (5, 7, -1)),
        (
            {"time": BEGAN_AT * 1e9, "usage": anthropic},
            (5, 7, 4),
        ),
    ]
    for row, (prompt, output, cached) in rows:
        traffic = traffic_of(lines([row]))
        assert (traffic.prompt.tolist(), traffic.output.tolist()) == ([prompt], [output])
        assert (-1 if traffic.cached is None else traffic.cached[0]) == cached
        assert traffic.began_at == pytest.approx(BEGAN_AT)
    refused = {"custom_id": "b", "response": {"status_code": 429, "body": {}}, "error": None}
    assert said([rows[2][0], refused], left=1) == "mine.x: 1 of 2 rows left out: 1 that failed"


def test_ids_of_unknown_meaning_and_errors_that_are_none_cost_no_rows() -> None:
    rows = [flat(place, request_id=None, id="user-7", error="None") for place in FOUR]
    assert said(rows) == ""
    assert "1 that stand there again" in said([*rows, flat(0, request_id="a"), flat(1, request_id="a")], left=5)


def test_plain_times_of_many_days_stay_of_one_kind() -> None:
    days = [{"timestamp": at * 43_200_000, "input_tokens": 5, "output_tokens": 7} for at in range(20)]
    assert traffic_of(lines(days)).span_s == 19 * 43_200


def test_what_servegen_generates_is_in_seconds_and_other_plain_times_are_guessed() -> None:
    rows = [{"request_id": at, "timestamp": at / 2, "data": {"input_tokens": 5, "output_tokens": 7}} for at in range(9)]
    traffic = traffic_of(lines(rows))
    assert (traffic.span_s, traffic.began_at, traffic.says) == (4, None, ())
    plain = [{"timestamp": at * 500, "input_tokens": 5, "output_tokens": 7} for at in range(30)]
    assert traffic_of(lines(plain)).span_s == pytest.approx(14.5)
    assert traffic_of(lines(plain), unit="s").span_s == 14_500
    assert traffic_of(lines([row | {"timestamp": row["timestamp"] / 500} for row in plain])).span_s == 29


def test_a_log_with_starts_and_ends_tells_how_long_requests_took() -> None:
    row = {
        "startTime": stamp(0),
        "endTime": stamp(2),
        "completionStartTime": stamp(0.5),
        "usage": {"input": 5, "output": 7},
    }
    traffic = traffic_of(lines([row, row | {"endTime": "never", "completionStartTime": None}]))
    assert traffic.e2e_s is not None
    assert traffic.ttft_s is not None
    assert (traffic.e2e_s[0], traffic.ttft_s[0]) == pytest.approx((2, 0.5), **NEAR)
    assert traffic.e2e_s[1] != traffic.e2e_s[1]
    assert traffic.ttft_s[1] != traffic.ttft_s[1]


LONG = [
    (litellm(0, endTime="2026-11-09T21:20:00Z"), litellm(1)),
    (envoy(0, duration=2e11), envoy(1)),
    (flat(0, latency_ms=2e11), flat(1)),
    (span(0, endTimeUnixNano="1799000000000000000"), span(1)),
]


@pytest.mark.parametrize("rows", LONG)
def test_what_took_longer_than_a_day_is_not_told(rows: tuple[dict[str, Any], ...]) -> None:
    told = traffic_of(lines(list(rows))).e2e_s
    assert told is not None
    assert [took == took for took in told] == [False, True]


def test_a_clock_that_was_wrong_for_a_moment_is_said() -> None:
    rows = [completion(0, id=str(at), created=BEGAN_AT + at / 3) for at in range(150)]
    assert said(rows, left=150) == ""
    far = [completion(0, id="far", created=BEGAN_AT - 9e6), *rows[1:]]
    assert said(far, left=150).startswith("98% of the requests came within ")


def test_whole_seconds_are_said() -> None:
    rows = [completion(0, id=str(at), created=int(BEGAN_AT) + at // 4) for at in range(20)]
    assert said(rows, left=20) == "times are whole seconds: bursts within one are not told"
    assert said([*rows[:-1], completion(2)], left=20) == ""


ACCESS = [
    (nginx(0, status=503), "1 that failed"),
    (nginx(0, status="499"), "1 that failed"),
    (nginx(0, request="GET /v1/models HTTP/1.1"), "passed over, no requests to an LLM: 1 no POST"),
    (nginx(0, request="POST /tokenize HTTP/1.1"), "passed over, no requests to an LLM: 1 of other paths"),
    (nginx(0, request_time="-"), "1 without request_time, so that nobody knows when they began"),
    (nginx(0, request_time=1e307), "1 without request_time, so that nobody knows when they began"),
    (nginx(0, msec=None), "1 without a time"),
]


@pytest.mark.parametrize(("odd", "why"), ACCESS)
def test_of_an_access_log_only_posts_to_an_llm_count(odd: dict[str, Any], why: str) -> None:
    assert f"{why}" in said([*(nginx(place) for place in FOUR), odd])


def test_an_access_log_begins_where_its_requests_began() -> None:
    words = said([nginx(place) for place in FOUR])
    assert words.startswith("nginx writes when a request ended: request_time is taken off; ")
    coarse = [nginx(place, msec=None, time_iso8601="2026-11-06T21:20:01+00:00") for place in FOUR]
    assert "without msec the end of a request is told by the second" in said(coarse)
    text = [nginx(0, msec=str(BEGAN_AT + 1), status="200", request_time="0.5", request=None)]
    text[0] |= {"request_method": "POST", "request_uri": "/team/v1/completions"}
    assert traffic_of(lines(text)).began_at == BEGAN_AT + 0.5
    assert "1 that failed" in said([*(envoy(place) for place in FOUR), envoy(0, response_code=0)])
    assert len(traffic_of(lines([envoy(0), envoy(1, path="/v1beta/models/g:streamGenerateContent")]))) == 2


UNKNOWN = ['{"a": 1}', "[1, 2]", "[]", "hello,world\n1,2", "", "\n\n", '{"startTime": 1}', '{"a": ', "0,x,3", "{}"]


@pytest.mark.parametrize("text", UNKNOWN)
def test_a_file_of_no_known_kind_is_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(FileError, match="known are: an Azure trace") as caught:
        traffic_of(text)
    assert caught.value.exit_code == 2
    assert "LiteLLM" in caught.value.problem
    assert "columns nothing" not in caught.value.problem


def test_a_pointer_of_git_lfs_is_told() -> None:
    with pytest.raises(FileError, match="is a pointer of Git LFS and not the file"):
        traffic_of("version https://git-lfs.github.com/spec/v1\noid sha256:9d\nsize 4\n", "trace.jsonl")


def test_a_source_that_is_named_is_taken_and_one_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="source 'langfuse' is not known; use azure, burstgpt"):
        traffic_of("", source="langfuse")
    with pytest.raises(FileError, match="source azure is a table"):
        traffic_of(lines([flat(0)]), source="azure")
    with pytest.raises(FileError, match="known are"):
        traffic_of(SOURCES["azure"], source="csv")
    with pytest.raises(FileError, match=r"line 1: .*timestamp"):
        traffic_of(lines([flat(0)]), source="mooncake")


def test_too_many_requests_are_refused_before_they_fill_the_memory() -> None:
    for text in SOURCES.values():
        with pytest.raises(FileError, match="more than 3 requests: cut it"):
            traffic_of(text, most=3)
