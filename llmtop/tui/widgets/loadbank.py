"""The three sliders of the load."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from llmtop.domain.bounds import TOKENS
from llmtop.domain.commands import SetLoad
from llmtop.domain.frame import Frame
from llmtop.domain.load import LoadPoint
from llmtop.domain.verdicts import CliffVerdict, Kind
from llmtop.tui.widgets.messages import Commanded
from llmtop.tui.widgets.slider import HAND_FRAMES, LogSlider
from llmtop.view.glyphs import Glyphs
from llmtop.view.scale import LogScale

CONTEXT_TOKENS = 32768
"""Longest prompt where the server does not tell its context length."""
OUTPUT_TOKENS = 8192


class LoadBank(Vertical):
    """Concurrency (or rate, in open loop), prompt and output length: one LoadPoint out of three sliders."""

    def __init__(self, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(**options)
        self.load = LogSlider("concurrency", LogScale(low=1, high=1024, zero=True), glyphs, id="load")
        self.prompt = LogSlider("prompt tok", LogScale(low=8, high=CONTEXT_TOKENS), glyphs, unit="tokens", id="prompt")
        self.output = LogSlider("output tok", LogScale(low=1, high=OUTPUT_TOKENS), glyphs, unit="tokens", id="output")
        self._target: LoadPoint | None = None
        self._hand_frames = 0

    def compose(self) -> ComposeResult:
        yield self.load
        yield self.prompt
        yield self.output

    def follow(self, frame: Frame, cliff: CliffVerdict | None, stale: bool, locked: str | None) -> None:
        """Show what is commanded and what is really in flight. `locked`: why no slider may move."""
        self._hand_frames = max(0, self._hand_frames - 1)
        if not self._hand_frames or frame.target == self._target:
            self._target, self._hand_frames = frame.target, 0
        for slider in (self.load, self.prompt, self.output):
            slider.locked = locked
        self._follow_load(frame, cliff, stale)
        context = frame.endpoint.max_model_len or (frame.server.max_model_len if frame.server else None)
        self.prompt.scale = LogScale(low=8, high=min(float(TOKENS.most), context or float(CONTEXT_TOKENS)))
        self.prompt.cap_reason = "the model's context length" if context else "longer prompts are not made"
        self.prompt.follow(float(frame.target.prompt_tokens), None, None, stale)
        self.output.scale = LogScale(low=1, high=min(float(OUTPUT_TOKENS), context or float(OUTPUT_TOKENS)))
        self.output.cap_reason = self.prompt.cap_reason if context else "longer answers are not asked for"
        self.output.follow(float(frame.target.output_tokens), None, None, stale)

    def _follow_load(self, frame: Frame, cliff: CliffVerdict | None, stale: bool) -> None:
        point, cap = frame.target, float(frame.max_concurrency)
        at = cliff.at if cliff is not None and cliff.kind is Kind.CLIFF and cliff.axis == point.axis else None
        self.load.cap_reason = "the cap of this run (--max-concurrency)"
        if point.rate_rps is not None:
            self.load.label, self.load.unit = "rate req/s", f"({frame.in_flight} live)"
            self.load.scale = LogScale(low=0.1, high=cap, quantum=0.1, zero=True)
            self.load.follow(point.rate_rps, None, at, stale)
        else:
            self.load.label = "concurrency"
            self.load.scale = LogScale(low=1, high=cap, zero=True)
            self.load.follow(float(point.concurrency or 0), float(frame.in_flight), at, stale)

    @on(LogSlider.Changed)
    def _moved(self, message: LogSlider.Changed) -> None:
        """Command the point that all three sliders stand for; a final value that was told already is not told again."""
        message.stop()
        if self._target is None:
            return
        value = message.value
        if message.slider is self.prompt:
            point = replace(self._target, prompt_tokens=int(value))
        elif message.slider is self.output:
            point = replace(self._target, output_tokens=int(value))
        else:
            point = self._target.at(self._target.axis, value)
        if point != self._target:
            self._target, self._hand_frames = point, HAND_FRAMES
            self.post_message(Commanded(SetLoad(point)))
