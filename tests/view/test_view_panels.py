"""Panels as rows: of every scene, in every size, exactly as wide and as high as they are asked for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.failures import FailureGroup
from llmtop.domain.frame import Frame, NewUser, ReplayPosition
from llmtop.domain.request import Outcome
from llmtop.domain.samples import ServerSnapshot
from llmtop.domain.slo import Slo, SloTarget
from llmtop.meter.frames import STALE_S
from llmtop.view import charts, lines, tables
from llmtop.view.condition import Condition
from llmtop.view.glyphs import ASCII, UNICODE, Glyphs
from llmtop.view.panels import WAITS_S, panels
from llmtop.view.runs import Runs
from llmtop.view.scale import HeldTop
from llmtop.view.tone import Tone
from llmtop.view.verdict import verdict
from llmtop.wording.between import buffered

SCENES = sorted((Path(__file__).parent.parent / "tui" / "data").glob("*.msgpack"))
GLYPHS = pytest.mark.parametrize("glyphs", [UNICODE, ASCII], ids=["unicode", "ascii"])
EACH_SCENE = pytest.mark.parametrize("path", SCENES, ids=[path.stem for path in SCENES])


class Scene(msgspec.Struct):
    frame: Frame
    assessment: Assessment | None = None


def scene(path: Path) -> Scene:
    return msgspec.msgpack.decode(path.read_bytes(), type=Scene)


def cells(row: Runs) -> int:
    return sum(len(text) for text, _ in row)


def test_there_are_scenes() -> None:
    assert len(SCENES) > 5


def test_what_a_server_told_is_shown_with_its_age_once_it_is_no_longer_current() -> None:
    frame = replace(scene(SCENES[0]).frame, endpoint=EndpointStatus(state=EndpointState.UP))
    old = [
        panels(
            replace(frame, server=ServerSnapshot(t_s=1.0, age_s=age_s, waiting=1, kv_usage=0.5)),
            Slo(),
            ASCII,
            Condition(),
        )
        for age_s in (STALE_S, STALE_S + 0.1)
    ]
    for current, late in zip(*(views[2:4] for views in old), strict=True):
        assert (current.stale, late.stale) == (False, True)
        assert "4s old" not in current.notes
        assert late.notes == ("4s old",)


def with_canaries(felt: NewUser | None, waits_s: float | None = None) -> Frame:
    """A run past its cliff, with a canary in every fourth step of half a second."""
    frame = scene(next(path for path in SCENES if path.stem == "past")).frame
    dots = tuple(p50 if i % 4 == 0 else None for i, p50 in enumerate(frame.timeline.ttft_p50_ms))
    return replace(frame, new_user=felt, new_user_waits_s=waits_s, timeline=replace(frame.timeline, canary_ms=dots))


def rule_of(frame: Frame, width: int, glyphs: Glyphs = UNICODE) -> str:
    view = panels(frame, Slo((SloTarget("ttft", 2.0, "p95"),)), glyphs, Condition())[0]
    row = charts.rule(width, 1, view.title, charts.figures(view, width, glyphs), glyphs, False)
    assert cells(row) == width
    return "".join(text for text, _ in row)


FELT = NewUser(n=30, failed=1, p50_ms=45.5, max_ms=7520.0)


@pytest.mark.parametrize(
    ("felt", "waits_s", "narrow", "middle"),
    [
        (FELT, None, "• 45.5ms", "• new user 45.5ms, max 7.52s"),
        (FELT, WAITS_S - 0.1, "• 45.5ms", "• new user 45.5ms, max 7.52s"),
        (FELT, 3.1, "• >3.10s", "• new user waiting 3.10s"),
        (None, 61.0, "• >61.0s", "• new user waiting 61.0s"),
        (NewUser(n=2, failed=2), None, "", "• new user: no token"),
    ],
)
def test_the_panel_of_ttft_says_what_a_new_user_feels(
    felt: NewUser | None, waits_s: float | None, narrow: str, middle: str
) -> None:
    """Half of 80 and of 120 columns."""
    frame = with_canaries(felt, waits_s)
    assert f" {narrow} " in rule_of(frame, 40)
    assert f" {middle} " in rule_of(frame, 60)
    assert f"  {middle} " in rule_of(frame, 90)
    assert "n " in rule_of(frame, 90)
    assert middle.replace("•", "o") in rule_of(frame, 60, ASCII)


@GLYPHS
@pytest.mark.parametrize("width", [40, 60])
def test_canaries_are_dots_of_their_own_on_the_panel_of_ttft_and_on_no_other(glyphs: Glyphs, width: int) -> None:
    frame = with_canaries(FELT)
    bare = replace(frame, new_user=None, timeline=replace(frame.timeline, canary_ms=()))
    views, without = (panels(each, Slo(), glyphs, Condition()) for each in (frame, bare))
    assert views[1:] == without[1:]
    assert without[0].dots == ()
    for mode in glyphs.modes:
        top = charts.peak_of(views[0])
        drawn, plain = (
            [cell for row in charts.chart(view, top, mode, width, 5) for cell in row] for view in (views[0], without[0])
        )
        dots = sum(text.count(glyphs.canary) for text, role in drawn if role == "strong")
        assert dots >= width // 8
        assert not any(role == "strong" for _, role in plain)


def test_latencies_that_a_path_makes_are_shown_nowhere() -> None:
    """At 80 columns a chart has 38: what buffers stands there whole."""
    shown = scene(SCENES[0])
    views = panels(shown.frame, Slo(), ASCII, Condition(), buffered(whole=False))
    assert [(view.figure, view.limit, view.tone) for view in views[:2]] == [("void", "", Tone.UNKNOWN)] * 2
    for view in views[:2]:
        rows = charts.chart(view, 1.0, ASCII.modes[0], 38, 4)
        assert " ".join("".join(text for text, _ in row).strip() for row in rows).strip() == (
            "the path buffers: tokens arrive in lumps"
        )
    assert views[2:] == panels(shown.frame, Slo(), ASCII, Condition())[2:]
    rows = tables.percentiles(shown.frame, Assessment(path=buffered(whole=False)), False, ASCII, 80)
    told = ["".join(text for text, _ in row) for row in rows]
    assert all(set(line.split()[1:]) == {"--"} for line in told if line.strip().startswith(("TTFT", "TPOT", "gap")))
    assert "option http-no-delay" in " ".join(told)


@GLYPHS
@EACH_SCENE
def test_a_panel_fills_its_room(path: Path, glyphs: Glyphs) -> None:
    for number, view in enumerate(panels(scene(path).frame, Slo(), glyphs, Condition()), 1):
        for width, height in ((30, 4), (40, 5), (90, 15)):
            head = charts.rule(width, number, view.title, charts.figures(view, width, glyphs), glyphs, focused=False)
            assert cells(head) == width
            for mode in glyphs.modes:
                top = HeldTop().follow(charts.peak_of(view), view.floor, view.ceiling)
                rows = charts.chart(view, top, mode, width, height)
                if view.absent is None:
                    assert [cells(row) for row in rows] == [width] * height
                else:
                    assert len(rows) <= height
                    assert view.absent.split()[0] in "".join(text for row in rows for text, _ in row)


@GLYPHS
@EACH_SCENE
def test_the_header_fills_its_line_and_the_settings_fit_in_theirs(path: Path, glyphs: Glyphs) -> None:
    for width in (60, 80, 120, 200):
        assert cells(lines.header(scene(path).frame, Condition(), glyphs, width)) == width
        assert cells(lines.settings(scene(path).frame, Condition(note="searching"), glyphs, width)) <= width


def test_the_header_names_the_gate_live_and_in_a_replay() -> None:
    frame = scene(SCENES[0]).frame
    gated = replace(frame, target=replace(frame.target, gate=16))
    again = replace(gated, replay=ReplayPosition(length_s=60.0, speed=1.0, playing=True))
    for shown, has in ((frame, False), (gated, True), (again, True)):
        row = "".join(text for text, _ in lines.header(shown, Condition(), UNICODE, 120))
        assert ("gate 16" in row) is has


@EACH_SCENE
def test_ascii_is_ascii_everywhere(path: Path) -> None:
    shown = scene(path)
    frame = shown.frame
    rows = [lines.header(frame, Condition(), ASCII, 120), lines.settings(frame, Condition(), ASCII, 120)]
    rows += verdict(frame, shown.assessment, Condition(), ASCII, 120, 2)
    rows += tables.percentiles(frame, shown.assessment, False, ASCII, 80)
    rows += tables.events(lines.entries(frame, ASCII), 60, 20)
    for text, _ in (run for row in rows for run in row):
        assert text.isascii(), text


@pytest.mark.parametrize("path", [path for path in SCENES if lines.entries(scene(path).frame, UNICODE)])
def test_the_newest_event_comes_first_in_the_log_and_last_in_its_line(path: Path) -> None:
    found = lines.entries(scene(path).frame, UNICODE)
    log = tables.events(found, 80, 30)
    assert log[0][0][0].strip() in "".join(text for text, _ in lines.event_line(found, UNICODE, 200))
    assert len(tables.events(found, 80, 1)) == 1


@pytest.mark.parametrize("width", [80, 120])
def test_the_newest_failure_is_read_with_status_and_words_above_the_keys_and_in_full_in_the_log(width: int) -> None:
    said = "slow down please, " * 9 + "and come back"
    old = FailureGroup(outcome=Outcome.TIMEOUT, text="no token", count=2, first_s=1.0, last_s=2.0)
    new = FailureGroup(outcome=Outcome.HTTP_ERROR, status=429, text=said, count=12, first_s=3.0, last_s=41.0)
    frame = replace(scene(next(iter(SCENES))).frame, failures=(old, new), events=(), marks=(), changes=())
    found = lines.entries(frame, UNICODE)
    line = "".join(text for text, _ in lines.event_line(found, UNICODE, width))
    assert len(line) <= width
    assert line.startswith(' 00:41 ✖ HTTP 429 "slow down please, slow down please')
    log = " ".join("".join(text for text, _ in row).strip() for row in tables.events(found, width, 20))
    assert f'HTTP 429 "{said}" ×12, first 00:03, last 00:41' in " ".join(log.split())
    assert log.index("429") < log.index("timeout")
    short = replace(new, text="slow down please")
    ascii_line = lines.event_line(lines.entries(replace(frame, failures=(short,)), ASCII), ASCII, width)
    assert 'HTTP 429 "slow down please" x12, first 00:03, last 00:41' in "".join(text for text, _ in ascii_line)


def test_tpot_and_tokens_that_the_server_did_not_count_are_shown_as_about() -> None:
    path = next(each for each in SCENES if scene(each).frame.window.tpot.n)
    frame = scene(path).frame
    for source, about in (("usage", ""), ("chunks", UNICODE.about)):
        views = panels(replace(frame, token_source=source), Slo(), UNICODE, Condition())
        figures = {view.title.split()[0]: view.figure for view in views}
        assert figures["TPOT"].startswith(about)
        assert figures["output"].startswith(about)
        assert not figures["TTFT"].startswith(UNICODE.about)
        assert bool(about) == (UNICODE.about in figures["TPOT"])
