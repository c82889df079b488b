"""The user's own files: what they give, and what is said when they are wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Workload
from llmtop.errors import FileError, UsageError
from llmtop.traffic import rows
from llmtop.traffic.read import parse as read_trace
from llmtop.traffic.read import read
from llmtop.traffic.table import Traffic
from llmtop.workload import conversations
from llmtop.workload.prompts import PromptSource
from llmtop.workload.tokens import count_tokens

Request = tuple[float, int, int]
"""Arrival, and tokens of prompt and answer."""
POINT = LoadPoint(concurrency=1, prompt_tokens=192, output_tokens=64)

SHAREGPT = """[
 {"id": "a", "conversations": [{"from": "human", "value": "Name five rivers of Europe, please."},
                               {"from": "gpt", "value": "Danube, Rhine, Elbe, Loire and Tagus."}]},
 {"id": "b", "conversations": [{"from": "gpt", "value": "I speak first."}, {"from": "human", "value": "Oh."}]},
 {"id": "c", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello, how are you?"}]},
 {"id": "d", "conversations": []}
]"""

JSONL = """{"prompt": "Write a haiku about the sea.", "output_tokens": 40, "topic": "poems"}

{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a token?"}]}
"""

MOONCAKE = """{"timestamp": 1000, "input_length": 700, "output_length": 52, "hash_ids": [1, 2]}
{"timestamp": 3500, "input_length": 1300, "output_length": 26, "hash_ids": [1, 3, 4]}
"""

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""


def workload(folder: Path, source: str, text: str, name: str = "file.jsonl") -> Workload:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return Workload(source=source, file=str(path))


def parse_trace(path: object, text: str) -> list[Request]:
    return requests_of(read_trace(path, text.encode("utf-8", "surrogatepass")))


def requests_of(traffic: Traffic) -> list[Request]:
    columns = (traffic.start_s, traffic.prompt, traffic.output)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_sharegpt_gives_first_turns_filtered_as_vllm_does(tmp_path: Path) -> None:
    source = PromptSource(workload(tmp_path, "sharegpt", SHAREGPT))
    prompt = source.next(POINT)
    assert source.rows == 1
    assert prompt.text == "Name five rivers of Europe, please."
    assert (prompt.tokens, prompt.output_tokens) == (8, 15)
    assert prompt.count_source == "tiktoken"


def test_jsonl_keeps_order_messages_and_asked_lengths(tmp_path: Path) -> None:
    source = PromptSource(workload(tmp_path, "jsonl", JSONL))
    first, second = source.next(POINT), source.next(POINT)
    assert (first.text, first.output_tokens, first.messages) == ("Write a haiku about the sea.", 40, None)
    assert second.output_tokens == 64
    assert second.messages is not None
    assert [message["role"] for message in second.messages] == ["system", "user"]
    assert second.tokens == count_tokens([second.text])[0]


def test_a_second_lap_begins_with_words_that_no_cache_has_seen(tmp_path: Path) -> None:
    source = PromptSource(workload(tmp_path, "jsonl", JSONL))
    laps = [[source.next(POINT) for _ in range(2)] for _ in range(3)]
    texts = [prompt.text for lap in laps for prompt in lap]
    assert len(set(texts)) == 6
    assert texts[2].endswith("\nWrite a haiku about the sea.")
    assert abs(laps[1][0].tokens - count_tokens([texts[2]])[0]) <= 1
    messages = laps[1][1].messages
    assert messages is not None
    assert messages[0]["content"].endswith("\nBe brief.")


def test_mooncake_rows_that_share_hash_ids_share_text(tmp_path: Path) -> None:
    source = PromptSource(workload(tmp_path, "trace", MOONCAKE))
    first, second, again = (source.next(POINT) for _ in range(3))
    assert source.arrivals_s == pytest.approx([0.0, 2.5])
    assert [first.tokens, second.tokens] == count_tokens([first.text, second.text]) == [700, 1300]
    assert (first.output_tokens, second.output_tokens) == (52, 26)
    one, two, lap = first.text.split(), second.text.split(), again.text.split()
    assert one[:512] == two[:512]
    assert one[512:600] != two[512:600]
    assert one[:8] != lap[:8]


def test_azure_and_plain_csv(tmp_path: Path) -> None:
    source = PromptSource(workload(tmp_path, "trace", AZURE, "azure.csv"))
    first, second = source.next(POINT), source.next(POINT)
    assert source.arrivals_s == pytest.approx([0.0, 4.314579])
    assert (first.tokens, first.output_tokens, second.tokens, second.output_tokens) == (374, 44, 396, 109)
    plain = "arrival_s,input_tokens,output_tokens\n2.0,50,0\n1.5,60,7\n"
    assert parse_trace("x", plain) == [(0.0, 60, 7), (0.5, 50, 1)]


def test_rows_that_do_not_fit_the_model_are_left_out(tmp_path: Path) -> None:
    assert PromptSource(workload(tmp_path, "trace", MOONCAKE), max_model_len=1000).rows == 1
    with pytest.raises(FileError, match="no request fits into the 100 tokens"):
        PromptSource(workload(tmp_path, "trace", MOONCAKE), max_model_len=100)
    with pytest.raises(FileError, match="no prompt fits into the 5 tokens"):
        PromptSource(workload(tmp_path, "jsonl", JSONL), max_model_len=5)


AT_TIME, AT_INPUT = "line 1, timestamp", "line 1, input_length"
OUTPUT_AT = "line 2, column output_tokens"

FAULTS: list[tuple[Callable[[object, str], object], str, str | None, str]] = [
    (conversations.parse_sharegpt, "{}", "line 1", "no conversations in it"),
    (conversations.parse_sharegpt, '[{"conversations": [{"from": "human"}]}]', "entry 1", "begins with a question"),
    (conversations.parse_sharegpt, "[]", None, "no conversation in it"),
    (conversations.parse_jsonl, '\n{"prompt": 3}', "line 2", "prompt must be text"),
    (conversations.parse_jsonl, '{"prompt": "a"\n', "line 1", "a line is"),
    (conversations.parse_jsonl, '{"answer": "a"}', "line 1", "give prompt or messages"),
    (
        conversations.parse_jsonl,
        '{"prompt": "a", "output_tokens": 0}',
        "line 1",
        "output_tokens must be a whole number from 1",
    ),
    (conversations.parse_jsonl, '{"prompt": ""}', "line 1", "is empty"),
    (conversations.parse_jsonl, "\n\n", None, "no prompt in it"),
    (parse_trace, '{"timestamp": 0, "input_length": 5}', "line 1", "`output_length`"),
    (
        parse_trace,
        '{"timestamp": 0, "input_length": 0, "output_length": 1}',
        "line 1, input_length",
        "must be a whole number from 1",
    ),
    (parse_trace, "a,b\n1,2", "line 1", "found the columns a,b"),
    (parse_trace, "", "line 1", "has no names of columns"),
    (
        parse_trace,
        "arrival_s,input_tokens,output_tokens\n1,x,3\n1,y,3",
        "line 2, column input_tokens",
        "'x' must be a whole number",
    ),
    (
        parse_trace,
        "arrival_s,input_tokens,output_tokens\nnan,2,3",
        "line 2, column arrival_s",
        "'nan' must be a number from 0",
    ),
    (
        parse_trace,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023,2,3",
        "line 2, column TIMESTAMP",
        "must be a time",
    ),
    (parse_trace, "arrival_s,input_tokens,output_tokens\n1,1_0,3", "line 2, column input_tokens", "1_0"),
    (parse_trace, "arrival_s,input_tokens,output_tokens\n1,2", "line 2, column output_tokens", "''"),
    (parse_trace, "arrival_s,input_tokens,output_tokens\n1,2,9" + "9" * 5000, OUTPUT_AT, "whole number"),
    (parse_trace, '"' + "x" * 200_000, "line 1", "field larger than field limit"),
    (conversations.parse_jsonl, '{"a": ' + "[" * 100_000, "line 1", "nested too deep"),
    (parse_trace, '{"timestamp": 1e308, "input_length": 1, "output_length": 1}', AT_TIME, "from 0 to"),
    (parse_trace, '{"timestamp": 1, "input_length": 99999999, "output_length": 1}', AT_INPUT, "10,000,000"),
]


@pytest.mark.parametrize(("parse", "text", "key", "says"), FAULTS)
def test_a_broken_file_is_named_with_its_line(
    parse: Callable[[object, str], object], text: str, key: str | None, says: str
) -> None:
    with pytest.raises(FileError) as caught:
        parse("mine.jsonl", text)
    assert (caught.value.path, caught.value.key) == ("mine.jsonl", key)
    assert says in caught.value.problem


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        PromptSource(Workload(source="jsonl", file=str(tmp_path / "none.jsonl")))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="not UTF-8"):
        PromptSource(Workload(source="trace", file=str(tmp_path / "bytes")))
    with pytest.raises(UsageError, match="needs a file"):
        PromptSource(Workload(source="trace"))


@given(st.text(max_size=200))
def test_garbage_is_a_file_error_and_nothing_else(text: str) -> None:
    for parse in (
        conversations.parse_sharegpt,
        conversations.parse_jsonl,
        parse_trace,
        parse_trace,
    ):
        with pytest.raises(FileError):
            parse("x", text)


def test_comments_in_a_table_are_passed_over_and_counted_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("# mine\narrival_s,input_tokens,output_tokens\n1,10,2\n# more\n3,20,4\n")
    assert requests_of(read(path)) == [(0.0, 10, 2), (2.0, 20, 4)]
    path.write_text("# mine\narrival_s,input_tokens,output_tokens\n\n# more\n3,x,4\n")
    with pytest.raises(FileError, match="line 5"):
        read(path)


def test_a_compressed_file_is_read_and_a_bomb_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfArrival_S, INPUT_TOKENS ,output_tokens,more\r\n1,10,2,x\r\n"))
    assert requests_of(read(path)) == [(0.0, 10, 2)]
    path.write_bytes(gzip.compress(JSONL.encode()))
    assert rows.text_of(path) == JSONL
    monkeypatch.setattr(rows, "MOST_BYTES", 10_000)
    path.write_bytes(gzip.compress(bytes(20_000)))
    with pytest.raises(FileError, match="larger than"):
        rows.text_of(path)
    path.write_bytes(rows.GZIP + b"none")
    with pytest.raises(FileError, match="cannot be unpacked"):
        rows.text_of(path)


TALK = '{"conversations": [{"from": "human", "value": "Tell me."}, {"from": "gpt", "value": "It is so."}]}'
HALF = TALK.replace("Tell me.", "half \\ud83d here")
NULL_TALK, GPT_TALK = TALK.replace('"Tell me."', "null"), TALK.replace("human", "gpt")
PARTS = '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}'
EMPTY, NO_QUESTION = "with a turn that is empty or no text", "that do not begin with a question and its answer"

ODD_ROWS: list[tuple[Callable[..., Sequence[object]], str, str]] = [
    (conversations.parse_sharegpt, f"[{TALK}, {HALF}]", "with half a character (a lone surrogate)"),
    (conversations.parse_sharegpt, f"{TALK}\r\n{HALF}\r\n", "with half a character (a lone surrogate)"),
    (conversations.parse_sharegpt, f"[{TALK}, null]", "without conversations"),
    (
        conversations.parse_sharegpt,
        f"[{TALK}, {NULL_TALK}]",
        EMPTY,
    ),
    (
        conversations.parse_sharegpt,
        f"[{TALK}, {GPT_TALK}]",
        NO_QUESTION,
    ),
    (conversations.parse_jsonl, '{"prompt": "a"}\n{"prompt": null}', "without a prompt"),
    (conversations.parse_jsonl, '{"prompt": "a"}\n{"prompt": "a', "that are no JSON"),
    (conversations.parse_jsonl, '{"prompt": "a"}\n{"prompt": 3}', "with a prompt that is no text"),
    (conversations.parse_jsonl, '{"prompt": "a"}\n' + PARTS, "with a part that is no text"),
]


@pytest.mark.parametrize(("parse", "text", "why"), ODD_ROWS)
def test_an_odd_row_is_left_out_and_counted_and_the_rest_is_used(
    parse: Callable[..., Sequence[object]], text: str, why: str
) -> None:
    sieve = rows.Sieve("folder/mine.x")
    assert len(parse("mine.x", text, sieve)) == 1
    assert sieve.said == (f"mine.x: 1 of 2 rows left out: 1 {why}",)


def test_reasons_are_told_by_how_many_they_are_and_the_rare_ones_together() -> None:
    sieve = rows.Sieve("x")
    for place in range(6):
        for _ in range(6 - place):
            sieve.leave_out(rows.Odd(f"of kind {place}", FileError("x", "odd")))
    sieve.kept = 2979
    assert sieve.said == (
        "x: 21 of 3,000 rows left out: 6 of kind 0, 5 of kind 1, 4 of kind 2, 3 of kind 3, 3 of other kinds",
    )


PROMPTS = [
    ('{"question": "q", "answer": "a"}', "q", None),
    ('{"text_input": "q"}', "q", None),
    ('[{"prompt": "q"}]', "q", None),
    ('\ufeff{"prompt": "q", "max_tokens": 7}\r\n', "q", 7),
    ('{"custom_id": "r", "url": "/v1/completions", "body": {"prompt": "q", "max_tokens": 9}}', "q", 9),
    (
        '{"body": {"max_completion_tokens": 9, "messages": [{"role": "user", "content": "q"}]}}',
        "q",
        9,
    ),
    ('{"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]}', "q", None),
]


@pytest.mark.parametrize(("text", "prompt", "output_tokens"), PROMPTS)
def test_prompts_are_taken_under_the_names_that_other_tools_use(
    text: str, prompt: str, output_tokens: int | None
) -> None:
    (row,) = conversations.parse_jsonl("x", text)
    assert (row.text, row.output_tokens) == (prompt, output_tokens)


def test_turns_with_tool_calls_are_sent_as_they_are_and_a_lap_later_with_another_head(tmp_path: Path) -> None:
    turns = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "t", "function": {"name": "w", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "t", "content": [{"type": "text", "text": "sun"}]},
    ]
    source = PromptSource(workload(tmp_path, "jsonl", json.dumps({"messages": turns})))
    first, second = source.next(POINT).messages, source.next(POINT).messages
    assert first == tuple(turns)
    assert second is not None
    assert (second[0], second[1]["content"][1:]) == (turns[0], turns[1]["content"])


def test_system_turns_come_before_the_question_and_are_sent() -> None:
    text = TALK.replace("[{", '[{"from": "system", "value": "Be brief."}, {', 1)
    (pair,) = conversations.parse_sharegpt("x", text.replace("from", "role").replace("value", "content"))
    assert (pair.asked.text, pair.answer) == ("Be brief.\nTell me.", "It is so.")
    assert [message["role"] for message in pair.asked.messages or ()] == ["system", "user"]


@pytest.mark.parametrize("form", ["{0}\n{1}\n", "[{0}, {1}]"])
def test_a_stray_byte_costs_its_row_alone_and_a_file_of_them_is_refused(tmp_path: Path, form: str) -> None:
    good, bad = '{"prompt": "a sound one"}', '{"prompt": "caf?"}' + " " * 100
    path = tmp_path / "mine.jsonl"
    path.write_bytes(form.format(good, bad).encode().replace(b"?", b"\xe9"))
    source = PromptSource(Workload(source="jsonl", file=str(path)))
    assert (source.rows, source.notes) == (1, ("mine.jsonl: 1 of 2 rows left out: 1 with bytes that are no UTF-8",))
    path.write_bytes(good.encode("utf-16"))
    assert PromptSource(Workload(source="jsonl", file=str(path))).rows == 1
    path.write_bytes(b"\xe9\xe8 " * 9)
    with pytest.raises(FileError, match="not UTF-8"):
        PromptSource(Workload(source="jsonl", file=str(path)))
