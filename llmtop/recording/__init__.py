"""Run files: the facts of a run in one SQLite database."""
