"""Settings of a server, by the names that they go by in commands, flags and answers."""

from __future__ import annotations

SLOTS = (
    "max_num_seqs",
    "max_num_active_seqs",
    "max_running_requests",
    "max_concurrent_requests",
    "max_batch_size",
    "parallel",
    "np",
    "n_parallel",
    "total_slots",
    "slots",
    "ollama_num_parallel",
)
"""Names of the setting that says how many requests run at once: of vLLM, SGLang, TGI, TensorRT-LLM, LMDeploy, llama.cpp
and Ollama."""

KV_BLOCKS = ("num_gpu_blocks", "num_gpu_blocks_override")
"""Names of the size of the KV cache in blocks: of vLLM."""
KV_TOKENS = (
    "kv_capacity_tokens",
    "kv_tokens",
    "max_total_num_tokens",
    "max_total_tokens",
    "max_tokens_in_paged_kv_cache",
)
"""The same in tokens: as llmtop writes it, and of SGLang."""


def setting_key(name: str) -> str:
    """One writing of a name: `--max-num-seqs` is max_num_seqs."""
    return name.strip().lower().lstrip("-").replace("-", "_")


def is_slots(name: str) -> bool:
    return setting_key(name) in SLOTS


def is_kv(name: str) -> bool:
    return setting_key(name) in (*KV_BLOCKS, *KV_TOKENS)
