"""Who drives a run of several screens, and how long it goes on without one."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.commands import Command, Detach, Imagine, Quit, Seen, SetLoad, ShowMap, StopLoad, TakeWheel
from llmtop.domain.load import LoadPoint
from llmtop.host.life import Life
from llmtop.host.screens import Screen, Screens
from llmtop.wording.running import NOT_BEGUN

HUP = int(signal.SIGHUP)
LOAD = SetLoad(LoadPoint(concurrency=3))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def begun(limit_s: float = 60.0, *, keep: bool = False, clock: Clock | None = None) -> Life:
    life = Life(limit_s, keep_on_hangup=keep, clock=clock or Clock())
    life.bound_by = ""
    return life


def looked_at(*names: str, life: Life | None = None, plan: str = "") -> tuple[Screens, list[Screen], list[Command]]:
    sent: list[Command] = []
    screens = Screens(sent.append, life or begun(), plan)
    there = [Screen(name, holds=name == "first", view=name.startswith("view")) for name in names]
    for screen in there:
        screens.come(screen)
    return screens, there, sent


# ── The wheel ─────────────────────────────────────────────────────────────────────────────────────────────────────────

moves = st.lists(
    st.tuples(st.sampled_from(["come", "view", "take", "drive", "go", "leave"]), st.integers(0, 4)), max_size=40
)


@given(moves)
def test_whatever_screens_do_at_most_one_drives_and_only_what_it_asks_is_done(
    moves: list[tuple[str, int]],
) -> None:
    sent: list[Command] = []
    screens = Screens(sent.append, begun())
    there: list[Screen] = []
    named = 0
    for move, at in moves:
        screen = there[at % len(there)] if there else None
        before = len([each for each in sent if each == LOAD])
        if move in ("come", "view"):
            named += 1
            free = screens.driver is None
            there.append(Screen(f"pts/{named}", view=move == "view"))
            screens.come(there[-1])
            if free and move == "come":
                assert screens.driver is there[-1], "a free wheel goes to whoever comes and may drive"
        elif screen is None:
            continue
        elif move == "take":
            screens.ask(screen, TakeWheel())
            assert screen.view or screens.driver is screen, "the later of two takes has it"
        elif move == "drive":
            drives = screens.driver is screen
            screens.ask(screen, LOAD)
            assert len([each for each in sent if each == LOAD]) - before == drives
        else:
            screens.go(screen) if move == "go" else screens.ask(screen, Detach())
            there.remove(screen)
        mine = [each for each in there if screens.wheel(each).mine]
        assert len(mine) <= 1
        assert mine == ([] if screens.driver is None else [screens.driver])
        assert {screens.wheel(each).holder for each in there} <= {mine[0].name if mine else ""}
        assert all(screens.wheel(each).screens == len(there) for each in there)
        assert not any(each.view for each in mine)


def test_whoever_loses_the_wheel_hears_who_took_it_and_what_was_imagined_is_forgotten() -> None:
    screens, (first, second), sent = looked_at("first", "pts/3")
    screens.ask(first, Imagine((("max_num_seqs", 4.0),)))
    screens.ask(second, LOAD)
    assert second.answer is not None
    assert (second.answer.text, second.answer.refused) == ("not done: first has the wheel", True)
    screens.ask(second, TakeWheel())
    assert first.answer is not None
    assert first.answer.text == "the wheel was taken by pts/3"
    screens.ask(second, LOAD)
    assert sent == [Imagine((("max_num_seqs", 4.0),)), Imagine(), LOAD]


def test_a_wheel_that_was_left_is_free_until_somebody_takes_it_or_comes() -> None:
    screens, (first, second), sent = looked_at("pts/1", "pts/2")
    screens.ask(first, Detach())
    assert first.gone
    assert screens.holder == ""
    screens.ask(second, LOAD)
    assert second.answer is not None
    assert "nobody has the wheel" in second.answer.text
    assert LOAD not in sent
    third = Screen("pts/3")
    screens.come(third)
    assert screens.wheel(third).mine


@pytest.mark.parametrize(("plan", "says"), [("its plan", "driven by its plan"), ("", "only looks on")])
def test_who_may_only_look_on_drives_nothing_and_takes_nothing(plan: str, says: str) -> None:
    screens, (looks,), sent = looked_at("pts/1" if plan else "view", plan=plan)
    for command in (LOAD, StopLoad(), TakeWheel(), Imagine(), Quit(), Seen()):
        screens.ask(looks, command)
    assert sent == []
    assert looks.answer is not None
    assert says in looks.answer.text
    assert looks.answer.number == 5, "each of them but the word that it is seen was answered"
    assert screens.wheel(looks).view
    screens.ask(looks, Detach())
    assert looks.gone


def test_the_map_is_told_as_long_as_any_screen_shows_it() -> None:
    screens, (first, looks), sent = looked_at("first", "view")
    screens.ask(looks, ShowMap(True))
    screens.ask(first, ShowMap(True))
    screens.ask(first, ShowMap(False))
    assert sent == [ShowMap(True)]
    screens.go(looks)
    assert sent == [ShowMap(True), ShowMap(False)]


# ── Life ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_ends_with_the_screen_that_holds_it_unless_that_has_left_it() -> None:
    life = begun()
    screens, (first, second), _ = looked_at("first", "pts/2", life=life)
    screens.go(second)
    assert not life.ends
    screens.go(first)
    assert life.ends
    assert not life.detached

    life = begun()
    screens, (first,), _ = looked_at("first", life=life)
    screens.ask(first, Detach())
    assert (life.ends, life.detached, first.gone, first.holds) == (False, True, True, False)
    screens.go(first)
    assert not life.ends


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("how", [0, HUP, int(signal.SIGTERM)])
def test_a_hang_up_leaves_a_run_that_is_to_be_kept_and_ends_any_other(keep: bool, how: int) -> None:
    life = begun(keep=keep)
    screens, (first,), sent = looked_at("first", life=life)
    if how:
        screens.ask(first, Quit(patient=False, signal=how))
    else:
        screens.go(first)
    kept = keep and how in (0, HUP)
    assert life.detached is kept
    assert (Quit(patient=False, signal=how) in sent) is (not kept and how != 0)
    assert life.ends is (not kept and how == 0)


@pytest.mark.parametrize("number", [HUP, int(signal.SIGTERM), int(signal.SIGINT)])
def test_a_signal_to_a_screen_that_has_joined_ends_that_screen_alone(number: int) -> None:
    screens, (_, second), sent = looked_at("first", "pts/2")
    screens.ask(second, TakeWheel())
    screens.ask(second, Quit(patient=False, signal=number))
    assert second.gone
    assert not any(isinstance(command, Quit) for command in sent)


def test_a_screen_that_holds_the_run_ends_it_also_without_the_wheel_and_its_sight_counts() -> None:
    screens, (first, second), sent = looked_at("first", "pts/2")
    screens.ask(second, TakeWheel())
    sent.clear()
    screens.ask(first, Seen())
    screens.ask(first, LOAD)
    screens.ask(first, Quit())
    assert sent == [Seen(), Quit()]


def test_what_cannot_be_found_again_is_not_left() -> None:
    life = Life(60.0, keep_on_hangup=True)
    screens, (first,), sent = looked_at("first", life=life)
    screens.ask(first, Detach())
    assert first.answer is not None
    assert first.answer.text == f"not detached: {NOT_BEGUN}"
    assert (first.gone, first.holds, life.detached) == (False, True, False)
    screens.ask(first, Quit(patient=False, signal=HUP))
    assert sent == [Quit(patient=False, signal=HUP)]
    screens.go(first)
    assert life.ends


def test_a_detached_run_is_over_when_nobody_who_can_drive_has_seen_it_for_the_limit() -> None:
    clock = Clock()
    life = begun(10.0, clock=clock)
    screens, (first, looks), _ = looked_at("first", "view", life=life)
    clock.now = 100.0
    assert not life.over, "it is held"
    screens.ask(first, Detach())
    clock.now = 109.9
    screens.ask(looks, Seen())
    assert not life.over
    clock.now = 110.0
    assert life.over, "who only looks on is nobody"

    drives = Screen("pts/9")
    screens.come(drives)
    screens.ask(drives, Seen())
    assert not life.over
    clock.now = 119.9
    screens.ask(drives, Detach(5.0))
    assert life.over, "the limit that the last one asked for"


def test_how_long_may_be_said_when_it_is_left() -> None:
    clock = Clock()
    life = begun(10.0, clock=clock)
    screens, (first,), _ = looked_at("first", life=life)
    screens.ask(first, Detach(2.0))
    clock.now = 1.9
    assert not life.over
    clock.now = 2.0
    assert life.over
