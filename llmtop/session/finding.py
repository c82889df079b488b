"""What an endpoint is, as it is found out at the start of a run and whenever it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from llmtop.domain.endpoint import Endpoint, EndpointInfo
from llmtop.endpoint.probe import probe, reach, unchecked
from llmtop.errors import EndpointUnreachable
from llmtop.session.away import Away
from llmtop.session.bank import Bank
from llmtop.session.driving import wanted_of
from llmtop.session.options import SessionOptions

START_S = 90.0
"""How long an endpoint may take to answer a probe whose every question has a limit of its own: a model that is loaded
from disk by the first request takes a minute."""
START_BEYOND_PLAN_S = 20.0
"""A run is not to take much longer than its plan, even if all of that time is spent on waiting for its first answer."""


async def find_out(
    options: SessionOptions, endpoint: Endpoint, bank: Bank | None, away: Away | None, *, driven: bool
) -> EndpointInfo:
    """What the endpoint is, and which of its knobs turn. Raises EndpointError.

    Args:
        driven: there has been a load already.
    """
    caps, wanted = options.profile.caps, wanted_of(options.profile.workload)
    if not options.skip_checks:
        info = await probe(endpoint, caps, reached=away.reach if away else None, wanted=wanted)
        return info if bank is None else await bank.look(info)
    if driven:
        await reach(endpoint, caps)  # after an outage: that nobody looked is no sign that it is back
    return unchecked(endpoint, wanted)


async def in_time(
    options: SessionOptions, endpoint: Endpoint, finding: Coroutine[Any, Any, EndpointInfo]
) -> EndpointInfo:
    """What `finding` tells before the run has waited too long for it. Raises EndpointError."""
    plan_s = options.profile.plan.duration_s
    limit_s = min(START_S, plan_s + START_BEYOND_PLAN_S) if plan_s else START_S
    try:
        async with asyncio.timeout(limit_s):
            return await finding
    except TimeoutError:
        problem = f"did not say within {limit_s:g} s what it is: is the server hung or still loading?"
        raise EndpointUnreachable(endpoint.base_url, problem) from None
