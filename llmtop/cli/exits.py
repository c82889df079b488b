"""What the exit code of a command says of the judgement."""

from __future__ import annotations

from llmtop.domain.run import LOST
from llmtop.domain.verdicts import Judgement

YES, NO, ENDPOINT_LOST, CLIENT_BOUND, NOT_KNOWN = 0, 1, 3, 4, 5


def exit_code(judgement: Judgement, *, unknown_ok: bool = False) -> int:
    """0: yes. 1: no. 3: the server fell away under the run. 4: the client was the bottleneck. 5: not known.

    Args:
        unknown_ok: 0 instead of 5.
    """
    if judgement.ending in LOST:
        return ENDPOINT_LOST
    if judgement.void:
        return CLIENT_BOUND
    if judgement.ok is None:
        return YES if unknown_ok else NOT_KNOWN
    return YES if judgement.ok else NO
