"""Data sets as other people write them: every usual form gives its prompts, and each fault says what to do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Workload
from llmtop.errors import FileError
from llmtop.traffic.rows import Sieve, text_of
from llmtop.workload.conversations import parse_jsonl, parse_sharegpt
from llmtop.workload.prompts import PromptSource

ASKED = "Name five rivers of Europe, please."
ANSWER = "Danube, Rhine, Elbe, Loire and Tagus."


def said(*turns: tuple[str, object]) -> list[dict[str, object]]:
    return [{"role": role, "content": content} for role, content in turns]


def talk(*turns: tuple[str, object]) -> dict[str, object]:
    return {"id": "x", "conversations": [{"from": who, "value": value} for who, value in turns]}


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def batch(url: str, **body: object) -> dict[str, object]:
    return {"custom_id": "1", "method": "POST", "url": url, "body": {"model": "m", **body}}


TALK = talk(("human", ASKED), ("gpt", ANSWER))
PARTS = [{"type": "text", "text": ASKED}]
PARTS_ASKED = [{"type": "input_text", "text": ASKED}]
CHAT = said(("user", ASKED), ("assistant", ANSWER))
TOOLS = [
    *said(("user", ASKED)),
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "5"},
]

SHAREGPT: dict[str, str] = {
    "a JSON list": json.dumps([TALK, TALK]),
    "one a line": lines(TALK, TALK),
    "a system turn first": json.dumps([talk(("system", "Be brief."), ("human", ASKED), ("gpt", ANSWER))] * 2),
    "an answer to nothing first": json.dumps([talk(("gpt", "Hello."), ("human", ASKED), ("gpt", ANSWER))] * 2),
    "role and content": json.dumps([{"conversations": CHAT}] * 2),
    "messages": json.dumps([{"messages": CHAT}] * 2),
    "lists of turns": json.dumps([CHAT, CHAT]),
    "lists of turns, one a line": lines(CHAT, CHAT),
    "content in parts": json.dumps([{"messages": said(("user", PARTS), ("assistant", ANSWER))}] * 2),
    "a list in an object": json.dumps({"version": 2, "data": [TALK, TALK]}),
    "an object over several lines after the other": "\n".join([json.dumps(TALK, indent=1)] * 2),
    "a comma too many": json.dumps([TALK, TALK])[:-1] + ",\n]",
    "not a number in a field of no use": json.dumps([TALK | {"score": float("nan")}, TALK]),
    "CRLF behind a mark": "\ufeff" + lines(TALK, TALK).replace("\n", "\r\n"),
}

JSONL: dict[str, str] = {
    "prompt": lines({"prompt": ASKED}, {"prompt": ASKED}),
    "lines without a row and comments": f'# made by hand\n\n{lines({"prompt": ASKED})}  \n// more\n"{ASKED}"',
    "CR alone": lines({"prompt": ASKED}, {"prompt": ASKED}).replace("\n", "\r"),
    "record separators": "\x1e" + lines({"prompt": ASKED}) + "\x1e" + lines({"prompt": ASKED}),
    "texts": json.dumps([ASKED, ASKED]),
    "a text a line": lines(ASKED, ASKED),
    "a list in an object": json.dumps({"requests": [{"prompt": ASKED}, {"prompt": ASKED}]}, indent=2),
    "rows of the Hugging Face viewer": json.dumps({"features": [], "rows": [{"row": {"prompt": ASKED}}] * 2}),
    "a list of one prompt": lines({"prompt": [ASKED]}, {"prompt": [ASKED]}),
    "turns as the prompt": lines({"prompt": said(("user", ASKED))}, {"prompt": said(("user", ASKED))}),
    "parts": lines(*[{"messages": said(("user", [{"type": "text", "text": ASKED}]))}] * 2),
    "tool turns": lines({"messages": TOOLS}, {"messages": TOOLS}),
    "ShareGPT": lines(TALK, TALK),
    "questions of MT-Bench": lines(*[{"question_id": 81, "turns": [ASKED, "Why?"]}] * 2),
    "turns of AIPerf": lines(*[{"session_id": "s", "turns": [{"text": ASKED}, {"text": "Why?", "delay": 5}]}] * 2),
    "a batch of chats": lines(*[batch("/v1/chat/completions", messages=said(("user", ASKED)), max_tokens=9)] * 2),
    "a batch of completions": lines(*[batch("/v1/completions", prompt=ASKED, max_tokens=9)] * 2),
    "a batch of responses": lines(*[batch("/v1/responses", input=ASKED, max_output_tokens=9)] * 2),
    "a batch of responses with turns": lines(*[batch("/v1/responses", input=said(("user", ASKED)))] * 2),
    "a batch of responses with parts": lines(*[batch("/v1/responses", input=said(("user", PARTS_ASKED)))] * 2),
    "a batch of embeddings": lines(*[batch("/v1/embeddings", input=ASKED)] * 2),
    "instruction": lines({"instruction": ASKED, "input": "", "output": "x"}, {"instruction": ASKED, "context": ""}),
    "capitals": lines({"Prompt": ASKED}, {"PROMPT": ASKED}),
    "inputs": lines({"inputs": ASKED}, {"user_prompt": ASKED}),
    "texts in turns": lines(
        {"id": "1", "data": [ASKED, "a"]}, {"conversations": [{"content": ASKED}, {"content": "a"}]}
    ),
    "CSV with capitals": f'ID,Prompt\n1,"{ASKED}"\n2,"{ASKED}"\n',
    "CSV": f'id,prompt,output_tokens\n1,"{ASKED}",7\n2,"{ASKED}",\n',
    "CSV behind a mark, with CRLF": f"\ufeffprompt;id\r\n{ASKED};1\r\n{ASKED};2\r\n",
    "tabs between columns": f"id\tquestion\n1\t{ASKED}\n2\t{ASKED}\n",
}


@pytest.mark.parametrize("form", SHAREGPT)
def test_every_form_of_sharegpt_gives_the_first_question_and_its_answer(form: str) -> None:
    sieve = Sieve("x.json")
    exchanges = parse_sharegpt("x.json", SHAREGPT[form], sieve)
    assert [(exchange.asked.text.splitlines()[-1], exchange.answer) for exchange in exchanges] == [(ASKED, ANSWER)] * 2
    assert not sieve.said


@pytest.mark.parametrize("form", JSONL)
def test_every_form_of_prompts_gives_what_is_asked(form: str) -> None:
    sieve = Sieve("x.jsonl")
    asked = parse_jsonl("x.jsonl", JSONL[form], sieve)
    assert [conversation.text.splitlines()[0] for conversation in asked] == [ASKED] * 2
    assert not sieve.said


def test_instructions_of_a_request_for_a_response_are_its_system_turn() -> None:
    rows = lines(
        *(batch("/v1/responses", instructions="Be brief.", input=each) for each in (ASKED, said(("user", ASKED))))
    )
    expected = tuple(said(("system", "Be brief."), ("user", ASKED)))
    assert [asked.messages for asked in parse_jsonl("x", rows)] == [expected] * 2


def test_parts_that_only_responses_knows_are_sent_as_text_that_every_api_takes() -> None:
    (asked,) = parse_jsonl("x", lines(batch("/v1/responses", input=said(("user", PARTS_ASKED)))))
    assert asked.messages == tuple(said(("user", ASKED)))
    (asked,) = parse_jsonl("x", lines({"messages": said(("user", PARTS))}))
    assert asked.messages == tuple(said(("user", PARTS))), "as it stands"


def test_an_instruction_is_asked_with_the_input_it_is_about() -> None:
    (asked,) = parse_jsonl("x", lines({"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}))
    assert asked.text == "Translate.\n\nGuten Tag"


@pytest.mark.parametrize("told", [7, 7.0, "7"])
def test_an_output_length_is_a_whole_number_however_it_is_written(told: object) -> None:
    assert parse_jsonl("x", lines({"prompt": ASKED, "max_tokens": told}))[0].output_tokens == 7


@pytest.mark.parametrize("told", [0, -1, 7.5, "many", True])
def test_an_output_length_that_cannot_be_asked_for_leaves_the_row_out(told: object) -> None:
    with pytest.raises(FileError, match="max_tokens must be a whole number"):
        parse_jsonl("x", lines({"prompt": ASKED, "max_tokens": told}))


def test_a_file_that_ends_in_the_middle_gives_what_is_whole_and_says_so() -> None:
    sieve = Sieve("x.json")
    assert len(parse_sharegpt("x.json", json.dumps([TALK, TALK, TALK])[:-30], sieve)) == 2
    assert sieve.said == ("x.json: 1 of 3 rows left out: 1 cut off in the middle",)


def test_a_column_is_what_the_user_says_it_is() -> None:
    rows = lines({"q": ASKED, "prompt": "not this", "n": 5, "a": {"b": "one two"}})
    (asked,) = parse_jsonl("x", rows, columns={"prompt": "q", "output_tokens": "n"})
    assert (asked.text, asked.output_tokens) == (ASKED, 5)
    assert parse_jsonl("x", rows, columns={"prompt": "a.b"})[0].text == "one two"
    assert parse_jsonl("x", f"q,n\n{ASKED.replace(',', '')},3\n", columns={"prompt": "q"})[0].output_tokens is None
    (exchange,) = parse_sharegpt("x", lines({"log": CHAT}), columns={"messages": "log"})
    assert exchange.answer == ANSWER


@pytest.mark.parametrize(
    ("columns", "key", "says"),
    [
        ((("prompt", "q"),), "columns.prompt", "no row has 'q'; rows have prompt, n"),
        ((("prompt", "prompt"), ("output_tokens", "m")), "columns.output_tokens", "no row has 'm'"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(
    columns: tuple[tuple[str, str], ...], key: str, says: str
) -> None:
    with pytest.raises(FileError) as caught:
        parse_jsonl("x.jsonl", lines({"prompt": ASKED, "n": 1}), columns=dict(columns))
    assert caught.value.key == key
    assert says in caught.value.problem


def test_a_row_without_a_known_name_is_told_how_to_name_it() -> None:
    for text in (lines({"words": ASKED, "id": 1}), f"words,id\n{ASKED.replace(',', '')},1\n"):
        with pytest.raises(FileError, match=r"found: words, id.*--columns prompt=NAME"):
            parse_jsonl("x", text)


def test_a_row_of_a_csv_file_that_has_stray_bytes_is_left_out() -> None:
    sieve = Sieve("x.csv")
    assert len(parse_jsonl("x.csv", "prompt\nca\udce9\nyes\n", sieve)) == 1
    assert sieve.said == ("x.csv: 1 of 2 rows left out: 1 with bytes that are no UTF-8",)


ROW = lines({"prompt": ASKED})
ENCODED: list[Callable[[str], bytes]] = [
    lambda text: text.encode("utf-16"),
    lambda text: text.encode("utf-16-le"),
    lambda text: text.encode("utf-16-be"),
    lambda text: text.encode("utf-32"),
    lambda text: text.encode("utf-8-sig"),
    lambda text: gzip.compress(text.encode("utf-16")),
    lambda text: gzip.compress(text[:9].encode()) + gzip.compress(text[9:].encode()),
]


@pytest.mark.parametrize("encode", ENCODED)
def test_text_is_read_in_whatever_encoding_and_of_all_members_of_a_gzip(
    tmp_path: Path, encode: Callable[[str], bytes]
) -> None:
    path = tmp_path / "x"
    path.write_bytes(encode(ROW))
    assert text_of(path) == ROW


@pytest.mark.parametrize(
    ("begins", "says"),
    [
        (b"PAR1", "is Parquet: write it as JSON first: python -c"),
        (b"ARROW1", "is Arrow"),
        (b"PK\x03\x04", "is a ZIP archive: unpack it"),
        (b"\x28\xb5\x2f\xfd", "zstd -d"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_a_file_that_is_no_text_of_rows_is_told_what_to_do_with(tmp_path: Path, begins: bytes, says: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(begins + bytes(100))
    with pytest.raises(FileError, match=says):
        text_of(path)


def test_a_file_without_a_row_ends_in_an_error() -> None:
    texts: list[Any] = ["{", "[", "[{", '{"data": [', '{"data": 3}', "[[", "\x1e", "prompt", "[,,]"]
    for text in texts:
        for parse in (parse_jsonl, parse_sharegpt):
            with pytest.raises(FileError):
                parse("x", text)


def test_what_was_read_of_a_file_is_said_and_all_of_it_is_read_where_rows_do_not_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmtop.workload.conversations.MOST_ROWS", 4)
    path = tmp_path / "x.jsonl"
    path.write_text(lines(*[{"prompt": "one two three four five six seven eight"}] * 10))
    again, once = (
        PromptSource(Workload(source="jsonl", file=str(path), repeat=repeat), max_model_len=model)
        for repeat, model in ((True, None), (False, 64))
    )
    assert again.summary == "4 of the 10 prompts of x.jsonl, p50 8 tokens"
    assert once.summary == "10 prompts of x.jsonl, p50 8 tokens"
    point = LoadPoint(concurrency=1)
    assert [once.next(point).tokens for _ in range(10)] == [8] * 10, "beyond the fourth an estimate by characters"
    path.write_text(lines({"prompt": "one two"}, {"prompt": "word " * 100}))
    short = PromptSource(Workload(source="jsonl", file=str(path)), max_model_len=64)
    assert short.summary == "1 prompt of x.jsonl, p50 2 tokens, 1 of other lengths left out"


def test_a_turn_whose_role_is_no_word_leaves_its_row_out() -> None:
    sieve = Sieve("x")
    rows = lines({"messages": [{"role": None, "content": ASKED}]}, {"messages": said(("user", ASKED))})
    assert len(parse_jsonl("x", rows, sieve)) == 1
    assert sieve.said == ("x: 1 of 2 rows left out: 1 with messages that are no turns",)
