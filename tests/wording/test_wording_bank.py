"""The bank says of a value that is not set that it is not, how it would be, and what it would give."""

from __future__ import annotations

import pytest

from llmtop.domain.endpoint import Dialect, EndpointState, EndpointStatus
from llmtop.domain.foresight import Foresight, Interval
from llmtop.host.flags import startup_flags
from llmtop.wording.bank import (
    KV_BLOCKS,
    KV_TOKENS,
    SLOTS,
    Asked,
    as_the_twin,
    asked_ways,
    hints,
    restart_words,
    with_note,
)

ASKED = [Asked(SLOTS, 64, "max seqs")]
FLAGS = startup_flags(Dialect.VLLM)


@pytest.mark.parametrize(
    ("dialect", "name", "words"),
    [
        (Dialect.VLLM, SLOTS, "--max-num-seqs 64"),
        (Dialect.DYNAMO, SLOTS, "--max-num-seqs 64 of the vLLM worker"),
        (Dialect.OLLAMA, SLOTS, "OLLAMA_NUM_PARALLEL=64"),
        (Dialect.OPENAI, SLOTS, ""),
        (Dialect.VLLM, KV_BLOCKS, "another --gpu-memory-utilization"),
        (Dialect.SGLANG, KV_TOKENS, "another --mem-fraction-static"),
    ],
)
def test_how_it_would_be_set_is_in_the_servers_own_words(dialect: Dialect, name: str, words: str) -> None:
    assert restart_words(name, 64, startup_flags(dialect)) == words


def test_whatever_has_room_says_that_it_is_not_set_and_with_what_it_would_be() -> None:
    text = (
        "64 slots: ~71 users at the SLO (62 to 80); the twin was fitted on 9 levels and misses the one left out by 3 %"
    )
    known = Foresight(users=Interval(71, 62, 80), off=0.03, text=text)
    unknown = Foresight(text="64 slots: --, far", missing="drag prompt to 2048 for 10 s")
    for answer in (None, known, unknown):
        ways = asked_ways(ASKED, FLAGS, answer)
        assert all("not set" in way for way in ways)
        assert all("--max-num-seqs 64" in way for way in ways[:3])
    assert asked_ways(ASKED, FLAGS, known)[-1].endswith(": ~71 users at the SLO (62 to 80), twin 3 % off")
    assert asked_ways(ASKED, FLAGS, unknown)[-1].endswith(": --, drag prompt to 2048 for 10 s")
    assert asked_ways(ASKED, {}, None)[-1] == "not set: max seqs 64"


def test_of_what_is_set_only_an_answer_is_said() -> None:
    asked = [Asked(SLOTS, 16, "gate", is_set=True)]
    assert asked_ways(asked, FLAGS, None) == []
    assert all("not set" not in way for way in asked_ways(asked, FLAGS, Foresight(text="16 slots: ~18 users")))


def test_while_a_load_is_held_that_is_said_of_what_is_set_in_80_columns() -> None:
    note = "holding 49 (cliff ~32), TTFT p95 1.90s"
    answer = Foresight(users=Interval(71, 62, 80), off=0.03, text="16 slots: ~71 users at the SLO (62 to 80); the twin")
    for is_set in (True, False):
        asked = [Asked(SLOTS, 16, "max seqs", is_set)]
        shortest = with_note(note, asked_ways(asked, FLAGS, answer), asked)[-1]
        assert len(shortest) <= 78
        assert "~71 users at the SLO (62 to 80), twin 3 % off" in shortest
        assert ("holding 49 (cliff ~32)" in shortest) is is_set
        assert ("not set" in shortest) is not is_set


def test_names_of_servers_are_those_of_the_twin() -> None:
    assert as_the_twin("max_running_requests") == SLOTS
    assert as_the_twin("max_total_num_tokens") == "max_total_num_tokens"
    assert as_the_twin("kv_cache_dtype") == ""


def test_a_long_flag_gives_way_before_the_figure_does() -> None:
    asked = [Asked("num_gpu_blocks", 448, "KV blocks")]
    answer = Foresight(
        users=Interval(50, 24, 56), off=0.2, text="448 KV blocks: ~50 users at the SLO (24 to 56)" + 90 * "x"
    )
    ways = asked_ways(asked, {"num_gpu_blocks": "--gpu-memory-utilization"}, answer)
    fits = next(way for way in ways if len(way) <= 78)
    assert fits == "KV blocks 448 not set: ~50 users at the SLO (24 to 56), twin 20 % off"


def test_why_nothing_turns_stands_where_there_is_room_and_else_what_the_gate_does() -> None:
    ways = hints(EndpointStatus(state=EndpointState.UP, no_knobs="why"))
    assert [way.endswith("why") for way in ways] == [True, True, True, False, False]
    assert ways[2] == "why"
    assert ways[-1] == "gate: as fewer slots"
    live = EndpointStatus(state=EndpointState.UP, knobs={SLOTS: 8.0}, knobs_by="llmtop_knobs")
    assert hints(live) == ["a knob is turned at once by llmtop_knobs; u turns it back"]
