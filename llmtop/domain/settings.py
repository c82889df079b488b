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


def setting_key(name: str) -> str:
    """One writing of a name: `--max-num-seqs` is max_num_seqs."""
    return name.strip().lower().lstrip("-").replace("-", "_")


def is_slots(name: str) -> bool:
    return setting_key(name) in SLOTS
