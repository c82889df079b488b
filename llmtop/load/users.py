"""Users: the tasks that send requests, as many or as often as they are told to, and leave when no longer wanted.

One kind of user serves both loops. In a closed loop a user begins talk after talk; going down, those who rest leave at
once and the others pay a debt: whoever finishes a request while there is debt left, leaves, in the middle of a talk if
need be, because a hand must not have to wait for its end. In an open loop every arrival is a new user who leaves after
one talk, so nothing that does not come back can keep the next from being sent. A cut cancels.

Users that are a Python file visit instead (`visits.py`): they leave at the end of a visit only, and may have several
requests in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TypeGuard

from msgspec import Struct

from llmtop.domain.load import LoadPoint
from llmtop.domain.request import REFUSALS, Outcome, RequestRecord, TokenSource
from llmtop.domain.run import Call, Event
from llmtop.endpoint.caller import Caller
from llmtop.endpoint.said import Said
from llmtop.endpoint.trace import Trace
from llmtop.load.gate import Gate
from llmtop.load.setup import Setup
from llmtop.load.visits import Party, Visitor
from llmtop.meter.binner import Binner
from llmtop.workload.prompts import Prompt
from llmtop.workload.script import Pause, Talk, User

STAGGER_S = 0.1
"""Users that are called up together start within this time."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
"""A user whose requests fail pauses, each time twice as long, between these two (each +-50 %)."""
LONGEST_RETRY_AFTER_S = 60.0
LONGEST_FAREWELL_NS = 30_000_000_000
"""A visit whose user is no longer wanted may go on for so long; then it ends before its next request: whoever turns the
load down does not wait for a visit that never ends."""
COMPLAINT_NS = 5_000_000_000
"""Arrivals that were not sent are reported at most this often."""


class Flight(Struct, frozen=True, array_like=True):
    """A request in flight: what is needed to account for it if its worker dies."""

    number: int
    scheduled_ns: int
    dispatched_ns: int
    asked_prompt_tokens: int
    asked_output_tokens: int
    stage: str | None


class _Open:
    """Book-keeping of one request in flight."""

    __slots__ = ("number", "prompt", "stage", "trace")

    def __init__(self, number: int, trace: Trace, prompt: Prompt, stage: str | None) -> None:
        self.number = number
        self.trace = trace
        self.prompt = prompt
        self.stage = stage


class Users:
    """All users of one process.

    Args:
        setup: how and what to send.
        ended: called with (number, record) for each request that ended.
    """

    def __init__(self, setup: Setup, ended: Callable[[int, RequestRecord], None]) -> None:
        self._client, self._script, self._api = setup.client, setup.script, setup.api
        self._carried = setup.carried
        self._now = setup.now
        self._rng = Random(f"users {setup.seed} {setup.worker}")
        self._seed = setup.seed
        self._ended = ended
        self._worker = setup.worker
        self._party: Party | None = None
        """Of users that are a Python file; None: they talk by a script."""
        if setup.visits is not None:
            self._party = Party(self, setup.visits, setup.client.apis, setup.api, setup.now, setup.worker)
        self.binner = Binner()
        self.point = LoadPoint(concurrency=0)
        """Lengths and think time of the next request."""
        self.gate = Gate()
        self.stage: str | None = None
        self.most = setup.caps.max_concurrency
        """An open loop drops arrivals that would be above."""
        self.failure: BaseException | None = None
        """A bug in a user's task, to be raised by whoever runs the load."""
        self.dropped = 0
        """Arrivals of an open loop that were not sent."""
        self.events: list[Event] = []
        self.slips_ns: list[int] = []
        """sent - scheduled of each request whose first token came; whoever reads it, empties it."""
        self._together = setup.start == "together"
        self._company: int | None = None
        """Users that begin together, as soon as all others have left; None: they have begun."""
        self._kept = 0
        self._opening: asyncio.Task[None] | None = None
        """Connections for those who begin together."""
        self._ahead: asyncio.Task[None] | None = None
        """Connections for arrivals to come."""
        self._open_loop = False
        self._debt = 0
        self._owed_ns = 0
        """Since when there is debt."""
        self._hired = 0
        self._users: dict[asyncio.Task[None], None] = {}
        self._resting: dict[asyncio.Task[None], None] = {}
        self._visitors: dict[asyncio.Task[None], Visitor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._flying: dict[int, _Open] = {}
        self._room = Gate()
        """Of visits, which may send several requests at once: as many as may be in flight."""
        self._prefilling: dict[Trace, Prompt] = {}
        self._number = 0
        self._refusals = 0
        self._held_until_ns = 0
        self._complained_ns = -COMPLAINT_NS
        self._complained_of = 0
        self._crowded = False

    @property
    def sent(self) -> int:
        return self._number

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    def take_calls(self) -> tuple[Call, ...]:
        """Requests of users that are none to the model, since the last call."""
        if self._party is None:
            return ()
        told, self._party.told = tuple(self._party.told), []
        return told

    @property
    def spent(self) -> bool:
        """Whether all that there is to say was said and answered."""
        return self._script.spent and not self._flying

    @property
    def prefilling(self) -> int:
        return len(self._prefilling)

    def oldest_prefill_s(self) -> float | None:
        """Age of the oldest request in flight without a token yet."""
        oldest = next(iter(self._prefilling), None)
        return None if oldest is None else (self._now() - (oldest.begun_ns or oldest.dispatched_ns)) / 1e9

    def flights(self, after: int) -> list[Flight]:
        """Requests in flight whose number is above `after`."""
        found = []
        for number in reversed(self._flying):
            if number <= after:
                break
            flying = self._flying[number]
            trace, prompt = flying.trace, flying.prompt
            found.append(
                Flight(
                    number, trace.scheduled_ns, trace.dispatched_ns, prompt.tokens, prompt.output_tokens, flying.stage
                )
            )
        return found

    def first_token(self, trace: Trace) -> None:
        """Sink: see `llmtop.endpoint.Sink`."""
        prompt = self._prefilling.pop(trace, None)
        begun_ns = trace.begun_ns
        if prompt is not None and trace.first_token_ns is not None and begun_ns is not None:
            self.slips_ns.append(begun_ns - trace.scheduled_ns)
            self.binner.first_token(trace.first_token_ns - begun_ns, trace.prompt_tokens or prompt.tokens)

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        """Sink: see `llmtop.endpoint.Sink`."""
        self.binner.tokens(n, gap_ns)

    def keep(self, concurrency: int) -> None:
        """Closed loop: so many users from now on."""
        if self._open_loop:
            self._open_loop = False
            self._debt = 0
        if self._together:
            self._keep_together(concurrency)
            return
        active = len(self._users) - self._debt
        if self._script.spent:
            concurrency = min(concurrency, active)
        if concurrency > active:
            forgiven = min(self._debt, concurrency - active)
            self._debt -= forgiven
            self._call_up(concurrency - active - forgiven)
        elif concurrency < active:
            surplus = active - concurrency
            while surplus and self._resting:
                self._dismiss(next(reversed(self._resting)))
                surplus -= 1
            if not self._debt:
                self._owed_ns = self._now()
            self._debt += surplus

    def _keep_together(self, concurrency: int) -> None:
        """Another number of users begins in one instant, once those who are there have ended what they are at."""
        if concurrency != self._kept:
            self._kept = self._company = concurrency
            for task in list(self._resting):
                self._dismiss(task)
            self._debt = len(self._users)
        if self._company is not None and not self._users:
            self._debt = 0
            self._call_up(self._company)
            self._company = None

    def open(self) -> None:
        """Open loop: users leave after the talk that they are at, and `arrive` brings the next."""
        if not self._open_loop:
            self.keep(0)
            self._open_loop = True
            self._debt = 0

    def arrive(self, scheduled_ns: int, row: int | None = None) -> None:
        """Open loop: a talk begins now that was due at `scheduled_ns`, if all was not said; `row`: of a trace."""
        if self._script.spent:
            return
        if len(self._users) >= self.most:
            pausing = " or pause" if len(self._users) > len(self._flying) else ""
            self._drop(f"{self.most} are in flight{pausing}, which is the most allowed")
        elif self._now() < self._held_until_ns:
            self._drop("the endpoint refuses connections")
        else:
            self._hire(0.0, scheduled_ns, 1.0, row=row)

    def ready(self, count: int) -> None:
        """Open loop: have idle connections for so many arrivals to come."""
        if count and self._ahead is None and self._now() >= self._held_until_ns:
            self._ahead = self._open(min(count, self.most))
            self._ahead.add_done_callback(self._opened)

    def _opened(self, _: asyncio.Task[None]) -> None:
        self._ahead = None

    def _open(self, count: int) -> asyncio.Task[None]:
        opening = asyncio.get_running_loop().create_task(self._client.open(count))
        self._tasks.add(opening)
        opening.add_done_callback(self._tasks.discard)
        return opening

    def cut(self, keep: int = 0) -> None:
        """Cancel all users but the `keep` oldest requests in flight."""
        for task in list(self._resting):
            self._dismiss(task)
        for task in list(self._users)[keep:]:
            self._dismiss(task)
        self._debt = len(self._users) if self._company is not None else 0

    async def close(self) -> None:
        """Cancel everything and wait until it is gone."""
        self.cut()
        for opening in (self._opening, self._ahead):
            if opening is not None:
                opening.cancel()
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        if self._party is not None:
            self._party.close()

    def _call_up(self, count: int) -> None:
        """Users that start at once would march in lock-step: all prefill together, all end together.

        Unless that is wanted, they start spread over `STAGGER_S`, which tells them apart by less than a prefill, so
        that their first answers are cut as well, to evenly spread shares of the full length (see `_output_tokens`).
        Those who are to start at once wait until there is a connection for each: the one that needs none would be
        prefilled alone, and so be ahead of the others ever after.
        """
        now = self._now()
        if self._together:
            self._opening = self._open(count)
        for place in range(count):
            if self._together:
                self._hire(0.0, now, 1.0, self._opening)
                continue
            delay_s = 0.0 if place == 0 else (place + self._rng.random() - 0.5) / count * STAGGER_S
            self._hire(delay_s, now + round(delay_s * 1e9), (place + 1) / count)

    def _hire(
        self,
        delay_s: float,
        due_ns: int,
        first_answer: float,
        opening: asyncio.Task[None] | None = None,
        row: int | None = None,
    ) -> None:
        user = User(self._hired, self.point, row)
        self._hired += 1
        task = asyncio.get_running_loop().create_task(self._live(user, delay_s, due_ns, first_answer, opening))
        self._users[task] = None
        self._tasks.add(task)
        if delay_s > 0 or opening is not None:
            self._resting[task] = None
        task.add_done_callback(self._gone)

    def _dismiss(self, task: asyncio.Task[None]) -> None:
        self._users.pop(task, None)
        self._resting.pop(task, None)
        if (visitor := self._visitors.get(task)) is not None:
            visitor.over = True
        task.cancel()

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._users.pop(task, None)
        self._resting.pop(task, None)
        self._visitors.pop(task, None)
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()

    def _leaves(self, talk_ended: bool) -> bool:
        if self._open_loop:
            return talk_ended
        if self._debt:
            self._debt -= 1
            return True
        return False

    async def _live(
        self, user: User, delay_s: float, due_ns: int, part: float, opening: asyncio.Task[None] | None
    ) -> None:
        """One user, from its beginning to the request, pause or visit after which it is no longer wanted.

        Its first answer has only this part of the length that is commanded; it is due when `opening` is done.
        """
        task = asyncio.current_task()
        assert task is not None
        rng = Random(f"user {self._seed} {self._worker} {user.number}")
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        if opening is not None:
            await asyncio.wait((opening,))
            due_ns = self._now()
        caller = Caller(self._carried.header(user.number), keeps=self._carried.keeps_connection)
        try:
            if self._party is None:
                await self._talk(task, user, caller, rng, due_ns, part)
            else:
                await self._visit(self._party, task, user, caller, rng, due_ns, part)
        finally:
            caller.close()

    async def _talk(
        self, task: asyncio.Task[None], user: User, caller: Caller, rng: Random, due_ns: int, part: float
    ) -> None:
        """Talk after talk."""
        failures = 0
        taken_ns, fresh = self._now(), user.row is not None
        if (begun := self._begin(user, rng)) is None:
            self._users.pop(task, None)
            return
        talk, step = begun
        while True:
            answer: RequestRecord | None = None
            if isinstance(step, Pause):
                due_ns = await self._rest(task, step.seconds)
            else:
                self._resting.pop(task, None)
                answer = await self._request(step, due_ns, taken_ns, part, caller, fresh=fresh)
                due_ns, part, fresh = answer.end_ns, 1.0, False
                failures = failures + 1 if answer.outcome.is_error else 0
            taken_ns = self._now()
            user.point = self.point
            coming = talk.next(answer)
            if self._leaves(coming is None):
                self._users.pop(task, None)
                return
            pause_s = self.point.think_time_s if coming is None else 0.0
            if failures and answer is not None:
                pause_s += self._pause_s(failures, answer)
            if pause_s > 0:
                due_ns = await self._rest(task, pause_s)
                taken_ns = self._now()
            if coming is not None:
                step = coming
            elif (begun := self._begin(user, rng)) is not None:
                talk, step = begun
            else:
                self._users.pop(task, None)
                return

    async def _visit(
        self,
        party: Party,
        task: asyncio.Task[None],
        user: User,
        caller: Caller,
        rng: Random,
        due_ns: int,
        part: float,
    ) -> None:
        """Visit after visit."""
        lengths = Random(f"lengths {self._seed} {self._worker} {user.number}")
        visitor = Visitor(party, party.numbered(user.number), caller, rng, lengths, part)
        self._visitors[task] = visitor
        while True:
            self._resting.pop(task, None)
            due_ns, pause_s = await party.visit(visitor, due_ns)
            if task not in self._users:  # it was cancelled, and has not heeded that
                return
            if self._leaves(talk_ended=True):
                self._users.pop(task, None)
                return
            pause_s = max(pause_s, self.point.think_time_s) + max(0, visitor.until_ns - self._now()) / 1e9
            if pause_s > 0:
                due_ns = await self._rest(task, pause_s)

    async def send(self, visitor: Visitor, prompt: Prompt, said: Said, due_ns: int) -> RequestRecord:
        """Sender: see `llmtop.load.visits.Sender`. A visitor whose requests fail pauses before the next."""
        taken_ns, room = self._now(), self._room
        if self._debt and taken_ns - self._owed_ns >= LONGEST_FAREWELL_NS:
            await self._send_away(visitor)
        if visitor.until_ns > taken_ns:
            due_ns = visitor.until_ns
            await asyncio.sleep((due_ns - taken_ns) / 1e9)
            taken_ns = self._now()
        room.most = self.most
        if not room.slip_in():
            self._tell_room()
            await room.enter()
            due_ns = taken_ns = self._now()
        part, visitor.part = visitor.part, 1.0
        try:
            record = await self._request(prompt, due_ns, taken_ns, part, visitor.caller, said)
        finally:
            room.leave()
        if not record.outcome.is_error:
            visitor.failures = 0
        elif record.dispatched_ns >= visitor.until_ns:  # of several at once, one is counted
            visitor.failures += 1
            visitor.until_ns = self._now() + round(self._pause_s(visitor.failures, record) * 1e9)
        assert self._party is not None
        self._party.ended(record)
        return record

    async def _send_away(self, visitor: Visitor) -> None:
        """Raises CancelledError in a visit that has gone on for too long."""
        self._debt -= 1
        self._dismiss(next(task for task, other in self._visitors.items() if other is visitor))
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    def _tell_room(self) -> None:
        """Of requests that waited until others had ended: once."""
        if not self._crowded:
            self._crowded = True
            text = f"visits send more at once than may be in flight: requests beyond {self.most} wait for others to end"
            text = f"{text}; raise it with --max-concurrency"
            self.events.append(Event(self._now() / 1e9, "load", text, "warning"))

    def _begin(self, user: User, rng: Random) -> tuple[Talk, Prompt | Pause] | None:
        """The user's next talk and what it begins with; None: all was said."""
        if self._script.spent:
            return None
        user.point = self.point
        talk = self._script.begin(user, rng)
        step = talk.next(None)
        assert step is not None, "a talk has neither a prompt nor a pause"
        return talk, step

    async def _rest(self, task: asyncio.Task[None], seconds: float) -> int:
        """Pause. Returns when the next request is due; until it is sent, this user is among the first to leave."""
        self._resting[task] = None
        due_ns = self._now() + round(seconds * 1e9)
        await asyncio.sleep(seconds)
        return due_ns

    async def _request(
        self,
        prompt: Prompt,
        due_ns: int,
        taken_ns: int,
        part: float,
        caller: Caller,
        words: Said | None = None,
        fresh: bool = False,
    ) -> RequestRecord:
        """Send one request and wait for its end.

        Args:
            words: takes what the answer says.
            fresh: it is the first of its task, and due at this very moment.
        """
        trace = Trace(min(due_ns, taken_ns), taken_ns)
        prompt = self._carried.dress(prompt, self._number)
        self._number += 1
        flying = _Open(self._number, trace, prompt, self.stage)
        self._flying[flying.number] = flying
        self._prefilling[trace] = prompt
        self.binner.sent()
        output_tokens = self._output_tokens(prompt, part)
        api = prompt.api or self._api
        said = prompt.said(api)
        try:
            if not fresh:  # an endpoint that answers or refuses at once must not keep the loop from the others
                await asyncio.sleep(0)
            due_ns = self._now()
            if await self.gate.enter():
                trace.held_ns = self._now() - due_ns
            try:
                await self._client.generate(
                    said,
                    output_tokens,
                    api,
                    trace,
                    self,
                    caller,
                    model=prompt.model,
                    extra=prompt.extra,
                    pinned=prompt.pinned,
                    words=words,
                    hang_up_s=prompt.hang_up_s,
                )
            finally:
                self.gate.leave()
        except asyncio.CancelledError:
            trace.outcome = Outcome.CANCELLED
            self._settle(flying, output_tokens)
            raise
        return self._settle(flying, output_tokens)

    def _output_tokens(self, prompt: Prompt, part: float) -> int:
        """Lengths that vary spread the users by themselves; only answers of the commanded length are cut."""
        if part < 1 and prompt.output_tokens == self.point.output_tokens:
            return max(1, round(prompt.output_tokens * part))
        return prompt.output_tokens

    def _settle(self, flying: _Open, output_tokens: int) -> RequestRecord:
        """Make the record of a request that has ended."""
        trace = flying.trace
        now = self._now()
        record = trace.record(
            now,
            asked_prompt_tokens=flying.prompt.tokens,
            asked_output_tokens=output_tokens,
            stage=flying.stage,
            worker=self._worker,
            name=flying.prompt.name,
            session=flying.prompt.session,
            turn=flying.prompt.turn,
            model=flying.prompt.model,
        )
        del self._flying[flying.number]
        self._prefilling.pop(trace, None)
        if flying.prompt.count_source and record.outcome is Outcome.OK and record.token_source is TokenSource.USAGE:
            self._calibrate(flying.prompt.tokens, trace.prompt_tokens)
        if self._open_loop:
            self._watch_refusals(record, now)
        self.binner.finished(record)
        self._ended(flying.number, record)
        return record

    def _calibrate(self, asked_tokens: int, counted_tokens: int | None) -> None:
        """Let the script learn from usage, unless its count cannot be that of the prompt."""
        if believable(counted_tokens, asked_tokens):
            self._script.calibrate(asked_tokens, counted_tokens)

    def _pause_s(self, failures: int, record: RequestRecord) -> float:
        if record.retry_after_s is not None:
            return min(record.retry_after_s, LONGEST_RETRY_AFTER_S) * self._rng.uniform(1.0, 1.25)
        return _backoff_s(failures) * self._rng.uniform(0.5, 1.5)

    def _watch_refusals(self, record: RequestRecord, now_ns: int) -> None:
        """Open loop: a server that is gone is asked at growing intervals instead of at the commanded rate."""
        if record.outcome is Outcome.CANCELLED:
            return
        self._refusals = self._refusals + 1 if record.refused else 0
        if self._refusals >= REFUSALS and now_ns >= self._held_until_ns:
            self._held_until_ns = now_ns + round(_backoff_s(self._refusals - REFUSALS + 1) * 1e9)
        elif not record.refused:
            self._held_until_ns = 0

    def _drop(self, why: str) -> None:
        self.dropped += 1
        now = self._now()
        if now - self._complained_ns >= COMPLAINT_NS:
            count = self.dropped - self._complained_of
            text = f"Open loop: {count} arrivals were not sent: {why}"
            self.events.append(Event(now / 1e9, "load", text, "warning"))
            self._complained_ns, self._complained_of = now, self.dropped


def believable(counted_tokens: int | None, asked_tokens: int) -> TypeGuard[int]:
    """Whether what usage counts can be that of a prompt.

    Some servers and gateways report a constant, or leave cached tokens out. No tokenizer is off by more than a factor
    of 4 on English words, and no chat template adds more than some hundred tokens.
    """
    if counted_tokens is None:
        return False
    return asked_tokens <= 4 * counted_tokens + 16 and counted_tokens <= 4 * asked_tokens + 512


def _backoff_s(failures: int) -> float:
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30))
