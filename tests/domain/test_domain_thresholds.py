"""The words of --fail-on: what is read, what is refused, and by which sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.analysis.thresholds import NAMES, parse_changes
from llmtop.domain.slo import FIGURES, parse_slo
from llmtop.domain.thresholds import FLOORS, MOST, parse_limits
from llmtop.errors import UsageError


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("ttft_p95 > 1.5s", {"ttft_p95": 1.5}),
        ("ttft>1500ms,", {"ttft_p95": 1.5}),
        (
            "ttft_p95 > 1.5s, capacity < 40, error_ratio > 0.5%, tokens_per_s < 800",
            {"ttft_p95": 1.5, "capacity": 40, "error_ratio": 0.005, "output_tokens_per_s": 800},
        ),
        ("errors>1%,kv_usage > 80%", {"error_ratio": 0.01, "kv": 0.8}),
        ("Answer.TTFT_p99 > 1min", {"Answer.ttft_p99": 60}),
        ("a.b c.e2e_mean>.5s", {"a.b c.e2e_mean": 0.5}),
        ("rps < 1e2, GOODPUT<2.5", {"requests_per_s": 100, "goodput": 2.5}),
    ],
)
def test_what_is_read(text: str, read: dict[str, float]) -> None:
    limits = {each.name: each.limit for each in parse_limits(text)}
    assert limits == pytest.approx(read)


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_figure_of_the_slo_may_be_a_threshold_and_means_the_same(name: str) -> None:
    unit = "s" if name.startswith(("ttft", "tpot", "e2e")) else "%" if name in ("kv", "error_ratio") else ""
    (threshold,) = parse_limits(f"{name} > 2{unit}")
    assert (threshold.target,) == parse_slo(f"{name}<2{unit}").targets


def test_both_forms_have_one_name_for_a_figure() -> None:
    for name in set(NAMES) - {"cliff"}:
        unit = "" if name in (*FLOORS, "error_ratio", "kv_usage") else "s"
        (limit,) = parse_limits(f"{name} {'<' if name in FLOORS else '>'} 1{unit}")
        assert limit.name == {"kv_usage": "kv"}.get(name, name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name what may not be"),
        (" , ", "name what may not be"),
        (",".join(["ttft > 1s"] * (MOST + 1)), "name what may not be"),
        ("speed > 1s", "'speed > 1s': the figures are ttft, tpot and e2e"),
        ("ttft_p59 > 1s", "did you mean ttft_p9"),
        ("capasity < 4", "did you mean capacity?"),
        ("ttft_p95 < 1s", "ttft_p95 gets worse by >, not by <"),
        ("capacity > 4", "capacity gets worse by <, not by >"),
        ("tokens_per_s > 4", "output_tokens_per_s gets worse by <"),
        ("ttft_p95 > 1", "ttft wants ms or s or min"),
        ("ttft_p95 > 1 h", "ttft wants ms or s or min"),
        ("ttft_p95 > 0s", "the limit must be a number from"),
        ("ttft_p95 > 1e999s", "the limit must be a number from"),
        ("error_ratio > 200%", "the limit must be a number from"),
        ("queue > 10%", "queue wants a bare number"),
        ("capacity < 40%", "capacity wants a bare number"),
        ("capacity < 0", "must be a number from"),
        ("capacity < 1e99", "must be a number from"),
        ("ttft_p95 >= 1s", "has a sign too many"),
        ("capacity =< 4", "has a sign too many"),
        ("ttft_p95 +10%", "is a change from one run to another, as `llmtop compare` takes them"),
        ("ttft_p95", "is no figure with a limit"),
        ("> 1s", "is no figure with a limit"),
        ("ttft_p95 > fast", "is no figure with a limit"),
        ("ttft > 1s, ttft_p95 > 2s", "a second threshold on ttft_p95"),
        ("answer.capacity < 4", "capacity is of all requests together"),
        ("answer.queue > 4", "queue is the server's"),
        ("ttft > 1s tpot > 1s", "is no figure with a limit"),
        ("x" * 5000, "is no figure with a limit"),
        ("\x1b[31mttft > 1s", "'\\\\x1b[31mttft > 1s'"),
    ],
)
def test_what_is_refused_names_the_part_and_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_limits(text)
    said = str(caught.value)
    assert says in said
    assert said.startswith("--fail-on: ")
    assert said.isprintable()


def test_a_limit_of_one_run_is_told_where_it_belongs() -> None:
    with pytest.raises(UsageError, match="is a limit of one run, as `llmtop run` takes them"):
        parse_changes("ttft_p95 > 1.5s")


@given(st.text(st.sampled_from("ttf_p95cai.<>=0123456789sm% ,e\x00é"), max_size=40))
def test_any_words_are_read_or_refused_in_one_line(text: str) -> None:
    try:
        limits = parse_limits(text)
    except UsageError as error:
        said = str(error)
    else:
        said = "read"
        assert len({each.name for each in limits}) == len(limits) > 0
    assert said.isprintable()
