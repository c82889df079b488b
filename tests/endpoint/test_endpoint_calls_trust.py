"""A user's first request elsewhere does not hold up whoever is measured meanwhile."""

from __future__ import annotations

import ssl
import threading

import pytest

from llmtop.domain.endpoint import Endpoint
from llmtop.endpoint import calls
from llmtop.endpoint.access import Access
from llmtop.endpoint.calls import Calls


async def test_the_authorities_that_are_trusted_are_read_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    read_by: list[int] = []

    def context_for(endpoint: Endpoint) -> ssl.SSLContext:
        read_by.append(threading.get_ident())
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr(calls, "context_for", context_for)
    own = Calls(Access(Endpoint(base_url="http://127.0.0.1:9")))
    for _ in range(2):
        reply = await own.ask("GET", "http://127.0.0.1:1/elsewhere", timeout_s=5.0)
        assert reply.status is None
    await own.close()
    assert len(read_by) == 1
    assert read_by[0] != threading.get_ident()
