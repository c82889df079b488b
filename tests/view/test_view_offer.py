"""The load on offer after a restart: when it stands, and how it and the wait before it are shown."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from llmtop.domain.endpoint import EndpointState, EndpointStatus
from llmtop.domain.frame import Frame, Offer, ReplayPosition
from llmtop.domain.load import LoadPoint
from llmtop.view.condition import Condition, on_offer
from llmtop.view.glyphs import ASCII, UNICODE
from llmtop.view.verdict import verdict
from llmtop.wording.restarts import LISTS

UP = EndpointStatus(state=EndpointState.UP)
OFFER = Offer(40.0, LoadPoint(concurrency=48), "back after 52 s: max_num_seqs 32 → 64, version 0.31.0 → 0.32.0")
FRAME = Frame(seq=1, t_s=60.0, endpoint=UP, target=LoadPoint(concurrency=0), offer=OFFER)


def text_of(frame: Frame, condition: Condition, width: int, rows: int = 2, ascii: bool = False) -> list[str]:
    shown = verdict(frame, None, condition, ASCII if ascii else UNICODE, width, rows)
    return ["".join(text for text, _ in row) for row in shown]


def test_it_stands_on_a_live_run_at_rest_of_a_server_that_answers() -> None:
    assert on_offer(FRAME, Condition(), None) == OFFER
    assert on_offer(FRAME, Condition(), 12.0) == OFFER, "another one was answered"


@pytest.mark.parametrize(
    ("frame", "condition", "declined_s"),
    [
        (None, {}, None),
        ({"offer": None}, {}, None),
        ({}, {}, OFFER.t_s),
        ({"target": LoadPoint(concurrency=1)}, {}, None),
        ({"target": LoadPoint(rate_rps=0.1)}, {}, None),
        ({"replay": ReplayPosition(60.0, 1.0, False)}, {}, None),
        ({"endpoint": replace(UP, state=EndpointState.DOWN)}, {}, None),
        ({"endpoint": replace(UP, state=EndpointState.CONNECTING)}, {}, None),
        ({"endpoint": replace(UP, awaited=LISTS)}, {}, None),
        ({}, {"frozen": True}, None),
        ({}, {"lost": "gone"}, None),
        ({}, {"draining": True}, None),
        ({}, {"silent_s": 4.0}, None),
        ({}, {"note": "searching"}, None),
    ],
)
def test_it_does_not_stand_where_it_cannot_be_seen_or_driven(
    frame: dict[str, Any] | None, condition: dict[str, Any], declined_s: float | None
) -> None:
    shown = None if frame is None else replace(FRAME, **frame)
    assert on_offer(shown, Condition(**condition), declined_s) is None


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("rows", [1, 2])
def test_what_enter_does_is_whole_at_every_width(width: int, rows: int, ascii: bool) -> None:
    lines = text_of(FRAME, Condition(offer=OFFER), width, rows, ascii)
    assert len(lines) <= rows
    assert all(len(line) <= width for line in lines)
    told = " " + " ".join(" ".join(lines).split())
    assert "Enter: 48 users again" in told
    assert told.startswith(" BACK after 52 s")
    if width >= 120 or rows == 2:
        assert f"max_num_seqs 32 {'->' if ascii else '→'} 64" in told


@pytest.mark.parametrize("width", [80, 120])
def test_how_far_the_server_is_and_how_long_that_takes_is_shown(width: int) -> None:
    error = "http://h: HTTP 503 Loading model " + "x" * 200
    status = EndpointStatus(state=EndpointState.DOWN, awaited=LISTS, away_s=41.2, last_error=error)
    (line, *_) = text_of(replace(FRAME, endpoint=status), Condition(), width)
    assert "waiting for the server: models answer, no token yet · 41s" in line
    assert len(line) <= width
