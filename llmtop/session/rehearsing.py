"""One user of a Python file, watched through whole visits: what `llmtop check` shows."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from llmtop.domain.endpoint import Endpoint, EndpointInfo
from llmtop.domain.load import Caps, LoadPoint
from llmtop.domain.profile import Workload
from llmtop.domain.rehearsed import Act, Rehearsal
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Call
from llmtop.endpoint.client import EndpointClient
from llmtop.errors import UsageError
from llmtop.load.setup import Setup
from llmtop.load.users import Users
from llmtop.load.visits import Visits
from llmtop.session.sizing import count_words
from llmtop.wording.timeline import not_ended
from llmtop.workload.prompts import PromptSource
from llmtop.workload.script import OneShot
from llmtop.workload.userfile import UserFile


async def rehearse(
    file: UserFile,
    endpoint: Endpoint,
    info: EndpointInfo,
    point: LoadPoint,
    *,
    visits: int,
    within_s: float,
    seed: int = 0,
    caps: Caps | None = None,
) -> Rehearsal:
    """Let one user visit so many times.

    Args:
        point: the lengths that the file is offered.
        within_s: how long all visits may take together.

    Raises UsersError for an exception in the file, UsageError where the visits do not end in time.
    """
    caps = Caps() if caps is None else caps
    origin_ns = time.perf_counter_ns()
    client = EndpointClient(endpoint, info, caps, origin_ns)
    prompts = PromptSource(
        Workload(source="python", file=file.path, seed=seed), max_model_len=info.max_model_len, salt=origin_ns
    )
    api = "chat" if "chat" in info.apis or not info.apis else info.apis[0]
    try:
        await count_words(client, prompts, point, api, info.has_tokenize, info.max_model_len)
        watch = _Watch(file, visits, lambda: time.perf_counter_ns() - origin_ns)
        setup = Setup(
            client=client,
            script=OneShot(prompts),
            visits=Visits(UserFile(file.path, watch.run), prompts, client.calls, watched=True),
            caps=caps,
            origin_ns=origin_ns,
            seed=seed,
            api=api,
        )
        users = watch.users = Users(setup, lambda number, record: watch.records.append(record))
        users.point = point
        late = await _live(users, within_s)
        acts = sorted([*watch.acts(), *map(watch.call, users.take_calls())], key=lambda act: (act.at_s, act.took_s))
        if late:
            raise UsageError(not_ended(within_s, watch.count, acts))
        return Rehearsal(
            file=file.path,
            model=info.model,
            server=info.server or str(info.dialect),
            visits=visits,
            took_s=(watch.ended_ns - watch.began_ns) / 1e9,
            acts=tuple(acts),
            notes=tuple(event.text for event in users.events),
        )
    finally:
        await client.close()


async def _live(users: Users, within_s: float) -> bool:
    """From the first visit to the end of the last one, and of what a visit has left behind; whether it was cut off."""
    others = asyncio.all_tasks()
    users.keep(1)
    try:
        _, late = await asyncio.wait(asyncio.all_tasks() - others, timeout=within_s)
        failure = users.failure
    finally:
        await users.close()
    if failure is not None:
        raise failure
    return bool(late)


class _Watch:
    """Sees what a user does beside its requests, and lets it leave after its last visit."""

    def __init__(self, file: UserFile, visits: int, now: Any) -> None:
        self._file, self._visits, self._now = file, visits, now
        self.users: Users | None = None
        self.records: list[RequestRecord] = []
        self.pauses: list[Act] = []
        self.count = 0
        self.began_ns = self.ended_ns = 0

    async def run(self, user: Any) -> None:
        """In the place of the file's own: one visit."""
        self.count += 1
        if self.count == 1:
            self.began_ns = self._now()
        try:
            await self._file.run(_Seen(user, self))
        finally:
            self.ended_ns = self._now()
            if self.count >= self._visits and self.users is not None:
                self.users.keep(0)

    async def pause(self, user: Any, seconds: float) -> None:
        at_ns = self._now()
        try:
            await user.pause(seconds)
        finally:
            took_s = (self._now() - at_ns) / 1e9
            self.pauses.append(Act(kind="pause", visit=self.count, at_s=self._since(at_ns), took_s=took_s))

    def acts(self) -> list[Act]:
        """The requests and the pauses."""
        return [*map(self._request, self.records), *self.pauses]

    def call(self, call: Call) -> Act:
        return Act(
            kind="call",
            visit=1 + (call.session or 0),
            at_s=self._since(round((call.t_s - call.duration_s) * 1e9)),
            took_s=call.duration_s,
            name=call.name,
            ok=not call.error and call.status is not None and call.status < 400,
            error=call.error,
            status=call.status,
        )

    def _request(self, record: RequestRecord) -> Act:
        begun_ns = record.begun_ns or record.dispatched_ns
        return Act(
            kind="request",
            visit=1 + (record.session or 0),
            at_s=self._since(begun_ns),
            took_s=(record.end_ns - begun_ns) / 1e9,
            name=record.name or "",
            turn=record.turn,
            ok=record.outcome in (Outcome.OK, Outcome.TEXTLESS),
            error=record.error or ("" if record.outcome is Outcome.OK else str(record.outcome)),
            status=record.status,
            ttft_s=record.ttft_s,
            e2e_s=record.e2e_s,
            prompt_tokens=record.prompt_tokens,
            cached_tokens=record.cached_tokens,
            output_tokens=record.output_tokens,
        )

    def _since(self, at_ns: int) -> float:
        return (at_ns - self.began_ns) / 1e9


class _Seen:
    """The handle of a user, whose pauses are seen."""

    def __init__(self, user: Any, watch: _Watch) -> None:
        self._user, self._watch = user, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._user, name)

    async def pause(self, seconds: float) -> None:
        await self._watch.pause(self._user, seconds)
