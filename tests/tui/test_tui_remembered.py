"""How a screen was left comes back with the next one, unless the settings say how it begins."""

from __future__ import annotations

from llmtop.domain.preferences import NOTHING, Remembered
from llmtop.view.arrangement import LAYOUTS, Layout

SIZES = ((80, 24), (120, 40), (200, 50))


def visible(app) -> set[int]:
    """The numbers of the panels that are drawn, each with room."""
    shown = {panel.number for panel in app.cockpit.body.panels if panel.is_on_screen and panel.display}
    return {panel.number for panel in app.cockpit.body.panels if panel.number in shown and panel.size.area}


async def test_each_layout_has_a_key_a_name_and_comes_back(cockpit) -> None:
    left: list[Remembered] = []
    seen: dict[tuple[Layout, tuple[int, int]], set[int]] = {}
    for size in SIZES:
        app = cockpit("loaded", remember=left.append)
        async with app.run_test(size=size) as pilot:
            for layout in (*list(Layout)[1:], Layout.ALL):
                await pilot.press("l")
                await pilot.pause()
                assert app.cockpit.saying == f"layout {layout}: {LAYOUTS[layout]}"
                assert left[-1] == Remembered(coach=False, layout=str(layout))
                seen[layout, size] = visible(app)
        assert seen[Layout.LATENCY, size] == {1, 2, 8}
        assert seen[Layout.SERVER, size] == {3, 4, 5, 6}
        assert seen[Layout.TABLES, size] == {8, 9}
        assert 7 in seen[Layout.CURVE, size]
        assert seen[Layout.CHARTS, size] == {1, 2, 3, 4, 5, 6}
        assert seen[Layout.ALL, size] >= seen[Layout.CHARTS, size]
    for number, layout in enumerate(Layout):
        again = cockpit("loaded", remembered=Remembered(coach=False, layout=str(layout)))
        sizes = (*SIZES[number % 3 :], *SIZES[: number % 3])
        async with again.run_test(size=sizes[0]) as pilot:
            for size in sizes:
                await pilot.resize_terminal(*size)
                await pilot.pause()
                assert visible(again) == seen[layout, size], size


async def test_a_maximised_panel_comes_back_and_esc_gives_room(cockpit) -> None:
    left: list[Remembered] = []
    app = cockpit("loaded", remember=left.append)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("escape", "8", "z")
        app.tick()
        assert left == [Remembered(coach=False, maximised=8)]
    again = cockpit("loaded", remembered=left[-1], remember=left.append)
    async with again.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert visible(again) == {8}
        assert again.focused is again.cockpit.bank.load, "stray keys still find the load slider and nothing else"
        await pilot.press("escape", "escape")
        again.tick()
        await pilot.pause()
        assert visible(again) == {1, 2, 3, 4, 5, 6}
    assert left[-1] == NOTHING


async def test_a_theme_that_was_chosen_comes_back(cockpit) -> None:
    left: list[Remembered] = []
    app = cockpit("loaded", remember=left.append)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("t")
    assert left == [Remembered(coach=False, theme="llmtop-day")]
    assert cockpit("loaded", remembered=left[-1]).theme == "llmtop-day"
    assert cockpit("loaded", remembered=left[-1], theme="nord").theme == "nord", "the settings say one"


async def test_what_is_not_there_any_more_is_nothing(cockpit) -> None:
    app = cockpit("loaded", remembered=Remembered(layout="spiral", maximised=42, theme="neon"))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert visible(app) == {1, 2, 3, 4, 5, 6}
        assert app.theme == "llmtop-night"


async def test_a_layout_of_the_settings_is_how_it_begins(cockpit) -> None:
    left: list[Remembered] = []
    was = Remembered(layout="curve", maximised=3)
    app = cockpit("loaded", layout="server", remembered=was, remember=left.append)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert visible(app) == {3, 4, 5, 6}
        assert app.remembered.layout == "curve", "what a hand chose stays known"


async def test_a_screen_that_is_only_looked_at_changes_nothing(cockpit) -> None:
    left: list[Remembered] = []
    app = cockpit("loaded", remember=left.append)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("escape", "3", "w", "escape")
        await pilot.resize_terminal(80, 24)
        app.tick()
    assert left == []
