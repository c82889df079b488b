"""Prompts of an exact number of tokens, and where their lengths come from: drawn, or read from the user's own file."""
