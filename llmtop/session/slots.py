"""What a plan has to do with the slots of the server, once those are known."""

from __future__ import annotations

from llmtop.domain.endpoint import Endpoint, EndpointInfo
from llmtop.domain.profile import Profile
from llmtop.profiles import at_slots
from llmtop.session.journal import Journal
from llmtop.session.targets import Target, slots_of
from llmtop.wording.gate import gate_idle
from llmtop.wording.sentences import expected_peak


async def with_peak(
    profile: Profile, target: Target, endpoint: Endpoint, info: EndpointInfo, journal: Journal
) -> Profile:
    """The profile, with a peak that comes from the server's slots where it asks for one."""
    if not profile.peak_from_slots:
        return profile
    slots = await slots_of(target, endpoint, info)
    own, profile = profile.peak, at_slots(profile, slots)
    journal.tell("load", expected_peak(profile.peak or 0, own or 0, slots, profile.caps.max_concurrency))
    return profile


async def try_gate(profile: Profile, target: Target, endpoint: Endpoint, info: EndpointInfo, journal: Journal) -> None:
    """Say of a gate that the server itself is as narrow."""
    gates = profile.plan.gates
    slots = await slots_of(target, endpoint, info) if gates else None
    if slots is not None and slots <= max(gates, default=0):
        journal.tell("load", gate_idle(max(gates), slots), "warning")
