"""The table of load workers: as many rows as there is room for, the rest counted, and clocks where they are others'."""

from __future__ import annotations

import pytest

from llmtop.domain.client import ClientCause, ClientHealth, ClientReason, CrewFigures, WorkerFigures
from llmtop.domain.samples import ClientState
from llmtop.view.why import is_trouble, load_workers
from llmtop.wording import crew as words
from llmtop.wording.figures import TEXT, TIGHT
from llmtop.wording.sentences import client_reason, requests_left_out


def worker(number: int, state: ClientState = "green", **said: float) -> WorkerFigures:
    return WorkerFigures(
        worker=number, name=f"h{number}:47", state=state, share=0.01, chunks_per_s=100.0, lag_p99_ms=0.5, **said
    )


def fleet(count: int, **said: float) -> CrewFigures:
    rows = tuple(worker(number, **said) for number in range(min(count, 40)))
    rest = max(0, count - 40)
    return CrewFigures(
        began=count,
        heard=count,
        worst=rows,
        rest=rest,
        rest_share=0.01 * rest if rest else None,
        rest_chunks_per_s=100.0 * rest if rest else None,
    )


@pytest.mark.parametrize("most", [2, 10, 39, 40, 41])
@pytest.mark.parametrize("count", [2, 40, 200])
def test_there_are_no_more_rows_than_fit_and_none_is_uncounted(count: int, most: int) -> None:
    rows = words.table(fleet(count), TEXT, most=most).rows
    assert len(rows) <= most
    named = [row for row in rows if "other" not in row[0]]
    others = int(rows[-1][0].split()[0]) if len(named) < len(rows) else 0
    assert len(named) + others == count
    if others:
        assert rows[-1][2:4] == (TEXT.percent(0.01 * others), TEXT.count(100.0 * others))


def test_a_row_says_who_it_is_and_how_its_clock_stands() -> None:
    crew = CrewFigures(
        began=2, heard=2, worst=(worker(3, "red", red_s=12, offset_s=-5.0, error_s=0.00012), worker(4, offset_s=2.0))
    )
    table = words.table(crew, TEXT)
    assert table.heads[-1] == "clock"
    assert table.rows[0][:2] == ("3 h3:47", "red 12 s")
    assert table.rows[0][-1] == "-5.00 s ±0.12 ms"
    assert words.table(fleet(3), TEXT).heads[-1] == "loop lag", "all have our clock"


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (-9, "", "died by signal 9"),
        ("KILL", "Killed", "died by signal KILL: Killed"),
        (1, "no memory", "died with exit code 1: no memory"),
        (0, "", "died with exit code 0"),
    ],
)
def test_how_one_has_died_is_said_with_its_last_words(code: int | str, said: str, told: str) -> None:
    assert words.died(code, said) == told


def test_missing_ones_are_counted_and_the_slowest_of_other_machines_named() -> None:
    assert words.heard(CrewFigures(began=200, heard=198)) == "workers 198/200"
    assert words.heard(fleet(3)) == ""
    reason = ClientReason(cause=ClientCause.LAG, value=9.0, of=10.0, worker=3, name="h2:4711")
    assert client_reason(reason).startswith("load worker 3 (h2:4711): receive lag 9.00 ms")
    assert words.slowest_elsewhere(ClientHealth(t_s=1.0, reason=reason)) == "h2:4711"
    local = ClientReason(cause=ClientCause.LAG, value=9.0, worker=1, name=f"{words.HERE}:12")
    assert words.slowest_elsewhere(ClientHealth(t_s=1.0, reason=local)) == ""


def test_what_is_left_out_says_whose_it_was() -> None:
    assert requests_left_out(1, "") == "1 request left out: the client was the bottleneck"
    told = requests_left_out(12, "load worker 3 (h2:4711)")
    assert told == "12 requests left out: the client was the bottleneck, load worker 3 (h2:4711) alone"


@pytest.mark.parametrize("width", [66, 74, 94])
def test_the_lines_of_a_screen_fit_it_and_bad_ones_stand_out(width: int) -> None:
    rows = (worker(3, "red", red_s=120, offset_s=-5.0, error_s=0.00012), worker(117, "amber"), worker(4))
    crew = CrewFigures(began=200, heard=200, worst=rows, rest=197, rest_share=0.9, rest_chunks_per_s=9e5)
    lines = load_workers(crew, width, 12)
    assert [role for _, role in lines] == ["title", "bad", "warn", "text", "dim"]
    assert lines[-1][0].strip().startswith("197 others")
    assert [text for text, _ in lines if len(text) > width] == [] or width < 74
    assert is_trouble(crew)
    assert not is_trouble(fleet(3))
    assert load_workers(CrewFigures(), width, 12) == []


def test_tight_figures_have_the_same_rows() -> None:
    assert len(words.table(fleet(200), TIGHT, most=9, short=True).rows) == 9
