"""How the replicas of a service share its load."""

from __future__ import annotations

from msgspec import Struct

Row = tuple[str, float | None, float | None, float | None]
"""(name, running, waiting, KV usage) of one replica at one scrape, or its means; None: not known, or it has gone."""


class Imbalance(Struct, frozen=True):
    """How much fuller the fullest replica is than they are in the mean, by running + waiting requests."""

    name: str
    """Of the fullest."""
    ratio: float
    """Its load over the mean of those that are there; 1: all have as much."""
    mean: float
    """Of their loads."""


class ReplicaFigures(Struct, frozen=True, kw_only=True):
    """Means of one replica, over the scrapes under load in which it was there."""

    name: str
    scrapes: int
    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
