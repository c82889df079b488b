"""A recording as a film: what a player shows is what a replay draws, whoever draws it, and how often."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from emulator import Emulator
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.run import FactBatch, Mark
from llmtop.errors import RunFileError
from llmtop.recording.reader import RunReader
from llmtop.recording.writer import RunWriter
from llmtop.tui.cast import LAST_S, Film, Screenful, asciicast, is_cast
from llmtop.tui.cells import BEGIN, Row, cells_of, change, text_of
from llmtop.tui.screens.cockpit import SAID_S
from llmtop.view.arrangement import Layout

RECORDED = Path(__file__).parents[2] / "screenshots" / "film.llmtop"
MARKS = {4: "it begins", 9: "a mark"}
LENGTH_S = 12.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seconds around the turn of a knob, with two marks."""
    path = tmp_path_factory.mktemp("cast") / "a.llmtop"
    with RunReader(RECORDED) as reader:
        meta, batches = reader.meta, list(reader.batches())
    writer = RunWriter(path, replace(meta, ended_s=None, ending=None))
    for at, batch in enumerate(_until(batches, LENGTH_S)):
        marks = (Mark(batch.t_s, MARKS[at]),) if at in MARKS else ()
        writer.write(replace(batch, marks=marks))
    writer.step()
    writer.close(LENGTH_S)
    writer.step()
    return path


def _until(batches: Sequence[FactBatch], end_s: float) -> list[FactBatch]:
    return [each for each in batches if each.t_s <= end_s]


def played(content: bytes) -> tuple[dict[str, object], list[tuple[float, str, str]]]:
    header, *events = [msgspec.json.decode(line) for line in content.splitlines()]
    return header, [tuple(event) for event in events]


class Kept(Film):
    """A film that keeps what is drawn for it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.drawn: list[tuple[float, list[Row]]] = []

    async def screens(self) -> AsyncIterator[Screenful]:
        async for screen in super().screens():
            self.drawn.append((screen.t_s, list(screen.rows)))
            yield screen


@pytest.fixture(scope="module")
def film(run: Path) -> Kept:
    """Of that run, as it is without options."""
    return Kept(run)


@pytest.fixture(scope="module")
def content(film: Kept) -> bytes:
    return asciicast(film)


def normal(rows: Sequence[Row]) -> list[list[tuple[str, str, str, tuple[str, ...]]]]:
    """Cells for a comparison: attributes in one order."""
    return [
        [(text, ink.foreground, ink.background, tuple(sorted(ink.attributes))) for text, ink in row] for row in rows
    ]


@pytest.mark.parametrize("options", [{}, {"size": (80, 24), "speed": 2.0, "fps": 4.0}, {"ascii": True, "fps": 0.7}])
def test_a_player_shows_at_any_time_the_screen_that_a_replay_draws(
    run: Path, film: Kept, content: bytes, options: dict[str, Any]
) -> None:
    if options:
        film = Kept(run, **options)
        content = asciicast(film)
    screens = film.drawn
    header, events = played(content)
    assert (header["version"], header["width"], header["height"]) == (2, *options.get("size", (120, 40)))
    times = [t_s for t_s, _, _ in events]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(LENGTH_S / options.get("speed", 1.0) + LAST_S)
    shown = Emulator(int(header["width"]), int(header["height"]))
    waiting = list(events)
    for t_s, rows in screens:
        while waiting and waiting[0][0] <= t_s + 1e-6:
            _, kind, data = waiting.pop(0)
            if kind == "o":
                shown.feed(data)
        assert [text_of(row) for row in shown.cells] == [text_of(row) for row in rows], t_s
        assert normal(shown.cells) == normal(rows), t_s
    assert not waiting
    assert len({tuple(map(text_of, rows)) for _, rows in screens}) > len(screens) / 2, "the film moves"
    if options.get("ascii"):
        assert all(text_of(row).isascii() for _, rows in screens for row in rows)


def test_marks_and_events_are_markers_behind_the_screen_that_shows_them(run: Path, content: bytes) -> None:
    _, events = played(content)
    markers = {data: (at, t_s) for at, (t_s, kind, data) in enumerate(events) if kind == "m"}
    assert {*MARKS.values(), "endpoint up"} <= markers.keys()
    with RunReader(run) as reader:
        told_s = {mark.text: batch.t_s for batch in reader.batches() for mark in batch.marks}
    for text, happened_s in told_s.items():
        at, t_s = markers[text]
        assert happened_s <= t_s < happened_s + 0.5
        before = [kind for seen_s, kind, _ in events[:at] if seen_s == t_s]
        assert before[0] == "o"


def test_two_processes_write_the_same_film_to_the_byte(run: Path) -> None:
    code = (
        "import sys, pathlib; from llmtop.tui.cast import *;"
        "sys.stdout.buffer.write(asciicast(Film(pathlib.Path(sys.argv[1]), speed=4.0)))"
    )
    told = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    others = [
        {"PYTHONHASHSEED": "1", "COLORFGBG": "0;15", "TERM": "dumb", "LANG": "C"},
        {"PYTHONHASHSEED": "2", "TEXTUAL_FPS": "7", "COLUMNS": "50", "TEXTUAL_ANIMATIONS": "full"},
    ]
    films = [
        subprocess.run([sys.executable, "-c", code, run], env=told | each, capture_output=True, check=True).stdout
        for each in others
    ]
    assert films[0] == films[1] == asciicast(Film(run, speed=4.0))
    assert is_cast(films[0])


def test_a_minute_is_far_smaller_than_what_players_are_sent(content: bytes) -> None:
    """At 120x40, first screen included."""
    assert len(content) / LENGTH_S * 60 < 1_500_000


def test_a_private_film_tells_nobody_whose_run_it_is_and_the_stage_can_be_filmed(tmp_path: Path) -> None:
    names = ("zqgpu", "zqmodel", "zqlabel", "zqmark")
    path = tmp_path / "zqfile.llmtop"
    said = "zqgpu.lab:8123 zqmodel zqlabel /home/zqfile/zqmark"
    with RunReader(RECORDED) as reader:
        endpoint = Endpoint(base_url="http://zqgpu.lab:8123", model="zqmodel")
        meta = replace(reader.meta, endpoint=endpoint, label="zqlabel", preset=None, ended_s=None, ending=None)
        batches = _until(list(reader.batches()), 3.0)
    writer = RunWriter(path, meta)
    for at, batch in enumerate(batches):
        writer.write(replace(batch, marks=(Mark(batch.t_s, said),) if at == 1 else ()))
    writer.step()
    writer.close(3.0)
    writer.step()
    told = asciicast(Film(path)).decode()
    assert all(name in told for name in names), "what is hidden below"
    hidden = asciicast(Film(path, private=True, layout=Layout.STAGE)).decode()
    assert [name for name in (*names, "zqfile", "8123") if name in hidden] == []
    header, events = played(hidden.encode())
    assert header["title"] == "llmtop"
    assert "endpoint model label FILE" in [text for _, kind, text in events if kind == "m"]
    assert "users in flight" in hidden


def test_what_is_said_of_a_turned_knob_goes_again_after_seconds_of_the_film() -> None:
    """On the clock of the wall it would stand for as long as drawing takes."""
    _, events = played(asciicast(Film(RECORDED, speed=12.0)))
    shown, said_s = Emulator(120, 40), []
    for t_s, kind, data in events:
        if kind == "o":
            shown.feed(data)
            said_s += [t_s for row in shown.cells if "drive to 40 to compare" in text_of(row)]
    turned_s = next(t_s for t_s, kind, data in events if kind == "m" and "max_num_seqs" in data)
    assert turned_s <= said_s[0]
    assert SAID_S - 1 <= said_s[-1] - said_s[0] <= SAID_S


def test_a_recording_of_nothing_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "empty.llmtop"
    with RunReader(RECORDED) as reader:
        meta = reader.meta
    writer = RunWriter(path, replace(meta, ended_s=None, ending=None))
    writer.close(0.0)
    writer.step()
    with pytest.raises(RunFileError, match=r"empty\.llmtop: nothing was recorded"):
        Film(path)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"version":2,"width":80}\n[0,"o","x"]\n', b'{"version":2,\n"LLMTOP_RUN":', b"\xff"]
)
def test_what_others_have_written_is_no_film_of_ours(content: bytes) -> None:
    assert not is_cast(content)


# ── Cells ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

COLOURS = st.sampled_from([None, "red", "bright_blue", "color(200)", "#102030", "#ffffff"])
STYLES = st.builds(Style, color=COLOURS, bgcolor=COLOURS, bold=st.booleans(), dim=st.booleans(), reverse=st.booleans())
TEXTS = st.text(st.sampled_from("ab  ─⣿漢字é́"), min_size=1, max_size=4)
WIDTH = 12


@st.composite
def strips(draw: Callable[..., object]) -> Row:
    parts = draw(st.lists(st.tuples(TEXTS, STYLES | st.none()), max_size=5))
    return cells_of(Strip([Segment(*part) for part in parts]).adjust_cell_length(WIDTH))  # type: ignore[misc, union-attr]


SCREENS = st.lists(strips(), min_size=2, max_size=2)


def blank_with_accent() -> list[list[Row]]:
    strip = Strip([Segment(" \u0301", Style(dim=True))]).adjust_cell_length(WIDTH)
    return [[cells_of(strip), cells_of(strip)]]


@example(blank_with_accent())
@given(st.lists(SCREENS, min_size=1, max_size=4))
def test_a_terminal_that_is_told_every_change_shows_every_screen(screens: list[list[Row]]) -> None:
    shown = Emulator(WIDTH, 2)
    shown.feed(BEGIN)
    before: list[Row] = []
    for rows in screens:
        assert all(len(row) == WIDTH for row in rows)
        shown.feed(change(before, rows))
        assert normal(shown.cells) == normal(rows)
        assert not change(rows, rows)
        before = rows


def test_a_change_of_one_cell_costs_a_place_an_ink_and_a_letter() -> None:
    before, now = ([cells_of(Strip([Segment(text, Style(color="red"))]))] for text in ("abcdefgh", "abXdefgh"))
    assert change(before, now) == "\x1b[1;3H\x1b[0;31mX"
