"""What the coach says to newcomers: one line on what just happened, with the key that goes on from there.

Keys are parameters: they stand on whatever key they are bound to.
"""

from __future__ import annotations

from llmtop.domain.commands import Pilot
from llmtop.domain.verdicts import Bound
from llmtop.wording.figures import TIGHT
from llmtop.wording.wheel import NAMES


def begin(double: str, more: str) -> str:
    return f"add load until it breaks: {double} doubles the users, {more} adds a few"


def raised(double: str) -> str:
    return f"the load was raised: give it ten seconds, then {double} doubles it again"


def well(load: float, double: str) -> str:
    return f"all is well at {TIGHT.exact(load)}: {double} doubles the load"


def stopped(start: str) -> str:
    return f"the load is at 0: {start} starts it again"


def slower(ratio: float | None) -> str:
    """What is felt: `TTFT is x4`; not known by how much, `latency bends`."""
    if ratio is None:
        return "latency bends"
    return "TTFT has doubled" if ratio < 3 else f"TTFT is x{TIGHT.whole(ratio)}"


def slots(felt: str, running: float | None, turn: str) -> str:
    stands = "" if running is None else f" with {TIGHT.whole(running)} running"
    return f"{felt}{stands}: the slot limit; {turn}"


def kv(felt: str, preempts: bool, turn: str) -> str:
    what = "requests fall out of the KV cache" if preempts else "the KV cache is full"
    return f"{felt}: {what}; {turn}"


def token_budget(felt: str, turn: str) -> str:
    return f"{felt}: prompts wait for tokens of a step; {turn}"


_OTHERS = {
    Bound.COMPUTE: "each step computes for all",
    Bound.MEMORY: "each step waits for memory bandwidth",
    Bound.NETWORK: "the limit lies between here and there",
}


def no_knob(bound: Bound, felt: str, half: str) -> str:
    """Of what no slider turns."""
    return f"{felt}: {_OTHERS[bound]}; {half} halves the load"


def press_and_give(knobs: str, value: float | None) -> str:
    """`press k, give it 64`; without a number that the house has computed, more."""
    return f"press {knobs}, give it {'more' if value is None else TIGHT.whole(value)}"


def halve(half: str) -> str:
    """Where no other value of the knob gives more."""
    return f"{half} halves the load"


COMING = "more replicas are coming"
"""In the place of a key, as long as the verdict waits for them."""


def other(knobs: str) -> str:
    """Where another knob is advised than the one that binds."""
    return f"{knobs} turns the named knob"


def asks(knobs: str, value: float | None) -> str:
    """Of a server whose settings do not turn while it runs."""
    return f"{knobs} asks what {'more' if value is None else TIGHT.whole(value)} gives"


def turned(text: str) -> str:
    """What a turned knob gave, as the comparison itself says it."""
    return text


def drive_again(changed: str) -> str:
    return f"{changed}: drive the same loads again"


def missed(hold: str, half: str) -> str:
    return f"the SLO is missed: {hold} holds what it allows, {half} halves the load"


def cliff(why: str, report: str, profile: str) -> str:
    return f"the cliff is found: {why} tells why, {report} writes a report, {profile} saves a profile"


def client(half: str) -> str:
    return f"the limit is this machine, not the server: {half} halves it; --workers helps"


def failing(log: str, half: str, stop: str) -> str:
    return f"requests fail: {log} shows why; {half} halves the load, {stop} stops it"


def braked(log: str, double: str) -> str:
    return f"llmtop cut the load, as requests failed: {log} shows why; {double} tries again"


def gone(stop: str, leave: str) -> str:
    return f"the server does not answer: llmtop keeps asking; {stop} stops the load, {leave} leaves"


def away(leave: str) -> str:
    return f"the server is away: llmtop waits for a token, the load at 0; {leave} leaves"


def offer(take: str, decline: str) -> str:
    return f"the server is back: {take} drives the load of before, {decline} leaves it at 0"


def steered(by: Pilot, stop: str, slider: str) -> str:
    return f"{NAMES[by]} drives until it knows: {stop} ends it; {slider} and a key take the wheel"


def held(stop: str) -> str:
    return f"hold drives as many as the limits allow: turn a knob and watch; {stop} ends it"


def planned(slider: str) -> str:
    return f"the profile's plan drives: any slider takes the wheel ({slider})"


def replayed(play: str, back: str, on: str, before: str, after: str) -> str:
    return f"{play} plays and pauses; {back} {on} go 10 s, {before} {after} to marks and events"


def off(help_key: str, toggle: str) -> str:
    """When it is dismissed."""
    return f"the coach is off; {toggle} brings it back, as {help_key} says, too"


ON = "the coach is on"
