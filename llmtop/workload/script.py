"""What users say: a script begins talks, and a talk gives prompts one after the other, with pauses between them."""

from __future__ import annotations

from random import Random
from typing import Protocol

from msgspec import Struct

from llmtop.domain.load import LoadPoint
from llmtop.domain.request import RequestRecord
from llmtop.workload.prompts import Prompt, PromptSource


class User(Struct):
    """Who talks."""

    number: int
    """Counts the users of a process, from 0."""
    point: LoadPoint
    """The load that is commanded now."""
    row: int | None = None
    """Of a trace, the one that brought this user; whoever says it, takes it."""


class Pause(Struct, frozen=True):
    """Time that a user takes between two prompts; it has no request in flight then."""

    seconds: float


class Talk(Protocol):
    """What one user says until it begins anew, in the order in which it is said."""

    def next(self, answer: RequestRecord | None) -> Prompt | Pause | None:
        """What to do now: send a prompt, or pause; None: the talk has ended. It begins with one of the other two.

        Args:
            answer: what became of the prompt that was given just before; None: at the beginning and after a pause.
        """
        ...


class Script(Protocol):
    """Makes talks."""

    def begin(self, user: User, rng: Random) -> Talk:
        """The next talk of `user`, whose `point` stays up to date while it lasts.

        Args:
            rng: of this user alone, so that its talks do not depend on when those of others begin.
        """
        ...

    @property
    def spent(self) -> bool:
        """Whether all that there is to say was said: no talk can begin any more."""
        ...

    @property
    def again(self) -> bool:
        """Whether what was said is said again, all having been said."""
        ...

    def calibrate(self, asked_tokens: int, counted_tokens: int) -> None:
        """Hear what the endpoint counted for a prompt of `asked_tokens`; see `PromptSource.calibrate`."""
        ...


class OneShot:
    """Talks of one prompt, each of the lengths that are commanded when it begins."""

    def __init__(self, prompts: PromptSource) -> None:
        self._prompts = prompts

    def begin(self, user: User, rng: Random) -> Talk:
        return _OnePrompt(self._prompts, user)

    @property
    def spent(self) -> bool:
        return self._prompts.spent

    @property
    def again(self) -> bool:
        return self._prompts.again

    def calibrate(self, asked_tokens: int, counted_tokens: int) -> None:
        self._prompts.calibrate(asked_tokens, counted_tokens)


class _OnePrompt:
    __slots__ = ("_prompts", "_row", "_user")

    def __init__(self, prompts: PromptSource, user: User) -> None:
        self._prompts: PromptSource | None = prompts
        self._user = user
        self._row, user.row = user.row, None

    def next(self, answer: RequestRecord | None) -> Prompt | None:
        prompts, self._prompts = self._prompts, None
        return None if prompts is None else prompts.next(self._user.point, self._row)
