"""The user's own files: what they give, and what is said when they are wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Workload
from llmtop.errors import FileError, UsageError
from llmtop.workload import datasets
from llmtop.workload.prompts import PromptSource
from llmtop.workload.tokens import count_tokens

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
    assert source.arrivals_s == (0.0, 2.5)
    assert [first.tokens, second.tokens] == count_tokens([first.text, second.text]) == [700, 1300]
    assert (first.output_tokens, second.output_tokens) == (52, 26)
    one, two, lap = first.text.split(), second.text.split(), again.text.split()
    assert one[:512] == two[:512]
    assert one[512:600] != two[512:600]
    assert one[:8] != lap[:8]


def test_azure_and_plain_csv(tmp_path: Path) -> None:
    source = PromptSource(workload(tmp_path, "trace", AZURE, "azure.csv"))
    first, second = source.next(POINT), source.next(POINT)
    assert source.arrivals_s == pytest.approx((0.0, 4.314579))
    assert (first.tokens, first.output_tokens, second.tokens, second.output_tokens) == (374, 44, 396, 109)
    plain = "arrival_s,input_tokens,output_tokens\n2.0,50,0\n1.5,60,7\n"
    assert datasets.parse_csv_trace("x", plain) == [datasets.TraceRow(0.0, 60, 7), datasets.TraceRow(0.5, 50, 1)]


def test_rows_that_do_not_fit_the_model_are_left_out(tmp_path: Path) -> None:
    assert PromptSource(workload(tmp_path, "trace", MOONCAKE), max_model_len=1000).rows == 1
    with pytest.raises(FileError, match="no request fits into the 100 tokens"):
        PromptSource(workload(tmp_path, "trace", MOONCAKE), max_model_len=100)
    with pytest.raises(FileError, match="no prompt fits into the 5 tokens"):
        PromptSource(workload(tmp_path, "jsonl", JSONL), max_model_len=5)


@given(st.lists(st.floats(0, 500), min_size=1, max_size=50), st.floats(0.5, 4))
def test_a_trace_as_a_rate_over_time_sends_as_many_requests(arrivals: list[float], times: float) -> None:
    shape = datasets.arrivals_replay(sorted(arrivals), window_s=10, times=times)
    starts_s = [at_s for at_s, _ in shape.points]
    assert starts_s[0] == 0
    assert starts_s == sorted(set(starts_s))
    assert len(starts_s) <= 2 * len(arrivals) + 1
    ends_s = [*starts_s[1:], starts_s[-1] + 10 / times]
    sent = sum((point.rate_rps or 0) * (end - at) for (at, point), end in zip(shape.points, ends_s, strict=True))
    assert sent == pytest.approx(len(arrivals))
    assert datasets.arrivals_replay(()).points == ()


AT_TIME, AT_INPUT = "line 1, timestamp", "line 1, input_length"
OUTPUT_AT = "line 2, column output_tokens"

FAULTS: list[tuple[Callable[[object, str], object], str, str | None, str]] = [
    (datasets.parse_sharegpt, "{}", None, "Expected `array`"),
    (datasets.parse_sharegpt, '[{"conversations": [{"from": "human"}]}]', None, "missing required field `value`"),
    (datasets.parse_sharegpt, "[]", None, "no conversation in it"),
    (datasets.parse_jsonl, '{"prompt": "a"}\n{"prompt": 3}', "line 2", "Expected `str | null`, got `int`"),
    (datasets.parse_jsonl, '{"prompt": "a"\n', "line 1", "a line is"),
    (datasets.parse_jsonl, '{"text": "a"}', "line 1", "give prompt or messages"),
    (
        datasets.parse_jsonl,
        '{"prompt": "a", "output_tokens": 0}',
        "line 1",
        "output_tokens must be a whole number from 1",
    ),
    (datasets.parse_jsonl, '{"prompt": ""}', "line 1", "is empty"),
    (datasets.parse_jsonl, "\n\n", None, "no prompt in it"),
    (datasets.parse_mooncake, '{"timestamp": 0, "input_length": 5}', "line 1", "`output_length`"),
    (
        datasets.parse_mooncake,
        '{"timestamp": 0, "input_length": 0, "output_length": 1}',
        "line 1, input_length",
        "must be a whole number from 1",
    ),
    (datasets.parse_csv_trace, "a,b\n1,2", "line 1", "found the columns a,b"),
    (datasets.parse_csv_trace, "", "line 1", "found the columns nothing"),
    (
        datasets.parse_csv_trace,
        "arrival_s,input_tokens,output_tokens\n1,2,3\n1,x,3",
        "line 3, column input_tokens",
        "'x' must be a whole number",
    ),
    (
        datasets.parse_csv_trace,
        "arrival_s,input_tokens,output_tokens\nnan,2,3",
        "line 2, column arrival_s",
        "'nan' must be a number from 0",
    ),
    (
        datasets.parse_csv_trace,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023,2,3",
        "line 2, column TIMESTAMP",
        "must be a time",
    ),
    (datasets.parse_csv_trace, "arrival_s,input_tokens,output_tokens\n1,1_0,3", "line 2, column input_tokens", "1_0"),
    (datasets.parse_csv_trace, "arrival_s,input_tokens,output_tokens\n1,2", "line 2, column output_tokens", "''"),
    (datasets.parse_csv_trace, "arrival_s,input_tokens,output_tokens\n1,2,9" + "9" * 5000, OUTPUT_AT, "whole number"),
    (datasets.parse_csv_trace, "arrival_s,input_tokens,output_tokens\n0,2,3\n9e6,2,3", None, "104 days apart"),
    (datasets.parse_csv_trace, '"' + "x" * 200_000, "line 1", "field larger than field limit"),
    (datasets.parse_jsonl, '{"a": ' + "[" * 100_000, "line 1", "nested too deep"),
    (datasets.parse_mooncake, '{"timestamp": 1e308, "input_length": 1, "output_length": 1}', AT_TIME, "from 0 to"),
    (datasets.parse_mooncake, '{"timestamp": 1, "input_length": 99999999, "output_length": 1}', AT_INPUT, "10,000,000"),
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
    for parse in (datasets.parse_sharegpt, datasets.parse_jsonl, datasets.parse_csv_trace):
        with pytest.raises(FileError):
            parse("x", text)
    try:
        assert datasets.parse_mooncake("x", text) == []
    except FileError as error:
        assert error.key  # noqa: PT017


def test_comments_in_a_table_are_passed_over_and_counted_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("# mine\narrival_s,input_tokens,output_tokens\n1,10,2\n# more\n3,20,4\n")
    assert [(row.arrival_s, row.prompt_tokens) for row in datasets.read_rows(path)] == [(0.0, 10), (2.0, 20)]
    path.write_text("# mine\narrival_s,input_tokens,output_tokens\n1,10,2\n# more\n3,x,4\n")
    with pytest.raises(FileError, match="line 5"):
        datasets.read_rows(path)


def test_a_compressed_file_is_read_and_a_bomb_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfArrival_S, INPUT_TOKENS ,output_tokens,more\r\n1,10,2,x\r\n"))
    assert datasets.read_rows(path) == [datasets.TraceRow(0.0, 10, 2)]
    monkeypatch.setattr(datasets, "MOST_BYTES", 10_000)
    path.write_bytes(gzip.compress(bytes(20_000)))
    with pytest.raises(FileError, match="larger than"):
        datasets.read_rows(path)
    path.write_bytes(datasets.GZIP + b"none")
    with pytest.raises(FileError, match="cannot be unpacked"):
        datasets.read_rows(path)


def test_a_trace_of_endless_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MOST_REQUESTS", 2)
    for parse, text in ((datasets.parse_csv_trace, AZURE + AZURE[40:]), (datasets.parse_mooncake, MOONCAKE * 2)):
        with pytest.raises(FileError):
            parse("x", text)


def test_a_trace_costs_as_much_as_it_has_rows_whatever_time_it_spans() -> None:
    spanning = "arrival_s,input_tokens,output_tokens\n0,1,1\n2600000,1,1\n"
    arrivals = [row.arrival_s for row in datasets.parse_csv_trace("x", spanning)]
    assert len(datasets.arrivals_replay(arrivals, window_s=1.0).points) == 3
