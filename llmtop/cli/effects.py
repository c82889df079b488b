"""What the options of a load do to a profile, said before the load begins."""

from __future__ import annotations

import argparse

from llmtop.cli.slo import of_settings, own_slo
from llmtop.domain.load import LoadPlan
from llmtop.domain.profile import Profile
from llmtop.wording.figures import TEXT

OF_FILES = ("sharegpt", "jsonl", "trace")
"""Workloads whose prompts are as long as the file's."""


def effects(profile: Profile, arguments: argparse.Namespace) -> tuple[str, ...]:
    """A line for each option that changes the profile, or that nothing looks at; none for what needs no word.

    Args:
        profile: with its peak from the arguments, and else as it stands in its file.
    """
    lines = (
        _own_slo(profile, arguments),
        _unused(profile, arguments),
        _knobs(profile, arguments),
        _zero(profile, arguments),
        _peak(profile, arguments.peak),
        _lengths(profile, arguments),
        _gate(profile, arguments.gate),
        _cut(profile, arguments.max_concurrency),
        _stretched(profile, getattr(arguments, "duration", None)),
    )
    return tuple(filter(None, lines))


def _own_slo(profile: Profile, arguments: argparse.Namespace) -> str:
    own = own_slo(arguments)
    if own is None or profile.slo is not own or arguments.slo is not None:
        return ""
    return of_settings(own)


def _unused(profile: Profile, arguments: argparse.Namespace) -> str:
    options = {"--concurrency": arguments.concurrency, "--rate": arguments.rate}
    given = next((f"{option} {value:g}" for option, value in options.items() if value is not None), None)
    if given is None or not (profile.plan.stages or profile.workload.source == "trace"):
        return ""
    how = "--peak N scales them" if profile.peak is not None else "change them in its file"
    return f"{given} is not used: profile {profile.name} brings its own loads; {how}"


def _knobs(profile: Profile, arguments: argparse.Namespace) -> str:
    if not profile.knobs or (arguments.url or profile.endpoint_url) is None:
        return ""
    names = ", ".join(name for name, _ in profile.knobs)
    return f"{names} of profile {profile.name} are of the simulated engine, and turn nothing on a real server"


def _zero(profile: Profile, arguments: argparse.Namespace) -> str:
    planned = profile.plan.stages or profile.search or profile.workload.source == "trace"
    if arguments.concurrency != 0 or planned:
        return ""
    return "--concurrency 0: nothing is sent until the load is raised"


def _peak(profile: Profile, peak: float | None) -> str:
    if peak is None or not profile.plan.stages:
        return ""
    unit = _unit(profile.plan)
    return f"--peak {peak:g}: the loads of profile {profile.name} follow, up to {TEXT.count(profile.plan.top)} {unit}"


def _lengths(profile: Profile, arguments: argparse.Namespace) -> str:
    prompt, output = arguments.prompt_tokens, arguments.output_tokens
    if prompt is not None and profile.workload.source in OF_FILES:
        return f"--prompt-tokens {prompt} is not used: prompts are as long as those of {profile.workload.file}"
    stages = profile.plan.stages
    for option, value, own in (
        ("--prompt-tokens", prompt, [stage.name for stage in stages if stage.prompt_tokens is not None]),
        ("--output-tokens", output, [stage.name for stage in stages if stage.output_tokens is not None]),
    ):
        if value is not None and own:
            return f"{option} {value} is not used in {', '.join(own)}: there profile {profile.name} has its own length"
    return ""


def _gate(profile: Profile, gate: int | None) -> str:
    own = [stage.name for stage in profile.plan.stages if stage.gate is not None]
    if gate is None or not own:
        return ""
    return f"--gate {gate} is not used in {', '.join(own)}: there profile {profile.name} has its own gate"


def _cut(profile: Profile, most: int | None) -> str:
    if most is None or profile.plan.users <= most:
        return ""
    users = TEXT.count(profile.plan.users)
    return f"--max-concurrency {most}: loads above it are cut to it; profile {profile.name} goes up to {users} users"


def _stretched(profile: Profile, duration_s: float | None) -> str:
    planned_s = profile.plan.duration_s
    if duration_s is None or not planned_s or duration_s == planned_s:
        return ""
    verb = "squeezed" if duration_s < planned_s else "stretched"
    return (
        f"--duration {duration_s:g}: the {TEXT.duration(planned_s)} of profile {profile.name} are {verb} to "
        f"{TEXT.duration(duration_s)}, each stage in proportion"
    )


def _unit(plan: LoadPlan) -> str:
    return "requests/s" if plan.base.axis == "rate" and not plan.users else "users"
