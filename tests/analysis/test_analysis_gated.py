"""A gate of M in the client is felt as a server with M slots is, on three servers and three numbers of slots."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "bench"))

from bench_gate import BARS, USERS_A_SLOT, WIDE, virtually
from msgspec.structs import replace

from llmtop.domain.load import LoadPoint


@pytest.mark.parametrize(
    ("preset", "slots", "answers"),
    [
        ("laptop", 16, 8.0),
        *(
            pytest.param(preset, slots, 24.0, marks=pytest.mark.faults)
            for preset in ("laptop", "rtx4090-qwen2.5-7b", "l4-llama-3.1-8b")
            for slots in (16, 32, 64)
        ),
    ],
)
def test_a_gate_is_felt_as_so_many_slots(preset: str, slots: int, answers: float) -> None:
    point = LoadPoint(concurrency=USERS_A_SLOT * slots, output_tokens=64)
    real = virtually(preset, slots, point, answers, 0)
    gate = virtually(preset, WIDE, replace(point, gate=slots), answers, 0)
    off = {name: b / a - 1 for name, a, b in zip(BARS, real, gate, strict=True)}
    assert all(abs(off[name]) <= bar for name, bar in BARS.items()), off
