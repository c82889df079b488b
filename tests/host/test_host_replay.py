"""A replay as a link: where it goes when it is told to."""

from __future__ import annotations

from pathlib import Path

import pytest
from host_fakes import META, batch
from msgspec.structs import replace

from llmtop.domain.commands import Seek
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Canary, Chapter, Event, LoadChange, Mark
from llmtop.host.replay import STILL_S, ReplayLink, moments_of
from llmtop.recording.writer import RunWriter
from llmtop.tui import commanding
from llmtop.tui.commanding import Order, Refusal


@pytest.fixture
def link(tmp_path: Path) -> ReplayLink:
    """60 s of a run with marks at 12 s and 40 s, and an event at 39.8 s; it is paused at its begin."""
    writer = RunWriter(tmp_path / "a.llmtop", META)
    for t_s in range(1, 61):
        marks = (Mark(float(t_s), f"m{t_s}"),) if t_s in (12, 40) else ()
        events = (Event(39.8, "server", "KV cache past 70 %"),) if t_s == 40 else ()
        writer.write(replace(batch(float(t_s)), marks=marks, events=events))
    writer.step()
    writer.close(60.0)
    writer.step()
    replay = ReplayLink(tmp_path / "a.llmtop", clock=lambda: 0.0)
    replay.send(Seek(playing=False))
    return replay


def test_a_jump_shows_the_mark_and_the_next_goes_on_from_there_both_ways(link: ReplayLink) -> None:
    seen = []
    for direction in (1, 1, 1, -1, -1, 1):
        order = commanding.jump(link.frame(), direction)
        if isinstance(order, Order):
            link.send(order.command)
        frame = link.frame()
        told = [mark.text for mark in frame.marks] + [event.text for event in frame.events]
        seen.append(order.reason if isinstance(order, Refusal) else (frame.t_s, len(told)))
    assert seen == [
        (12.0, 1),
        (40.0, 3),
        "no mark or event after 00:40",
        (12.0, 1),
        "no mark or event before 00:12",
        (40.0, 3),
    ]


def test_a_canary_waits_from_when_it_was_sent_until_it_was_told(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "a.llmtop", META)
    for t_s in range(1, 11):
        canaries = {5: (Canary(1.5, 3.4),), 8: (Canary(7.5, 0.1),)}.get(t_s, ())
        writer.write(replace(batch(float(t_s)), canaries=canaries))
    writer.close(10.0)
    replay = ReplayLink(tmp_path / "a.llmtop", clock=lambda: 0.0)
    waits = []
    for t_s in (1.0, 2.0, 4.0, 5.0, 7.75, 9.0, 3.0):
        replay.send(Seek(t_s=t_s, playing=False))
        waits.append(replay.frame().new_user_waits_s)
    assert waits == [None, 0.5, 2.5, None, 0.0, None, 1.5]
    assert replay.take().batches[-1].t_s == 3.0


def test_a_key_back_while_it_plays_leaves_out_what_has_just_passed(link: ReplayLink) -> None:
    link.send(Seek(t_s=41.0))
    frame = link.frame()
    assert frame.replay is not None
    playing = replace(frame, replay=replace(frame.replay, playing=True))
    assert commanding.jump(frame, -1) == Order(Seek(t_s=40.0))
    assert commanding.jump(playing, -1) == Order(Seek(t_s=12.0))


@pytest.mark.parametrize(
    ("typed", "t_s"), [("0", 0.0), ("45", 45.0), (" 0:45 ", 45.0), ("00:00:07.5", 7.5), ("60", 60.0)]
)
def test_a_typed_time_is_gone_to(link: ReplayLink, typed: str, t_s: float) -> None:
    order = commanding.go_to(link.frame(), typed)
    assert isinstance(order, Order)
    assert order.command == Seek(t_s=t_s)


@pytest.mark.parametrize("typed", ["", "x", "-1", "1:2:3:4", "1e3", "nan", "٣", "1:", ":1", "9" * 40, "\x1b[2J"])
def test_what_is_no_time_is_refused_with_what_is(link: ReplayLink, typed: str) -> None:
    refusal = commanding.go_to(link.frame(), typed)
    assert isinstance(refusal, Refusal)
    assert "1:30" in refusal.reason
    assert refusal.reason.isprintable()
    assert len(refusal.reason) < 78


def test_a_time_past_the_end_is_refused_with_the_end(link: ReplayLink) -> None:
    assert commanding.go_to(link.frame(), "1:01") == Refusal("the run ends at 01:00")


def test_a_move_of_the_load_is_gone_to_at_its_begin_and_a_ramp_is_one_move() -> None:
    assert STILL_S == 2.0
    moves = [0.0, 10.0, *(20.0 + i / 4 for i in range(40)), 31.75, 33.5, 35.5]
    batches = [
        batch(t_s + 0.1, changes=(LoadChange(t_s, LoadPoint(concurrency=i), "hand"),)) for i, t_s in enumerate(moves)
    ]
    assert moments_of(batches) == (10.1, 20.1, 31.85, 35.6)
    turned = batch(40.0, chapters=(Chapter(39.9, "max_num_seqs set to 64", "64"),))
    assert moments_of([*batches, turned])[-1] == 40.0
