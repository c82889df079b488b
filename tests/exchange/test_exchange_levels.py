"""Tables of levels as text."""

from __future__ import annotations

import pytest

from llmtop.analysis import assess_levels
from llmtop.domain.verdicts import Kind
from llmtop.errors import UsageError
from llmtop.exchange.levels import MOST_LEVELS, parse_levels, shortfall


def test_one_row_a_request():
    low, high = parse_levels("level,ttft_s,e2e_s,waiting\n8,0.2,2,0\n4,0.1,1.5,\n4,0.3,1.7,\n")
    assert (low.load, low.n, high.load, high.n) == (4, 2, 8, 1)
    assert low.waiting is None
    assert high.waiting == 0
    assert low.mean("e2e") == pytest.approx(1.6)


def test_one_row_a_level_with_gaps():
    (level,) = parse_levels("level,y,se_log,n,y_mean,R_mean,X_rps,tok_s\n16,0.5,0.02,200,0.6,3,,900\n")
    assert level.given.y == 0.5
    assert level.n == 200
    assert level.requests_per_s is None
    assert level.mean("ttft") == 0.6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "no column 'level'"),
        ("", "no column 'level'"),
        ("level,X_rps\n1,2\n", "no figure in it; columns are level and ttft_s"),
        ("level,ttft_s\nx,2\n", "line 2, column level: 'x' must be a number from 0.001"),
        ("level,ttft_s\n0,2\n", "line 2, column level: '0' must be a number from 0.001"),
        ("level,ttft_s\n,2\n", "line 2, column level: must be a number"),
        ("level,ttft_s\n1,-2\n", "column ttft_s: '-2' must be a number from 0"),
        ("level,ttft_s\n1,inf\n", "column ttft_s: 'inf'"),
        ("level,ttft_s,errors\n1,1,1e308\n", "column errors"),
        ("level,y,n\n1,2,0\n", "column n: '0' must be a number from 1"),
        ("level,y,n\n1,2,\n", "level 1 needs n"),
        ("level,y\n1,2\n", "no column 'n' beside 'y'"),
        ("level,ttft_s\n", "no row in it"),
        ('level,ttft_s\n1,"' + "x" * 200_000 + '"\n', "line 2: field larger"),
        ("level,ttft_s\n1,2,3\n", "more cells"),
        ("level,y,n\n1,0,10\n", "column y: '0' must be a number from 0.000001"),
    ],
)
def test_bad_tables_say_what_is_wrong(text, says):
    with pytest.raises(UsageError, match=says):
        parse_levels(text)


def test_a_small_table_asks_for_more():
    rows = "".join(f"{level},0.1,2\n" for level in (2, 4) for _ in range(20))
    found = assess_levels(parse_levels("level,ttft_s,e2e_s\n" + rows))
    assert found.cliff.kind is Kind.INSUFFICIENT
    assert "not enough data: try 8" in found.headline


def test_a_table_without_errors_takes_a_spread_of_thirty_percent() -> None:
    (level,) = parse_levels("level,y,n\n8,0.5,100\n")
    assert level.given is not None
    assert (level.given.y, level.given.n) == (0.5, 100)
    assert level.given.se == pytest.approx(1.2533 * 0.3 / 10)
    assert level.ttft_mean_s == 0.5


def test_columns_are_known_in_any_case_and_others_are_left_out() -> None:
    (level,) = parse_levels("\ufeff Level , TTFT_S,x_RPS,host\n4,0.5,3,here\n\n4,0.7,NaN,there\n")
    assert (level.load, level.n, level.requests_per_s) == (4, 2, 3)


def test_a_table_with_too_few_requests_is_told_what_its_columns_are() -> None:
    few = parse_levels("level,ttft_s\n4,0.5\n8,0.7\n")
    assert shortfall(few).startswith("no level has 20 requests, the most that one has is 1; columns are level and ttft")
    assert shortfall(parse_levels("level,y,n\n4,0.5,20\n")) == ""
    found = assess_levels(parse_levels("level,ttft_s\n" + "4,0.5\n8,0.7\n16,0.9\n" * 30))
    assert "e2e_s" not in found.headline


def test_a_table_of_endless_levels_is_refused() -> None:
    with pytest.raises(UsageError, match="1,001 levels; at most 1,000"):
        parse_levels("level,ttft_s\n" + "".join(f"{level},1\n" for level in range(1, MOST_LEVELS + 2)))
