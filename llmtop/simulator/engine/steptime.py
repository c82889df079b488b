"""How long a step takes on a given card, model and host.

A smooth roofline for the linear layers, KV reads and prefill attention beside it, the cost of tensor parallelism, and
a constant and a per-sequence part for the host. The form and the parameters come from fits to measured curves; each
preset states which. Bounds of the parameters are wide; within them every time is finite.
"""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta, Struct


class Hardware(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU and how well kernels use it. `mbu` and `mfu` are the shares of peak bandwidth and FLOP/s reached."""

    gpu: str
    bandwidth_gb_s: Annotated[float, Meta(ge=0.1, le=1e6)]
    peak_tflops: Annotated[float, Meta(ge=0.01, le=1e6)]
    """Dense peak at the precision of the weights."""
    memory_gb: Annotated[float, Meta(ge=0.1, le=1e5)]
    mbu: Annotated[float, Meta(ge=0.01, le=1)] = 0.8
    """Of the weights' reads."""
    mfu: Annotated[float, Meta(ge=0.01, le=1)] = 0.6
    mbu_kv: Annotated[float, Meta(ge=0.01, le=1)] = 0.8
    mfu_attention: Annotated[float, Meta(ge=0.01, le=1)] = 0.4
    roofline_p: Annotated[float, Meta(ge=1, le=16)] = 2.0
    """Sharpness of the corner between memory-bound and compute-bound: (m^p + c^p)^(1/p)."""
    mixed_penalty: Annotated[float, Meta(ge=0.1, le=100)] = 1.5
    """KV reads take this much longer in a step that also prefills."""
    link_latency_us: Annotated[float, Meta(ge=0, le=1e6)] = 10.0
    """Of one all-reduce between GPUs."""
    link_gb_s: Annotated[float, Meta(ge=0.01, le=1e9)] = 200.0
    """Bus bandwidth of an all-reduce."""


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shape of a dense transformer with grouped-query attention and a gated MLP."""

    name: str
    layers: Annotated[int, Meta(ge=1, le=1000)]
    hidden: Annotated[int, Meta(ge=1, le=1_000_000)]
    heads: Annotated[int, Meta(ge=1, le=4096)]
    kv_heads: Annotated[int, Meta(ge=1, le=4096)]
    head_dim: Annotated[int, Meta(ge=1, le=4096)]
    intermediate: Annotated[int, Meta(ge=1, le=10_000_000)]
    vocab: Annotated[int, Meta(ge=1, le=10_000_000)]
    weight_gb: Annotated[float, Meta(ge=0, le=1e5)]
    """All weights in memory, embeddings included."""
    weight_bytes: Annotated[float, Meta(ge=0.1, le=16)] = 2.0
    """Bytes of one weight of the linear layers: 2 for BF16, 1 for FP8."""
    head_bytes: Annotated[float, Meta(ge=0.1, le=16)] = 2.0
    """Bytes of one weight of the output head, which quantised checkpoints leave in BF16."""
    kv_bytes: Annotated[float, Meta(ge=0.1, le=16)] = 2.0

    @property
    def linear_parameters(self) -> float:
        """Weights of the layers' matrices: L·(D·(H+2·KV)·hd + H·hd·D + 3·D·I)."""
        attention = self.hidden * (self.heads + 2 * self.kv_heads) * self.head_dim
        output = self.heads * self.head_dim * self.hidden
        return float(self.layers * (attention + output + 3 * self.hidden * self.intermediate))

    def activation_bytes_per_token(self, tensor_parallel: int = 1) -> float:
        """What norms, residuals, rotary embedding and the gated activation move: L·2·(12·D + 3·I/tp) bytes.

        Counted from the fused kernels: two norms with residual (8·D), queries, keys and values in and out (3·D), the
        attention's output (D), and reading two and writing one intermediate (3·I). Only the MLP is split.
        """
        return self.layers * 2.0 * (12.0 * self.hidden + 3.0 * self.intermediate / tensor_parallel)

    @property
    def kv_bytes_per_token(self) -> float:
        """2·L·KV·hd·bytes."""
        return 2.0 * self.layers * self.kv_heads * self.head_dim * self.kv_bytes


class Overhead(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What does not depend on the GPU's peak figures. None: what the engine version usually costs."""

    step_ms: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    per_sequence_us: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    sampler_passes: Annotated[float, Meta(ge=0, le=1000)] = 8.0
    """How often sampling reads or writes a row of float32 logits, per sequence: to float32, temperature, softmax,
    noise, division and argmax make about eight."""
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.03
    """Sigma of the log-normal noise on a step's time."""
    api_in_ms: Annotated[float, Meta(ge=0, le=1e6)] = 4.0
    """From the request's arrival at the server to the engine's queue."""
    api_in_us_per_token: Annotated[float, Meta(ge=0, le=1e6)] = 2.0
    api_out_ms: Annotated[float, Meta(ge=0, le=1e6)] = 3.0
    """From the end of a step to its tokens on the wire."""


class StepLoad(Struct, frozen=True):
    """What one step computes."""

    tokens: int = 0
    """New tokens of all sequences."""
    sequences: int = 0
    decodes: int = 0
    """Sequences that compute one token each."""
    decode_context: int = 0
    """Sum of the decoding sequences' contexts, in tokens."""
    chunks: tuple[tuple[int, int], ...] = ()
    """(tokens already computed, new tokens) of each prompt chunk."""


_CHUNK_KV_SHARE = 0.12
"""Share of the KV bandwidth that a prompt chunk reaches when it reads the context before it."""


class StepModel:
    """Seconds of a step, from coefficients worked out once.

        gemm = ((W/(tp·BW·mbu))^p + (2·P·T/(tp·PEAK·mfu))^p)^(1/p)
        head = W_head/(tp·BW·mbu) + B·t_sequence
        decode = S·kv/(tp·BW·mbu_kv)·(mixed_penalty with a chunk, else 1)
        chunk = max(4·L·H·hd·c·(k + c/2)/(tp·PEAK·mfu_attention), (k + c)·kv/(tp·BW·0.12))
        comm = 2·L·(latency + 2·(tp-1)/tp·T·D·2 B/bus)   for tp > 1
        step = t0 + t_token·T + gemm + head + decode + Σ chunk + comm

    with T new tokens, B sequences, S the sum of decode contexts, k tokens computed before a chunk of c, and
    t_token = L·2·(12·D + 3·I/tp)/(BW·mbu) for what the activations move.

    Args:
        hardware, model: of one GPU, and the whole model.
        tensor_parallel: GPUs that share every layer.
        step_s, per_sequence_s: the host's cost.
        overhead: the rest.
        compute: what is left of the peak FLOP/s, 0 to 1 (a throttled card).
    """

    def __init__(
        self,
        hardware: Hardware,
        model: Model,
        tensor_parallel: int,
        step_s: float,
        per_sequence_s: float,
        overhead: Overhead,
        compute: float = 1.0,
    ) -> None:
        self._arguments = (hardware, model, tensor_parallel, step_s, per_sequence_s, overhead)
        tp = tensor_parallel
        bandwidth = hardware.bandwidth_gb_s * 1e9 * tp
        peak = hardware.peak_tflops * 1e12 * tp * compute
        self.p = hardware.roofline_p
        self.weights_s = model.linear_parameters * model.weight_bytes / (bandwidth * hardware.mbu)
        self._weights_p = self.weights_s**self.p
        self.gemm_s_per_token = 2.0 * model.linear_parameters / (peak * hardware.mfu)
        head_s = model.hidden * model.vocab * model.head_bytes / (bandwidth * hardware.mbu)
        self.constant_s = step_s + head_s
        self.token_s = model.activation_bytes_per_token(tp) / (hardware.bandwidth_gb_s * 1e9 * hardware.mbu)
        sampler_s = overhead.sampler_passes * model.vocab * 4.0 / (hardware.bandwidth_gb_s * 1e9 * hardware.mbu)
        self.sequence_s = per_sequence_s + sampler_s
        self.kv_s_per_token = model.kv_bytes_per_token / (bandwidth * hardware.mbu_kv)
        self.mixed_penalty = hardware.mixed_penalty
        self.attention_s = 4.0 * model.layers * model.heads * model.head_dim / (peak * hardware.mfu_attention)
        self.chunk_kv_s = model.kv_bytes_per_token / (bandwidth * _CHUNK_KV_SHARE)
        self.comm_s = 0.0
        self.comm_s_per_token = 0.0
        if tp > 1:
            self.comm_s = 2.0 * model.layers * hardware.link_latency_us * 1e-6
            hop_bytes = 2.0 * (tp - 1) / tp * model.hidden * 2.0
            self.comm_s_per_token = 2.0 * model.layers * hop_bytes / (hardware.link_gb_s * 1e9)
        self.jitter = overhead.jitter

    def throttled(self, compute: float) -> StepModel:
        """The same engine on a card that reaches only this share of its FLOP/s."""
        return StepModel(*self._arguments, compute=compute)

    def seconds(self, load: StepLoad) -> float:
        """Time of a step without noise."""
        tokens = load.tokens
        p = self.p
        gemm: float = (self._weights_p + (self.gemm_s_per_token * tokens) ** p) ** (1.0 / p)
        total = self.constant_s + gemm + self.comm_s + tokens * (self.token_s + self.comm_s_per_token)
        total += load.sequences * self.sequence_s
        if load.decodes:
            penalty = self.mixed_penalty if load.chunks else 1.0
            total += load.decode_context * self.kv_s_per_token * penalty
        for before, new in load.chunks:
            compute = self.attention_s * new * (before + new / 2.0)
            total += max(compute, (before + new) * self.chunk_kv_s)
        return total


def kv_blocks(
    hardware: Hardware,
    model: Model,
    tensor_parallel: int,
    *,
    memory_utilization: float,
    max_num_batched_tokens: int,
    block_size: int,
) -> int:
    """KV blocks that fit beside the weights and the activations: the engine's own start-up sum.

    floor((memory·util - weights/tp - (0.9 GB + 0.15 MB·token budget)) / (block_size·kv/tp)); may be zero or less.
    """
    activations = 0.9e9 + 0.15e6 * max_num_batched_tokens
    left = hardware.memory_gb * 1e9 * memory_utilization - model.weight_gb * 1e9 / tensor_parallel - activations
    return math.floor(left / (block_size * model.kv_bytes_per_token / tensor_parallel))
