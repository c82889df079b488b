"""The knobs of any server under the load slider: those that turn live, a gate where none does, and what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from llmtop.domain.commands import Imagine, SetKnob
from llmtop.domain.endpoint import EndpointStatus
from llmtop.domain.foresight import Foresight
from llmtop.domain.frame import Frame
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.settings import is_slots
from llmtop.tui.widgets.faultbar import FaultBar
from llmtop.tui.widgets.knobslider import KnobSlider
from llmtop.tui.widgets.line import Line
from llmtop.tui.widgets.messages import Commanded
from llmtop.tui.widgets.slider import LogSlider
from llmtop.view.glyphs import Glyphs, plain
from llmtop.view.runs import fitting
from llmtop.view.scale import LogScale
from llmtop.wording import bank as words
from llmtop.wording.bank import KV_BLOCKS, KV_TOKENS, SLOTS, Asked, as_the_twin
from llmtop.wording.sentences import gate_text

_UNITS = {SLOTS: "slots", KV_BLOCKS: "blocks", KV_TOKENS: "tokens", "max_num_batched_tokens": "tokens"}
_REACH = 16
"""A knob without a limit that is known turns from a sixteenth to sixteen times of the value it had when it was first
seen."""
_ASKED_REACH = 4
"""Its track goes on to so many times what can be set, for what is only asked about: a twin knows no more than twice
what was measured."""


@dataclass
class GateTurned(Message):
    """So many requests at most are to be let through; None: all of them."""

    gate: int | None


class KnobBank(Vertical):
    """A row for each knob and one that says what is asked about and what that would give.

    What is turned or asked about here is asked of the twin, until the bank is left.
    """

    DEFAULT_CSS = """
    KnobBank > Vertical { height: auto; overflow-y: auto; scrollbar-size-vertical: 0; }
    """

    def __init__(self, glyphs: Glyphs, **options: Any) -> None:
        super().__init__(**options)
        self.glyphs = glyphs
        self.gate = KnobSlider("gate", LogScale(low=1, high=_REACH), glyphs, id="knob-gate")
        self.sliders = {name: self._slider(name) for name in _UNITS}
        """By the server's own names."""
        self.fault_bar = FaultBar(glyphs)
        slots, *others = self.sliders.values()
        self._list = Vertical(slots, self.gate, *others, self.fault_bar)
        self._says = Line()
        self._gated = False
        """A gate was commanded since the bank was opened: its slider does not go from under a hand."""
        self._own: dict[KnobSlider, tuple[object, ...]] = {}
        """What the track of each was made for."""
        self._of_all = True
        """The slots that turn are those of the whole server; of one engine of several no twin is asked."""
        self._told: dict[str, float] = {}
        self._turned: dict[str, Asked] = {}
        """What was set since the bank was opened, as the twin is asked."""
        self._around: tuple[Mapping[str, str], Sequence[str], str] = {}, (), ""
        """What the words were said with last, beside an answer."""
        self._posted: tuple[tuple[str, float], ...] = ()
        self._acts: list[tuple[KnobSlider, float]] = []
        """What was turned, and where it stood before, the last at the end."""

    def _slider(self, name: str) -> KnobSlider:
        scale = LogScale(low=1, high=_REACH)
        return KnobSlider(words.label_of(name), scale, self.glyphs, unit=_UNITS.get(name, ""), id=f"knob-{name}")

    def compose(self) -> ComposeResult:
        yield self._list
        yield self._says

    # -- attributes down ----------------------------------------------------------------------------------------------

    def follow(self, frame: Frame, stale: bool, locked: str | None) -> None:
        """Show what the server reports; a knob it does not have has no slider. `locked`: why none may move."""
        if not self.display:
            return
        endpoint, server = frame.endpoint, frame.server
        knobs = {name: value for name, value in endpoint.knobs.items() if endpoint.knobs_by or name in _UNITS}
        for name in sorted(knobs.keys() - self.sliders.keys()):
            self.sliders[name] = self._slider(name)
            self._list.mount(self.sliders[name], before=self.fault_bar)
        fixed_sizes = _cache(server) if KV_BLOCKS not in knobs else {}
        for name, slider in self.sliders.items():
            fixed = fixed_sizes.get(name)
            slider.display = name in knobs or fixed is not None
            slider.locked = locked
            if fixed is not None:
                self._fix(slider, fixed)
                slider.follow(fixed, None, None, stale)
            elif name in knobs:
                self._make_live(name, slider, knobs[name], endpoint)
                slider.follow(knobs[name], None, None, stale)
                if slider.value == knobs[name]:
                    self._told[name] = knobs[name]
        self._follow_gate(frame, stale, locked)
        self.fault_bar.locked = locked
        self.fault_bar.follow(endpoint.faults)

    def _follow_gate(self, frame: Frame, stale: bool, locked: str | None) -> None:
        """The slots of a server without a knob for them; beside that knob where a gate is commanded."""
        gate, slider = frame.target.gate, self.gate
        live = next((value for name, value in frame.endpoint.knobs.items() if is_slots(name)), None)
        told = None if frame.server is None else frame.server.max_num_seqs
        slots = live or frame.endpoint.slots or told
        turns = live is not None or frame.endpoint.simulated
        self._gated = self._gated or gate is not None
        slider.display = self._gated or not turns
        top = float(max(2, slots or frame.max_concurrency))
        beyond = slots is not None and not turns
        if self._own.get(slider) != (top, beyond):
            self._own[slider] = top, beyond
            slider.scale = LogScale(low=1, high=top * _ASKED_REACH if beyond else top)
            slider.applies = (1.0, top) if beyond else None
            slider.most = top * _REACH if beyond else None
            slider.beyond = partial(words.past_slots, slots=top)
            slider.named = top, gate_text(None)
            slider.unit = "at once" if slots is None else f"of {top:g}"
            slider.cap_reason = "a gate lets through fewer than there are"
        slider.locked = locked
        slider.follow(top if gate is None else float(gate), None, None, stale)

    def _fix(self, slider: KnobSlider, value: float) -> None:
        """A setting that is known and does not turn: anything else is asked about."""
        if self._own.get(slider) != (value,):
            self._own[slider] = (value,)
            slider.scale = LogScale(low=max(1.0, value // _ASKED_REACH), high=value * _ASKED_REACH)
            slider.applies, slider.beyond = (value, value), partial(words.fixed, slider.label)
            slider.most = value * _REACH

    def _make_live(self, name: str, slider: KnobSlider, value: float, endpoint: EndpointStatus) -> None:
        most = endpoint.knob_most.get(name)
        if (name, most) == self._own.get(slider):
            return
        self._own[slider] = name, most
        slider.most = slider.applies = None
        if most is None:
            slider.scale = LogScale(low=max(1.0, value // _REACH), high=value * _REACH)
            slider.cap_reason = f"{_REACH} times what it started with"
        elif is_slots(name):
            self._of_all = endpoint.slots in (None, value)
            slider.scale = LogScale(low=1, high=most * _ASKED_REACH)
            slider.applies, slider.most = (1.0, most), most * _REACH
            slider.beyond = partial(words.past_startup, most=most)
            slider.unit = f"of {most:g}"
        else:
            slider.scale = LogScale(low=1, high=most)
            slider.cap_reason = "what the server was started with"

    def tell(self, foreseen: Foresight | None, flags: Mapping[str, str], hints: Sequence[str], note: str) -> None:
        """One row of words.

        Args:
            foreseen: the twin's answer to what is asked here.
            flags: the server's own words for what it is started with.
            hints: ways of saying what turns, where nothing is asked.
            note: of who holds the load.
        """
        self._around = flags, hints, note
        glyphs, ways, role = self.glyphs, words.asked_ways(self.asked, flags, foreseen), "focus"
        if ways:
            ways = words.with_note(note, ways, self.asked)
        else:
            hidden = words.also_here(self._out_of_sight())
            ways, role = (
                [words.SEP.join(filter(None, (note, hidden, hint))) for hint in hints],
                "focus" if note else "dim",
            )
        self._says.show(
            lambda width: [(" " + fitting([plain(way, glyphs) for way in ways], width - 2, glyphs.more), role)]
        )

    def _out_of_sight(self) -> list[str]:
        """Labels of the rows that there is no room for now."""
        top, height = self._list.scroll_offset.y, self._list.size.height
        return [
            "faults" if isinstance(row, FaultBar) else row.label
            for number, row in enumerate(self._rows)
            if height and not top <= number < top + height
        ]

    @property
    def _rows(self) -> Sequence[KnobSlider | FaultBar]:
        rows = [row for row in self._list.children if isinstance(row, KnobSlider | FaultBar)]
        return [row for row in rows if row.display]

    @property
    def rows_wanted(self) -> int:
        """With the row of words."""
        return len(self._rows) + 1

    def give_room(self, rows: int) -> None:
        """So many rows and no more: knobs that have no room are scrolled to."""
        self._list.styles.max_height = max(1, rows - 1)

    # -- the hand -----------------------------------------------------------------------------------------------------

    @property
    def asked(self) -> list[Asked]:
        """What the twin is asked, slots first."""
        found = dict(self._turned)
        for name, slider in ((SLOTS, self.gate), *self.sliders.items()):
            if slider.imagined is not None and (twin := as_the_twin(name)):
                found[twin] = Asked(twin, slider.imagined, words.label_of(twin))
        if not self._of_all:
            found.pop(SLOTS, None)
        return [found[name] for name in sorted(found, key=lambda name: name != SLOTS)]

    def leave(self) -> None:
        """The bank is left: nothing is asked any more."""
        for slider in (self.gate, *self.sliders.values()):
            slider.imagined = None
        self._turned.clear()
        self._gated = False
        self._ask()

    def undo(self) -> str | None:
        """Ask no more about what is asked about, or turn back what was turned last, and say what; None: nothing was."""
        for slider in (self.gate, *self.sliders.values()):
            if slider.imagined is not None:
                told = f"{slider.label} {slider.imagined:g} is not asked about any more"
                slider.imagine(None)
                return told
        if not self._acts:
            return None
        slider, before = self._acts.pop()
        return slider.go_back(before)

    @property
    def first(self) -> KnobSlider | FaultBar:
        """Where the focus goes."""
        return next(iter(self._rows), self.fault_bar)

    @on(LogSlider.Changed)
    def _moved(self, message: LogSlider.Changed) -> None:
        """Command the knob; the final value of a slider was told before, unless it moved since."""
        message.stop()
        slider, value = message.slider, message.value
        if message.halts != slider.halts or not isinstance(slider, KnobSlider):
            return
        if message.before is not None and message.before != value:
            self._acts.append((slider, message.before))
        if slider is self.gate:
            gate = None if slider.named is not None and value == slider.named[0] else int(value)
            self._note_turned(SLOTS, None if gate is None else Asked(SLOTS, value, slider.label, True))
            self.post_message(GateTurned(gate))
            return
        name = next(name for name, each in self.sliders.items() if each is slider)
        if self._told.get(name) != value:
            self._told[name] = value
            self._note_turned(as_the_twin(name), Asked(as_the_twin(name), value, slider.label, True))
            self.post_message(Commanded(SetKnob(name, value)))

    @on(KnobSlider.Asks)
    def _asks(self, message: KnobSlider.Asks) -> None:
        message.stop()
        self._ask()

    def _note_turned(self, name: str, asked: Asked | None) -> None:
        if name and asked is not None:
            self._turned[name] = asked
        else:
            self._turned.pop(name, None)
        self._ask()

    def _ask(self) -> None:
        settings = tuple((each.name, each.value) for each in self.asked)
        if settings != self._posted:
            self._posted = settings
            self.tell(None, *self._around)
            self.app.post_message(Commanded(Imagine(settings)))


def _cache(server: ServerSnapshot | None) -> dict[str, float]:
    """The size of the KV cache as the server tells it, in blocks where it has some."""
    if server is None:
        return {}
    sizes = {KV_BLOCKS: server.num_gpu_blocks, KV_TOKENS: server.kv_capacity_tokens}
    return dict([(name, size) for name, size in sizes.items() if size][:1])
