"""A number is read from plain digits and within bounds, or an error says what may be given."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain import bounds
from llmtop.domain.bounds import Quantity

QUANTITIES = [each for each in vars(bounds).values() if isinstance(each, Quantity)]
ODD = [
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e400",
    "9" * 5000,
    "-1e9",
    "1_000",
    "٣",
    "0x10",
    " ",
    "",
    "abc",
    "1e",
    "--1",
    "1,5",
]
WIDEST = 2.0**63


@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:9])
def test_what_is_no_sane_number_is_refused_in_words(text: str) -> None:
    for quantity in QUANTITIES:
        with pytest.raises(ValueError, match=r"^must be a (whole )?number from [-\d.,]+ to [\d.,]+( \(.*\))?$"):
            pytest.fail(f"{quantity.name} may be {quantity.read(text)}")


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda quantity: quantity.name)
def test_both_ends_are_allowed_and_nothing_beyond(quantity: Quantity) -> None:
    for end in (quantity.least, quantity.most):
        assert quantity.read(repr(end)) == end
    assert 0 <= quantity.least < quantity.most <= WIDEST
    for beyond in (math.nextafter(quantity.least, -math.inf), math.nextafter(quantity.most, math.inf), math.nan):
        if beyond not in (quantity.least, quantity.most):
            assert not quantity.holds(beyond)


@given(st.text(max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    for quantity in (bounds.RATE, bounds.TOKENS):
        with suppress(ValueError):
            assert quantity.holds(quantity.read(text))


def test_a_whole_number_is_told_as_one() -> None:
    assert bounds.TOKENS.allowed == "a whole number from 1 to 10,000,000 (tokens)"
    assert bounds.LATENCY_S.allowed == "a number from 0.000001 to 86,400 (seconds)"
    with pytest.raises(ValueError, match="whole number"):
        bounds.TOKENS.read("1.5")
    assert bounds.TOKENS.read_whole(" +64 ") == 64
    assert math.copysign(1, bounds.TIME_S.read("-0.0")) == 1
