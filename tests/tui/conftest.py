"""Scenes from files, and a cockpit over a link that shows one of them for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from llmtop.domain.commands import Command
from llmtop.domain.frame import Frame
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import Assessment
from llmtop.tui.app import LlmtopApp

DATA = Path(__file__).parent / "data"


class Scene(msgspec.Struct):
    """A frame and the opinion about it, as data/make_frames.py writes them."""

    frame: Frame
    assessment: Assessment | None = None


class FakeLink:
    """A session that shows one frame again and again, each time as a new one, and keeps what it is told."""

    def __init__(self, frame: Frame | None) -> None:
        self.shown = frame
        self.sent: list[Command] = []
        self.facts: Any = None
        self.alive = True
        self.error: str | None = None
        self._seq = 0

    def frame(self) -> Frame | None:
        self._seq += 1
        return None if self.shown is None else replace(self.shown, seq=self._seq)

    def send(self, command: Command) -> None:
        self.sent.append(command)


def load_scene(name: str) -> Scene:
    return msgspec.msgpack.decode((DATA / f"{name}.msgpack").read_bytes(), type=Scene)


@pytest.fixture(autouse=True)
def _same_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the terminal of whoever runs the tests says of itself changes no picture."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLORFGBG", raising=False)


@pytest.fixture
def cockpit() -> Callable[..., LlmtopApp]:
    """An app over a scene: `cockpit("past", ascii=True)`. Its link is a FakeLink."""

    def make(name: str, faults: Sequence[str] = (), **options: Any) -> LlmtopApp:
        scene = load_scene(name)
        opinion = scene.assessment or Assessment()
        frame = scene.frame
        if faults:
            endpoint = replace(frame.endpoint, faults=dict.fromkeys(faults, 0.0))
            frame = replace(frame, endpoint=endpoint)
        return LlmtopApp(FakeLink(frame), lambda facts, before: opinion, slo=Slo(), **options)

    return make


@pytest.fixture
def settle() -> Callable[[Pilot[None]], Any]:
    """Wait until the assessment has been made and shown."""

    async def wait(pilot: Pilot[None]) -> None:
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        pilot.app.tick()  # type: ignore[attr-defined]
        await pilot.pause()

    return wait
