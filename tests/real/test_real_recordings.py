"""Recorded runs against real servers, judged again: no server needed."""

from __future__ import annotations

import lzma
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmtop.domain.verdicts import Bound, Confidence, Kind
from llmtop.meter.facts import Facts
from llmtop.recording.reader import RunReader

DATA = Path(__file__).with_name("data")


def _unpacked(name: str, folder: Path) -> Path:
    run_file = folder / f"{name}.llmtop"
    run_file.write_bytes(lzma.decompress((DATA / f"{name}.llmtop.xz").read_bytes()))
    return run_file


@pytest.mark.parametrize(
    ("name", "requests", "void", "red"),
    [
        ("vllm_4_slots", 970, 188, 16),
        ("vllm_8_slots", 2072, 656, 34),
        ("vllm_8_slots_busy", 1055, 58, 8),
        ("vllm_16_slots", 1187, 198, 9),
        ("vllm_small_cache", 194, 86, 22),
    ],
)
def test_a_file_of_schema_1_voids_what_it_voided_when_it_was_recorded(
    tmp_path: Path, name: str, requests: int, void: int, red: int
) -> None:
    with RunReader(_unpacked(name, tmp_path)) as run:
        facts = Facts.of(run.batches())
    limited = facts.requests.column("client_limited")
    assert (len(limited), int((limited == 1).sum()), int((limited == 0).sum())) == (requests, void, requests - void)
    assert int(facts.client.column("red").sum()) == red


@pytest.mark.parametrize("slots", [4, 8, 16])
def test_the_cliff_of_vllm_is_at_its_max_num_seqs(real: SimpleNamespace, tmp_path: Path, slots: int) -> None:
    verdict = real.judge(_unpacked(f"vllm_{slots}_slots", tmp_path))
    assert verdict.cliff.kind is Kind.CLIFF
    assert verdict.cliff.cause is Bound.QUEUE
    assert abs(verdict.cliff.at - slots) <= 1
    assert verdict.cliff.low <= slots <= verdict.cliff.high
    assert verdict.cliff.confidence is Confidence.FIRM


def test_a_small_cache_makes_a_cliff_of_its_own(real: SimpleNamespace, tmp_path: Path) -> None:
    """24 blocks of 128 tokens hold 4.6 requests of 556 tokens at their full length; there are 16 slots."""
    verdict = real.judge(_unpacked("vllm_small_cache", tmp_path))
    assert verdict.cliff.kind is Kind.CLIFF
    assert verdict.cliff.cause is Bound.KV
    assert 3 <= verdict.cliff.at <= 7
    assert any("preemptions" in line for line in verdict.cliff.evidence)


def test_on_a_busy_machine_the_cliff_is_still_at_the_slots(real: SimpleNamespace, tmp_path: Path) -> None:
    verdict = real.judge(_unpacked("vllm_8_slots_busy", tmp_path))
    assert verdict.cliff.cause is Bound.QUEUE
    assert abs(verdict.cliff.at - 8) <= 1
    assert any("running at most 8" in line for line in verdict.cliff.evidence)
