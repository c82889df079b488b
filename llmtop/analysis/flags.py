"""Which switch of which server turns what: the words of advice. Keys are `Dialect` values.

Sources: vLLM docs `serve` arguments; SGLang docs `server_arguments`; llama.cpp tools/server README; TGI `launcher`
arguments; TensorRT-LLM `trtllm-serve` options; LMDeploy `serve api_server`; Ollama FAQ (environment variables).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flags:
    """Switches for slots, KV cache memory and tokens a step."""

    slots: str
    memory: str
    budget: str


GENERIC = Flags("the server's limit of concurrent sequences", "the memory given to the KV cache", "the tokens a step")

FLAGS = {
    "vllm": Flags("--max-num-seqs", "--gpu-memory-utilization", "--max-num-batched-tokens"),
    "sglang": Flags("--max-running-requests", "--mem-fraction-static", "--chunked-prefill-size"),
    "tgi": Flags("--max-concurrent-requests", "--max-batch-total-tokens", "--max-batch-prefill-tokens"),
    "llamacpp": Flags("--parallel", "--ctx-size", "--batch-size"),
    "trtllm": Flags("--max_batch_size", "--kv_cache_free_gpu_memory_fraction", "--max_num_tokens"),
    "dynamo": Flags("--max-num-seqs", "--gpu-memory-utilization", "--max-num-batched-tokens"),
    "lmdeploy": Flags("--max-batch-size", "--cache-max-entry-count", "--max-prefill-token-num"),
    "ollama": Flags("OLLAMA_NUM_PARALLEL", "num_ctx", "num_batch"),
    "openai": GENERIC,
}


def flags_of(dialect: str | None) -> Flags:
    return FLAGS.get(dialect or "", GENERIC)
