"""Write a tiny Llama with random weights as GGUF, for llama.cpp: `python tiny_gguf.py OUT.gguf` (needs gguf and numpy).

Its tokenizer is byte-level BPE in which each of llmtop's words is one token: the only merges extend a word by one
letter from its left, shorter prefixes first, so that no other pair can ever be merged before.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np

WORDS = Path(__file__).parents[2] / "llmtop" / "workload" / "words.txt"
HIDDEN, LAYERS, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 256, 4, 8, 4, 512, 2048
SPECIAL = ["<s>", "<unk>", "</s>", "<pad>"]
CHAT = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def byte_letters() -> list[str]:
    """GPT-2's printable letter for each of the 256 bytes (openai/gpt-2, encoder.py: bytes_to_unicode)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def vocabulary() -> tuple[list[str], list[str]]:
    """(tokens, merges)."""
    space = byte_letters()[ord(" ")]
    words = [space + line for line in WORDS.read_text().splitlines() if not line.startswith("#")]
    prefixes = sorted(
        {word[:length] for word in words for length in range(2, len(word) + 1)}, key=lambda p: (len(p), p)
    )
    return [*SPECIAL, *byte_letters(), *prefixes], [f"{prefix[:-1]} {prefix[-1]}" for prefix in prefixes]


def main(path: str) -> None:
    tokens, merges = vocabulary()
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(tokens) - len(SPECIAL))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(3)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)
    rng = np.random.default_rng(0)

    def weight(name: str, rows: int, columns: int) -> None:
        values = rng.standard_normal((rows, columns), dtype=np.float32) * 0.02
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))

    def ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(HIDDEN, np.float32))

    weight("token_embd", len(tokens), HIDDEN)
    ones("output_norm")
    weight("output", len(tokens), HIDDEN)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        ones(f"{block}.attn_norm")
        ones(f"{block}.ffn_norm")
        for name, rows, columns in (
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", HIDDEN * KV_HEADS // HEADS, HIDDEN),
            ("attn_v", HIDDEN * KV_HEADS // HEADS, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", FEED_FORWARD, HIDDEN),
            ("ffn_up", FEED_FORWARD, HIDDEN),
            ("ffn_down", HIDDEN, FEED_FORWARD),
        ):
            weight(f"{block}.{name}", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
