"""Presets are data: every shipped one loads and says where it comes from; a user's own is refused by file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtop.errors import ProfileError, UsageError
from llmtop.simulator.engine import StepLoad, load_preset, predict, preset_names

WANTED = {
    "laptop",
    "h100-llama-3.1-8b",
    "a100-llama-3.1-8b",
    "a100-phi-4-mini",
    "a10-phi-4-mini",
    "l4-llama-3.1-8b",
    "l4-qwen2.5-0.5b",
    "a10g-llama-3.1-8b",
    "rtx4090-llama-3.1-8b",
    "rtx4090-qwen2.5-7b",
    "rtxpro6000-llama-3.1-8b",
    "4xh100-llama-3.1-70b",
    "2xh100-llama-3.3-70b-fp8",
}

MINIMAL = """
name = "mine"
description = "my card"
confidence = "none"
sources = []

[hardware]
gpu = "card"
bandwidth_gb_s = 500.0
peak_tflops = 100.0
memory_gb = 24.0

[model]
name = "model"
layers = 32
hidden = 4096
heads = 32
kv_heads = 8
head_dim = 128
intermediate = 14336
vocab = 128256
weight_gb = 16.06
"""


def test_the_demo_comes_first_and_all_wanted_are_there() -> None:
    assert preset_names()[0] == "laptop"
    assert set(preset_names()) >= WANTED


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_shipped_preset_is_whole(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert preset.description
    assert preset.confidence
    assert preset.sources
    assert preset.config.capacity_tokens >= preset.config.max_model_len
    assert 0.004 < preset.step_model.seconds(StepLoad(tokens=1, sequences=1, decodes=1, decode_context=512)) < 0.1


# Derived blocks: what an engine's own log says, or what its capacity in tokens comes to.
@pytest.mark.parametrize(
    ("name", "knobs", "blocks"),
    [
        ("rtx4090-llama-3.1-8b", {"num_gpu_blocks": "none"}, 2588),
        ("h100-llama-3.1-8b", {}, 28019),
        ("l4-llama-3.1-8b", {}, 2163),
        ("4xh100-llama-3.1-70b", {}, 30170),
        ("2xh100-llama-3.3-70b-fp8", {}, 470_000 / 16),
    ],
)
def test_kv_blocks_that_fit_beside_the_weights(name: str, knobs: dict[str, str], blocks: float) -> None:
    assert load_preset(name).with_knobs(dict(knobs)).config.num_gpu_blocks == pytest.approx(blocks, rel=0.01)


def test_a_user_s_own_preset_needs_only_hardware_and_model(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL)
    preset = load_preset(path)
    assert preset.name == "mine"
    assert predict(str(path), concurrency=[2], requests_per_level=10).points[0].n == 10


@pytest.mark.parametrize(
    ("old", "new", "key", "problem"),
    [
        ('gpu = "card"', 'gpu = "card"\nspeed = 3', "hardware.speed", "not known"),
        ("bandwidth_gb_s = 500.0\n", "", "hardware.bandwidth_gb_s", "missing"),
        ("layers = 32", 'layers = "many"', "model.layers", "must be a whole number, not text in quotes"),
        ('name = "mine"', "name = 3", "name", "must be text in quotes, not a whole number"),
        ("[hardware]", "[engine]\nmax_num_seqs = 0\n[hardware]", "engine.max_num_seqs", "of 1 or more"),
        ("[hardware]", '[engine]\npolicy = "lifo"\n[hardware]', "engine.policy", "Invalid enum value"),
        ("[hardware]", '[engine]\nengine_version = "9"\n[hardware]', None, "not known; use one of 0.8"),
        ("[hardware]", "[engine]\ntensor_parallel = 3\n[hardware]", None, "must divide"),
        ("memory_gb = 24.0", "memory_gb = 18.0", None, "KV cache"),
        ("[model]", "[model", None, "is not TOML"),
    ],
)
def test_a_broken_preset_is_refused_by_file_and_key(
    tmp_path: Path, old: str, new: str, key: str | None, problem: str
) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(MINIMAL.replace(old, new, 1))
    with pytest.raises(ProfileError) as refused:
        load_preset(path)
    assert refused.value.path == str(path)
    assert refused.value.key == key
    assert problem in str(refused.value)


def test_a_name_that_is_no_preset_lists_those_that_are() -> None:
    with pytest.raises(ProfileError, match="no such preset; use one of laptop, 2xh100"):
        load_preset("h200")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_preset("nowhere/at/all.toml")


def test_knobs_reach_every_section_and_read_text_as_their_type() -> None:
    preset = load_preset("h100-llama-3.1-8b").with_knobs(
        {"max_num_seqs": "128", "mfu": "0.5", "kv_bytes": 1, "step_ms": 0, "enable_prefix_caching": "false"}
    )
    assert preset.config.max_num_seqs == 128
    assert preset.hardware.mfu == 0.5
    assert preset.model.kv_bytes == 1.0
    assert preset.overhead.step_ms == 0.0
    assert not preset.config.enable_prefix_caching


def test_knobs_that_change_what_fits_change_the_blocks() -> None:
    preset = load_preset("h100-llama-3.1-8b")
    blocks = preset.config.num_gpu_blocks
    assert preset.with_knobs({"gpu_memory_utilization": 0.5}).config.num_gpu_blocks < blocks
    assert preset.with_knobs({"max_num_batched_tokens": 2048}).config.num_gpu_blocks > blocks
    assert preset.with_knobs({"kv_bytes": 1}).config.num_gpu_blocks == pytest.approx(2 * blocks, abs=2)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"max_seqs": 3}, "knob 'max_seqs' is not known; use one of"),
        ({"max_num_seqs": "many"}, "max_num_seqs"),
        ({"max_num_seqs": 0}, "of 1 or more"),
        ({"num_gpu_blocks": 20}, "lower max_model_len"),
    ],
)
def test_a_knob_that_cannot_be_meant(knobs: dict[str, int | str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_preset("laptop").with_knobs(dict(knobs))
