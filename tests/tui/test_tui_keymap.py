"""Keys on other keys: they do it, everything that tells of keys tells the new ones, and no key does two things."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Static

from llmtop.domain.commands import Export, Quit, StopLoad
from llmtop.domain.shown import Shown
from llmtop.tui import screens
from llmtop.tui.app import LlmtopApp, key_chapters
from llmtop.tui.keymap import ALWAYS, _places, check, key_of, keys_of, movable
from llmtop.tui.keys import FOLLOW, bound, effective, name_of
from llmtop.tui.packets import LEAVE_KEYS
from llmtop.tui.screens.big import BigScreen
from llmtop.tui.screens.cockpit import Cockpit
from llmtop.tui.screens.help import HelpScreen

SIZE = (120, 40)
COCKPIT = tuple(Binding.make_bindings((*Cockpit.BINDINGS, *LlmtopApp.BINDINGS)))
FREE = ("E", "Q", "X", "B", "y", "f2", "f3", "ctrl+e", "ctrl+t", "percent_sign", "alt+x", "a", "i", "Z")
MOVED = {"app.export": "E,f2", "app.leave": "Q", "load.stop": "X", "app.big": "B", "app.help": "f1", "run.mark": "e"}

# -- the rules --------------------------------------------------------------------------------------------------------


def one_thing_each(keymap: dict[str, str]) -> bool:
    """Whether in every place each key does one thing, and each thing has a key."""
    for place in _places():
        found = bound(place, effective(keymap))
        keys = [binding.key for binding in found]
        if len(keys) != len(set(keys)) or {each.id for each in found} != {each.id for each in place}:
            return False
    return True


def test_what_is_built_in_is_a_keymap_that_can_be() -> None:
    assert check({}) is None
    assert check(dict(movable())) is None
    assert one_thing_each({})


KEYS = st.lists(st.sampled_from((*FREE, "e", "m", "h", "comma", "q")), min_size=1, max_size=2, unique=True).map(
    ",".join
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(list(movable())), KEYS, max_size=6))
def test_a_keymap_is_taken_where_each_key_does_one_thing_and_only_there(keymap: dict[str, str]) -> None:
    wrong = check(keymap)
    assert (wrong is None) == one_thing_each(keymap)
    assert wrong is None or wrong[0] in keymap, "what is told is a line of the user's"


@given(st.sampled_from(list(movable())), st.sampled_from(list(ALWAYS)))
def test_keys_that_must_stay_are_nobodys(name: str, key: str) -> None:
    wrong = check({name: f"f9,{key}"})
    assert wrong is not None
    assert wrong[0] == name
    assert wrong[1].startswith(f"{key} {ALWAYS[key]}")


def test_whatever_the_settings_say_the_program_can_be_left() -> None:
    assert set(LEAVE_KEYS) <= ALWAYS.keys()
    assert "app.leave-too" not in movable()


@pytest.mark.parametrize(
    ("text", "key"),
    [("?", "question_mark"), ("E", "E"), (" ", "space"), ("f12", "f12"), ("ctrl+e", "ctrl+e"), ("%", "percent_sign")],
)
def test_a_key_goes_by_the_name_that_a_terminal_sends(text: str, key: str) -> None:
    assert key_of(text) == key
    assert keys_of(f" {text if text.strip() else 'space'} , f2 ") == f"{key},f2"


def test_a_page_follows_the_key_that_opens_it_and_has_no_other_of_the_cockpits() -> None:
    cockpit = {binding.key: binding.id for binding in COCKPIT}
    for place in _places()[1:]:
        for binding in place:
            leader = FOLLOW.get(binding.id or "")
            if leader is not None:
                assert binding.key == "escape" or cockpit[binding.key] == leader
            elif binding.key in cockpit and binding.key not in ALWAYS:
                assert binding.id == "big.hide", f"{binding.id} has a key of the cockpit, and no rule of its own"


def test_every_page_is_a_place_of_its_own() -> None:
    """One that is not would be left, or stop the load, by keys that are somebody else's."""
    for module in pkgutil.iter_modules(screens.__path__, f"{screens.__name__}."):
        importlib.import_module(module.name)
    found, waiting = set(), [ModalScreen]
    while waiting:
        page = waiting.pop()
        waiting += page.__subclasses__()
        if page.__module__.startswith("llmtop.") and "BINDINGS" in vars(page):
            found |= {binding.id for binding in Binding.make_bindings(page.BINDINGS)}
    assert found == {binding.id for place in _places()[1:] for binding in place}


# -- on the screen ----------------------------------------------------------------------------------------------------


async def test_the_keys_are_those_that_textual_obeys(cockpit) -> None:
    app = cockpit("loaded", keymap=MOVED)
    async with app.run_test(size=SIZE) as pilot:
        for open_page in ("", "B", "f1"):
            await pilot.press("escape", *filter(None, (open_page,)))
            await pilot.pause()
            told = {
                (binding.key, binding.id)
                for table in (type(app.screen).BINDINGS, *(() if open_page else (app.BINDINGS,)))
                for binding in bound(table, app.bound)
            }
            obeyed = {(key, active.binding.id) for key, active in app.screen.active_bindings.items()}
            assert told <= obeyed
            if open_page:
                await pilot.press("escape")


async def test_a_moved_key_does_it_and_the_old_one_does_not(cockpit) -> None:
    app = cockpit("loaded", keymap=MOVED)
    async with app.run_test(size=SIZE) as pilot:
        for key in ("E", "f2"):
            await pilot.press(key)
            assert app.host.sent.pop() == Export()
        await pilot.press("x", "q", "question_mark", "b")
        await pilot.pause()
        assert app.host.sent == []
        assert isinstance(app.screen, Cockpit)
        await pilot.press("e")
        assert app.writing, "a mark is set with e now"
        await pilot.press("escape", "X")
        await pilot.pause()
        assert app.host.sent == [StopLoad()]
        await pilot.press("Q")
        await pilot.pause()
        assert isinstance(app.host.sent[-1], Quit)


async def test_pages_are_left_and_the_load_is_stopped_from_them_by_the_moved_keys(cockpit) -> None:
    app = cockpit("loaded", keymap=MOVED)
    async with app.run_test(size=SIZE) as pilot:
        for key, page in (("B", BigScreen), ("f1", HelpScreen)):
            await pilot.press(key)
            await pilot.pause()
            assert isinstance(app.screen, page)
            await pilot.press(key)
            await pilot.pause()
            assert isinstance(app.screen, Cockpit)
        await pilot.press("B", "E", "b", "q", "X")
        await pilot.pause()
        assert app.host.sent == [Export(), StopLoad()], "from a page what is the whole run's acts, too"


async def test_all_that_tells_of_keys_tells_the_moved_ones(cockpit) -> None:
    app = cockpit("loaded", keymap=MOVED)
    async with app.run_test(size=(120, 60)) as pilot:
        await pilot.pause()
        line = {word: keys for keys, word, _ in app.cockpit.offered()}
        assert (line["stop"], line["quit"], line["help"], line["mark"]) == ("X", "Q", "f1", "e")
        offered = {command.title: command.help for command in app.get_system_commands(app.screen)}
        assert offered["Stop the load at once"] == "key X"
        await pilot.press("f1")
        await pilot.pause()
        told = str(app.screen.query_one(Static).content)
        for keys, does in (
            ("E f2", "export a report"),
            ("X", "stop the load at once"),
            ("B", "the answer in big digits"),
        ):
            assert f"{keys:<11}{does}" in told
        await pilot.press("f1", "B")
        await pilot.pause()
        assert {("X", "stop the load at once"), ("Q", "quit")} <= {row[:2] for row in app.screen._offered}


def test_without_a_keymap_the_tables_are_the_built_in_ones() -> None:
    assert key_chapters() == key_chapters(None, effective({}))
    assert key_chapters() != key_chapters(None, effective(MOVED))
    assert (name_of("percent_sign"), name_of("question_mark"), name_of("space"), name_of("f1")) == (
        "%",
        "?",
        "space",
        "f1",
    )


def test_what_is_typed_ahead_follows(cockpit) -> None:
    usual, moved = (
        cockpit("loaded").typed,
        cockpit("loaded", keymap={**MOVED, "app.search": "y", "slider.load": "i"}).typed,
    )
    assert usual.fullmatch("xq")
    assert not moved.fullmatch("xq")
    assert moved.fullmatch("XQ")
    assert usual.fullmatch("c32\r")
    assert not moved.fullmatch("c32\r")
    assert moved.fullmatch("i32\r")
    assert moved.fullmatch("ss"), "it starts no load any more"
    assert not moved.fullmatch("yy")
    assert moved.fullmatch("ea word\r")


async def test_before_there_is_a_frame_only_the_keys_that_leave_count(cockpit) -> None:
    app = cockpit("loaded", keymap=MOVED)
    app.host.now = Shown()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("q", "E")
        assert app.host.sent == []
        assert app.cockpit.offered() == [("Q", "quit", "app.leave")]
        await pilot.press("Q")
        assert isinstance(app.host.sent[-1], Quit)
