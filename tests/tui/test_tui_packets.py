"""Keys in packets: what was typed ahead reaches what it chose, pasted text does nothing, only load keys move a load."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from textual import events
from textual._xterm_parser import XTermParser
from textual.keys import key_to_character
from textual.message import Message
from textual.pilot import Pilot
from textual.widgets import Input

from llmtop.domain.commands import AddMark, InjectFault, Quit, SetKnob, SetLoad, Steer, StopLoad
from llmtop.tui.app import LlmtopApp
from llmtop.tui.keys import bound
from llmtop.tui.packets import PASTING_S, Packets, typed
from llmtop.tui.screens.cockpit import Cockpit
from llmtop.tui.widgets.slider import LogSlider

SIZE = (80, 24)
BUILT_IN = bound((*LlmtopApp.BINDINGS, *Cockpit.BINDINGS))
TYPED = typed(lambda name: "".join(key_to_character(each.key) or "" for each in BUILT_IN if each.id == name))
UP, DOWN, RIGHT, LEFT = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D"


def sifted(text: str, writing: bool = False) -> list[Message]:
    return Packets(TYPED).sift(list(XTermParser().feed(text)), 0.0, writing)


def keys(text: str) -> list[str]:
    """Those that are obeyed; a paste is `paste`."""
    return [event.key if isinstance(event, events.Key) else "paste" for event in sifted(text)]


@pytest.mark.parametrize(
    "text",
    [
        "x", "xxxx", "xq", "s", "c", "5", "uu", "\r", "\t\t\t", " ", "32\r", "c32\r", "c32\rp512\r", "c32",
        "20.5\r", "c" + RIGHT * 4, RIGHT * 30, "k\t" + RIGHT * 2 + "\r", UP + DOWN, "c32\rx", "]]]", "mwarm\r", "mqx",
    ],
)  # fmt: skip
def test_what_is_typed_ahead_is_obeyed(text: str) -> None:
    assert "paste" not in keys(text)
    assert len(keys(text)) == len(list(XTermParser().feed(text)))


@pytest.mark.parametrize(
    "text",
    [
        "stop", "so", "os", "ss", "us", "oh", "ho", "ls -la\r", "curl http://127.0.0.1:8000/v1\r", "10.0.0.1",
        "10\r20\r30\r", "x\r", "5s", "30 s", "c32\nc64\n", "hello\r64\r", "the quick brown fox\r" * 300, "ks",
    ],
)  # fmt: skip
def test_what_is_pasted_without_brackets_is_one_paste_and_no_key(text: str) -> None:
    assert keys(text) == ["paste"]


def test_a_key_to_leave_counts_in_whatever_company() -> None:
    assert keys("sdfg\x03hj\x1c") == ["paste", "ctrl+c", "ctrl+backslash"]


def test_a_mouse_in_a_packet_stays_where_it_was() -> None:
    found = sifted("st\x1b[<0;10;10Mop")
    assert [type(event) for event in found] == [events.Paste, events.MouseDown]


def test_a_long_paste_is_one_whatever_its_pieces_look_like_and_then_keys_are_keys_again() -> None:
    packets, parser = Packets(TYPED), XTermParser()

    def obeyed(text: str, now_s: float) -> bool:
        return any(isinstance(event, events.Key) for event in packets.sift(list(parser.feed(text)), now_s, False))

    assert not obeyed("some text", 1.0)
    assert not obeyed("s", 1.0 + 0.9 * PASTING_S)
    assert not obeyed("5\r", 1.0 + 1.8 * PASTING_S)
    assert obeyed("s", 1.0 + 2.9 * PASTING_S)


def test_a_line_is_written_as_it_was_typed_but_a_page_is_pasted() -> None:
    assert len(sifted("so it goes\r", writing=True)) == 11
    assert [type(event) for event in sifted("so\rx\r", writing=True)] == [events.Paste]


# -- the cockpit ------------------------------------------------------------------------------------------------------


def sender(app: LlmtopApp, pilot: Pilot[None]) -> Callable[[str], object]:
    """Sends packets as the driver does, each long after the one before."""
    packets, parser, packet = Packets(TYPED), XTermParser(), [0.0]

    async def send(text: str) -> None:
        packet[0] += 1.0
        for event in packets.sift([*parser.feed(text), *parser.tick()], packet[0], app.writing):
            app.post_message(event)
        await pilot.pause()

    return send


async def test_a_packet_reaches_what_its_first_key_chose(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        send = sender(app, pilot)
        app.cockpit.set_focus(app.cockpit.body.panels[3])
        await send("c48\rp1024\r")
        await pilot.pause(0.4)
        assert app.host.sent[-1].point.concurrency == 48
        assert app.host.sent[-1].point.prompt_tokens == 1024
        app.host.sent.clear()
        await send("xq")
        assert app.host.sent == [StopLoad(), Quit()] or app.host.sent == [Quit(), StopLoad()]


async def test_a_paste_is_told_and_does_nothing_but_in_a_mark(cockpit):
    app = cockpit("loaded")
    async with app.run_test(size=SIZE) as pilot:
        send = sender(app, pilot)
        for text in ("so 64\rstop", "\x1b[200~c64\rs\x1b[201~"):
            app.cockpit.say("")
            await send(text)
            assert "what was pasted is no command" in app.cockpit.query_one("#events").render_line(0).text
        assert app.host.sent == []
        await send("m")
        await send("two\rlines\r")
        await send("\r")
        assert app.host.sent == [AddMark("two")]


async def test_no_focus_is_a_slider_that_nobody_sees(cockpit):
    app = cockpit("loaded", faults=("hang",))
    async with app.run_test(size=SIZE) as pilot:
        for keys in (["k", "escape", "escape"], ["k", "m", "a", "enter"], ["escape", "k", "k"], ["k", "escape", "c"]):
            await pilot.press("escape", "escape", *keys)
            focused = app.focused
            assert focused is None or all(node.display for node in focused.ancestors_with_self[:-1]), keys
            if "c" not in keys:
                await pilot.press("right")
        await pilot.press("o")
        await pilot.resize_terminal(80, 18)
        await pilot.pause()
        assert app.focused is None
    assert not any(isinstance(command, SetLoad) for command in app.host.sent)


LETTERS = "abcdefghijlmnoprtvwyzcpokxsu0123456789c5p7 ?.,[]\r\r\t"
ALPHABET = (*LETTERS, "\x1b[Z", UP, DOWN, *(8 * (LEFT, RIGHT)))
"""What random packets are made of; `q` would end the trial."""
LOAD_KEYS = frozenset(("\r", "x", "u", LEFT, RIGHT))
CHOOSE = frozenset(("c", "p", "o", "k", "\t", "\x1b[Z", UP, DOWN))


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.faults) for seed in range(2, 9))])
async def test_only_load_keys_on_a_slider_change_the_load(cockpit, seed):
    """Random keys in random packets on every focus."""
    chance = random.Random(seed)
    app = cockpit("loaded", faults=("hang", "http_500"))
    moved = 0
    async with app.run_test(size=SIZE, notifications=False) as pilot:
        send = sender(app, pilot)
        cockpit_screen = app.cockpit
        places = [None, *cockpit_screen.query(LogSlider), *cockpit_screen.body.panels, cockpit_screen.knobs.fault_bar]
        for _ in range(30):
            while not isinstance(app.screen, Cockpit):
                await pilot.press("escape")
            if app.writing:
                await pilot.press("escape")
            cockpit_screen.set_focus(chance.choice(places))
            app.host.sent.clear()
            focused = app.focused
            typed = [chance.choice(ALPHABET) for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4, 9)))]
            await send("".join(typed))
            sent = [c for c in app.host.sent if isinstance(c, SetLoad | SetKnob | StopLoad | Steer | InjectFault)]
            moved += bool(sent)
            why = f"{typed} on {focused}: {sent}"
            assert not sent or not LOAD_KEYS.isdisjoint(typed) or typed in (["s"], ["h"]), why
            if isinstance(focused, Input) or not (isinstance(focused, LogSlider) or not CHOOSE.isdisjoint(typed)):
                # Nothing of a slider: u undoes, x stops, s searches, h holds, and Enter answers or is a fault's.
                assert not any(isinstance(c, SetLoad) for c in sent) or "u" in typed or "\r" in typed, why
            for slider in cockpit_screen.query(LogSlider):
                slider.halt(slider.value or 0.0)
    assert moved
