"""How many processes a load may have, and how many requests the limit of open files leaves room for; each needs one."""

from __future__ import annotations

import os
import resource

from msgspec.structs import replace

from llmtop.domain.crew import CrewSpec
from llmtop.domain.profile import Profile
from llmtop.errors import UsageError

SPARE_FILES = 28
"""For everything that is not a request: a session has 20 open, with a recording, a scraper and a simulated server."""
STREAMS_PER_WORKER = 512
"""For `auto_workers`: half of what one core can do."""


def cores() -> int:
    """That processes of ours may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def auto_workers(max_concurrency: int) -> int:
    """As many workers as the load may need, but one core stays free for the rest of llmtop."""
    return max(1, min(cores() - 1, -(-max_concurrency // STREAMS_PER_WORKER)))


def within_open_files(profile: Profile, workers: CrewSpec) -> Profile:
    """The profile with no more requests in flight than files may be open for here; other machines say so themselves.

    Raises UsageError when its plan asks for more: a request without a file would fail as if the server had refused it.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit == resource.RLIM_INFINITY or not workers.is_here:
        return profile
    room = max(0, limit - SPARE_FILES) * (workers.count or auto_workers(profile.caps.max_concurrency))
    plan = profile.plan
    asked = int(plan.top) if plan.base.axis == "concurrency" else 1
    if asked > room:
        most = f"ask for at most {room}" if room else f"{SPARE_FILES} are needed beside them"
        raise UsageError(
            f"{asked} requests in flight need as many open files, and only {limit} may be open here: {most}, "
            "or raise the limit (ulimit -Hn)"
        )
    caps = replace(profile.caps, max_concurrency=min(profile.caps.max_concurrency, room))
    return replace(profile, caps=caps)
