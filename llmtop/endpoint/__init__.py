"""Talking to an endpoint: what it is, what it sends, and when every token came.

    endpoint = endpoint_from_url("localhost:8000")
    client = EndpointClient(endpoint, await probe(endpoint, Caps()), Caps(), origin_ns)
    trace = Trace(scheduled_ns, dispatched_ns)
    await client.generate(prompt, 64, "chat", trace, sink)

`loop_factory=StampingLoop` for `asyncio.Runner` gives better stamps where the kernel has none.
"""

import sys

# httpx imports its own command line where click is installed, as it is beside Dask, and with it all of rich.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
