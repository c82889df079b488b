"""The screens that look at one run: who of them drives it, and what each may ask."""

from __future__ import annotations

from collections.abc import Callable

from llmtop.domain.commands import Command, Detach, Imagine, Quit, Seen, ShowMap, TakeWheel
from llmtop.domain.shown import Answer, Wheel
from llmtop.domain.terminal import TerminalState
from llmtop.host.life import Life
from llmtop.wording import running as words


class Screen:
    """One of them.

    Args:
        name: what others call it.
        view: it only looks on.
        holds: it began the run, which ends with it.
        terminal: what it has taken, or is about to.
    """

    def __init__(self, name: str, *, view: bool = False, holds: bool = False, terminal: TerminalState | None = None):
        self.name, self.view, self.holds, self.terminal = name, view, holds, terminal
        self.seen = False
        """Somebody has seen the run on it."""
        self.maps = False
        """It shows the map."""
        self.gone = False
        """It has left, and is to be told nothing but that."""
        self.answer: Answer | None = None
        self._heard: Answer | None = None

    def begin(self, newest: Answer | None) -> None:
        """What was answered to others before it came is not told to it."""
        self._heard = newest

    def hear(self, newest: Answer | None) -> None:
        """The newest answer of the host, which all screens see."""
        if newest is not None and newest is not self._heard:
            self._heard = newest
            self.say(newest.text, newest.refused)

    def say(self, text: str, refused: bool = True) -> None:
        number = 1 if self.answer is None else self.answer.number + 1
        self.answer = Answer(number, text, refused)


class Screens:
    """All of them. At most one has the wheel. Used by one thread.

    Args:
        send: passes a command on to the host.
        life: what becomes of the run when they go.
        plan: who drives where no screen may: its name. Empty: the screen that has the wheel does.
    """

    def __init__(self, send: Callable[[Command], None], life: Life, plan: str = "") -> None:
        self.all: list[Screen] = []
        self.driver: Screen | None = None
        self._send, self._life, self._plan = send, life, plan
        self._maps = self._imagined = False

    @property
    def holder(self) -> str:
        """Who has the wheel, in words; empty: nobody."""
        return self._plan or ("" if self.driver is None else self.driver.name)

    def wheel(self, screen: Screen) -> Wheel:
        """As this screen sees it."""
        view = screen.view or bool(self._plan)
        return Wheel(mine=screen is self.driver, view=view, holder=self.holder, screens=len(self.all))

    def come(self, screen: Screen) -> None:
        self.all.append(screen)
        if self.driver is None and not screen.view and not self._plan:
            self._hand_to(screen)

    def go(self, screen: Screen) -> None:
        """It is there no more; one that had not left before has gone without a word. May be said twice."""
        if screen not in self.all:
            return
        self.all.remove(screen)
        if screen is self.driver:
            self._hand_to(None)
        if screen.holds:
            self._life.lose()
        self._count_maps()

    def ask(self, screen: Screen, command: Command) -> None:
        """Carry out what it may ask, or tell it why not."""
        if screen.gone:
            return
        match command:
            case Seen():
                self._be_seen(screen)
            case ShowMap(on):
                screen.maps = on
                self._count_maps()
            case TakeWheel():
                self._take(screen)
            case Detach(for_s):
                self._leave(screen, for_s)
            case Quit(signal=number) if number and not (screen.holds and not self._life.outlives(number)):
                self._leave(screen)
            case _ if screen is self.driver or (screen.holds and isinstance(command, Quit)):
                self._imagined = bool(command.settings) if isinstance(command, Imagine) else self._imagined
                self._send(command)
            case _:
                screen.say(self._refusal(screen))

    def _be_seen(self, screen: Screen) -> None:
        screen.seen = True
        if screen is self.driver:
            self._life.seen()
        if screen is self.driver or screen.holds:
            self._send(Seen())

    def _leave(self, screen: Screen, for_s: float | None = None) -> None:
        """A screen goes, and the run goes on."""
        if screen.holds and (why := self._life.detach(for_s)):
            screen.say(words.not_left(why))
            return
        if screen is self.driver and for_s is not None:
            self._life.limit_s = for_s
        screen.holds, screen.gone = False, True
        self.go(screen)

    def _take(self, screen: Screen) -> None:
        if screen.view or self._plan:
            screen.say(self._refusal(screen))
        elif screen is not self.driver:
            if self.driver is not None:
                self.driver.say(words.taken_by(screen.name))
            self._hand_to(screen)

    def _hand_to(self, screen: Screen | None) -> None:
        if self._imagined:  # by the one before; it stands on no other's sliders
            self._imagined = False
            self._send(Imagine())
        self.driver = screen

    def _refusal(self, screen: Screen) -> str:
        if self._plan:
            return words.BY_ITS_PLAN
        return words.ONLY_LOOKS_ON if screen.view else words.driven_by(self.holder)

    def _count_maps(self) -> None:
        wanted = any(screen.maps for screen in self.all)
        if wanted != self._maps:
            self._maps = wanted
            self._send(ShowMap(wanted))
