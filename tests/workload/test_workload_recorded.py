"""Traces as load and prompts: which requests, when, how long, and what their prompts have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmtop.domain.load import LoadPoint, Replay
from llmtop.domain.profile import Quantiles, Workload
from llmtop.errors import FileError
from llmtop.simulator.engine import chain_hashes
from llmtop.simulator.server.asked import read_generation
from llmtop.traffic.table import Blocks, Traffic
from llmtop.workload import recorded as recorded_module
from llmtop.workload.prompts import Prompt, PromptSource
from llmtop.workload.recorded import WINDOWS, Recorded, of_traffic, rates, read_recorded, trace_plan

POINT = LoadPoint(rate_rps=1.0, prompt_tokens=192, output_tokens=64)
TRACE = Workload(source="trace", file="x")


def traffic(start_s: list[float], prompt: list[int] | None = None, **columns: object) -> Traffic:
    count = len(start_s)
    fields: dict[str, object] = {
        "source": "a trace",
        "start_s": np.array(start_s, float),
        "prompt": np.array(prompt or [100] * count),
        "output": np.full(count, 10),
        **columns,
    }
    return Traffic(**fields)  # type: ignore[arg-type]


def prompts(table: Traffic, **options: int) -> PromptSource:
    return PromptSource(TRACE, recorded=of_traffic(table), **options)


def said(source: PromptSource, count: int) -> list[Prompt]:
    return [source.next(POINT) for _ in range(count)]


def in_common(one: Sequence[object], other: Sequence[object]) -> int:
    """Of how many elements both begin alike."""
    alike = (a == b for a, b in zip(one, other, strict=False))
    return next((place for place, same in enumerate(alike) if not same), min(len(one), len(other)))


def common_words(one: Prompt, other: Prompt) -> int:
    return in_common(one.text.split(), other.text.split())


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> list[Traffic]:
    """Whatever is put here is what the file of a trace holds."""
    held: list[Traffic] = []
    monkeypatch.setattr(recorded_module, "read", lambda path: held[-1])
    return held


TIMES_S = st.lists(st.floats(0, 5000), max_size=40).map(lambda times: [0.0, *sorted(times)])


@settings(max_examples=15)
@given(TIMES_S, st.floats(0.5, 20), st.floats(0, 3000), st.floats(1, 3000))
def test_speed_divides_all_times_and_a_window_is_the_trace_cut(
    times_s: list[float], speed: float, begin_s: float, lasts_s: float
) -> None:
    table = traffic(times_s, [100 + place for place in range(len(times_s))])
    end_s = begin_s + lasts_s
    inside = [place for place, at_s in enumerate(times_s) if begin_s <= at_s < end_s]
    workload = msgspec.structs.replace(TRACE, speed=speed, window_s=(begin_s, end_s))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded_module, "read", lambda path: table)
        if not inside:
            with pytest.raises(FileError, match="the trace lasts"):
                read_recorded(workload)
            return
        found, _, _ = read_recorded(workload)
    assert found.prompt.tolist() == [100 + place for place in inside]
    assert found.start_s == pytest.approx([(times_s[place] - begin_s) / speed for place in inside])


def test_a_window_that_ends_after_the_trace_is_said(recording: list[Traffic]) -> None:
    recording.append(traffic([0.0, 30.0, 90.0]))
    found, notes, _ = read_recorded(msgspec.structs.replace(TRACE, window_s=(10.0, 1000.0)))
    assert found.start_s.tolist() == [20.0, 80.0]
    assert notes == ("the window ends at 16.7 min, and the trace lasts 90 s",)


def test_rows_that_do_not_fit_are_left_out_with_their_blocks(recording: list[Traffic]) -> None:
    blocks = Blocks(ids=np.array([1, 2, 3, 4, 5, 6]), ends=np.array([2, 5, 6]), tokens=64)
    recording.append(traffic([0, 1, 2], [100, 900, 50], blocks=blocks))
    found, notes, _ = read_recorded(TRACE, 500)
    assert (found.prompt.tolist(), [found.ids(0), found.ids(1)]) == ([100, 50], [[1, 2], [6]])
    assert notes == ("1 of 3 requests left out: longer than the 500 tokens of the model",)


def test_lengths_that_a_trace_does_not_tell_are_drawn_and_said(recording: list[Traffic]) -> None:
    recording.append(traffic([0, 1, 2, 3], [0, 50, 0, 0], output=np.array([0, 0, 7, 9])))
    table = Quantiles(table=((0.0, 300.0), (1.0, 300.0)))
    source = PromptSource(msgspec.structs.replace(TRACE, prompt=table))
    made = said(source, 4)
    assert [(prompt.tokens, prompt.output_tokens) for prompt in made] == [(300, 64), (50, 64), (300, 7), (300, 9)]
    assert source.notes == (
        "3 of 4 requests do not tell the length of their prompt: drawn as the profile says",
        "2 of 4 requests do not tell the length of their answer: drawn as the profile says",
    )


def test_a_trace_that_lasts_longer_than_a_plan_may_is_refused_unless_a_window_is_set(recording: list[Traffic]) -> None:
    recording.append(traffic([0.0, 9e6]))
    with pytest.raises(FileError, match="104 days apart; a plan lasts 31 at most: set a window"):
        read_recorded(TRACE)
    assert len(read_recorded(msgspec.structs.replace(TRACE, window_s=(0.0, 9.0)))[0]) == 1


IDS = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), min_size=2, max_size=6)


@settings(max_examples=12)
@given(IDS, st.sampled_from([16, 64, 512]), st.integers(0, 40))
def test_rows_with_the_same_first_ids_share_so_many_blocks_of_text_and_no_more(
    ids: list[list[int]], tokens: int, more: int
) -> None:
    blocks = Blocks(ids=np.concatenate(ids), ends=np.cumsum([len(row) for row in ids]), tokens=tokens)
    table = traffic([0.0] * len(ids), [len(row) * tokens + more for row in ids], blocks=blocks)
    source = prompts(table)
    lap, again = said(source, len(ids)), said(source, len(ids))
    for place, one in enumerate(lap):
        assert len(one.text.split()) == one.tokens == table.prompt[place]
        for beside, other in enumerate(lap[:place]):
            shared = in_common(ids[place], ids[beside])
            assert shared * tokens <= common_words(one, other) <= shared * tokens + 2
        assert all(common_words(one, other) <= 2 for other in again), "another lap is another text"


@settings(max_examples=12)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(20, 200)), min_size=1, max_size=20))
def test_a_later_turn_begins_with_the_prompt_before_it_where_it_is_longer(rows: list[tuple[int, int]]) -> None:
    sessions = [session for session, _ in rows]
    table = traffic([0.0] * len(rows), [tokens for _, tokens in rows], session=np.array(sessions))
    made = said(prompts(table), len(rows))
    last: dict[int, tuple[int, Prompt]] = {}
    for place, (session, tokens) in enumerate(rows):
        prompt = made[place]
        assert prompt.tokens == len(prompt.text.split()) == tokens
        if session < 0:
            assert (prompt.session, prompt.turn) == (None, None)
            assert all(common_words(prompt, other) <= 2 for other in made if other is not prompt)
            continue
        turn, before = last.get(session, (0, None))
        assert (prompt.session is None, prompt.turn) == (False, turn + 1)
        if before is not None and before.tokens < tokens:
            assert prompt.text.startswith(before.text + " ")
        elif before is not None:
            assert common_words(prompt, before) <= 2
        assert before is None or prompt.session == before.session
        last[session] = (turn + 1, prompt)
    assert len({prompt.session for prompt in made} - {None}) == len(last)


def test_a_second_lap_is_of_other_sessions() -> None:
    source = prompts(traffic([0, 1], session=np.array([5, 9])))
    assert [prompt.session for prompt in said(source, 4)] == [0, 1, 2, 3]


@settings(max_examples=10)
@given(st.integers(1, 30), st.integers(1, 4), st.data())
def test_a_row_is_what_it_is_whoever_sends_it_and_whatever_was_left_out(
    count: int, workers: int, data: st.DataObject
) -> None:
    table = traffic([0.0] * count, [50 + place for place in range(count)])
    whole = said(prompts(table), count)
    packed = of_traffic(table).packed()
    shares = [
        PromptSource(TRACE, recorded=Recorded.unpacked(packed), start=worker, step=workers) for worker in range(workers)
    ]
    for row in data.draw(st.lists(st.integers(0, count - 1), unique=True).map(sorted)):
        assert shares[row % workers].next(POINT, row) == whole[row]
    drawn = [share.next(POINT).text for share in shares for _ in range(3)]
    assert len(set(drawn)) == len(drawn)


def test_a_recording_goes_to_another_process_as_bytes() -> None:
    blocks = Blocks(ids=np.array([1, 2, 3]), ends=np.array([2, 3]), tokens=16)
    table = of_traffic(traffic([0, 1], [40, 20], session=np.array([3, 3]), blocks=blocks))
    again = Recorded.unpacked(table.packed())
    assert (len(again), again.sessions, again.ids(1)) == (2, 1, [3])
    assert said(PromptSource(TRACE, recorded=again), 2) == said(PromptSource(TRACE, recorded=table), 2)


def sent(shape: Replay, lasts_s: float) -> float:
    points = [*shape.points, (lasts_s, POINT)]
    return sum((point.rate_rps or 0.0) * (end_s - at_s) for (at_s, point), (end_s, _) in pairwise(points))


@settings(max_examples=30)
@given(st.lists(st.floats(0, 500), min_size=1, max_size=50).map(sorted), st.sampled_from([0.5, 1.0, 10.0]))
def test_a_trace_as_a_rate_over_time_sends_as_many_requests(times_s: list[float], window_s: float) -> None:
    shape = rates(np.array(times_s), window_s)
    starts_s = [at_s for at_s, _ in shape.points]
    assert starts_s[0] == 0
    assert starts_s == sorted(set(starts_s))
    assert sent(shape, starts_s[-1] + window_s) == pytest.approx(len(times_s))


@pytest.mark.parametrize("span_s", [0.0, 3.0, 599.0, 601.0, 86_400.0, 7e6])
def test_the_plan_of_a_trace_is_small_however_long_it_is(span_s: float) -> None:
    times_s = np.linspace(0.0, span_s, 5000)
    plan = trace_plan(times_s, POINT)
    (stage,) = plan.stages
    assert isinstance(stage.shape, Replay)
    assert len(stage.shape.points) <= WINDOWS + 1
    assert stage.duration_s == span_s + 1.0
    assert stage.shape.points[1:2] == () or (stage.shape.points[1][0] == 1.0) == (span_s < 600)
    assert not math.isnan(plan.top)


def test_a_plan_costs_as_much_as_its_trace_has_rows_whatever_time_it_spans() -> None:
    assert len(rates(np.array([0.0, 2.6e6]), 1.0).points) == 3


def test_a_trace_of_a_file_is_read_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [7, 8]}\n' * 2)
    found, _, told = read_recorded(Workload(source="trace", file=str(path)))
    assert (found.ids(1), found.output.tolist(), found.start_s.tolist()) == ([7, 8], [5, 5], [0.0, 0.0])
    assert told == "2 requests of mine.jsonl over 0 s (Mooncake trace)"


@pytest.mark.parametrize("tokens", [16, 512])
@pytest.mark.parametrize("chat", [True, False])
def test_the_simulated_engines_cache_finds_as_many_blocks_as_the_hashes_say(tokens: int, chat: bool) -> None:
    ids = [[1, 2, 3, 4], [1, 2, 9, 4], [1, 2, 3, 4, 5], [7, 2, 3, 4]]
    blocks = Blocks(ids=np.concatenate(ids), ends=np.cumsum([len(row) for row in ids]), tokens=tokens)
    made = said(prompts(traffic([0.0] * 4, [len(row) * tokens + 5 for row in ids], blocks=blocks)), 4)
    first, *others = (chained(prompt, chat) for prompt in made)
    size = 16
    found = [in_common(first, other) * size for other in others]
    around = 0 if tokens == 512 and not chat else size  # a template moves what ends inside a block of the cache
    for hits, shared in zip(found, (2, 4, 0), strict=True):
        assert shared * tokens - around <= hits <= shared * tokens + around


def chained(prompt: Prompt, chat: bool) -> tuple[int, ...]:
    """Of each block of 16 tokens, as the simulated engine's face makes them of a request."""
    said = {"messages": [{"role": "user", "content": prompt.text}]} if chat else {"prompt": prompt.text}
    body = msgspec.json.encode({"model": "m", "max_tokens": 1, "stream": True, **said})
    asked = read_generation(body, api="chat" if chat else "completions", models=("m",), max_model_len=100_000)
    return tuple(chain_hashes(asked.tokens, 16))
