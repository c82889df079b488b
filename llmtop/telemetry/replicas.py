"""Which replicas of a service there are: what each scrape saw of them."""

from __future__ import annotations

from msgspec import Struct


class ReplicaSeen(Struct, frozen=True, kw_only=True):
    """One replica at one scrape."""

    name: str
    """The pod's where it is known, else host:port."""
    ready: bool | None = None
    """What the place says that lists it (`k8s://`); None: no place says it."""
    answers: bool = False
    """Its own figures were read in this scrape."""
    served: bool = False
    """Its counter of generated tokens, or of requests, has moved since it was first seen, or was above 0 in a process
    that started after the run did. Stays true until its process is another one."""
    since_s: float | None = None
    """Seconds of the run at which it was first read; None: never yet."""
    start_s: float | None = None
    """Unix time at which its process started; None: it does not tell."""
    gone: bool = False
    """It left: its place does not list it any more, or it has missed so many scrapes. It may come back."""
