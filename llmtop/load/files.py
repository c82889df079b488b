"""How many requests the limit of open files leaves room for; each needs one."""

from __future__ import annotations

import resource

from msgspec.structs import replace

from llmtop.domain.profile import Profile
from llmtop.errors import UsageError

SPARE_FILES = 28
"""For everything that is not a request: a session has 20 open, with a recording, a scraper and a simulated server."""


def within_open_files(profile: Profile, workers: int) -> Profile:
    """The profile with no more requests in flight than files may be open for.

    Args:
        workers: load processes; 0: as many as the load may need.

    Raises UsageError when its plan asks for more: a request without a file would fail as if the server had refused it.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit == resource.RLIM_INFINITY:
        return profile
    if not workers:
        from llmtop.load.pool import auto_workers  # which imports this module

        workers = auto_workers(profile.caps.max_concurrency)
    room = max(0, limit - SPARE_FILES) * workers
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
