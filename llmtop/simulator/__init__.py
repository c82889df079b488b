"""The simulated engine: a copy of vLLM's scheduler on a virtual clock, its presets, and its HTTP face."""
