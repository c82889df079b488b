"""Talking to an endpoint: what it is, what it sends, and when every token came."""
