"""Who steers: what has the wheel where no hand does, and which of several screens has it."""

from __future__ import annotations

from llmtop.domain.commands import Pilot
from llmtop.domain.shown import Wheel
from llmtop.wording.running import BY_ITS_PLAN, ITS_PLAN, ONLY_LOOKS_ON, screens_text

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
    if by == "demo":
        return "the wheel is yours; a goes on with the demo"
    return f"{NAMES[by]} ends: the wheel is yours"


def server_gone(by: Pilot) -> str:
    return f"{NAMES[by]} ends: the server went away"


def asks_to_start(by: Pilot) -> str:
    """Of a load that was stopped."""
    return f"the load was stopped: Enter lets {NAMES[by]} start it; other keys do not"


TAKEN = "the wheel is yours: press the key again"
STOPS_AND_TAKES = "load to zero, and it stays there; this screen takes the wheel"
LEAVING = "leaving: the run goes on …"
REPLAY_STAYS = "a replay ends with its screen: q leaves it"
ENDING = "the run is ending"
ENDED_ELSEWHERE = "its plan is over, or it was ended from elsewhere"


def lacking(wheel: Wheel) -> str:
    """Why a screen drives nothing, and what to do; empty: it drives."""
    if wheel.mine:
        return ""
    if wheel.view:
        return BY_ITS_PLAN if wheel.holder == ITS_PLAN else ONLY_LOOKS_ON
    return f"{holder_text(wheel)} has the wheel: Enter takes it"


def holder_text(wheel: Wheel) -> str:
    return wheel.holder or "nobody"


def company(wheel: Wheel) -> tuple[str, str]:
    """Of the header: who drives, if it is not this screen; how many look at the run, if it is not alone."""
    who = "" if wheel.mine or wheel.holder == ITS_PLAN else f"wheel: {holder_text(wheel)}"
    return who, screens_text(wheel.screens) if wheel.screens > 1 else ""
