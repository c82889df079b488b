"""Scenes from files, and a cockpit over a host that shows one of them for ever."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from msgspec.structs import replace
from textual._styles_cache import StylesCache
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.pilot import Pilot

from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import Command
from llmtop.domain.frame import Frame
from llmtop.domain.shown import Shown
from llmtop.domain.slo import Slo
from llmtop.tui.app import LlmtopApp

DATA = Path(__file__).parent / "data"
sys.path.insert(0, str(Path(__file__).parent))  # what tests of this room share by name
from moments import by_moments  # noqa: E402


class Scene(msgspec.Struct):
    """A frame and the opinion about it, as data/make_frames.py writes them."""

    frame: Frame
    assessment: Assessment | None = None


class FakeHost:
    """Attends to a run that shows one scene again and again, each time as a new frame; keeps what it is told."""

    def __init__(self, scene: Scene) -> None:
        self.slo = Slo()
        self.now = Shown(frame=scene.frame, assessment=scene.assessment or Assessment())
        self.sent: list[Command] = []
        self.left = False
        self.broken = False
        self._seq = 0

    def shown(self) -> Shown:
        if self.broken:
            raise RuntimeError("a bug in an assessment")
        self._seq += 1
        frame = self.now.frame
        return self.now if frame is None else replace(self.now, frame=replace(frame, seq=self._seq))

    def frame_becomes(self, **fields: Any) -> None:
        """From now on the frame differs in these fields."""
        assert self.now.frame is not None
        self.now = replace(self.now, frame=replace(self.now.frame, **fields))

    def send(self, command: Command) -> None:
        self.sent.append(command)

    def close(self) -> None:
        pass


def load_scene(name: str) -> Scene:
    return msgspec.msgpack.decode((DATA / f"{name}.msgpack").read_bytes(), type=Scene)


@pytest.fixture(autouse=True)
def _same_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the terminal of whoever runs the tests says of itself changes no picture."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLORFGBG", raising=False)


@pytest.fixture(autouse=True)
def _no_time_passes() -> Iterator[None]:
    """But what a test lets pass: how fast the machine is changes nothing."""
    with by_moments():
        yield


@pytest.fixture(autouse=True, scope="session")
def _styles_are_read_once() -> Iterator[None]:
    """Not again by each app: what is read of a text, under the colours of a theme, is only looked at from then on."""
    read: dict[tuple[object, ...], list[RuleSet]] = {}
    afresh = Stylesheet._parse_rules

    def rules(sheet: Stylesheet, *args: Any, **options: Any) -> list[RuleSet]:
        key = (args, tuple(options.items()), tuple(sheet._variables.items()))
        if key not in read:
            read[key] = afresh(sheet, *args, **options)
        return read[key]

    with patch.object(Stylesheet, "_parse_rules", rules):
        yield


@pytest.fixture(autouse=True)
def _little_is_kept() -> Iterator[None]:
    """Textual keeps the pictures of the last thousand widgets, and the collector looks through them ever again."""
    yield
    StylesCache.get_inner_outer.cache_clear()


@pytest.fixture
def cockpit() -> Callable[..., LlmtopApp]:
    """An app over a scene: `cockpit("past", ascii=True)`. Its host is a FakeHost."""

    def make(name: str, faults: Sequence[str] = (), **options: Any) -> LlmtopApp:
        host = FakeHost(load_scene(name))
        if faults:
            assert host.now.frame is not None
            host.frame_becomes(endpoint=replace(host.now.frame.endpoint, faults=dict.fromkeys(faults, 0.0)))
        return LlmtopApp(host, **options)

    return make


@pytest.fixture
def settle() -> Callable[[Pilot[None]], Any]:
    """Wait until all that was shown is drawn."""

    async def wait(pilot: Pilot[None]) -> None:
        await pilot.pause()
        pilot.app.tick()  # type: ignore[attr-defined]
        await pilot.pause()

    return wait
