"""A run in its own process: the session that drives, measures and records it, and what it is told and tells."""
