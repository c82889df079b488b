"""The version of what llmtop says to machines."""

from __future__ import annotations

FORMAT = 1
"""Of every JSON object that llmtop prints or writes, as its key `format`; KEYS.md lists the keys.

Within a format keys are added, never renamed or removed.
"""
