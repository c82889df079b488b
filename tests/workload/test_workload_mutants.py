"""Mutants of every kind of trace and prompt file are rows within bounds or refused; time goes with size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

import pytest

from llmtop.domain.bounds import TOKENS
from llmtop.domain.profile import LogNormal, Normal
from llmtop.errors import FileError
from llmtop.traffic.read import parse
from llmtop.workload import conversations
from llmtop.workload.lengths import draw
from llmtop.workload.recorded import rates
from llmtop.workload.tokens import PIECE, count_tokens


class Row(NamedTuple):
    arrival_s: float
    prompt_tokens: int
    output_tokens: int


SHAREGPT = """[{"id": "a", "conversations": [{"from": "human", "value": "Name five rivers of Europe, please."},
 {"from": "gpt", "value": "Danube, Rhine, Elbe, Loire and Tagus."}]}, {"id": "d", "conversations": []}]"""
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
PLAIN = "# mine\narrival_s,input_tokens,output_tokens\n0,100,10\n0.5,200,20\n"


def parse_trace(path: object, text: str) -> list[Row]:
    traffic = parse(path, text.encode("utf-8", "surrogatepass"))
    assert len(rates(traffic.start_s, 1.0).points) <= 2 * len(traffic) + 1
    return list(map(Row, traffic.start_s.tolist(), traffic.prompt.tolist(), traffic.output.tolist()))


KINDS: list[tuple[Callable[[object, str], Sequence[Any]], str]] = [
    (conversations.parse_sharegpt, SHAREGPT),
    (conversations.parse_jsonl, JSONL),
    (parse_trace, MOONCAKE),
    (parse_trace, AZURE),
    (parse_trace, PLAIN),
]
ODD = [
    *("nan", "inf", "-1", "0", "-0.0", "1e308", "1e400", "1e-300", "9" * 400, "1_0", "9999", "null", "true", "٣"),
    *("\x00", '"', "[", "{", "]", "}", ",", "\n", "\r", "\\", "\\ud800", "\ud800", "\ufeff", " ", "#"),
]


def mutant(text: str, rng: Random) -> str:
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        kind, place = rng.random(), rng.randrange(len(text) + 1)
        if kind < 0.3:
            text = text[:place] + rng.choice(ODD) + text[place:]
        elif kind < 0.5:
            text = text[:place] + text[place + rng.randrange(1, 20) :]
        elif kind < 0.7:
            text = text[:place] + rng.choice(ODD) + text[place + rng.randrange(1, 8) :]
        elif kind < 0.8:
            other = rng.randrange(len(text) + 1)
            text = text[:place] + text[min(place, other) : max(place, other)] + text[place:]
        else:
            text = text[:place] + chr(rng.randrange(128)) + text[place + 1 :]
    return text


def rows_of(parse: Callable[[object, str], Sequence[Any]], text: str) -> Sequence[Any]:
    """None of a file that is refused."""
    try:
        return parse("file", text)
    except FileError:
        return ()


def hold(count: int, first: int = 0) -> None:
    sound = 0
    for number in range(first, first + count):
        rng = Random(number)
        parse, seed = rng.choice(KINDS)
        began = time.process_time()
        rows = rows_of(parse, mutant(seed, rng))
        sound += bool(rows)
        trace = [row for row in rows if isinstance(row, Row)]
        arrivals_s = [row.arrival_s for row in trace]
        lengths = [tokens for row in trace for tokens in (row.prompt_tokens, row.output_tokens)]
        assert all(tokens == 0 or TOKENS.holds(tokens) for tokens in lengths), "0: not told"
        assert arrivals_s == sorted(arrivals_s)
        assert time.process_time() - began < 0.5, number
    assert 0.02 * count < sound < 0.98 * count


def test_mutants_are_rows_within_bounds_or_refused() -> None:
    hold(4000)


@pytest.mark.faults
def test_many_mutants_are_rows_within_bounds_or_refused() -> None:
    hold(400_000, first=4000)


def larger(text: str, times: int) -> str:
    """A file with so many times the rows; a list in JSON stays one."""
    if text.startswith("["):
        return "[" + ",".join([text[1:-1]] * times) + "]"
    head = 2 if text.startswith("#") else text.startswith("TIMESTAMP")
    lines = text.splitlines(keepends=True)
    return "".join(lines[:head]) + "".join(lines[head:]) * times


@pytest.mark.parametrize(("parse", "text"), KINDS)
def test_eight_times_the_rows_take_eight_times_the_time(
    parse: Callable[[object, str], Sequence[Any]], text: str
) -> None:
    def seconds(times: int) -> float:
        content, taken = larger(text, times), []
        for _ in range(2):
            began = time.process_time()
            assert len(parse("file", content)) >= times
            taken.append(time.process_time() - began)
        return min(taken)

    assert seconds(4000) < 2.3 * 8 * seconds(500)


def test_a_drawn_length_is_one_that_may_be_asked_for() -> None:
    rng, most = Random(1), int(TOKENS.most)
    drawn = [draw(kind, most, rng) for kind in (LogNormal(10), Normal(10)) for _ in range(200)]
    assert max(drawn) == most
    assert min(drawn) >= 1


def test_a_text_of_blanks_alone_is_counted_however_long() -> None:
    counted = count_tokens(["", " " * 1_500_000 + "x", "one two", "a" * (PIECE + 1)])
    assert counted[0] == 0
    assert counted[2] == 2
    assert all(count > 0 for count in counted[1:])
