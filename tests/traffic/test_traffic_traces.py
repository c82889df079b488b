"""Traces as tables and as Mooncake lines: what they give, what is guessed of them, and what odd rows cost."""

from __future__ import annotations

import itertools

import pytest

from llmtop.traffic import columns
from llmtop.traffic.read import parse
from llmtop.traffic.table import Traffic

MOON = '{"timestamp": 0, "input_length": 30, "output_length": 5}'
AZURE_ROW = "2023-11-16 18:15:46.68,374,44"
HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens"
PLAIN = "arrival_s,input_tokens,output_tokens"
BURST = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"


def traffic_of(text: str, name: str = "mine.x", **asked: str) -> Traffic:
    return parse(name, text.encode("utf-8", "surrogatepass"), **asked)  # type: ignore[arg-type]


ODD_ROWS: list[tuple[str, str]] = [
    (f"{MOON}\n{MOON.replace('30', '0')}", "without tokens"),
    (f"{MOON}\n{MOON.replace('30', 'null')}", "without tokens"),
    (f"{MOON}\n{MOON.replace('0,', 'null,', 1)}", "without a time"),
    (f"{MOON}\n{MOON[:-1]}", "that are no JSON"),
    (f"{HEAD}\n{AZURE_ROW}\n2023-11-16 18:15:46.68,0,0", "without tokens"),
    (f"{HEAD}\n{AZURE_ROW}\n2023-02-30 18:15:46.68,9,9", "with TIMESTAMP that is no figure within bounds"),
    (f"\ufeff{HEAD}\r\n,1,1\r\n{AZURE_ROW}\r\n", "without a time"),
    ("Timestamp,Model,Request tokens,Response tokens\n5,x,9,9\n45,x,9,0", "that failed"),
    (f"{PLAIN.replace(',', ';')}\n0;9;9\n1;x;9", "with input_tokens that is no figure within bounds"),
    (f'{PLAIN}\n"0,1,1\n0,9,9', "that are no row of a table"),
]


@pytest.mark.parametrize(("text", "why"), ODD_ROWS)
def test_an_odd_row_is_left_out_and_counted_and_the_rest_is_used(text: str, why: str) -> None:
    traffic = traffic_of(text)
    assert len(traffic) == 1
    assert traffic.says == (f"mine.x: 1 of 2 rows left out: 1 {why}",)


@pytest.mark.parametrize(
    ("gap", "moments", "unit_s"),
    [
        *((1, 10, 1.0), (0.16, 10, 1.0), (99, 10, 1.0), (3, 2, 1.0), (9.9, 1500, 1.0), (3000, 1, 1e-3)),
        *((100, 10, 1e-3), (3000, 2, 1e-3), (10, 1500, 1e-3)),
    ],
)
def test_timestamps_are_milliseconds_unless_they_lie_too_close(gap: float, moments: int, unit_s: float) -> None:
    stamps = [place // 2 * gap for place in range(2 * moments)]
    text = "\n".join(MOON.replace("0", f"{stamp:.3f}", 1) for stamp in stamps)
    traffic = traffic_of(text)
    assert traffic.start_s == pytest.approx([stamp * unit_s for stamp in stamps])
    assert bool(traffic.says) == (unit_s == 1.0)
    assert all(said.startswith("timestamps taken as seconds: ") for said in traffic.says)
    for unit, one_s in (("ms", 1e-3), ("s", 1.0)):
        told = traffic_of(text, unit=unit)
        assert told.start_s == pytest.approx([stamp * one_s for stamp in stamps])
        assert told.says == ()


def test_blocks_have_the_size_that_fits_the_lengths_and_stay_with_their_rows() -> None:
    rows = [
        '{"timestamp": 9000, "input_length": 40, "output_length": 5, "hash_ids": [1, 2, 3]}',
        '{"timestamp": 0, "input_length": 20, "output_length": 5, "hash_ids": [1, 7]}',
        '{"timestamp": 4000, "input_length": 30, "output_length": 5, "hash_ids": []}',
    ]
    blocks = traffic_of("\n".join(rows)).blocks
    assert blocks is not None
    assert (blocks.ids.tolist(), blocks.ends.tolist(), blocks.tokens) == ([1, 7, 1, 2, 3], [2, 2, 5], 16)
    blocks = traffic_of(rows[0].replace("40", "1400")).blocks
    assert blocks is not None
    assert blocks.tokens == 512
    assert traffic_of(MOON).blocks is None


def test_a_trace_of_conversations_tells_which_requests_belong_together() -> None:
    rows = [MOON.replace("}", f', "session_id": {of}}}') for of in ("7", "null", '"b"', "7")]
    told = traffic_of("\n".join(rows)).session
    assert told is not None
    assert told.tolist() == [0, -1, 1, 0]
    assert traffic_of(MOON).session is None


def test_ids_of_any_size_stay_what_they_are_and_with_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [[1, 2], [], [3, 2**40], [2**80, 1], [2**80, -5, 7], [2**31 - 1]]
    rows = [
        f'{{"timestamp": {9000 - 1000 * at}, "input_length": 512, "output_length": 5, "hash_ids": {of}}}'
        for at, of in enumerate(ids)
    ]
    monkeypatch.setattr(columns, "_ROWS_AT_ONCE", 2)
    for count in (1, 3, 6):
        blocks = traffic_of("\n".join(rows[:count])).blocks
        assert blocks is not None
        assert blocks.ids.dtype.itemsize == (4 if count == 1 else 8)
        begins = [0, *blocks.ends.tolist()]
        found = [blocks.ids[begin:end].tolist() for begin, end in itertools.pairwise(begins)]
        assert found == [[hash(number) for number in of] for of in reversed(ids[:count])]


def test_a_time_may_name_its_zone() -> None:
    text = f"{HEAD}\n2024-05-10T02:00:01+02:00,9,9\n2024-05-10 00:00:00Z,9,9\n2024-05-09 23:00:03.5-01:00,9,9"
    traffic = traffic_of(text)
    assert traffic.start_s.tolist() == [0, 1, 3.5]
    assert traffic.began_at == 1715299200


def test_burstgpt_tells_sessions_and_how_long_each_took() -> None:
    rows = ["5,,0.2,ChatGPT,128,11,139,API log", "6,s,1,GPT-4,5,6,11,Conversation log", "7,s,,GPT-4,7,8,15,x"]
    traffic = traffic_of("\n".join([BURST, *rows, "5.5,t,2,GPT-4,7,8,15,x"]))
    assert traffic.start_s.tolist() == [0, 0.5, 1, 2]
    assert traffic.session is not None
    assert traffic.e2e_s is not None
    assert traffic.session.tolist() == [-1, 0, 1, 1]
    assert traffic.e2e_s.tolist()[:3] == [0.2, 2, 1]
    assert traffic.e2e_s[3] != traffic.e2e_s[3]
    assert traffic.says == ("not in order of time, sorted: 1 of 4 rows",)
