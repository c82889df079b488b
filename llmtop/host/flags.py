"""The words of a server itself for what it is started with, by its dialect."""

from __future__ import annotations

from collections.abc import Mapping

from llmtop.domain.endpoint import Dialect


def startup_flags(dialect: Dialect | None) -> Mapping[str, str]:
    """What sets `max_num_seqs` and `num_gpu_blocks` of a server as it starts; what is not known is not there."""
    from llmtop.dialects import DIALECTS  # late: a table is read for whoever asks

    if dialect is None:
        return {}
    advice = DIALECTS[dialect].advice
    known = {"max_num_seqs": advice.more_slots, "num_gpu_blocks": advice.more_kv}
    return {name: flag for name, flag in known.items() if flag}
