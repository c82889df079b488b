"""llmtop: drive load against a live LLM endpoint and feel where it breaks."""
