"""Laws of reading traffic: however a log is packed, ordered or broken, the good rows come out and nothing else does."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from logs import SOURCES, traffic_of

from llmtop.domain.bounds import TOKENS
from llmtop.errors import FileError
from llmtop.traffic.columns import ARRIVAL_S
from llmtop.traffic.lines import lines_of
from llmtop.traffic.read import read
from llmtop.traffic.table import Traffic

ROWS = [name for name in SOURCES if name not in ("otel", "litellm as CSV")]
"""With a request a line."""
ODD = [
    *("nan", "inf", "-1", "0", "-0.0", "1e308", "1e400", "9" * 400, "1_0", "null", "true", "٣", "{}", "[]", '""'),
    *("\x00", '"', "[", "{", "]", "}", ",", "\n", "\r", "\\", "\\ud800", "\ud800", "\ufeff", " ", "#", ":", "1970"),
]
GARBAGE = ('{"a": 1', "\x01\x02", '"', "1", "null", "[", "-,-,-", '{"timestamp": "x"}')


def columns_of(traffic: Traffic) -> dict[str, list[float]]:
    """-7 for nan, which is equal to nothing."""
    names = ("start_s", "prompt", "output", "e2e_s", "ttft_s", "session", "cached")
    columns = {name: getattr(traffic, name) for name in names}
    if traffic.blocks is not None:
        columns |= {"ids": traffic.blocks.ids, "ends": traffic.blocks.ends}
    return {name: np.nan_to_num(column, nan=-7).tolist() for name, column in columns.items() if column is not None}


def equal(one: Traffic, other: Traffic) -> bool:
    same = (one.source, one.began_at) == (other.source, other.began_at)
    return same and columns_of(one) == columns_of(other) and len(one.says) == len(other.says)


@pytest.mark.parametrize("name", SOURCES)
def test_packing_marks_and_ends_of_lines_change_nothing(name: str, tmp_path: Path) -> None:
    data = SOURCES[name].encode()
    expected = traffic_of(data)
    half = len(data) // 2
    forms = {
        "gzip": gzip.compress(data),
        "two members": gzip.compress(data[:half]) + gzip.compress(data[half:]),
        "mark": codecs.BOM_UTF8 + data,
        "mark in gzip": gzip.compress(codecs.BOM_UTF8 + data),
        "utf-16": data.decode().encode("utf-16"),
        "utf-16-be": codecs.BOM_UTF16_BE + data.decode().encode("utf-16-be"),
        "no last newline": data.rstrip(b"\n"),
        "CRLF": data.replace(b"\n", b"\r\n"),
        "blank lines": b"\n\n" + data + b"\n",
    }
    if name not in ("otel", "litellm as CSV"):
        forms["CR"] = data.replace(b"\n", b"\r")
    for form, packed in forms.items():
        assert equal(traffic_of(packed), expected), form
    path = tmp_path / "what.ever"
    path.write_bytes(forms["gzip"])
    assert equal(read(path), expected)


@pytest.mark.parametrize("name", [name for name in ROWS if SOURCES[name][0] == "{"])
def test_lines_are_read_as_containers_keep_them(name: str) -> None:
    lines, expected = SOURCES[name].splitlines(), traffic_of(SOURCES[name])
    kept = {
        "CRI": [f"2026-11-26T12:00:00.123456789Z stdout F {line}" for line in lines],
        "Docker": [
            json.dumps({"log": f"{line}\n", "stream": "stdout", "time": "2026-11-26T12:00:00Z"}) for line in lines
        ],
        "compose": [f"nginx-1  | {line}" for line in lines],
        "pod": [f"[pod/gateway-7f/nginx] {line}" for line in lines],
    }
    for keeper, written in kept.items():
        assert equal(traffic_of("\n".join(written)), expected), keeper
        other = [*written, written[0].replace(lines[0], "reopening logs"), lines[1]]
        assert len(traffic_of("\n".join(other))) >= 4, keeper


@pytest.mark.parametrize("name", ROWS)
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    lines = SOURCES[name].splitlines()
    head, rows = (lines[:1], lines[1:]) if lines[0][0] != "{" else ([], lines)
    expected = traffic_of(SOURCES[name])
    for seed in range(5):
        mixed = rows[:]
        Random(seed).shuffle(mixed)
        traffic = traffic_of("\n".join([*head, *mixed]))
        assert np.array_equal(traffic.start_s, expected.start_s)
        for name, column in columns_of(traffic).items():
            if name in ("prompt", "output", "e2e_s", "ttft_s", "cached"):
                other = columns_of(expected)[name]
                assert sorted(zip(traffic.start_s, column, strict=True)) == sorted(
                    zip(expected.start_s, other, strict=True)
                )


@pytest.mark.parametrize("name", ROWS)
def test_so_many_odd_rows_leave_all_good_ones_and_are_counted(name: str) -> None:
    lines = SOURCES[name].splitlines()
    first = lines[0][0] != "{"
    for seed in range(6):
        rng = Random(seed)
        count = rng.randrange(1, 7)
        mixed = lines[:]
        for _ in range(count):
            mixed.insert(rng.randrange(first, len(mixed) + 1), rng.choice(GARBAGE))
        traffic = traffic_of("\n".join(mixed))
        assert np.array_equal(traffic.start_s, traffic_of(SOURCES[name]).start_s)
        left = [int(match[1]) for said in traffic.says if (match := re.match(r"mine.x: (\d+) of \d+ rows left", said))]
        passed = [said for said in traffic.says if said.startswith("rows passed over, no requests to an LLM: ")]
        assert sum(left) + sum(map(int, re.findall(r"\d+", " ".join(passed)))) == count, (traffic.says, mixed)


def test_nothing_of_the_text_of_a_request_is_told() -> None:
    for name, text in SOURCES.items():
        cut, odd, worse = (
            text[: len(text) * 2 // 3],
            text.replace("128", '"SECRET of"'),
            text.replace("2026", "SECRET of"),
        )
        for broken in (text, cut, odd, worse):
            try:
                told = repr(traffic_of(broken))
            except FileError as error:
                told = str(error)
            assert "SECRET of a" not in told, name
            assert len(told) < 4000


def test_a_packed_file_that_is_cut_off_or_broken_is_told() -> None:
    packed = gzip.compress(SOURCES["litellm"].encode())
    with pytest.raises(FileError, match="is cut off"):
        traffic_of(packed[:-9])
    with pytest.raises(FileError, match="cannot be unpacked"):
        traffic_of(packed[:20] + b"\xff\xff\xff" + packed[23:])
    with pytest.raises(FileError, match=r"is not UTF-8 text \(byte 2\)"):
        traffic_of(b"ab\0cd")


def test_parts_of_any_size_are_the_same_lines() -> None:
    data = codecs.BOM_UTF8 + "a,b\r\nä\r\n\r\nlast".encode()
    expected = [b"a,b\r", "ä\r".encode(), b"\r", b"last"]
    for packed in (data, gzip.compress(data), data[3:].decode().encode("utf-16")):
        for size in (1, 2, 3, 5, 100):
            parts = [packed[at : at + size] for at in range(0, len(packed), size)]
            assert list(lines_of("x", [b"", *parts])) == expected


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


def mutants(count: int, first: int) -> Iterator[tuple[int, str]]:
    for number in range(first, first + count):
        rng = Random(number)
        yield number, mutant(SOURCES[rng.choice(list(SOURCES))], rng)


def read_or_refused(text: str) -> Traffic | None:
    try:
        return traffic_of(text)
    except FileError as error:
        if len(str(error)) > 2000:
            raise AssertionError("a sentence without an end") from error
        return None


def hold(count: int, first: int = 0) -> None:
    sound = 0
    for number, text in mutants(count, first):
        began = time.process_time()
        traffic = read_or_refused(text)
        assert time.process_time() - began < 0.5, number
        if traffic is None:
            continue
        sound += 1
        assert 0 < len(traffic) == len(traffic.prompt) == len(traffic.output), number
        assert traffic.start_s[0] == 0
        assert (np.diff(traffic.start_s) >= 0).all()
        assert traffic.span_s <= ARRIVAL_S.most
        for column in (traffic.prompt, traffic.output):
            assert ((column >= 0) & (column <= TOKENS.most)).all()
        for span in (traffic.e2e_s, traffic.ttft_s):
            assert span is None or (len(span) == len(traffic) and not (span < 0).any())
        assert traffic.blocks is None or traffic.blocks.ends[-1] == len(traffic.blocks.ids)
        assert all(len(said) < 500 and said.isprintable() for said in traffic.says)
    assert 0.3 * count < sound < count


def test_mutants_of_logs_are_sound_tables_or_refused() -> None:
    hold(700)


@pytest.mark.faults
def test_many_mutants_of_logs_are_sound_tables_or_refused() -> None:
    hold(100_000, first=700)
