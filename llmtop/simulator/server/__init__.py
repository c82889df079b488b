"""The HTTP face of the simulated engine."""
