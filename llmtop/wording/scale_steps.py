"""How the steps of a deployment to more replicas or fewer are said."""

from __future__ import annotations

from collections.abc import Sequence

from llmtop.domain.replicas import ReplicaCounts
from llmtop.domain.run import ScaleStep
from llmtop.wording.figures import TEXT

_NAMED = 3
"""More replicas at once are counted."""


def steps_text(steps: Sequence[ScaleStep], before: ReplicaCounts) -> str:
    """Of steps of one kind that were seen at once: `replica pod-3 is ready: 2 of 3`

    Args:
        before: the counts before them; the steps are taken into it.
    """
    step, was_desired, was = steps[-1], before.desired, _count(before, steps[-1])
    again = " again" if all(each.name in before.once_ready for each in steps) else ""
    for each in steps:
        before.take(each)
    who = _who(steps)
    be = "is" if len(steps) == 1 else "are"
    match step.kind:
        case "desired":
            until = "" if was_desired is None else f", {was_desired} until now"
            return f"{_replicas(step.replicas)} wanted{until}"
        case "created":
            return f"{who} {be} begun: {before.created} of {before.of}"
        case "gone":
            return f"{who} {be} gone: {before.created} left"
        case "ready":
            state = f"ready{again}" if step.replicas > was else "not ready any more"
            return f"{who} {be} {state}: {before.ready} of {before.of}"
        case "serving":
            if step.replicas < was:
                return f"{who} {be} not serving any more: {before.serving} of {before.of}"
            have = "has" if len(steps) == 1 else "have"
            return f"{who} {have} generated the first token: {before.serving} of {before.of} serving"


def _replicas(count: int) -> str:
    return "1 replica is" if count == 1 else f"{TEXT.whole(count)} replicas are"


def _count(counts: ReplicaCounts, step: ScaleStep) -> int:
    return counts.serving if step.kind == "serving" else counts.ready


def _who(steps: Sequence[ScaleStep]) -> str:
    return named([step.name for step in steps])


def named(names: Sequence[str]) -> str:
    """`replica pod-2`, `replicas pod-2 and pod-3`; more than a few, or those without names, are counted."""
    if len(names) == 1:
        return f"replica {names[0]}" if names[0] else "a replica"
    if "" in names or len(names) > _NAMED:
        return f"{len(names)} replicas"
    return f"replicas {', '.join(names[:-1])} and {names[-1]}"


def renewed_text(names: Sequence[str], connections: int | None) -> str:
    """`replica pod-3 is ready: 37 kept connections renewed, so that it gets its share`"""
    its = "it gets its share" if len(names) == 1 else "they get their share"
    many = "" if connections is None else f"{TEXT.whole(connections)} "
    kept = f"{many}kept {'connection' if connections == 1 else 'connections'}"
    return f"{named(names)} {'is' if len(names) == 1 else 'are'} ready: {kept} renewed, so that {its}"


def idle_text(name: str, for_s: float) -> str:
    """Of a replica that is ready and gets nothing."""
    return (
        f"{named([name])} is ready and has got no request for {for_s:.0f} s while others queue: "
        "what shares the load out does not know it, or keeps to its connections"
    )


def unseen_text(problem: str) -> str:
    """That who runs the deployment does not tell of it any more."""
    return f"replicas are not known now: {problem}; the run goes on"


def no_owner(url: str, service: str) -> str:
    """That nothing is known to scale a service's pods."""
    return (
        f"{url}: nothing that scales owns the pods of service {service}: name it, as in "
        f"{url.partition('?')[0]}?scale=deployment/NAME"
    )


def garbled(what: str) -> str:
    return f"something that is no {what}"
