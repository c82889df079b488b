"""Start, cliff, cause, turn, better: how many keys and minutes that takes who has read the README, in virtual time."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "analysis"))

from virtual import VirtualSession

from llmtop.domain.commands import Command, SetKnob, SetLoad, StopLoad
from llmtop.domain.endpoint import Dialect, EndpointState, EndpointStatus
from llmtop.domain.gain import Gain
from llmtop.domain.load import LoadPoint
from llmtop.domain.shown import Shown
from llmtop.domain.slo import Slo
from llmtop.host.judging import Judge
from llmtop.meter.frames import FrameBuilder
from llmtop.simulator.engine import load_preset
from llmtop.tui.app import LlmtopApp

MOST_KEYS = 25
MOST_S = 120.0
START = LoadPoint(concurrency=4, prompt_tokens=192, output_tokens=64)


class VirtualHost:
    """Attends to a virtual run of the default preset, which goes on as far as `advance` lets it."""

    def __init__(self) -> None:
        self.slo = Slo()
        self._knobs = {"max_num_seqs": 32.0, "num_gpu_blocks": 768.0, "max_num_batched_tokens": 512.0}
        self._session = VirtualSession(load_preset("laptop"), START, prompt_cv=0.0, output_cv=0.0)
        self._judge, self._builder, self._told = Judge(self.slo), FrameBuilder(), 0
        self.now = Shown()
        self.advance(6.0)

    @property
    def t_s(self) -> float:
        return self._session.now_s

    def advance(self, seconds: float) -> None:
        """Let the run go on, judged once a second as a live one is."""
        until_s = self.t_s + seconds
        while self.t_s < until_s:
            self._session.run_until(min(until_s, self.t_s + 1.0))
            fresh, self._told = self._session.batches[self._told :], len(self._session.batches)
            for batch in fresh:
                self._builder.consume(batch)
            opinion = self._judge(self._session.facts, self._session.meta)
            self.now = Shown(frame=self._builder.frame(self._status()), assessment=opinion, meta=self._session.meta)

    def _status(self) -> EndpointStatus:
        return EndpointStatus(
            state=EndpointState.UP, dialect=Dialect.VLLM, simulated=True, preset="laptop", knobs=dict(self._knobs)
        )

    @property
    def left(self) -> bool:
        return False

    def shown(self) -> Shown:
        return self.now

    def send(self, command: Command, /) -> None:
        match command:
            case SetLoad(point):
                self._session.command(point)
            case SetKnob(name, value):
                self._knobs[name] = value
                self._session.turn(**{name: round(value)})
            case StopLoad():
                self._session.command(START.at("concurrency", 0))

    def close(self) -> None:
        pass


def screen(app: LlmtopApp) -> str:
    return "\n".join(
        " ".join(app.cockpit.query_one(f"#{name}").render_line(row).text for row in range(2))
        for name in ("verdict", "events")
    )


async def test_a_newcomer_finds_the_cliff_its_cause_and_what_helps_with_few_keys_in_two_minutes() -> None:
    host = VirtualHost()
    app = LlmtopApp(host)
    pressed = 0
    async with app.run_test(size=(80, 24)) as pilot:

        async def press(*keys: str) -> None:
            nonlocal pressed
            pressed += len(keys)
            await pilot.press(*keys)
            await pilot.pause(0.3)

        async def watch(seconds: float) -> None:
            host.advance(seconds)
            app.tick()
            await pilot.pause()

        for seconds in (8.0, 8.0, 10.0):
            await press("pageup")
            await watch(seconds)
        assert "SLO OK" in screen(app)
        await press("4", "8", "enter")
        await watch(24.0)
        past = host.now.assessment
        assert past is not None
        assert past.cliff.at == pytest.approx(32, rel=0.2), "the cliff"
        assert "SLO FAIL TTFT p95>2s" in screen(app)
        assert "queue-bound" in screen(app), "its cause"
        advised = re.search(r"--max-num-seqs to about (\d+)", screen(app))
        assert advised is not None, "what to turn"

        await press("k", *advised[1], "enter", "k")
        await watch(25.0)
        better = host.now.assessment
        assert better is not None
        assert "SLO OK" in screen(app), "the same load, better"
        assert better.compared is not None
        assert better.compared.changed == f"max_num_seqs 32 → {advised[1]}"
        assert better.compared.gain is not Gain.FEWER
    assert pressed <= MOST_KEYS
    assert host.t_s <= MOST_S
