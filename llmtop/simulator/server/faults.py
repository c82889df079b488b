"""Faults by name: what can be made to go wrong while the server runs.

Each has one figure (`value`) with a default, so that "on" is enough to say. Faults of requests are decided when the
request comes; faults of the engine change it while they last and leave it as it was.
"""

from __future__ import annotations

from typing import NamedTuple

from llmtop.errors import UsageError
from llmtop.simulator.server.asked import shown


class Fault(NamedTuple):
    """One kind of fault, and what its figure means."""

    about: str
    unit: str
    default: float
    low: float
    high: float
    once: bool = False
    """It happens and is over; it is never on."""


FAULTS: dict[str, Fault] = {
    "http_500": Fault("Requests are answered with 500, as after an engine error.", "share of requests", 0.5, 0.0, 1.0),
    "http_429": Fault("Requests are answered with 429 and Retry-After: 1.", "share of requests", 0.5, 0.0, 1.0),
    "hang": Fault("Requests are taken and never answered.", "share of requests", 1.0, 0.0, 1.0),
    "cut": Fault("Streams break off in the middle, without a last chunk.", "share of streams", 0.5, 0.0, 1.0),
    "slow_client": Fault(
        "The way to the client is slow: a stream's bytes come together, once in so long.", "seconds", 0.5, 0.01, 60.0
    ),
    "metrics_stalled": Fault("/metrics takes requests and answers when the fault ends.", "on or off", 1.0, 0.0, 1.0),
    "restart": Fault(
        "The server drops every connection, is gone for so long, and comes back with its counters at zero.",
        "seconds", 2.0, 0.0, 60.0, once=True,
    ),
    "memory_leak": Fault("The reported resident memory grows.", "MiB a minute", 64.0, 0.0, 65536.0),
    "slow_leak": Fault("The constant part of every step grows.", "percent a minute", 1.0, 0.0, 10000.0),
    "kv_leak": Fault("KV blocks of aborted requests are lost.", "share of their blocks", 1.0, 0.0, 1.0),
    "noisy_neighbour": Fault("Every step takes longer: something else uses the machine.", "factor", 1.5, 1.0, 100.0),
    "power_throttle": Fault("The accelerator reaches only a part of its FLOP/s.", "share left", 0.7, 0.05, 1.0),
    "replica_added": Fault(
        "Autoscaling: after a delay a second engine takes its share of new requests.", "seconds", 5.0, 0.0, 3600.0
    ),
}  # fmt: skip


def read_fault(name: str, value: object) -> float | None:
    """The figure of a fault that is asked for; None: off. Raises UsageError.

    `true` means the default, `false` and `null` off.
    """
    fault = FAULTS.get(name)
    if fault is None:
        raise UsageError(f"fault {shown(name)} is not known; use one of {', '.join(FAULTS)}")
    if value is None or value is False:
        return None
    if value is True:
        return fault.default
    if isinstance(value, int | float) and fault.low <= value <= fault.high:
        return float(value)
    span = f"from {fault.low:g} to {fault.high:g} ({fault.unit})"
    raise UsageError(f"fault {name}: {shown(value)} must be true, false or a number {span}")
