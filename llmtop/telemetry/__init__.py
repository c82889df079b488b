"""What a server and its GPUs tell about themselves, read beside the load on a connection of its own."""

import llmtop.endpoint as _  # noqa: F401 - how httpx is imported is said there
