"""Hold has the wheel until a hand wants it back, and whoever ends it, the load stays as it is."""

from __future__ import annotations

import pytest
from host_fakes import BASE, CONNECTED, FakeLink, batch, frame
from msgspec.structs import replace

from llmtop.domain.commands import AddMark, Command, Note, SetKnob, SetLoad, Steer, StopLoad
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import LoadChange, SearchEnded, Told
from llmtop.domain.slo import Slo, parse_slo
from llmtop.host.host import Host

NINE = LoadPoint(concurrency=9, prompt_tokens=700, output_tokens=8)


class Clock:
    """Stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def at_nine(slo: Slo | None = None, **fields: object) -> tuple[Host, FakeLink, Clock]:
    link, clock = FakeLink(CONNECTED), Clock()
    link.shown = replace(frame(), target=NINE, **fields)
    host = Host(link, slo or Slo(), clock=clock)
    host.step()
    return host, link, clock


def holding() -> tuple[Host, FakeLink]:
    host, link, _ = at_nine()
    host.send(Steer("hold"))
    link.told.append(Told(batches=(batch(1.0),)))
    host.step()
    assert host.shown().steering.running
    assert host.shown().steering.by == "hold"
    return host, link


def test_it_begins_with_the_load_and_the_requests_that_there_are_now() -> None:
    _, link = holding()
    assert link.asked == [AddMark("hold begins at 9"), SetLoad(NINE, "hold")]


def test_it_is_asked_whenever_there_is_news_not_once_a_second() -> None:
    host, link, clock = at_nine()
    host.send(Steer("hold"))
    begun = len(link.asked)
    clock.now += 0.25
    host.step()
    assert len(link.asked) == begun + 2


def test_ended_by_its_key_it_keeps_the_load_and_tests_nothing() -> None:
    host, link = holding()
    host.send(Steer("hold", on=False))
    link.told.append(Told(batches=(batch(2.0),)))
    host.step()
    assert link.asked[2:] == [AddMark("hold ends at 9: the wheel is yours")]
    assert not host.shown().steering.running


@pytest.mark.parametrize("command", [SetLoad(BASE), StopLoad()])
def test_a_hand_takes_the_wheel_from_it(command: Command) -> None:
    host, link = holding()
    host.send(command)
    link.told.append(Told(batches=(batch(2.0),)))
    host.step()
    assert link.asked[2:] == [AddMark("hold ends at 9: the wheel is yours"), command]
    assert not host.shown().steering.running


def test_a_knob_of_the_server_that_is_turned_leaves_it_the_wheel() -> None:
    host, link = holding()
    host.send(SetKnob("max_num_seqs", 64))
    assert link.asked[2:] == [SetKnob("max_num_seqs", 64)]
    assert host.shown().steering.running


def test_a_gate_that_is_turned_leaves_it_the_wheel_and_stands_before_all_that_it_wants() -> None:
    host, link = holding()
    told = SetLoad(replace(NINE, gate=4), gate_alone=True)
    host.send(told)
    assert link.asked[2:] == [told]
    assert host.shown().steering.running
    link.told.append(Told(batches=(batch(2.0, changes=(LoadChange(2.0, told.point),)),)))
    host.step()
    assert link.asked[3:] == [SetLoad(told.point, "hold")]


def test_a_gate_that_is_turned_ends_a_search_which_was_of_another_server() -> None:
    host, _, _ = at_nine()
    host.send(Steer("search"))
    host.send(SetLoad(replace(NINE, gate=4), gate_alone=True))
    assert not host.shown().steering.running


def test_the_brake_ends_it_and_the_load_stays_where_the_brake_has_put_it() -> None:
    host, link = holding()
    braked = LoadChange(2.0, NINE.at("concurrency", 1), "brake")
    link.told.append(Told(batches=(batch(2.0, changes=(braked,)),)))
    host.step()
    why = "hold ends at 9: too many requests failed, and the brake has cut the load"
    assert link.asked[2:] == [AddMark(why)]
    assert not host.shown().steering.running
    answer = host.shown().answer
    assert answer is not None
    assert answer.text == why


def test_it_takes_the_wheel_from_a_search_and_a_search_from_it() -> None:
    host, link, _ = at_nine()
    host.send(Steer("search"))
    link.told.append(Told(batches=(batch(1.0),)))
    host.send(Steer("hold"))
    host.step()
    assert host.shown().steering.by == "hold"
    assert Note(SearchEnded(0.0, "hand")) in link.asked
    host.send(Steer("search"))
    assert AddMark("hold ends at 9: the wheel is yours") in link.asked
    assert host.shown().steering.by == "search"


@pytest.mark.parametrize(
    ("slo", "target", "why"),
    [("ttft<2s", LoadPoint(rate_rps=4.0), "this load is a rate"), ("kv<80%", NINE, "a limit on a latency")],
)
def test_what_cannot_be_held_is_refused_with_its_reason(slo: str, target: LoadPoint, why: str) -> None:
    host, link, _ = at_nine(parse_slo(slo))
    link.shown = replace(link.shown, target=target)
    host.send(Steer("hold"))
    answer = host.shown().answer
    assert answer is not None
    assert answer.refused
    assert why in answer.text
    assert not host.shown().steering.running


def test_the_cliff_of_the_opinion_is_the_one_that_it_names() -> None:
    """A cliff that is known stands on the slider and in the verdict: hold says no other."""
    host, _ = holding()
    host._turns_at = lambda: 7.0  # type: ignore[method-assign]
    host.step()
    assert "(cliff ~7)" in host.shown().steering.text
