"""What the exit code of a command says: of a run its judgement, of the cockpit how it was left."""

from __future__ import annotations

from collections.abc import Collection

from llmtop.domain.endpoint import EndpointState
from llmtop.domain.judgement import Judgement
from llmtop.domain.run import LOST, Ended

YES, NO, ENDPOINT_LOST, CLIENT_BOUND, NOT_KNOWN = 0, 1, 3, 4, 5


def exit_code(judgement: Judgement, *, unknown_ok: bool = False) -> int:
    """0: yes. 1: no. 3: the server fell away under the run. 4: the client was the bottleneck. 5: not known.

    A yes is one where no threshold of --fail-on is passed, too.

    Args:
        unknown_ok: 0 instead of 5.
    """
    if judgement.ending in LOST:
        return ENDPOINT_LOST
    if judgement.void:
        return CLIENT_BOUND
    if judgement.passes is None:
        return YES if unknown_ok else NOT_KNOWN
    return YES if judgement.passes else NO


def cockpit_exit_code(ended: Ended, states: Collection[EndpointState | None], answered: bool) -> int:
    """0: left by hand. 3: the endpoint never answered, or the session is lost; else what ended the session says.

    A hand that drives gives the answer itself, so that neither figures nor an endpoint that went down are a failure.

    Args:
        states: those that the endpoint was in.
        answered: it was asked what it is, and said so, or ended a request well.
    """
    if ended.exit_code:
        return ended.exit_code
    refused = EndpointState.DOWN in states or EndpointState.AUTH_FAILED in states
    return ENDPOINT_LOST if refused and not answered else YES
