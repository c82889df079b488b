"""Whatever a search is about to do, a hand that takes the wheel has it: nothing of the search comes after."""

from __future__ import annotations

import random
import threading
import time

import pytest
from host_fakes import BASE, CONNECTED, FakeLink
from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import AddMark, Command, Note, SetLoad, Steer, StopLoad
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import FactBatch, LoadChange, RunMeta, SearchEnded, Told
from llmtop.domain.samples import LoadBin
from llmtop.domain.slo import Slo
from llmtop.host.host import Host
from llmtop.meter.facts import Facts

WALL = 40
"""Users from which the server answers too late."""
MOMENTS = 50


class AnsweringLink(FakeLink):
    """A server that answers at once: every look sees eight more seconds of the load that was asked for last, so that
    every look judges a level and wants another load."""

    def __init__(self) -> None:
        super().__init__(CONNECTED)
        self.load = 0
        self.t_s = 0.0
        self.looks = 0

    def send(self, command: Command) -> None:
        self.sent.append(command)
        match command:
            case SetLoad(point):
                self.load = point.concurrency or 0
            case StopLoad():
                self.load = 0

    def take(self) -> Told:
        told = super().take()
        if told.meta is not None:
            return told
        self.looks += 1
        begun_s, self.t_s, load = self.t_s, self.t_s + 8.0, self.load
        slow_s = 0.1 if load < WALL else 3.0
        bins = tuple(
            LoadBin(t_s=begun_s + (i + 1) / 4, span_s=0.25, target=load, in_flight=load, sent=2, output_tokens=20)
            for i in range(32)
        )
        ended = tuple(answered(begun_s + 1.0 + i / 16, slow_s) for i in range(70 if load else 0))
        change = LoadChange(begun_s, BASE.at("concurrency", load), "search")
        return Told(batches=(FactBatch(t_s=self.t_s, bins=bins, requests=ended, changes=(change,)),))


def answered(sent_s: float, ttft_s: float) -> RequestRecord:
    sent_ns, first_ns = round(1e9 * sent_s), round(1e9 * (sent_s + ttft_s))
    return RequestRecord(
        scheduled_ns=sent_ns,
        dispatched_ns=sent_ns,
        sent_ns=sent_ns,
        connect_ns=None,
        headers_ns=None,
        first_token_ns=first_ns,
        first_answer_ns=None,
        last_token_ns=first_ns + 90_000_000,
        end_ns=first_ns + 90_000_000,
        started_at=0.0,
        asked_prompt_tokens=32,
        asked_output_tokens=10,
        prompt_tokens=32,
        output_tokens=10,
        chunks=10,
        outcome=Outcome.OK,
    )


class Unjudged:
    """Opinions cost time and change nothing of who has the wheel."""

    def __call__(self, facts: Facts, meta: RunMeta, *, full: bool | None = None) -> Assessment:
        return Assessment()


def of_the_search(commands: list[Command]) -> list[Command]:
    return [command for command in commands if isinstance(command, StopLoad | SetLoad)]


@pytest.mark.parametrize("hand", [SetLoad(BASE.at("concurrency", 5)), StopLoad()], ids=["slider", "x"])
@pytest.mark.parametrize("from_start", [False, True], ids=["asked for", "from the start"])
def test_at_any_moment_a_hand_has_the_last_word(hand: Command, from_start: bool) -> None:
    chance = random.Random(7)
    running = 0
    for _ in range(MOMENTS // 2):
        link, over = AnsweringLink(), threading.Event()
        host = Host(link, Slo(), search=from_start, clock=iter(range(1 << 30)).__next__)
        host._judge = Unjudged()  # type: ignore[assignment]
        if not from_start:
            host.step()
            host.send(Steer())

        def attend(host: Host = host, over: threading.Event = over) -> None:
            while not over.is_set():
                host.step()

        attendant = threading.Thread(target=attend)
        attendant.start()
        time.sleep(chance.uniform(0.0, 0.03))
        host.send(hand)
        seen, deadline = link.looks, time.monotonic() + 60
        while link.looks < seen + 4 and attendant.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        over.set()
        attendant.join()
        place = max(i for i, command in enumerate(link.sent) if command == hand)
        assert of_the_search(link.sent[place + 1 :]) == []
        assert not host.shown().steering.running
        ended = [note.fact for note in link.sent if isinstance(note, Note) and isinstance(note.fact, SearchEnded)]
        assert [fact.reason for fact in ended] in ([], ["hand"], ["done"])
        running += [fact.reason for fact in ended] == ["hand"]
    assert running > 5, "it was the search that had the wheel"


def test_what_a_search_has_tested_is_noted_before_it_goes_on() -> None:
    link = AnsweringLink()
    host = Host(link, Slo(), search=True, clock=iter(range(1 << 30)).__next__)
    host._judge = Unjudged()  # type: ignore[assignment]
    for _ in range(40):
        host.step()
    notes = [command.fact for command in link.sent if isinstance(command, Note)]
    *tested, ended = notes
    assert isinstance(ended, SearchEnded)
    assert ended.reason == "done"
    loads = [command.point.concurrency for command in link.sent if isinstance(command, SetLoad)]
    assert [level.load for level in tested] == loads  # type: ignore[union-attr]
    assert link.sent[-2:] == [Note(ended), StopLoad()]
    answer = host.shown().answer
    assert answer is not None
    assert not answer.refused
    assert answer.text.startswith("search ended: ")
    assert str(max(level.load for level in tested if not level.failed)) in answer.text  # type: ignore[union-attr]


def test_an_exploration_tells_its_beginning_and_its_end_in_marks() -> None:
    link = AnsweringLink()
    host = Host(link, Slo(), clock=iter(range(1 << 30)).__next__)
    host._judge = Unjudged()  # type: ignore[assignment]
    host.step()
    host.send(Steer("map"))
    host.step()
    (load,) = [command for command in link.sent if isinstance(command, SetLoad)]
    assert load.reason == "map"
    assert load.point.prompt_tokens == BASE.prompt_tokens
    assert host.shown().steering.by == "map"
    host.send(SetLoad(BASE))
    marks = [command.text for command in link.sent if isinstance(command, AddMark)]
    assert marks == ["map: exploring 32, 128 prompt tokens", "map: the exploration ends: the wheel is yours"]
    assert not [command for command in link.sent if isinstance(command, Note)], "no search has ended"
    host.send(Steer("map"))
    link.shown = replace(link.shown, target=BASE.at("rate", 2.0))
    host.send(SetLoad(BASE))
    host.send(Steer("map"))
    answer = host.shown().answer
    assert answer is not None
    assert answer.refused
    assert "explored by users" in answer.text
