"""The words of a server itself for what it is started with, by its dialect."""

from __future__ import annotations

from collections.abc import Mapping

from llmtop.domain.endpoint import Dialect


def startup_flags(dialect: Dialect | None) -> Mapping[str, str]:
    """What sets slots and KV cache of a server as it starts, by setting; what is not known is not there."""
    from llmtop.dialects import DIALECTS  # late: a table is read for whoever asks

    if dialect is None:
        return {}
    advice = DIALECTS[dialect].advice
    known = {"max_num_seqs": advice.more_slots, "num_gpu_blocks": advice.more_kv, "kv_capacity_tokens": advice.more_kv}
    return {name: flag for name, flag in known.items() if flag}
