"""Prompts of an exact number of tokens, their lengths drawn or read from the user's own file, and what users say."""
