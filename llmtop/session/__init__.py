"""The run: a session, its own process and the link to it, and recordings played back."""
