"""What is said of a server that is started anew, to the letter."""

from __future__ import annotations

import pytest

from llmtop.domain.load import LoadPoint
from llmtop.wording.restarts import (
    LISTS,
    MOST_CHANGES,
    RESTARTED,
    again_text,
    back_text,
    changed_traits,
    changes_text,
    is_restart,
    restarted_text,
    waiting_text,
)


def test_flags_versions_and_models_are_told_from_what_was_to_what_is() -> None:
    before = {"kv_cache_dtype": "auto", "max_num_seqs": "32", "model": "a", "server": "vLLM 0.31.0"}
    after = {"kv_cache_dtype": "auto", "max_num_seqs": "64", "model": "b", "server": "vLLM 0.32.0"}
    assert list(changed_traits(before, after).values()) == [
        "model a → b",
        "max_num_seqs 32 → 64",
        "version 0.31.0 → 0.32.0",
    ]
    assert changed_traits(before, before) == {}
    assert changed_traits({"server": "vLLM 0.31.0"}, {"server": "SGLang 0.5"}) == {
        "server": "server vLLM 0.31.0 → SGLang 0.5"
    }
    assert changed_traits({"max_num_seqs": "8"}, {}) == {"max_num_seqs": "max_num_seqs 8 → not told"}


def test_many_changes_are_counted() -> None:
    many = [f"flag_{n} 1 → 2" for n in range(MOST_CHANGES + 3)]
    assert changes_text(many).endswith(f"flag_{MOST_CHANGES - 1} 1 → 2, 3 more")
    assert "more" not in changes_text(many[:MOST_CHANGES])


@pytest.mark.parametrize(
    ("changes", "restarted", "same", "told"),
    [
        (["max_num_seqs 32 → 64"], True, None, "max_num_seqs 32 → 64"),
        ([], True, False, "nothing that it tells has changed"),
        ([], False, True, "the same process, it was not restarted"),
        ([], False, None, "whether it was restarted is not seen"),
        (["model a → b"], False, True, "model a → b"),
    ],
)
def test_no_restart_is_claimed_that_nobody_has_seen(
    changes: list[str], restarted: bool, same: bool | None, told: str
) -> None:
    assert back_text(51.6, changes, restarted, same) == f"back after 52 s: {told}"


def test_a_chapter_of_a_restart_is_known_by_its_text() -> None:
    assert restarted_text([]) == RESTARTED
    assert restarted_text(["a 1 → 2"]) == f"{RESTARTED}: a 1 → 2"
    assert is_restart(RESTARTED)
    assert is_restart(restarted_text(["a 1 → 2"]))
    assert not is_restart("max_num_seqs 8 → 16")


def test_what_is_waited_for_and_what_enter_does() -> None:
    assert waiting_text(LISTS, 40.7) == "waiting for the server: models answer, no token yet · 41 s"
    assert again_text(LoadPoint(concurrency=48)) == "Enter: 48 users again"
    assert again_text(LoadPoint(concurrency=1)) == "Enter: 1 user again"
    assert again_text(LoadPoint(rate_rps=2.5)) == "Enter: 2.50 requests/s again"
