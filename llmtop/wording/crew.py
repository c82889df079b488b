"""What is said of load workers that fall silent, come back or are lost. `name` is host and process: `h2:4711`."""

from __future__ import annotations


def who(number: int, name: str) -> str:
    return f"Load worker {number} ({name})"


def silent(number: int, name: str, for_s: float) -> str:
    return (
        f"{who(number, name)} is silent for {for_s:.1f} s: its requests stand as they were last told, "
        "and the others' figures go on without it"
    )


def heard_again(number: int, name: str, after_s: float) -> str:
    return f"{who(number, name)} is heard again after {after_s:.1f} s: what it tells of that time is counted now"


def lost(number: int, name: str, fate: str, requests: int) -> str:
    """`fate`: how it came to its end."""
    return f"{who(number, name)} {fate}; {requests} requests are lost"


def unheard(for_s: float) -> str:
    """The fate of one that was given up."""
    return f"was lost: nothing was heard of it for {for_s:.1f} s"


def share_goes(living: int) -> str:
    return f"its share goes to the other {living}"


NOBODY_LEFT = "It was the last one: there is no load any more"
