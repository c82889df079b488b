"""Tables of levels as text."""

from __future__ import annotations

from random import Random

import pytest

from llmtop.analysis import assess_levels
from llmtop.domain.slo import parse_slo
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


SAMPLES = ("ttft_s", "tpot_s", "e2e_s")
GAUGES = ("X_rps", "running", "waiting", "kv", "preempt", "tok_s", "errors")
SECONDS = ("0.000001", "0.001", "0.5", "1", "100", "86400")
FIGURES = {
    **dict.fromkeys((*SAMPLES, "y_mean", "R_mean"), (*SECONDS, "", "nan")),
    **dict.fromkeys(GAUGES, ("0", "1e-9", "1", "3", "1e6", "1e12", "")),
    "y": SECONDS,
    "n": ("1", "5", "20.0", "200", "1e9"),
    "se_log": ("0", "1e-9", "0.02", "10", ""),
}


def table(rng: Random) -> str:
    """A table within its bounds that no run would give."""
    raw = rng.random() < 0.5
    columns = [name for name in (*SAMPLES, *GAUGES) if rng.random() < 0.8] if raw else list(FIGURES)[3:]
    lines = []
    for _ in range(rng.choice((1, 2, 3, 5, 8))):
        load = rng.choice(("0.001", "1", "2", "4", "8", "16", "100", "1e9"))
        usual = {name: rng.choice(FIGURES[name]) for name in columns}
        for _ in range(rng.choice((1, 5, 30)) if raw else 1):
            cells = [usual[name] if rng.random() < 0.9 else rng.choice(FIGURES[name]) for name in columns]
            lines.append(",".join([load, *cells]))
    return "\n".join([",".join(["level", *columns]), *lines])


@pytest.mark.filterwarnings("error")
def test_whatever_a_table_within_its_bounds_says_there_are_verdicts() -> None:
    for number in range(200):
        rng = Random(number)
        text = table(rng)
        try:
            levels = parse_levels(text)
        except UsageError as refused:
            assert "no figure in it" in str(refused)  # noqa: PT017
            continue
        slo = rng.choice((None, parse_slo("ttft<2s,e2e<3s,error_ratio<1%")))
        assert assess_levels(levels, slo=slo, axis=rng.choice(("concurrency", "rate"))).headline
