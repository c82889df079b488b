"""Who steers where no hand does, as it is said when that begins and ends."""

from __future__ import annotations

from llmtop.domain.commands import Pilot

NAMES: dict[Pilot, str] = {"search": "the search", "hold": "hold", "map": "the exploration", "demo": "the demo"}
ONE: dict[Pilot, str] = {"search": "a search", "hold": "hold", "map": "an exploration", "demo": "a demo"}
"""What needs a live run."""
BEGINS: dict[Pilot, str] = {
    "search": "searching for the capacity; s stops it, any slider takes the wheel back",
    "hold": "holding the latency limits; h ends it, any load slider takes the wheel back",
    "map": "exploring the map; s on it stops that, any slider takes the wheel back",
    "demo": "the demo goes on; a stops it, any slider takes the wheel",
}
STOPS: dict[Pilot, dict[str, str]] = {
    "search": {"app.search": "stop search"},
    "hold": {"app.edge": "end hold"},
    "demo": {"app.demo": "stop demo"},
}
"""By the id of a binding, the word of the last line for it while somebody steers."""


def gives_back(by: Pilot) -> str:
    return f"{NAMES[by]} ends: the wheel is yours"


def server_gone(by: Pilot) -> str:
    return f"{NAMES[by]} ends: the server went away"


def asks_to_start(by: Pilot) -> str:
    """Of a load that was stopped."""
    return f"the load was stopped: Enter lets {NAMES[by]} start it; other keys do not"
