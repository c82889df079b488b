"""How the client's own gate is said, which stands for the slots of a smaller server."""

from __future__ import annotations

from llmtop.wording.figures import TEXT
from llmtop.wording.sentences import gate_text

FLAG = "the gate"
"""What is turned in place of the server's own flag."""


def gate_binds(gate: float, running: float, at_gate: float) -> str:
    """`gate 16 binds: 16 run, 32 wait before it`"""
    return f"{at_the_gate(gate)}: {TEXT.whole(running)} run, {TEXT.whole(at_gate)} wait before it"


def at_the_gate(gate: float) -> str:
    """`gate 16 binds`, where the server shows nothing of what it runs."""
    return f"{gate_text(gate)} binds"


def gate_idle(gate: float, slots: float) -> str:
    """`gate 64 holds nothing back: the server has 32 slots (a gate stands for fewer)`"""
    return f"{gate_text(gate)} holds nothing back: the server has {TEXT.whole(slots)} slots (a gate stands for fewer)"
