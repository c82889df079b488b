"""What an answer said is kept whole for who asks for it, and to keep it changes nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.reader import StreamReader
from llmtop.endpoint.said import MOST_CALLS, Said, ToolCall
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.wire import ResponseParser

DATA = Path(__file__).parent / "data"


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def first_token(self, trace: Trace) -> None:
        self.heard.append(("first", trace.first_token_ns))

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        self.heard.append((n, stamp_ns, gap_ns))


def read(parts: list[bytes], said: Said | None) -> tuple[Trace, Ear]:
    trace, ear = Trace(), Ear()
    reader = StreamReader(trace, ear, Stamper(0), 64, said)
    reader.sent(0, 0)
    parser = ResponseParser("POST")
    parser.status, parser.headers = 200, [("content-type", "text/event-stream")]
    reader.head(parser, 1)
    for stamp, part in enumerate(parts, 2):
        reader.body(part, stamp * 1000)
    reader.close(1_000_000)
    return trace, ear


def events(*choices: dict[str, Any]) -> list[bytes]:
    told = [b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n" for choice in choices]
    return [*told, b"data: [DONE]\n\n"]


def delta(**fields: Any) -> dict[str, Any]:
    return {"index": 0, "delta": fields, "finish_reason": None}


def call(**fields: Any) -> dict[str, Any]:
    return delta(tool_calls=[fields])


def test_words_reasoning_and_calls_are_put_together_from_their_pieces() -> None:
    said = Said()
    read(
        events(
            delta(role="assistant", content=""),
            delta(reasoning_content="Let me "),
            delta(reasoning="see."),
            delta(content="The "),
            delta(content="answer"),
            call(index=0, id="a", type="function", function={"name": "find", "arguments": ""}),
            call(index=0, function={"arguments": '{"q":'}),
            call(index=0, function={"arguments": '"x"}'}),
            call(index=1, id="b", function={"name": "open", "arguments": "{}"}),
        ),
        said,
    )
    assert (said.text, said.reasoning) == ("The answer", "Let me see.")
    assert said.tool_calls == (ToolCall("a", "find", '{"q":"x"}'), ToolCall("b", "open", "{}"))


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (
            [{"id": "a", "function": {"name": "f", "arguments": "1"}}, {"function": {"arguments": "2"}}],
            [("a", "f", "12")],
        ),
        (
            [{"id": "a", "function": {"name": "f"}}, {"id": "b", "function": {"name": "g"}}],
            [("a", "f", ""), ("b", "g", "")],
        ),
        (
            [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}}] * 2,
            [("a", "f", "11")],
        ),
        ([{"index": 0, "id": 7, "function": {"name": None, "arguments": {"a": 1}}}, None, "x", {"function": 3}], []),
        ([], []),
    ],
)
def test_calls_in_other_forms(pieces: list[Any], expected: list[tuple[str, str, str]]) -> None:
    said = Said()
    for piece in pieces:
        said.take_calls([piece])
    assert said.tool_calls == tuple(ToolCall(*parts) for parts in expected)


def test_a_server_cannot_fill_the_memory_with_calls() -> None:
    said = Said()
    said.take_calls([{"index": index, "function": {"name": "f"}} for index in range(MOST_CALLS * 10)])
    assert len(said.tool_calls) == MOST_CALLS


def test_completions_and_less_usual_names_are_words_as_well() -> None:
    said = Said()
    read(
        [
            b'data: {"choices":[{"text":"one "}]}\n\n',
            b'data: {"choices":[{"delta":{"thinking":"hm"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":[{"type":"text","text":"two"}]}}]}\n\n',
        ],
        said,
    )
    assert (said.text, said.reasoning) == ("one two", "hm")


def test_an_attempt_that_did_not_count_is_forgotten() -> None:
    said = Said()
    read(events(delta(content="x"), call(index=0, function={"name": "f"}), delta(reasoning="y")), said)
    said.clear()
    assert (said.text, said.reasoning, said.tool_calls) == ("", "", ())


def test_to_keep_the_words_changes_no_stamp_and_no_count() -> None:
    parts = events(
        *[delta(content=f"w{n} ") for n in range(20)], delta(reasoning="r"), call(index=0, function={"name": "f"})
    )
    (plain, ear), (kept, other) = read(parts, None), read(parts, Said())
    assert ear.heard == other.heard
    assert {name: getattr(plain, name) for name in Trace.__slots__} == {
        name: getattr(kept, name) for name in Trace.__slots__
    }
