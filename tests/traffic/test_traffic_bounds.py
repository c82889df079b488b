"""Where the bounds of reading lie: each moves a test when it moves."""

from __future__ import annotations

import csv
from array import array

import numpy as np
import pytest
from logs import BEGAN_AT, SOURCES, completion, lines, traffic_of

from llmtop.errors import FileError
from llmtop.traffic import documents, rows, tables
from llmtop.traffic import lines as reading
from llmtop.traffic.columns import Columns, took, whole
from llmtop.traffic.times import Times, number_of


def test_a_request_takes_a_day_at_most() -> None:
    assert [took(seconds) for seconds in (0, 86_400)] == [0, 86_400]
    assert all(np.isnan(took(seconds)) for seconds in (-1e-9, 86_401, float("nan"), float("inf")))


def test_a_number_is_a_time_of_this_century_in_the_unit_that_gives_one() -> None:
    times = Times()
    least, most = 946_684_800, 4_102_444_800
    assert [times.number_s(least * unit) for unit in (1, 1e3, 1e6, 1e9)] == pytest.approx([least] * 4)
    assert times.number_s(most) == most
    for value in (least - 1, most + 1, 0, -1, float("nan"), float("inf"), 1e30):
        with pytest.raises(ValueError, match="must be a time in seconds, ms, us or ns"):
            times.number_s(value)


WRITTEN = {
    "2026-11-06T21:20:00Z": 0.0,
    "2026-11-06 21:20:00.250000": 0.25,
    "2026-11-06 21:20:07,5": 7.5,
    "2026-11-06T21:20Z": 0.0,
    "2026-11-06 21:20:00 UTC": 0.0,
    "2026-11-06T21:20:01+00:00": 1.0,
    "2026-11-07T01:50:01+0430": 1.0,
    "2026-11-06T20:20:01-01": 1.0,
    "06/Nov/2026:22:20:02 +0100": 2.0,
    " 2026-11-06 21:20:59.9999999 ": 59.9999999,
    "2026-11-06 21:20:60Z": 60.0,
}


def test_times_are_read_as_logs_write_them_the_second_time_as_the_first() -> None:
    times = Times()
    for _ in range(2):
        for text, offset_s in WRITTEN.items():
            assert times.any_s(text) == pytest.approx(BEGAN_AT + offset_s, abs=1e-6), text
    assert (times.zoned, times.bare) == (16, 6)
    for text in (
        "2026-13-06 21:20:00",
        "2026-02-29 21:20:00",
        "1999-12-31 23:59:59",
        "21:20:00",
        "2026-11-06",
        "",
        "x",
    ):
        with pytest.raises(ValueError, match="must be a time such as"):
            times.text_s(text)
    for second in ("nan", "-1", "61", "1e9", "", "0.0.0", "07+9", "7Z9"):
        with pytest.raises(ValueError, match="must be a time such as"):
            times.text_s(f"2026-11-06T21:20:{second}")


def test_tokens_are_whole_numbers_in_any_spelling_or_none() -> None:
    good = {0: 0, 7: 7, 8.0: 8, "7": 7, " 7 ": 7, "7.0": 7, "10000000": 10_000_000, 10_000_000: 10_000_000}
    assert [whole(value) for value in good] == list(good.values())
    bad = (
        None,
        True,
        -1,
        7.5,
        "7.5",
        "x",
        "",
        "-7",
        "1_0",
        "٣",
        10_000_001,
        "10000001",
        "9" * 5000,
        1e300,
        [7],
        float("nan"),
    )
    assert {whole(value) for value in bad} == {-1}
    assert all(np.isnan(number_of(value)) for value in (None, "", "x", "1_0", "nan", [1], "٣"))


def test_whole_seconds_and_strays_are_told_of_so_many_requests_and_not_of_fewer() -> None:
    coarse = [completion(0, id=str(at), created=int(BEGAN_AT) + at // 4) for at in range(20)]
    assert [len(traffic_of(lines(coarse[:count])).says) for count in (19, 20)] == [0, 1]
    for count, stray, times, said in (
        (99, 1, 60, 0),
        (100, 1, 60, 1),
        (100, 1, 45, 0),
        (300, 3, 60, 1),
        (300, 4, 60, 0),
    ):
        columns = Columns("x")
        columns.start = array("d", [*np.linspace(0, 1, count - stray), *[float(times)] * stray])
        columns.prompt = columns.output = array("q", [1] * count)
        assert len(columns.table("x", "none").says) == said, (count, stray, times)


def test_what_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_LINE", 50)
    with pytest.raises(FileError, match="has a line of more than"):
        traffic_of("x" * 60)
    monkeypatch.undo()
    monkeypatch.setattr(documents, "MOST_BYTES", 100)
    with pytest.raises(FileError, match="is one JSON document of more than 0 MB: write it as an object a line"):
        traffic_of(SOURCES["otel"])
    assert len(traffic_of(SOURCES["otel by line"])) == 4
    assert rows.MOST_BYTES == 1_000_000_000


def test_a_log_may_keep_long_prompts_in_its_cells_and_leaves_the_limit_of_others_alone() -> None:
    before = csv.field_size_limit()
    text = SOURCES["litellm as CSV"].replace("SECRET", "word " * 40_000)
    assert len(traffic_of(text)) == 4
    assert csv.field_size_limit() == before
    assert tables.MOST_CELL > 40 * 160_000
    plain = 'arrival_s,input_tokens,output_tokens\n0,1,1\n"' + "x" * 200_000 + '",1,1\n1,1,1\n'
    assert len(traffic_of(plain)) == 2


def test_a_quote_that_is_not_closed_costs_its_row_alone() -> None:
    good = [f"{at},1,1" for at in range(3000)]
    bad = [*good[:1000], '"1000,1,1', *good[1001:]]
    traffic = traffic_of("\n".join(["arrival_s,input_tokens,output_tokens", *bad]), "q.csv")
    assert traffic.says == ("q.csv: 1 of 3,000 rows left out: 1 that are no row of a table",)
    assert traffic.span_s == 2999
