"""Every text of the screen can be read, under each theme that has colours of its own."""

from __future__ import annotations

import pytest
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from llmtop.tui.palette import APART, DAY, GRAPHIC, NIGHT, READABLE, THEMES, Palette, contrast_of

OURS = {theme.name: theme for theme in (NIGHT, DAY)}
COLOURED = [name for name in THEMES if not name.startswith("ansi-")]


def palette(name: str) -> Palette:
    theme = OURS.get(name) or BUILTIN_THEMES[name]
    return Palette(theme.to_color_system().generate(), ansi=False)


def contrast(name: str, role: str) -> float:
    style = palette(name)[role]
    assert style.color is not None
    assert style.bgcolor is not None
    return contrast_of(Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor))


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        ("#000000", "#ffffff", 21.0),
        ("#777777", "#ffffff", 4.48),
        ("#767676", "#ffffff", 4.54),
        ("#123456", "#123456", 1.0),
    ],
)
def test_contrast_is_that_of_wcag(one: str, other: str, ratio: float) -> None:
    assert contrast_of(Color.parse(one), Color.parse(other)) == pytest.approx(ratio, abs=0.01)
    assert contrast_of(Color.parse(other), Color.parse(one)) == contrast_of(Color.parse(one), Color.parse(other))


@pytest.mark.parametrize("theme", OURS)
def test_every_text_can_be_read_in_both_themes(theme: str) -> None:
    texts = palette(theme).styles.keys() - GRAPHIC
    assert {"", "text", "dim", "faint", "bad", "stale", "badge"} <= texts
    assert {role: contrast(theme, role) for role in texts if contrast(theme, role) < 4.5} == {}


@pytest.mark.parametrize("theme", OURS)
def test_what_stands_over_the_cockpit_can_be_read_on_its_own_ground(theme: str) -> None:
    """Help, the reasons, the loss of a session and the line to write on lie on the colour of a surface."""
    surface, inks = Color.parse(OURS[theme].surface or ""), palette(theme)
    seen = {role: Color.from_rich_color(inks[role].color) for role in ("text", "strong", "dim", "title", "key", "bad")}
    seen["placeholder"] = surface.blend(seen["text"], 0.75)
    assert {role for role, colour in seen.items() if contrast_of(colour, surface) < 4.5} == set()


async def test_the_line_to_write_on_says_in_readable_letters_what_to_write(cockpit):
    for theme in OURS:
        app = cockpit("past", theme=theme)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("m")
            await pilot.pause()
            style = app.cockpit.query_one("#mark").get_component_rich_style("input--placeholder")
            assert contrast_of(Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)) >= 4.5


@pytest.mark.parametrize("theme", COLOURED)
def test_what_is_faint_is_readable_in_any_theme_that_lets_it_be_and_dimmer_than_the_rest(theme: str) -> None:
    full = contrast(theme, "text")
    assert contrast(theme, "faint") >= min(READABLE, full)
    assert contrast(theme, "dim") >= min(APART, full)
    assert contrast(theme, "faint") <= contrast(theme, "dim") <= full
