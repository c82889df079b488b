"""What comes from outside is shown and never obeyed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.plain import LIMIT, plain


@given(st.text(alphabet=st.characters(categories=None)))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in shown)
    assert "\n" not in shown
    shown.encode("utf-8")


@given(st.text(alphabet=st.characters(categories=None)))
def test_a_text_that_is_fit_stays_as_it_is(text: str) -> None:
    once = plain(text, limit=10_000)
    assert plain(once, limit=10_000) == once


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("a\x1b]52;c;cm0=\x07b", "a\\x1b]52;c;cm0=\\x07b"),
        ("two\nlines\tand more", "two lines and more"),
        ("abc\u202edef", "abc\\u202edef"),
        ("half \ud800", "half \\ud800"),
        ("模型 ≈ Größe", "模型 ≈ Größe"),
        ("gpt\u3164-4\U000e0101", "gpt\\u3164-4\\U000e0101"),
        ("한국어 ❤\ufe0f", "한국어 ❤\ufe0f"),
    ],
)
def test_what_is_shown_of_it(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_long_text_is_cut_and_says_so() -> None:
    assert plain("x" * LIMIT) == "x" * LIMIT
    assert plain("x" * (LIMIT + 1)) == "x" * (LIMIT - 1) + "…"
