"""The three sliders of the load, and what was done with them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from llmtop.domain.bounds import TOKENS
from llmtop.domain.commands import SetLoad, StopLoad
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
REACH = 64.0
"""Where the load slider of a real endpoint ends until a larger number is typed: more is seldom meant by a key."""
REMEMBERED = 50
"""Acts that can be undone."""


class LoadBank(Vertical):
    """Concurrency (or rate, in open loop), prompt and output length: one LoadPoint out of three sliders.

    A load that was stopped stays at 0 until a hand moves the load slider up, whatever else is moved or undone, and
    whatever older frames still say.
    """

    def __init__(self, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(**options)
        self.load = LogSlider("concurrency", LogScale(low=1, high=1024, zero=True), glyphs, id="load")
        self.prompt = LogSlider("prompt tok", LogScale(low=8, high=CONTEXT_TOKENS), glyphs, unit="tokens", id="prompt")
        self.output = LogSlider("output tok", LogScale(low=1, high=OUTPUT_TOKENS), glyphs, unit="tokens", id="output")
        self._target: LoadPoint | None = None
        self._hand_frames = 0
        self._acts: list[tuple[LogSlider, float]] = []
        """What a hand has moved, and where that stood before; the newest last."""
        self._reach = REACH
        self._driven = False
        self._alone, self._output = False, True
        self.stopped = False
        """The load was stopped, and no hand has started it again."""

    def compose(self) -> ComposeResult:
        yield self.load
        yield self.prompt
        yield self.output

    def stop(self, offered: float | None = None) -> None:
        """Load to zero: what hands had begun or could undo is over.

        Enter on the load slider goes to the load that is `offered`; None: back to the one before.
        """
        target = self._target
        for slider in (self.load, self.prompt, self.output):
            slider.halt(0.0 if slider is self.load else slider.value or 0.0)
        self._acts.clear()
        if target is not None:
            if offered or target.value:
                self.load.ask(offered or target.value)
            self._target, self._hand_frames = target.at(target.axis, 0), HAND_FRAMES
        self.stopped = True
        self.post_message(Commanded(StopLoad()))

    def drive(self, driven: bool) -> None:
        """Whether something else than a hand drives, a search or a plan: whatever hands did before is not undone."""
        if driven and not self._driven:
            self._acts.clear()
            self.load.ask(None)
        self._driven = driven
        for slider in (self.load, self.prompt, self.output):
            slider.driven = driven

    def offer(self, load: float) -> bool:
        """Let Enter on the load slider go to `load`; not while a number is being typed. Returns whether it does."""
        if not self.load.typing:
            self.load.ask(load)
        return not self.load.typing

    def start_anew(self) -> None:
        """Somebody else is let start the load: it is stopped no more."""
        self.stopped = False
        self._hand_frames = 0

    def take_up(self, point: LoadPoint) -> None:
        """Command a whole load, that of before the server went away: a hand has been asked for it."""
        self.load.halt(point.value)
        self.prompt.halt(float(point.prompt_tokens))
        self.output.halt(float(point.output_tokens))
        self._acts.clear()
        self._target, self._hand_frames, self.stopped = point, HAND_FRAMES, False
        self._reach = max(self._reach, point.value)
        self.post_message(Commanded(SetLoad(point)))

    def behind(self, gate: int | None) -> SetLoad | None:
        """The command for the same load behind another gate, which starts none; None: it stands there already."""
        if self._target is None or gate == self._target.gate:
            return None
        self._target, self._hand_frames = replace(self._target, gate=gate), HAND_FRAMES
        return SetLoad(self._target, gate_alone=True)

    @property
    def starting(self) -> bool:
        """Whether a hand has just started a load that no frame shows yet."""
        return self._hand_frames > 0 and self._target is not None and self._target.value > 0

    @property
    def touched(self) -> tuple[object, ...]:
        """What a hand changes with any move, before it is told."""
        return tuple((each.value, each.asked, each.typing) for each in (self.load, self.prompt, self.output))

    def undo(self) -> str | None:
        """Put back what was moved last, and say what that is; None: nothing was."""
        if not self._acts:
            return None
        slider, before = self._acts.pop()
        return slider.go_back(before)

    def show_load_alone(self, alone: bool) -> None:
        """The load slider, with the server's knobs in the place of the others."""
        self._alone = alone
        self.prompt.display = not alone
        self.output.display = not alone and self._output

    def show_output(self, on: bool) -> None:
        """Whether there is room for the output slider."""
        self._output = on
        self.output.display = on and not self._alone

    def follow(
        self, frame: Frame, cliff: CliffVerdict | None, stale: bool, locked: str | None, foreseen: float | None = None
    ) -> None:
        """Show what is commanded and what is really in flight.

        Args:
            locked: why no slider may move.
            foreseen: the load at which a cliff is expected.
        """
        self._hand_frames = max(0, self._hand_frames - 1)
        if not self._hand_frames or frame.target == self._target:
            if frame.target != self._target and not self.stopped:
                self._acts.clear()  # a plan, a search or the brake has moved the load since
            self._target, self._hand_frames = frame.target, 0
            if self.stopped:
                self._target = frame.target.at(frame.target.axis, 0)
        for slider in (self.load, self.prompt, self.output):
            slider.locked = locked
        self.load.foreseen = foreseen
        self._follow_load(frame, cliff, stale)
        context = frame.endpoint.max_model_len or (frame.server.max_model_len if frame.server else None)
        self.prompt.scale = LogScale(low=8, high=min(float(TOKENS.most), context or float(CONTEXT_TOKENS)))
        self.prompt.cap_reason = "the model's context length" if context else "longer prompts are not made"
        self.prompt.follow(float(frame.target.prompt_tokens), None, None, stale)
        self.output.scale = LogScale(low=1, high=min(float(OUTPUT_TOKENS), context or float(OUTPUT_TOKENS)))
        self.output.cap_reason = self.prompt.cap_reason if context else "longer answers are not asked for"
        self.output.follow(float(frame.target.output_tokens), None, None, stale)

    def _follow_load(self, frame: Frame, cliff: CliffVerdict | None, stale: bool) -> None:
        point, most, load = frame.target, float(frame.max_concurrency), self.load
        at = cliff.at if cliff is not None and cliff.kind is Kind.CLIFF and cliff.axis == point.axis else None
        load.cap_reason = "the cap of this run (--max-concurrency)"
        load.careful, load.most = not frame.endpoint.simulated, most
        high = min(most, max(self._reach, point.value, load.value or 0.0)) if load.careful else most
        value = 0.0 if self.stopped else point.value
        if point.rate_rps is not None:
            load.label, load.unit = "rate req/s", f"({frame.in_flight} live)"
            load.scale = LogScale(low=0.1, high=high, quantum=0.1, zero=True)
            load.follow(value, None, at, stale)
        else:
            load.label, load.unit = "concurrency", ""
            load.scale = LogScale(low=1, high=high, zero=True)
            load.follow(value, float(frame.in_flight), at, stale)

    @on(LogSlider.Changed)
    def _moved(self, message: LogSlider.Changed) -> None:
        """Command the point that all three sliders stand for; a final value that was told already is not told again."""
        message.stop()
        if self._target is None or message.halts != message.slider.halts:
            return
        if message.before is not None and message.before != message.value:
            self._acts = [*self._acts[1 - REMEMBERED :], (message.slider, message.before)]
        value = message.value
        if message.slider is self.prompt:
            point = replace(self._target, prompt_tokens=int(value))
        elif message.slider is self.output:
            point = replace(self._target, output_tokens=int(value))
        else:
            point = self._target.at(self._target.axis, value)
            self._reach = max(self._reach, value)
            self.stopped = self.stopped and not value
        if point != self._target or self._driven:
            self._target, self._hand_frames = point, HAND_FRAMES
            self.post_message(Commanded(SetLoad(point)))
