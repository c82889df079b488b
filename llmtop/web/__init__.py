"""A run in a browser, to look at: a page, a gate before it, and a process with a screen of its own for each visitor."""
