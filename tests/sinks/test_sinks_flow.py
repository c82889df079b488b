"""A sink that is down, slow or broken neither slows the run nor loses what comes later, and is told of."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from host_fakes import FakeLink, batch
from msgspec.structs import replace
from sinks_fakes import META, collecting, request, second

from llmtop.domain.run import Told
from llmtop.domain.shown import SinkState
from llmtop.domain.slo import Slo
from llmtop.host.host import Host
from llmtop.host.outputs import Flowing
from llmtop.sinks import flow, otlp, pump
from llmtop.sinks.figures import Figures
from llmtop.sinks.flow import Flow, opened
from llmtop.sinks.page import Page
from llmtop.sinks.pump import Undelivered
from llmtop.wording.sinks import changes, lost
from tests.ports import unused_port
from tests.waiting import PATIENCE_S, until


class Kept(list[Figures]):
    """A sink that keeps what it is brought."""

    name, every_s = "kept", 0.01

    def __init__(self) -> None:
        super().__init__()
        self.problem: Exception | None = None
        self.takes = threading.Event()
        self.takes.set()
        self.ended = 0

    def deliver(self, figures: Figures) -> None:
        self.takes.wait(PATIENCE_S)
        if self.problem is not None:
            raise self.problem
        self.append(figures)

    def missing(self) -> str:
        return ""

    def end(self) -> None:
        self.ended += 1


def test_the_last_figures_come_when_the_run_ends() -> None:
    sink = Kept()
    made = Flow([sink])
    assert isinstance(made, Flowing)
    made.begin(META)
    made.tell(second(1.0, request()))
    until(lambda: sink and sink[-1].requests["ok"] == 1)
    made.tell(second(2.0, request()))
    made.end(META)
    assert sink[-1].requests["ok"] == 2
    assert sink.ended == 1
    assert made.states() == (SinkState("kept"),)


@pytest.mark.parametrize("problem", [Undelivered("no route"), ValueError("no route")])
def test_one_that_is_down_is_told_of_and_nothing_is_lost_once_it_is_back(problem: Exception) -> None:
    sink = Kept()
    sink.problem = problem
    made = Flow([sink])
    made.begin(META)
    until(lambda: made.states()[0].problem)
    assert "no route" in made.states()[0].problem
    for t_s in range(1, 5):
        made.tell(second(float(t_s), request()))
    sink.problem = None
    until(lambda: not made.states()[0].problem)
    made.end(META)
    assert sink[-1].requests["ok"] == 4
    assert sink[-1].ttft_s.count == 4


def test_one_that_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "LAST_S", 0.1)
    hangs, other = Kept(), Kept()
    hangs.name = "hangs"
    hangs.takes.clear()
    made = Flow([hangs, other])
    made.begin(META)
    begun = time.process_time()
    for t_s in range(1, 1001):
        made.tell(second(float(t_s), request()))
    assert time.process_time() - begun < 5
    until(lambda: other and other[-1].requests["ok"] == 1000)
    made.end(META)
    assert made.states()[0].problem == "it did not take them in time"
    assert made.states()[1] == SinkState("kept")
    hangs.takes.set()


@pytest.mark.parametrize("how", ["refuses", "hangs", "404", "garbage", "slow"])
def test_a_collector_that_is_ill_loses_nothing_of_what_comes_later(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "PATIENCE_S", 0.3)
    monkeypatch.setattr(otlp.Push, "every_s", 0.02)
    with collecting() as collector:
        well, ill = collector.answer, {"404": (404, "text/plain", b""), "garbage": (200, "text/html", b"<html>")}
        collector.answer = ill.get(how, well)
        if how in ("hangs", "slow"):
            collector.hangs.clear()
        url = f"http://127.0.0.1:{unused_port()}" if how == "refuses" else collector.url
        (made,) = opened([f"otlp={url}"])
        made.begin(META)
        begun = time.monotonic()
        made.tell(second(1.0, request()))
        assert time.monotonic() - begun < 0.25, "it is not waited for"
        if how == "slow":
            until(lambda: collector.pushed)
            collector.hangs.set()
        else:
            until(lambda: made.states()[0].problem)
        collector.hangs.set()
        collector.answer = well
        made.tell(second(2.0, request()))
        if how != "refuses":
            until(lambda: not made.states()[0].problem)
        made.end(META)
        if how == "refuses":
            assert list(lost(made.states())) == [
                f"otlp {url}/v1/metrics: the last figures did not arrive there: connection refused"
            ]
            return
        assert b'"asInt":"2"' in collector.pushed[-1][2]


def test_what_changes_is_said_once() -> None:
    fine, down, other = (SinkState("a", problem) for problem in ("", "no route", "HTTP 503"))
    assert list(changes((), (fine,))) == []
    assert list(changes((fine,), (down,))) == [("a: no route", True)]
    assert list(changes((down,), (down,))) == []
    assert list(changes((down,), (other,))) == [("a: HTTP 503", True)]
    assert list(changes((down,), (fine,))) == [("a: figures arrive again", False)]
    assert list(lost((fine, down))) == ["a: the last figures did not arrive there: no route"]


def test_a_host_shows_its_sinks_and_says_what_becomes_of_them() -> None:
    sink = Kept()
    sink.problem = Undelivered("no route")
    link = FakeLink()
    host = Host(link, Slo(), outputs=[Flow([sink])])
    host.step()
    until(lambda: host.shown().sinks[0].problem)
    host.step()
    answer = host.shown().answer
    assert answer is not None
    assert (answer.text, answer.refused) == ("kept: no route", True)
    host.step()
    assert host.shown().answer is answer, "once"
    sink.problem = None
    until(lambda: not host.shown().sinks[0].problem)
    host.step()
    answer = host.shown().answer
    assert answer is not None
    assert (answer.text, answer.refused) == ("kept: figures arrive again", False)
    link.told.append(Told(batches=(batch(1.0),)))
    host.close()
    assert sink[-1].t_s == 1.0
    assert host.shown().sinks == (SinkState("kept"),)


def test_a_port_that_is_taken_when_the_run_begins_stops_nothing(tmp_path: Path) -> None:
    port = unused_port()
    (made,) = opened([f"prometheus=127.0.0.1:{port}", f"json={tmp_path / 'a.jsonl'}"])
    taken = Page("127.0.0.1", port, "")
    taken.deliver(Figures(time=0.0))
    made.begin(META)
    until(lambda: made.states()[0].problem)
    made.tell(second(1.0, request()))
    taken.close()
    until(lambda: not made.states()[0].problem)
    made.end(META)
    assert (tmp_path / "a.jsonl").read_text().splitlines()


def test_more_is_known_of_a_run_later() -> None:
    sink: Any = Kept()
    made = Flow([sink])
    link = FakeLink(meta=replace(META, info=None))
    host = Host(link, Slo(), outputs=[made])
    host.step()
    until(lambda: sink and not sink[-1].is_known)
    link.told.append(Told(meta=META))
    host.step()
    until(lambda: sink[-1].is_known)
    host.close()


def test_a_sink_hears_of_a_run_as_soon_as_it_is_known_however_seldom_it_wants_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pump, "KNOWN_S", 0.01)
    sink = Kept()
    sink.every_s = 3600.0
    made = Flow([sink])
    made.begin(replace(META, info=None))
    until(lambda: len(sink) > 2)
    made.known(META)
    until(lambda: sink[-1].is_known)
    made.end(META)
