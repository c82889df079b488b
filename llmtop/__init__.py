"""llmtop: drive load against a live LLM endpoint and feel where it breaks."""

__version__ = "0.1.0"
