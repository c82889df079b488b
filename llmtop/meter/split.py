"""Where the time to the first token went, by what client and server measured: pure.

The server's means come from deltas of its histograms, so they cover the requests that reached that point within the
interval; client and server figures are compared as means over the same span, never request by request.
"""

from __future__ import annotations

from msgspec import Struct


class TtftSplit(Struct, frozen=True):
    """Mean TTFT in parts, in seconds. Parts that the server does not tell are None; nothing is made up for them."""

    client_s: float
    network_s: float | None
    """Client minus server: network, TLS, gateway, HTTP front end and tokenizing before the server's clock starts.
    Below zero only by noise, and then 0."""
    queue_s: float | None
    prefill_s: float | None
    other_s: float | None
    """Of the server's own TTFT, what is neither queue nor prefill: input processing and the way to the engine."""


def split_ttft(client_s: float, server_s: float | None, queue_s: float | None, prefill_s: float | None) -> TtftSplit:
    """Split the client's mean TTFT by the server's means over the same span."""
    network_s = None if server_s is None else max(client_s - server_s, 0.0)
    other_s = None
    if server_s is not None and queue_s is not None and prefill_s is not None:
        other_s = max(server_s - queue_s - prefill_s, 0.0)
    return TtftSplit(client_s, network_s, queue_s, prefill_s, other_s)
