"""The map as rows: every cell where it belongs, the contour and the wall drawn, any place read, in every size."""

from __future__ import annotations

import pytest

from llmtop.domain.foresight import Interval
from llmtop.domain.map import Map, MapCell, MapEdge
from llmtop.view.glyphs import ASCII, UNICODE, Glyphs
from llmtop.view.map import HEAD, LABEL, TOLD_ROWS, Cursor, Picture, picture_of, reading, rows_of

SIZES = [(80, 23), (120, 39), (60, 19), (250, 60)]


def known(*, lengths: tuple[int, ...] = (48, 192, 768)) -> Map:
    held = {48: ("ok", "broken"), 192: ("near", "broken"), 768: (None, "ok")}
    cells = [
        MapCell(load=load, prompt_tokens=length, n=100, stand=stand, ttft_p95_ms=1300.0, tpot_p95_ms=34.0)
        for length in lengths
        for load, stand in zip((8.0, 64.0), held[length], strict=True)
    ]
    cells += [
        MapCell(load=load, prompt_tokens=96, stand=stand, ttft_p95_ms=900.0, tpot_p95_ms=20.0, off=0.1)
        for load, stand in ((8.0, "ok"), (32.0, "near"), (48.0, "broken"))
    ]
    contour = tuple(
        MapEdge(prompt_tokens=at, users=Interval(users, 0.9 * users, 1.1 * users), measured=True, after=0.05)
        for at, users in zip((48, 192, 768), (50.0, 40.0, 10.0), strict=True)
        if at in lengths
    )
    return Map(
        cells=tuple(cells),
        contour=contour,
        kv_tokens=12288.0,
        answer_tokens=32.0,
        output_tokens=64,
        text="contour: 50 users at 48 tokens",
        missing="drag prompt to 768 for 10 s, or s explores",
    )


def drawn(found: Map | None, size: tuple[int, int], glyphs: Glyphs = UNICODE, said: str = "") -> list[str]:
    rows = rows_of(found, Cursor(0.0, 0.0), glyphs, *size, said)
    return ["".join(text for text, _ in row) for row in rows]


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_the_legend_names_every_sign_in_eighty_columns(glyphs: Glyphs) -> None:
    legend = drawn(known(), (80, 23), glyphs)[0]
    for sign in (*glyphs.cells, *glyphs.cells_foreseen, glyphs.contour, glyphs.wall):
        assert f" {sign} " in legend
    assert f"{glyphs.cells[3]} too few" in legend
    assert legend.endswith("KV full")


def row_of(rows: list[str], length: int, picture: Picture) -> str:
    return rows[HEAD + picture.row(length)][LABEL + 1 :]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_it_fits_whatever_is_known(size: tuple[int, int], glyphs: Glyphs) -> None:
    for found in (None, known(), known(lengths=(192,)), Map()):
        rows = drawn(found, size, glyphs, said="map: 24 users x 768 tokens, level 9 of at most 25 · " * 3)
        assert len(rows) == size[1]
        assert all(len(row) <= size[0] for row in rows)
        assert not glyphs.ascii or all(row.isascii() for row in rows)
        assert rows[-1].startswith(" map: 24 users")


@pytest.mark.parametrize("size", SIZES)
def test_each_level_stands_where_it_was_held_and_no_colour_alone_tells_it(size: tuple[int, int]) -> None:
    found, picture = known(), picture_of(known(), *size)
    rows = drawn(found, size)
    held = dict(zip(("ok", "near", "broken", None), UNICODE.cells, strict=True))
    for cell in found.cells:
        if cell.measured:
            assert row_of(rows, cell.prompt_tokens, picture)[picture.column(cell.load)] == held[cell.stand]
    for glyphs in (UNICODE, ASCII):
        assert len(set(glyphs.cells + glyphs.cells_foreseen)) == 7
    for length in found.lengths:
        assert f"{length} ┤" in "\n".join(rows)


@pytest.mark.parametrize("size", SIZES)
def test_contour_and_wall_are_drawn_between_the_lengths(size: tuple[int, int]) -> None:
    found, picture = known(), picture_of(known(), *size)
    rows = drawn(found, size)
    for length in found.lengths:
        users, wall = found.users_at(length), found.wall_at(length)
        assert users is not None
        assert wall is not None
        assert row_of(rows, length, picture)[picture.column(users.value)] == UNICODE.contour
    between = [row for row in range(picture.row(768), picture.row(48)) if UNICODE.contour in rows[HEAD + row]]
    assert len(between) == picture.row(48) - picture.row(768)
    assert any(UNICODE.wall in row for row in rows[HEAD:-TOLD_ROWS])


def test_what_is_foreseen_is_dotted_only_where_it_speaks_for_the_place() -> None:
    found, picture = known(), picture_of(known(), 120, 39)
    rows = drawn(found, (120, 39))
    dotted = row_of(rows, 96, picture)
    assert dotted[picture.column(8)] == UNICODE.cells_foreseen[0]
    assert dotted[picture.column(48)] == UNICODE.cells_foreseen[2]
    assert dotted[picture.column(2)] == " "
    assert not set(row_of(rows, 400, picture)) & set(UNICODE.cells_foreseen)


def test_a_place_is_read_as_measured_foreseen_or_what_would_make_it_known() -> None:
    found, picture = known(), picture_of(known(), 120, 39)

    def at(load: float, length: int) -> list[str]:
        cursor = Cursor(picture.column(load) / (picture.width - 1), 1 - picture.row(length) / (picture.height - 1))
        return reading(found, picture, cursor)

    assert at(8, 192)[0] == "measured: 8 users x 192 tokens: TTFT p95 1.30 s, TPOT p95 34.0 ms, 100 requests"
    assert at(8, 96)[0] == "foreseen: 8 users x 96 tokens: TTFT p95 ~900 ms, TPOT p95 ~20.0 ms, ±10 %"
    nowhere = at(2, 400)[0]
    assert nowhere.startswith("-- 2 users x ")
    assert nowhere.endswith("for 10 s")
    assert at(8, 192)[1] == "SLO up to 40 users (36-44); the KV cache holds 54 requests there"


def test_one_length_is_one_row_and_says_what_would_make_more_known() -> None:
    rows = drawn(known(lengths=(192,)), (80, 23))
    assert sum("┤" in row for row in rows) == 1
    assert any("drag prompt to 768 for 10 s, or s explores" in row for row in rows)
    assert any("no level yet" in row for row in drawn(None, (80, 23)))


def test_the_cursor_stays_on_the_picture() -> None:
    picture = picture_of(known(), 80, 23)
    cursor = Cursor(0.0, 1.0)
    for _ in range(200):
        cursor = cursor.moved(1, 1, picture)
    assert cursor.place(picture) == (picture.width - 1, 0)
    assert cursor.moved(-1, -1, picture).place(picture) == (picture.width - 2, 1)


def test_lengths_that_share_a_row_are_read_each_by_itself() -> None:
    near = (192, 196)
    cells = tuple(
        MapCell(load=load, prompt_tokens=at, n=90, stand="ok") for at, load in zip(near, (8.0, 20.0), strict=True)
    )
    found = Map(cells=cells, contour=tuple(MapEdge(prompt_tokens=at, held=8.0) for at in near))
    picture = picture_of(found, 80, 16)
    assert picture.row(192) == picture.row(196)
    assert sum("192+ ┤" in row for row in drawn(found, (80, 16))) == 1
    for cell in cells:
        column, row = picture.column(cell.load), picture.row(cell.prompt_tokens)
        told = reading(found, picture, Cursor(column / (picture.width - 1), 1 - row / (picture.height - 1)))
        assert f"{cell.load:.0f} users x {cell.prompt_tokens} tokens" in told[0]
