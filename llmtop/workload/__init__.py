"""Prompts of an exact number of tokens, and where their lengths come from: drawn, or read from the user's own file."""

from __future__ import annotations

from llmtop.workload.prompts import Prompt, PromptSource

__all__ = ["Prompt", "PromptSource"]
