"""The words of llmtop as frozen types. Imports nothing of the house but `llmtop.errors`."""
