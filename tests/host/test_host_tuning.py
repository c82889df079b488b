"""A tune against virtual servers: the right one wins, what is no result is none, and everything is as it was after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tuned import TRUTHS, Answer, FakeServer, tuned

from llmtop.analysis.steady import Steerer
from llmtop.analysis.tuning import Outcome, Task, Tuning, candidates
from llmtop.domain.endpoint import EndpointInfo
from llmtop.domain.load import LoadPoint
from llmtop.domain.run import Ending
from llmtop.domain.tuning import Tried, Values
from llmtop.errors import INTERRUPTED, EndpointUnreachable, PortTaken, ServeError, UsageError
from llmtop.host import tuning as host_tuning
from llmtop.host.resuming import Past
from llmtop.host.tuning import Driven, Tuned

SLOTS = (2, 4, 8)
"""Of which 8 is the best on a laptop; few slots are soon simulated."""


def rows(result: Tuned) -> dict[str, Tried]:
    return {row.values[0][1]: row for row in result.tune.rows}


def test_the_best_number_of_slots_is_found_with_three_starts_and_near_its_true_capacity() -> None:
    server = FakeServer("laptop")
    result = tuned(server)
    assert result.tune.winner == (("max_num_seqs", "32"),)
    assert server.starts == [128, 32, 128]
    found = rows(result)["32"].users
    assert found is not None
    assert found.value == pytest.approx(TRUTHS["laptop"][32], rel=0.1)
    assert found.low <= TRUTHS["laptop"][32] <= found.high
    assert server.now_s <= 3 * server.start_s + 240
    assert not result.tune.void
    assert server.closed


def test_a_server_that_dies_at_its_start_is_shown_with_its_last_lines_and_the_loop_goes_on() -> None:
    server = FakeServer("laptop", dies=(8,))
    told: list[str] = []
    result = tuned(server, slots=SLOTS, tell=told.append)
    assert server.starts[:2] == [8, 4]
    assert rows(result)["8"].how == "failed"
    assert "out of memory" in rows(result)["8"].note
    assert any("out of memory" in line for line in told)
    assert result.tune.winner == (("max_num_seqs", "4"),)


def test_another_server_on_the_port_ends_a_tune_before_anything_is_measured() -> None:
    server = FakeServer("laptop")

    def put(values: Mapping[str, str], cancelled: Callable[[], bool]) -> Answer:
        server.starts.append(int(values["max_num_seqs"]))
        raise PortTaken("the port is taken")

    server.put = put  # type: ignore[method-assign]
    with pytest.raises(PortTaken):
        tuned(server, slots=SLOTS)
    assert server.starts == [8]
    assert server.closed


def test_nothing_is_changed_where_nobody_answers_or_something_else_runs_than_is_to_be_put_back() -> None:
    server = FakeServer("laptop")

    def silent(label: str, values: Values, steerer: Steerer) -> Driven:
        raise EndpointUnreachable("http://127.0.0.1:9", "refused")

    def other(label: str, values: Values, steerer: Steerer) -> Driven:
        told = EndpointInfo(dialect="vllm", model="m", max_num_seqs=64)
        return Driven(None, Ending.PLAN, info=told)  # type: ignore[arg-type]

    server.drive = silent  # type: ignore[method-assign]
    with pytest.raises(EndpointUnreachable):
        tuned(server, slots=SLOTS, live=True)
    server.drive = other  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="max_num_seqs 64, not 2: name first in --try what it has now"):
        tuned(server, slots=SLOTS, live=True)
    assert server.starts == []


@pytest.mark.parametrize("tells", [True, False])
def test_a_server_that_ignores_its_flag_is_not_applied_and_never_a_result(tells: bool) -> None:
    result = tuned(FakeServer("laptop", keeps=4, tells=tells), slots=(8, 16))
    assert {row.how for row in result.tune.rows} == {"not applied"}
    assert all(row.users is None for row in result.tune.rows)
    assert result.tune.winner is None


@pytest.mark.faults
def test_a_server_that_slows_down_meanwhile_voids_the_table() -> None:
    server = FakeServer("laptop", factor=lambda drives: 1.0 if drives < 2 else 1.12)
    result = tuned(server, slots=SLOTS)
    assert result.tune.drift is not None
    assert result.tune.drift < -0.05
    assert result.tune.void


@pytest.mark.faults
def test_a_server_that_was_there_has_its_first_settings_back() -> None:
    server = FakeServer("laptop")
    result = tuned(server, slots=SLOTS, live=True)
    assert server.starts == [8, 2]
    assert result.restored is True
    assert server.slots == 2


class Stopped:
    """Somebody who wants the end from the `number`-th look on."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("look", range(4))
@pytest.mark.parametrize("live", [False, True])
def test_an_interruption_ends_the_server_or_puts_it_back_whenever_it_comes(look: int, live: bool) -> None:
    server = FakeServer("laptop")
    server.drive = lambda *_: Driven(None, Ending.HAND)  # type: ignore[assignment, arg-type, return-value]
    result = tuned(server, slots=SLOTS, live=live, cancelled=Stopped(look))
    assert result.stopped == INTERRUPTED
    assert server.closed
    assert not live or server.slots == 2
    assert not live or result.restored is not False


def test_an_interruption_before_a_run_has_begun_is_told_as_one_within_it() -> None:
    server = FakeServer("laptop")

    def early(label: str, values: Values, steerer: Steerer) -> Driven:
        raise KeyboardInterrupt

    server.drive = early  # type: ignore[method-assign]
    result = tuned(server, slots=SLOTS)
    assert result.stopped == INTERRUPTED
    assert server.closed


def test_a_tune_that_goes_on_does_not_take_for_granted_what_the_interrupted_one_left_on_a_server() -> None:
    server = FakeServer("laptop")
    begun = candidates([("max_num_seqs", ["8", "4"])])
    first = Task("first", begun[0].values)
    past = {first.key: Outcome(tokens_per_s=100.0, point=LoadPoint(concurrency=8))}

    def stop(label: str, values: Values, steerer: Steerer) -> Driven:
        assert server.slots == 8
        return Driven(None, Ending.HAND)  # type: ignore[arg-type]

    server.drive = stop  # type: ignore[method-assign]
    result = tuned(server, slots=(8, 4), live=True, past=past)
    assert server.starts == [8]
    assert result.restored is True


def test_a_server_that_cannot_be_put_back_is_said() -> None:
    server = FakeServer("laptop")

    def put(values: Mapping[str, str], cancelled: Callable[[], bool]) -> Answer:
        if values["max_num_seqs"] == "2":
            raise ServeError("the command ended with exit code 1", ("no such service",))
        server.slots = int(values["max_num_seqs"])
        return Answer(True)

    server.put = put  # type: ignore[method-assign]
    server.drive = lambda *_: Driven(None, Ending.HAND)  # type: ignore[assignment, arg-type, return-value]
    server.slots = 2

    def stop(label: str, values: Values, steerer: Steerer) -> Driven:
        if "2" in label:
            return Driven(None, Ending.GONE)  # type: ignore[arg-type]
        return Driven(None, Ending.HAND)  # type: ignore[arg-type]

    server.drive = stop  # type: ignore[method-assign]
    result = tuned(server, slots=SLOTS, live=True)
    assert result.restored is False
    assert "no such service" in result.problem


def test_what_was_measured_before_an_interruption_is_not_measured_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run = tmp_path / "a.llmtop"
    run.write_text("")
    server = FakeServer("laptop", 1)
    past = Past({"same": 1})
    tuned(server, slots=SLOTS, past=past)
    assert len(server.drives) == 3
    again = FakeServer("laptop", 1)
    told: list[str] = []
    result = tuned(again, slots=SLOTS, past=Past({"same": 1}), tell=told.append)
    assert again.drives == []
    assert again.starts == []
    assert result.tune.winner == (("max_num_seqs", "8"),)
    assert sum("as it was measured before" in line for line in told) == 3
    assert len(Past({"same": 2})) == 0, "another question"
    assert len(Past({"same": 1}, fresh=True)) == 0
    past.forget()
    assert len(Past({"same": 1})) == 0


def test_a_run_file_that_is_gone_is_measured_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    past = Past("x")
    past["search a=1"] = Outcome(tokens_per_s=1.0, run_file=str(tmp_path / "gone.llmtop"))
    past["search a=2"] = Outcome(tokens_per_s=1.0)
    past["search a=3"] = Outcome(problem="it died")
    assert set(Past("x")) == {"search a=2"}


def test_a_state_file_that_is_damaged_or_old_counts_as_none(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    past = Past("x")
    past["search a=2"] = Outcome(tokens_per_s=1.0)
    (path,) = tmp_path.rglob("*.json")
    path.write_text('{"llmtop":"tune","saved_at":1,"outcomes":{"search a=2":{}}}')
    assert len(Past("x")) == 0
    path.write_text("[" * 100_000)
    assert len(Past("x")) == 0


def test_the_time_that_is_promised_is_that_of_its_tasks() -> None:
    plan = Tuning(candidates([("max_num_seqs", ("4", "8"))]))
    assert host_tuning.expected_s(plan) == 90 + 75 + 30
    assert (host_tuning.SEARCH_FROM, host_tuning.SEARCH_LEAST_S, host_tuning.CONTRADICTS) == (0.95, 60.0, 0.9)
