"""What a server's list of models says, in the shapes that servers and gateways give it. Pure.

{"data": [{"id": ...}]}            OpenAI and most others; `data` may be null where no model is loaded
[{"id": ...}]                      some gateways
{"models": [{"name": ...}, ...]}   Ollama's own, and routers
"""

from __future__ import annotations

import fnmatch
from typing import Any

from llmtop.dialects import JsonFact, number_at, text_of

LIST_PATH = "/v1/models"

_NAMES = ("id", "model", "name", "model_name")
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


def is_listed(model: str, names: tuple[str, ...]) -> bool:
    """Whether a model is among those that are listed, of which some are patterns: `prov/*`."""
    return model in names or any("*" in name and fnmatch.fnmatchcase(model, name) for name in names)


def entry_of(model: str, entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The entry of a model; the only one there is stands for any."""
    found = next((entry for entry in entries if name_of(entry) == model), None)
    return found if found is not None or len(entries) != 1 else entries[0]


def context_of(model: str, entries: list[dict[str, Any]]) -> int | None:
    """The context length that the list tells of a model, in tokens."""
    entry = entry_of(model, entries)
    told = (number_at(entry, key) for key in _CONTEXTS) if entry is not None else ()
    return next((int(number) for number in told if number is not None and number >= 1), None)


def fact_at(answer: Any, fact: JsonFact, model: str | None) -> float | None:
    """The number that a fact names in a decoded answer. In a list of models it is that of `model`, not of the first."""
    if fact.path != LIST_PATH or model is None:
        return number_at(answer, fact.key)
    entry = entry_of(model, entries_in(answer) or [])
    return None if entry is None else number_at(entry, fact.key.removeprefix("data.0."))
