"""What a server's list of models says, in the shapes that servers and gateways give it. Pure.

{"data": [{"id": ...}]}            OpenAI and most others; `data` may be null where no model is loaded
[{"id": ...}]                      some gateways
{"models": [{"name": ...}, ...]}   Ollama's own, and routers
"""

from __future__ import annotations

import fnmatch
import itertools
import re
from typing import Any

from llmtop.dialects import JsonFact, number_at, text_of

LIST_PATH = "/v1/models"

_PATTERN = re.compile(r"[\w.:/-]*\*[\w.:/*-]*")
_NAMES = ("id", "model", "name", "model_name")
_OTHER_NAMES = ("root", "canonical_slug", "canonical_name")
"""Other names that an entry gives its model, beside the list `aliases`: vLLM's own path, OpenRouter's with a date."""
_CONTEXTS = (
    "max_model_len",  # vLLM, SGLang
    "meta.n_ctx",  # llama.cpp: what it runs with, where n_ctx_train is what the model could
    "context_length",  # OpenRouter, Together
    "context_window",  # Groq
    "max_context_length",  # LM Studio, Mistral
    "loaded_context_length",  # LM Studio, of a model that is loaded
    "top_provider.context_length",  # OpenRouter
    "model_info.max_input_tokens",  # LiteLLM
    "max_input_tokens",
    "inputTokenLimit",  # Gemini
)
"""Where an entry tells the longest prompt and answer together: keys, the surest first."""


def entries_in(answer: Any) -> list[dict[str, Any]] | None:
    """The entries of a decoded list of models; None: it is none."""
    listed = answer
    if isinstance(answer, dict):
        listed = next((answer[key] for key in ("data", "models") if isinstance(answer.get(key), list)), None)
        if listed is None and "data" in answer and answer["data"] is None:
            listed = []
    if not isinstance(listed, list):
        return None
    return [{"id": entry} if isinstance(entry, str) else entry for entry in listed if isinstance(entry, dict | str)]


def name_of(entry: dict[str, Any]) -> str | None:
    """What an entry's model is asked for by."""
    return next((name for key in _NAMES if (name := text_of(entry.get(key))) is not None), None)


def is_pattern(name: str) -> bool:
    """Whether a name stands for many models, as gateways list them: `*`, `prov/*`."""
    return _PATTERN.fullmatch(name) is not None


def names_in(entries: list[dict[str, Any]]) -> tuple[str, ...]:
    """What the models of a list are asked for by."""
    return tuple(name for entry in entries if (name := name_of(entry)) is not None)


def entry_of(model: str, entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The entry of a model: the one of its name, else one that has it as another name, else a pattern: `prov/*`."""
    named = [(name_of(entry) or "", entry) for entry in entries]
    found = itertools.chain(
        (entry for name, entry in named if name == model),
        (entry for _, entry in named if model in _other_names(entry)),
        (entry for name, entry in named if is_pattern(name) and fnmatch.fnmatchcase(model, name)),
    )
    return next(found, None)


def _other_names(entry: dict[str, Any]) -> list[str]:
    told = [entry.get(key) for key in _OTHER_NAMES]
    more = entry.get("aliases")
    return [name for name in (*told, *(more if isinstance(more, list) else ())) if isinstance(name, str)]


def context_of(model: str, entries: list[dict[str, Any]]) -> int | None:
    """The context length that the list tells of a model, in tokens; of an adapter (LoRA), that of its base."""
    for entry in _with_base(model, entries):
        told = (number_at(entry, key) for key in _CONTEXTS)
        found = next((int(number) for number in told if number is not None and number >= 1), None)
        if found is not None:
            return found
    return None


def fact_at(answer: Any, fact: JsonFact, model: str | None) -> float | None:
    """The number that a fact names in a decoded answer. In a list of models it is that of `model`, not of the first."""
    if fact.path != LIST_PATH or model is None:
        return number_at(answer, fact.key)
    return model_fact(answer, fact.key, model)


def model_fact(answer: Any, key: str, model: str) -> float | None:
    """The number at `key`, which is that of the first entry, of the entry of `model` in a decoded list of models."""
    key = key.removeprefix("data.0.")
    told = (number_at(entry, key) for entry in _with_base(model, entries_in(answer) or []))
    return next((number for number in told if number is not None), None)


def _with_base(model: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entry of a model, and that of the one it is an adapter of."""
    entry = entry_of(model, entries)
    parent = None if entry is None else text_of(entry.get("parent"))
    base = None if parent is None else entry_of(parent, entries)
    return [found for found in (entry, base) if found is not None]
