"""Every sign that says something is in the legend, which is made of the one table of signs."""

from __future__ import annotations

import pytest

from llmtop.view.glyphs import ASCII, FORM, LEGEND, UNICODE, Glyphs, legend


def test_every_sign_is_in_the_legend_or_a_mere_line() -> None:
    told = [name for names, _ in LEGEND for name in names]
    assert sorted([*told, *FORM, "ascii"]) == sorted(Glyphs.__struct_fields__), "once each, and none besides"


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
def test_the_legend_says_of_each_sign_what_it_is(glyphs: Glyphs) -> None:
    for (names, _), (signs, says) in zip(LEGEND, legend(glyphs), strict=True):
        assert signs.split() == [sign for name in names for sign in getattr(glyphs, name)]
        assert "ghosts" in names or len(says.split("; ")) == len(signs.split()), f"{signs}: {says}"
