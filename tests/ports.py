"""Ports of this machine for servers of tests."""

from __future__ import annotations

import contextlib
import random
import socket


def unused_port() -> int:
    """A loopback port on which nothing listens, and that the kernel gives to nobody who asks for any."""
    for port in random.SystemRandom().sample(range(10_000, 20_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")
