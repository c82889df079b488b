"""Curves of before behind the one that is driven: pictures, and what the cursor reads of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.gain import Baseline, Comparison, Gain
from llmtop.domain.verdicts import Curve, LevelPoint
from llmtop.tui.app import LlmtopApp

TEXT = (
    "+38 % users at the SLO against `before` (max_num_seqs 48 → 64): 48 → 66 (+21 % to +55 %), the cliff (batch slots) "
    "binds now"
)


def measured_before(assessment: Assessment) -> Assessment:
    """With three earlier measurements: a slower server, another tool's medians, and one at other lengths."""
    own = assessment.curves[-1]

    def curve(label: str, factor: float, loads: tuple[float, float], **changes: Any) -> Curve:
        points = [p for p in own.points if loads[0] <= p.load <= loads[1]]
        return Curve(label=label, ghost=True, points=tuple(_slower(p, factor) for p in points), **changes)

    slow = curve("before", 1.8, (2, 64), what="max_num_seqs 48")
    medians = curve("theirs", 0.6, (4, 96))
    medians = replace(medians, points=tuple(replace(p, ttft_p95_ms=None) for p in medians.points))
    long = curve("long", 3, (1, 8), apart="other lengths (4096/128)")
    gain = Comparison(
        changed="max_num_seqs 48 → 64",
        gain=Gain.MORE,
        against="before",
        text=TEXT,
        short="+38 % users against `before`",
    )
    told = "`long`: other lengths (4096/128)"
    apart = Comparison(changed="", gain=Gain.OPEN, against="long", text=f"{told}, not compared", short=told)
    found = (Baseline(curve=slow, compared=gain), Baseline(curve=medians), Baseline(curve=long, compared=apart))
    return replace(assessment, baselines=found)


def _slower(point: LevelPoint, factor: float) -> LevelPoint:
    p50, p95 = point.ttft_p50_ms, point.ttft_p95_ms
    return replace(point, ttft_p50_ms=p50 and p50 * factor, ttft_p95_ms=p95 and p95 * factor)


@pytest.fixture
def beside(cockpit: Callable[..., LlmtopApp]) -> Callable[..., LlmtopApp]:
    """The cockpit past its cliff, beside what was measured before."""

    def make(name: str = "past", **options: Any) -> LlmtopApp:
        app = cockpit(name, **options)
        host: Any = app.host
        host.now = replace(host.now, assessment=measured_before(host.now.assessment))
        return app

    return make


@pytest.mark.parametrize(("size", "keys"), [((80, 24), ("escape", "7")), ((120, 40), ())])
def test_they_lie_dimmed_behind_the_curve_and_a_legend_names_them(
    snap_compare: Any, beside: Any, settle: Any, size: tuple[int, int], keys: tuple[str, ...]
) -> None:
    async def press(pilot: Any) -> None:
        await settle(pilot)
        await pilot.press(*keys)
        screen = pilot.app.screen
        screen._unsay(screen._said)  # what is said for some seconds is no part of a picture
        await pilot.pause()

    assert snap_compare(beside(), terminal_size=size, run_before=press)


async def test_what_is_known_is_said_and_the_cursor_reads_what_was_measured_at_its_load(
    beside: Any, settle: Any
) -> None:
    app = beside()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.screen._compared = {}  # what is said stands for some seconds only: it is said here and now
        app.screen._tell_compared(app.host.now.assessment)
        assert app.screen.saying == TEXT, "what is only not known is not"
        await pilot.press("escape", "1", "left")
        assert "load 96 · theirs: TTFT p50 " in app.screen.body.reading, "`before` was not driven there"
        app.screen.body.move_cursor(-45)
        app.tick()
        assert "load 64 · before: TTFT p95 " in app.screen.body.reading
