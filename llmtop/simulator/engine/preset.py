"""Presets: a card, a model and an engine's flags as a TOML file, with where its numbers come from."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from llmtop.domain.bounds import TOKENS
from llmtop.domain.plain import plain
from llmtop.domain.plainly import plainly
from llmtop.errors import ProfileError, UsageError
from llmtop.inputs import path_of, tables_of, text_of
from llmtop.simulator.engine.autoscaling import Autoscaling
from llmtop.simulator.engine.config import ENGINE_VERSIONS, MOST_BLOCKS, EngineConfig
from llmtop.simulator.engine.steptime import Hardware, Model, Overhead, StepModel, kv_blocks
from llmtop.wording.complaints import complaint_text

MOST_BYTES = 1_000_000
"""Of a preset file."""
MOST_COUNT = 1_000_000_000
"""Of what is only compared with: as good as no limit."""
KnobValue = float | int | bool | str


class EngineFlags(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[engine]` section: flags by vLLM's names. What is left out follows the engine version or is derived."""

    engine_version: str = "0.33"
    tensor_parallel: Annotated[int, Meta(ge=1, le=1024)] = 1
    gpu_memory_utilization: Annotated[float, Meta(ge=0.01, le=1)] = 0.92
    num_gpu_blocks: Annotated[int, Meta(ge=2, le=MOST_BLOCKS)] | None = None
    """None: as many as fit beside the weights."""
    max_num_seqs: Annotated[int, Meta(ge=1, le=MOST_COUNT)] = 256
    max_num_batched_tokens: Annotated[int, Meta(ge=1, le=TOKENS.most)] = 2048
    max_model_len: Annotated[int, Meta(ge=1, le=MOST_COUNT)] = 8192
    block_size: Annotated[int, Meta(ge=1, le=65_536)] = 16
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: Annotated[int, Meta(ge=0, le=MOST_COUNT)] = 0
    watermark: Annotated[float, Meta(ge=0, le=1)] = 0.0
    policy: Literal["fcfs", "priority"] = "fcfs"
    max_num_queued_reqs: Annotated[int, Meta(ge=0, le=MOST_COUNT)] | None = None
    max_num_queued_tokens: Annotated[int, Meta(ge=0, le=MOST_COUNT)] | None = None
    async_scheduling: bool | UnsetType = UNSET
    reserve_full_isl: bool | UnsetType = UNSET
    unhashed_first: bool | UnsetType = UNSET
    skip_oversized: bool | UnsetType = UNSET
    no_evict: bool | UnsetType = UNSET


class Preset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One simulated deployment."""

    name: str
    description: str
    confidence: str
    """How far to trust it, in a sentence: fitted on what, checked on what, or neither."""
    sources: tuple[str, ...]
    """Where the numbers come from."""
    hardware: Hardware
    model: Model
    engine: EngineFlags = EngineFlags()
    overhead: Overhead = Overhead()
    autoscaling: Autoscaling = Autoscaling()

    def __post_init__(self) -> None:
        engine = self.engine
        if engine.engine_version not in ENGINE_VERSIONS:
            raise ValueError(
                f"engine_version {engine.engine_version!r} is not known; use one of {', '.join(ENGINE_VERSIONS)}"
            )
        if engine.tensor_parallel < 1 or self.model.heads % engine.tensor_parallel:
            raise ValueError(
                f"tensor_parallel must divide the model's {self.model.heads} heads, is {engine.tensor_parallel}"
            )
        blocks = self.config.num_gpu_blocks - 1
        if blocks * engine.block_size < engine.max_model_len:
            raise ValueError(
                f"the KV cache holds {blocks * engine.block_size} tokens, less than max_model_len "
                f"{engine.max_model_len}: lower max_model_len, or raise num_gpu_blocks or gpu_memory_utilization"
            )

    @property
    def config(self) -> EngineConfig:
        """The flags with everything settled: the version's defaults, and the KV blocks that fit."""
        version = ENGINE_VERSIONS[self.engine.engine_version]
        flags = {
            name: getattr(self.engine, name)
            for name in EngineConfig.__struct_fields__
            if getattr(self.engine, name) is not UNSET
        }
        for name in ("async_scheduling", "reserve_full_isl", "unhashed_first", "skip_oversized", "no_evict"):
            flags.setdefault(name, getattr(version, name))
        if flags["num_gpu_blocks"] is None:
            blocks = kv_blocks(
                self.hardware,
                self.model,
                self.engine.tensor_parallel,
                memory_utilization=self.engine.gpu_memory_utilization,
                max_num_batched_tokens=self.engine.max_num_batched_tokens,
                block_size=self.engine.block_size,
            )
            if blocks < 2:
                raise ValueError(
                    f"the weights leave no room for a KV cache on {self.engine.tensor_parallel} x {self.hardware.gpu}: "
                    "raise gpu_memory_utilization, memory_gb or tensor_parallel, or set num_gpu_blocks"
                )
            if blocks > MOST_BLOCKS:
                raise ValueError(f"num_gpu_blocks would be {blocks:,}: set it to {MOST_BLOCKS:,} or less")
            flags["num_gpu_blocks"] = blocks
        return EngineConfig(**flags)

    @property
    def step_model(self) -> StepModel:
        version = ENGINE_VERSIONS[self.engine.engine_version]
        overhead = self.overhead
        step_ms = version.step_ms if overhead.step_ms is None else overhead.step_ms
        per_sequence_us = version.per_sequence_us if overhead.per_sequence_us is None else overhead.per_sequence_us
        return StepModel(
            self.hardware,
            self.model,
            self.engine.tensor_parallel,
            step_s=step_ms * 1e-3,
            per_sequence_s=per_sequence_us * 1e-6,
            overhead=overhead,
        )

    def with_knobs(self, knobs: dict[str, KnobValue]) -> Preset:
        """The same deployment with some keys of its sections set to other values.

        Any key of `[engine]`, `[hardware]`, `[model]`, `[overhead]` or `[autoscaling]` is a knob, but names. Text from
        a command line is read as the key's type. Raises UsageError for a knob that is not known or a value that it
        cannot take.
        """
        content = msgspec.to_builtins(self)
        for name, value in knobs.items():
            section = _KNOB_SECTIONS.get(name)
            if section is None:
                raise UsageError(f"knob {plain(name, 60)!r} is not known; use one of {', '.join(_KNOB_SECTIONS)}")
            content[section][name] = _plain(value)
        try:
            return msgspec.convert(content, Preset, strict=False)
        except msgspec.ValidationError as error:
            key, problem = _where(error, got=False)
            name = key.rpartition(".")[2]
            given = f"{name}={plain(str(knobs[name]), 40)}" if name in knobs else ", ".join(knobs)
            raise UsageError(f"knob {given}: {problem}") from None


_KNOB_SECTIONS = {
    name: section
    for section, shape in (
        ("engine", EngineFlags),
        ("overhead", Overhead),
        ("hardware", Hardware),
        ("model", Model),
        ("autoscaling", Autoscaling),
    )
    for name in shape.__struct_fields__
    if name not in ("gpu", "name")
}


def preset_names() -> tuple[str, ...]:
    """The shipped presets; what is driven where none is named comes first."""
    names = sorted(path.stem for path in preset_folder().glob("*.toml"))
    return ("laptop", *(name for name in names if name != "laptop"))


def load_preset(name_or_path: str | Path) -> Preset:
    """Read a shipped preset by name, or a TOML file by path (anything with a slash or ending in .toml).

    Raises ProfileError with file and key.
    """
    text = str(name_or_path)
    if text in preset_names():
        return _read(preset_folder() / f"{text}.toml")
    path = path_of(text, ProfileError)
    if path.suffix != ".toml" and len(path.parts) == 1:
        raise ProfileError(text, f"no such preset; use one of {', '.join(preset_names())}, or the path of a TOML file")
    return _read(path)


@cache
def preset_folder() -> Path:
    return Path(__file__).parent.parent / "presets"


def _read(path: Path) -> Preset:
    content = tables_of(text_of(path, MOST_BYTES, ProfileError), path, ProfileError)
    try:
        return plainly(msgspec.convert(content, Preset))
    except msgspec.ValidationError as error:
        key, problem = _where(error)
        raise ProfileError(path, problem, key or None) from None


def _where(error: msgspec.ValidationError, *, got: bool = True) -> tuple[str, str]:
    """Key and problem of msgspec's `problem - at `$.section.key``; an unknown or missing key is part of the key.

    Args:
        got: say, too, of what type the value is.
    """
    problem, _, where = str(error).partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    for words in ("Object contains unknown field `", "Object missing required field `"):
        if problem.startswith(words):
            name = problem[len(words) : -1]
            problem = "is not known" if "unknown" in words else "is missing"
            key = f"{key}.{name}" if key else name
    return key, complaint_text(problem, got=got) or problem


def _plain(value: KnobValue) -> KnobValue | None:
    """`none` from a command line means: not set."""
    return None if value == "none" else value
