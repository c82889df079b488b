"""A recording as a film for terminals: an asciicast, version 2, of the cockpit over a replay.

The cockpit runs without a terminal and on the film's clock alone: a run is drawn as fast as this machine can, and its
film is the same to the byte each time. What a player shows at any moment is the screen that a replay has then.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from textual.pilot import Pilot
from textual.screen import Screen
from textual.timer import Timer

from llmtop.domain.plain import plain
from llmtop.domain.run import Chapter, Event, Mark
from llmtop.domain.slo import Slo
from llmtop.errors import RunFileError
from llmtop.host.host import LISTEN_S, Host
from llmtop.host.replay import ReplayLink
from llmtop.tui.app import LlmtopApp
from llmtop.tui.cells import BEGIN, Row, cells_of, change
from llmtop.tui.palette import NIGHT
from llmtop.tui.screens.cockpit import Cockpit
from llmtop.view.arrangement import Layout
from llmtop.view.private import private_text

LAST_S = 3.0
"""So long the last screen stays, before a player stops or begins again."""
MARKER_LENGTH = 120
ROUNDS = 100
"""Layouts until a screen stands still; three are many."""
TERM, MAKER = "xterm-256color", "LLMTOP_RUN"
"""What the header has among its environment variables; the second, who recorded it, is in no file but ours."""
END = "\x1b[0m"
"""A film lasts until its last event; this one changes nothing that is seen."""


class Clock:
    """Seconds of the film, and what is due at which."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, Callable[[], Any]]] = []

    def __call__(self) -> float:
        return self.now_s

    def at(self, t_s: float, do: Callable[[], Any]) -> None:
        self._due.append((t_s, do))

    def go_to(self, t_s: float) -> None:
        self.now_s = t_s
        due = sorted((each for each in self._due if each[0] <= t_s), key=lambda each: each[0])
        self._due = [each for each in self._due if each[0] > t_s]
        for _, do in due:
            do()


class FilmedCockpit(Cockpit):
    """What is said in it stands for seconds of the film."""

    clock: Clock

    def set_timer(self, delay: float, callback: Any = None, **options: Any) -> Timer:
        if callback is not None:
            self.clock.at(self.clock.now_s + delay, callback)
        return Timer(self, delay, name="of the film")

    def _compositor_refresh(self) -> None:
        """Nothing: nobody sees it before the film asks for all rows."""
        self._dirty_widgets.clear()
        self._compositor._dirty_regions.clear()


class FilmedApp(LlmtopApp):
    """The cockpit, brought up to date when the film wants it."""

    def __init__(self, host: Host, clock: Clock, layout: Layout, **options: Any) -> None:
        super().__init__(host, layout=layout, **options)
        self._panels_as = layout
        self._clock = clock

    def start_ticking(self) -> None:
        pass

    def get_default_screen(self) -> Screen[None]:
        cockpit = FilmedCockpit(self.glyphs, self.host.slo, self._panels_as)
        cockpit.clock = self._clock
        return cockpit

    def rows(self) -> list[Row]:
        """What is on the screen now."""
        return [cells_of(strip) for strip in self.screen._compositor.render_strips()]


class Screenful(NamedTuple):
    """What is seen from one moment of the film on."""

    t_s: float
    rows: Sequence[Row]
    news: Sequence[str]
    """Marks, events and changed configurations that were told since the last, in the order of the run."""


class Film:
    """One recording, to be drawn once.

    Args:
        run: its file.
        slo: what it is judged by; None: by its own.
        baselines: reads earlier measurements that it is shown beside.
        size: columns and rows.
        speed: seconds of the run in one of the film.
        fps: screens per second of the film.
        theme: None, and one of the terminal's own colours: llmtop's.
        layout: of the panels.
        private: nothing in it tells whose run it is (`view.private`).

    Raises RunFileError: it cannot be read, or there is nothing in it.
    """

    def __init__(
        self,
        run: Path,
        slo: Slo | None = None,
        *,
        baselines: Callable[[Slo], Sequence[Any]] | None = None,
        size: tuple[int, int] = (120, 40),
        speed: float = 1.0,
        fps: float = 2.0,
        ascii: bool = False,
        theme: str | None = None,
        layout: Layout = Layout.ALL,
        private: bool = False,
    ) -> None:
        self._clock = Clock()
        replay = ReplayLink(run, speed, self._clock)
        if not replay.length_s:
            raise RunFileError(run, "nothing was recorded in it: there is nothing to show")
        self.size, self._fps = size, fps
        self.meta, self.private = replay.meta, private
        self.length_s = replay.length_s / speed + LAST_S
        self._host = Host(replay, slo or replay.meta.profile.slo, baselines=baselines, clock=self._clock)
        options = {"ascii": ascii, "fps": fps, "theme": _fixed(theme), "private": private}
        self._app = FilmedApp(self._host, self._clock, layout, **options)
        self._told = (0, 0, 0)

    async def screens(self) -> AsyncIterator[Screenful]:
        """One after the other; the last is that of `length_s`."""
        self._host.read_baselines()
        if self._host.unread is not None:
            raise self._host.unread
        async with self._app.run_test(size=self.size) as pilot:
            for number in range(math.ceil(self.length_s * self._fps) + 1):
                self._go_to(min(number / self._fps, self.length_s))
                self._app.tick()
                await _settle(pilot)
                yield Screenful(self._clock.now_s, self._app.rows(), self._news())

    def _go_to(self, t_s: float) -> None:
        """The host listens and judges as often as it would."""
        begin_s = self._clock.now_s
        steps = max(1, math.ceil((t_s - begin_s) / LISTEN_S))
        for step in range(1, steps + 1):
            self._clock.go_to(t_s if step == steps else begin_s + step * LISTEN_S)
            self._host.step()

    def _news(self) -> list[str]:
        facts = self._host.facts
        kinds: tuple[Sequence[Mark | Event | Chapter], ...] = (facts.marks, facts.events, facts.chapters)
        fresh = [each for kind, told in zip(kinds, self._told, strict=True) for each in kind[told:]]
        self._told = (len(facts.marks), len(facts.events), len(facts.chapters))
        told = [plain(each.text, MARKER_LENGTH) for each in sorted(fresh, key=lambda each: each.t_s)]
        if self.private:
            shown = self._host.shown()
            told = [private_text(text, shown) for text in told]
        return list(dict.fromkeys(told))

    @property
    def title(self) -> str:
        meta = self.meta
        return "llmtop" if self.private else f"llmtop: {plain(meta.label or meta.profile.name, MARKER_LENGTH)}"


def _fixed(theme: str | None) -> str:
    """One whose colours are the same wherever a film is played."""
    return NIGHT.name if theme is None or theme.startswith("ansi") else theme


async def _settle(pilot: Pilot[None]) -> None:
    """Until all that follows from what is shown has happened: messages, layouts, and what waits for a layout."""
    for _ in range(ROUNDS):
        await pilot.pause(0)
        screen = pilot.app.screen
        queued = any(pump.message_queue_size for pump in (pilot.app, *screen.walk_children(with_self=True)))
        if not (queued or screen._layout_required or screen._scroll_required or screen._callbacks):
            return
    raise RuntimeError("the screen does not settle")


async def _lines(film: Film) -> AsyncIterator[bytes]:
    """The header and the events of an asciicast, each as JSON."""
    columns, rows = film.size
    yield _encoded(
        {
            "version": 2,
            "width": columns,
            "height": rows,
            "timestamp": int(film.meta.started_at),
            "title": film.title,
            "env": {"TERM": TERM, MAKER: film.meta.llmtop_version},
        }
    )
    begin, t_s = BEGIN, 0.0
    before: list[Row] = []
    async for screen in film.screens():
        t_s = round(screen.t_s, 6)
        if written := begin + change(before, screen.rows):
            yield _encoded([t_s, "o", written])
        for text in screen.news:
            yield _encoded([t_s, "m", text])
        begin, before = "", list(screen.rows)
    yield _encoded([t_s, "o", END])


def asciicast(film: Film) -> bytes:
    """The film as a file of asciicast v2. Each marker is behind the screen that shows what it marks."""

    async def gathered() -> list[bytes]:
        return [line async for line in _lines(film)]

    return b"".join(asyncio.run(gathered()))


def is_cast(content: bytes) -> bool:
    """Whether a file was written by `asciicast`."""
    return content.startswith(b'{"version":2,') and f'"{MAKER}":'.encode() in content.partition(b"\n")[0]


def _encoded(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"
