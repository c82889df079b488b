"""Whether something answers where a server is to be started, and which process that is."""

from __future__ import annotations

from urllib.parse import urlsplit

import psutil

from llmtop.domain.endpoint import Endpoint
from llmtop.domain.plain import plain
from llmtop.endpoint.access import Access
from llmtop.endpoint.question import JSON_BYTES, Late, NoAnswer, Refused, ask

ASK_S = 2.0
_NOBODY_BEHIND = (502, 504)
"""A gateway without a server."""
_NAME_LETTERS = 60


async def is_taken(endpoint: Endpoint) -> bool:
    """Whether a server answers there, or hangs. A tunnel or gateway with nobody behind it is none."""
    async with Access(endpoint).stock_client() as stock:
        try:
            answer = await ask(stock, endpoint.api.path("models"), limit_s=ASK_S, limit_bytes=JSON_BYTES)
        except (Late, Refused):
            return True
        except NoAnswer:
            return False
    return answer.status not in _NOBODY_BEHIND


def listener(endpoint: Endpoint) -> str | None:
    """`python3 (process 4711)`: who listens on the endpoint's port of this machine; None: that cannot be told."""
    if not endpoint.is_here or endpoint.unix_socket is not None:
        return None
    parts = urlsplit(endpoint.base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
                return f"{plain(psutil.Process(each.pid).name(), _NAME_LETTERS)} (process {each.pid})"
    except psutil.Error:
        return None
    return None
