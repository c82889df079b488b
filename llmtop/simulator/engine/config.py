"""How an engine is set up: the flags of `vllm serve` that move its cliff, and what differs between engine versions."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class EngineVersion(Struct, frozen=True):
    """What one release line does differently from the next, as far as timing shows it.

    `step_ms` and `per_sequence_us` are the host's cost of a step and of each sequence in it (input preparation,
    detokenising, bookkeeping): they come from decode curves measured with that release.
    """

    async_scheduling: bool
    """The next step is planned while this one runs, so an arrival waits for one step more."""
    reserve_full_isl: bool
    """A request is admitted only when blocks for its whole prompt are free, not just for its first chunk."""
    unhashed_first: bool
    """Freed blocks that no prefix can hit are reused before those that one can."""
    skip_oversized: bool
    """Without chunked prefill: a prompt over the token budget lets the next one pass instead of blocking the queue."""
    no_evict: bool
    """Blocks for prompt and output are taken at admission, so nothing is ever preempted."""
    step_ms: float
    per_sequence_us: float


ENGINE_VERSIONS: dict[str, EngineVersion] = {
    "0.8": EngineVersion(False, False, False, True, False, 3.0, 9.0),
    "0.10": EngineVersion(False, False, False, True, False, 3.0, 9.0),
    "0.11": EngineVersion(False, False, False, False, False, 2.0, 9.0),
    "0.19": EngineVersion(True, False, False, False, False, 1.3, 3.0),
    "0.33": EngineVersion(True, True, True, False, False, 1.2, 3.0),
    "trtllm": EngineVersion(False, True, True, False, True, 1.0, 3.0),
}
"""vLLM release lines by their first version, and TensorRT-LLM with its guaranteed-no-evict policy."""


class EngineConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The flags of an engine, by vLLM's names. Raises ValueError for values that no engine would start with.

    Source: vLLM `vllm/config/scheduler.py`, `vllm/config/cache.py`.
    """

    max_num_seqs: int = 256
    """Most sequences in one step: the slots."""
    max_num_batched_tokens: int = 2048
    """Most tokens computed in one step: the token budget."""
    num_gpu_blocks: int = 4096
    """KV blocks, one of which is the null block that no request may own."""
    block_size: int = 16
    """Tokens in a KV block."""
    max_model_len: int = 8192
    """Most tokens of a request, prompt and output together."""
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    reserve_full_isl: bool = True
    watermark: float = 0.0
    """Share of the blocks that an admission must leave free while others run."""
    long_prefill_token_threshold: int = 0
    """Most prompt tokens of one request in a step while others are there; 0: no such limit."""
    policy: Literal["fcfs", "priority"] = "fcfs"
    max_num_queued_reqs: int | None = None
    """More waiting requests than this are turned away; None: the queue has no end."""
    max_num_queued_tokens: int | None = None
    async_scheduling: bool = True
    unhashed_first: bool = True
    skip_oversized: bool = False
    no_evict: bool = False
    engine_version: str = "0.33"

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "block_size", "max_model_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, is {getattr(self, name)}")
        if self.num_gpu_blocks < 2:
            raise ValueError(f"num_gpu_blocks must be at least 2 (one is the null block), is {self.num_gpu_blocks}")
        if not 0.0 <= self.watermark < 1.0:
            raise ValueError(f"watermark must be in [0, 1), is {self.watermark}")
        if self.long_prefill_token_threshold < 0:
            raise ValueError(
                f"long_prefill_token_threshold must not be negative, is {self.long_prefill_token_threshold}"
            )
        if not self.enable_chunked_prefill and self.max_num_batched_tokens < self.max_model_len:
            raise ValueError(
                f"without chunked prefill max_num_batched_tokens ({self.max_num_batched_tokens}) "
                f"must be at least max_model_len ({self.max_model_len})"
            )

    @property
    def capacity_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return (self.num_gpu_blocks - 1) * self.block_size

    @property
    def request_limit_tokens(self) -> int:
        """Most tokens a request may reach: the model's, or the KV cache's where that is smaller."""
        return min(self.max_model_len, self.capacity_tokens)


MOST_BLOCKS = 1_000_000
"""KV blocks that are simulated: a hundred bytes each."""


class LiveKnob(Struct, frozen=True):
    """A flag that `Engine.reconfigure` can change while requests run, and how far it turns."""

    name: str
    low: int
    high: int


LIVE_KNOBS = (
    LiveKnob("max_num_seqs", 1, 4096),
    LiveKnob("num_gpu_blocks", 2, MOST_BLOCKS),
    LiveKnob("max_num_batched_tokens", 16, 65536),
)
