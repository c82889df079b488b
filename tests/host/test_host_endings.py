"""What ends a run that nobody watches, told from its facts: its plan, the brake, and a server that is no more."""

from __future__ import annotations

from typing import Any

import pytest
from host_fakes import frame, record
from msgspec import structs

from llmtop.domain.endpoint import EndpointState
from llmtop.domain.frame import Frame
from llmtop.domain.request import REFUSALS, Outcome
from llmtop.domain.run import Chapter, Ending, Event, FactBatch
from llmtop.domain.samples import LoadBin, ServerSnapshot
from llmtop.domain.shown import Shown
from llmtop.domain.steering import Steering
from llmtop.host.endings import BROKEN_S, DRAIN_LIMIT_S, HANG_S, RETURN_S, SEARCH_SETTLE_S, SETTLE_S, End, EndWatch
from llmtop.wording.restarts import RESTARTED

TICK_S = 0.25


class Run:
    """A run under a watch, tick by tick."""

    def __init__(self, search: bool = False, **limits: float) -> None:
        self.watch = EndWatch(search, **limits)
        self.t_s = 0.0
        self.shown = Shown(frame=frame())
        self.tick(events=(up(0.0),))

    def tick(self, in_flight: int = 1, tokens: int = 1, passed_s: float = TICK_S, **facts: Any) -> End | None:
        """Some time later, so many tokens have come and these facts."""
        self.t_s += passed_s
        closed = LoadBin(t_s=self.t_s, span_s=TICK_S, target=1, in_flight=in_flight, output_tokens=tokens)
        self.watch.tell(FactBatch(t_s=self.t_s, **{"bins": (closed,), **facts}))
        return self.look(in_flight=in_flight)

    def look(self, **fields: Any) -> End | None:
        shown = self.shown.frame
        assert shown is not None
        names = {name: getattr(shown, name) for name in Frame.__struct_fields__}
        self.shown = Shown(frame=Frame(**{**names, "t_s": self.t_s, **fields}), steering=self.shown.steering)
        return self.watch.over(self.shown)

    def until(self, until_s: float, in_flight: int = 1, tokens: int = 0) -> End | None:
        """Go on like this; what ended it, at the latest at `until_s`."""
        end = None
        while end is None and self.t_s < until_s - TICK_S / 2:
            end = self.tick(in_flight, tokens)
        return end


def up(t_s: float) -> Event:
    return Event(t_s, "endpoint", "endpoint up", "info", EndpointState.UP)


def down(t_s: float) -> Event:
    return Event(t_s, "endpoint", "endpoint down: connection refused", "warning", EndpointState.DOWN)


def test_a_plan_that_is_over_waits_for_the_last_answer_and_no_longer() -> None:
    run = Run()
    assert run.look(finished=True, in_flight=1) is None
    assert run.tick(in_flight=1) is None
    end = run.tick(in_flight=0)
    assert end is not None
    assert (end.ending, end.at_s) == (Ending.PLAN, run.t_s)


def test_requests_that_still_run_are_waited_for_as_long_as_is_said() -> None:
    run = Run()
    run.look(finished=True)
    over_s = run.t_s
    assert run.until(over_s + DRAIN_LIMIT_S - 0.5, tokens=1) is None
    end = run.until(over_s + 60.0, tokens=1)
    assert end is not None
    assert end.ending is Ending.PLAN
    assert end.at_s == pytest.approx(over_s + DRAIN_LIMIT_S, abs=TICK_S)
    assert DRAIN_LIMIT_S + 5.0 <= 30.0, "and the seconds that a session takes to leave"


def test_what_answers_nothing_when_its_plan_is_over_hangs() -> None:
    run = Run()
    run.until(8.0)
    run.look(finished=True)
    end = run.until(60.0)
    assert end is not None
    assert (end.ending, end.at_s) == (Ending.HANG, 0.25)
    assert end.why == "nothing came for 28 s"


def test_a_server_that_lets_wait_for_its_first_tokens_does_not_hang_when_the_plan_is_over() -> None:
    run = Run()
    run.tick(bins=(LoadBin(t_s=0.5, span_s=0.25, target=1, in_flight=1, output_tokens=1, ttft_ms=(9_000.0,)),))
    run.look(finished=True)
    end = run.until(60.0)
    assert end is not None
    assert end.ending is Ending.PLAN, "20 s of silence are less than three times 9 s"


def test_a_server_that_served_and_keeps_silent_hangs() -> None:
    run = Run()
    silent_s = run.t_s
    assert run.until(silent_s + HANG_S - 0.5) is None
    end = run.until(silent_s + 200.0)
    assert end is not None
    assert (end.ending, end.at_s) == (Ending.HANG, silent_s)
    assert run.t_s == pytest.approx(silent_s + HANG_S, abs=TICK_S)


def test_a_slow_first_token_is_waited_for() -> None:
    run = Run()
    run.watch = EndWatch()
    run.watch.tell(FactBatch(t_s=0.0, events=(up(0.0),)))
    assert run.until(110.0) is None, "nothing was heard of it yet: a deadline of the request ends this"
    slow = LoadBin(t_s=run.t_s, span_s=0.25, target=1, in_flight=1, output_tokens=1, ttft_ms=(40_000.0,))
    run.tick(bins=(slow,))
    heard_s = run.t_s
    assert run.until(heard_s + 118.0) is None, "who waited 40 s once may wait three times as long"
    assert run.until(heard_s + 125.0) is not None


def test_that_we_stood_still_is_no_silence_of_the_server() -> None:
    run = Run()
    assert run.tick(tokens=0, passed_s=3 * HANG_S) is None
    assert run.until(run.t_s + HANG_S - 2.0) is None


@pytest.mark.parametrize("sign", ["idle", "status", "counts"])
def test_a_sign_of_life_is_no_silence(sign: str) -> None:
    run = Run()
    for i in range(int(2 * HANG_S)):
        run.until(run.t_s + 0.75)
        if sign == "idle":
            end = run.tick(in_flight=0, tokens=0)
        elif sign == "status":
            end = run.tick(tokens=0, requests=(record(Outcome.HTTP_ERROR, 500),))
        else:
            end = run.tick(tokens=0, server=(ServerSnapshot(t_s=run.t_s, generation_tokens_total=float(i)),))
        assert end is None


def test_counts_that_stand_still_and_deadlines_that_pass_are_silence() -> None:
    run = Run()
    end = None
    for _ in range(int(2 * HANG_S)):
        run.until(run.t_s + 0.75)
        late = (record(Outcome.TIMEOUT, None),)
        snapshot = ServerSnapshot(t_s=run.t_s, generation_tokens_total=5.0)
        end = end or run.tick(in_flight=0, tokens=0, requests=late, server=(snapshot,))
    assert end is not None
    assert end.ending is Ending.HANG


def test_an_endpoint_that_stays_away_has_gone() -> None:
    run = Run()
    run.tick(events=(down(0.5),), in_flight=0)
    assert run.until(0.5 + RETURN_S - 0.5, in_flight=0) is None
    assert run.until(40.0, in_flight=0) == End(Ending.GONE, 0.5, "connection refused")
    assert run.t_s == pytest.approx(0.5 + RETURN_S, abs=TICK_S)


def test_an_endpoint_that_comes_back_has_restarted() -> None:
    run = Run()
    run.tick(events=(down(0.5),), in_flight=0)
    assert run.until(5.0, in_flight=0) is None
    assert run.tick(events=(up(5.25),), in_flight=0) == End(Ending.RESTART, 0.5, "connection refused")


def test_a_restart_that_ends_a_run_is_told_with_what_changed() -> None:
    chapter = Chapter(5.25, f"{RESTARTED}: max_num_seqs 8 → 64", "start=2")
    run = Run()
    run.tick(events=(down(0.5),), in_flight=0)
    assert run.until(5.0, in_flight=0) is None
    end = run.tick(events=(up(5.25),), chapters=(chapter,), in_flight=0)
    assert end == End(Ending.RESTART, 0.5, "max_num_seqs 8 → 64")
    run = Run()
    run.tick(requests=(record(Outcome.TRUNCATED, 200),), chapters=(structs.replace(chapter, t_s=0.5),))
    assert run.until(20.0, tokens=1) == End(Ending.RESTART, 0.5, "max_num_seqs 8 → 64")


@pytest.mark.parametrize(
    ("closed_s", "served", "ending"),
    [(0.25, False, Ending.BRAKE), (None, False, Ending.RESTART), (0.25, True, Ending.RESTART)],
)
def test_what_closes_every_request_from_the_first_on_has_not_restarted(
    closed_s: float | None, served: bool, ending: Ending
) -> None:
    watch = EndWatch()
    sent_ns = None if closed_s is None else round(closed_s * 1e9)
    closed = structs.replace(record(Outcome.HTTP_ERROR, None), sent_ns=sent_ns)
    first = LoadBin(t_s=0.1, span_s=TICK_S, target=1, in_flight=1, output_tokens=int(served))
    watch.tell(FactBatch(t_s=0.1, events=(up(0.1),), bins=(first,)))
    watch.tell(FactBatch(t_s=0.5, requests=(closed,) * REFUSALS, events=(down(0.5),)))
    watch.tell(FactBatch(t_s=0.75, events=(up(0.75),)))
    assert watch.over(Shown(frame=frame(0.75))) == End(ending, 0.5, "connection refused")


def test_an_endpoint_that_never_answered_is_waited_for() -> None:
    watch = EndWatch()
    watch.tell(FactBatch(t_s=0.5, events=(down(0.5),)))
    watch.tell(FactBatch(t_s=99.0))
    assert watch.over(Shown(frame=frame(99.0))) is None


def test_an_endpoint_that_goes_away_when_the_plan_is_over_ends_with_the_plan() -> None:
    run = Run()
    run.look(finished=True, in_flight=2)
    run.look(finished=False, in_flight=2)
    run.tick(events=(down(0.5),), in_flight=2)
    end = run.tick(in_flight=0)
    assert end is not None
    assert end.ending is Ending.PLAN


@pytest.mark.parametrize("first", ["the metrics", "the requests"])
def test_metrics_that_begin_anew_are_a_restart_where_requests_broke_off(first: str) -> None:
    run = Run()
    chapter = {"chapters": (Chapter(0.5, RESTARTED, "start=2"),)}
    broken = {"requests": (record(Outcome.TRUNCATED, 200),)}
    facts = [chapter, broken] if first == "the metrics" else [broken, chapter]
    assert run.tick(**facts[0]) is None
    assert run.tick(**facts[1]) is None
    run.look(braked="7 of 100 failed", finished=True)
    assert run.until(20.0, tokens=1) == End(Ending.RESTART, 0.5), "not the brake, which saw it first"
    assert run.t_s == pytest.approx(0.5 + SETTLE_S, abs=TICK_S)


def test_requests_that_broke_off_long_before_metrics_began_anew_are_no_sign_of_a_restart() -> None:
    for apart_s, ends in ((BROKEN_S - 1.0, True), (BROKEN_S + 1.0, False)):
        run = Run()
        run.tick(requests=(record(Outcome.TRUNCATED, 200),))
        run.until(run.t_s + apart_s, tokens=1)
        run.tick(chapters=(Chapter(run.t_s, RESTARTED, "start=2"),))
        assert (run.until(run.t_s + 30.0, tokens=1) is not None) == ends


def test_several_servers_that_answer_in_turn_are_no_restart() -> None:
    run = Run()
    run.tick(requests=(record(Outcome.TRUNCATED, 200),))
    for _ in range(20):
        assert run.tick(chapters=(Chapter(run.t_s, RESTARTED, "start=2"),)) is None
        assert run.until(run.t_s + 1.75, tokens=1) is None


def test_another_configuration_is_no_restart() -> None:
    run = Run()
    run.tick(requests=(record(Outcome.TRUNCATED, 200),))
    assert run.tick(chapters=(Chapter(run.t_s, "max_num_seqs set to 48", "start=1"),)) is None


def test_the_brake_ends_a_run_once_it_is_clear_that_the_server_is_there() -> None:
    run = Run()
    assert run.look(braked="7 of 100 failed", finished=True) is None
    braked_s = run.t_s
    assert run.until(braked_s + SETTLE_S - 0.5, tokens=1) is None
    assert run.until(60.0, tokens=1) == End(Ending.BRAKE, braked_s, "7 of 100 failed")
    assert run.t_s == pytest.approx(braked_s + SETTLE_S, abs=TICK_S)


def test_errors_that_were_the_first_of_an_outage_are_one() -> None:
    run = Run()
    run.look(braked="7 of 100 failed", finished=True)
    run.tick(events=(down(0.5),), in_flight=0)
    end = run.until(60.0, in_flight=0)
    assert end is not None
    assert end.ending is Ending.GONE


def test_a_brake_for_want_of_any_answer_is_a_hang() -> None:
    run = Run()
    run.until(20.0)
    run.look(braked="9 of 9 timed out", finished=True)
    end = run.until(60.0)
    assert end is not None
    assert end.ending is Ending.HANG


def test_a_search_is_over_when_it_has_let_go_of_the_wheel_and_not_before_it_has_begun() -> None:
    run = Run(search=True)
    assert run.look(finished=True, in_flight=0) is None
    run.shown = Shown(frame=run.shown.frame, steering=Steering(True))
    assert run.look() is None
    run.shown = Shown(frame=run.shown.frame, steering=Steering(False))
    end = run.look()
    assert end is not None
    assert end.ending is Ending.PLAN


def test_a_search_may_answer_the_brake() -> None:
    run = Run(search=True)
    run.look(braked="too many")
    assert run.until(SEARCH_SETTLE_S - 1.0, tokens=1) is None
    assert run.look(braked=None) is None
    assert run.until(3 * SEARCH_SETTLE_S, tokens=1) is None
    run.look(braked="again too many")
    end = run.until(9 * SEARCH_SETTLE_S, tokens=1)
    assert end is not None
    assert (end.ending, end.why) == (Ending.BRAKE, "again too many")
