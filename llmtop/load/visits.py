"""Users that are a Python file: the handle that its `run` is given, and one visit after the other.

What the handle can do, and what each value means, is said in `llmtop.users`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol

from msgspec import Struct

from llmtop.domain.load import LoadPoint
from llmtop.domain.plain import plain
from llmtop.domain.profile import Workload
from llmtop.domain.request import RequestRecord
from llmtop.domain.run import Call, Event
from llmtop.endpoint.caller import Caller
from llmtop.endpoint.calls import Calls, Reply, host_of
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.said import Said
from llmtop.errors import UsageError
from llmtop.load.answers import Answer, extra_of, tokens_of
from llmtop.load.steps import IMPORT_S, Steps, ends_within
from llmtop.traffic.rows import path_of_workload
from llmtop.wording.sentences import held_loop
from llmtop.workload.prompts import Prompt, PromptSource
from llmtop.workload.userfile import UserFile, fault, load

NAME_CHARACTERS = 60
"""Of the name of a request: it heads a row."""
MOST_TEXTS = 64
"""Of a visit whose number of tokens is remembered until they are said."""
MOST_NAMES = 1024
"""That are remembered."""
EMPTY_VISIT_S = 0.1
"""A visit without any request is followed by a pause: without one it would begin again and again, and nothing else."""
MOST_EMPTY = 100
"""So many visits of a process without any request, and none with one: nothing would ever be sent."""
HELD_TOLD_NS = 60_000_000_000
"""A function that holds the loop is told at most this often, as `analysis.recent.HELD_AGAIN_S` knows,"""
MOST_HELD = 20
"""and so many of them are told."""
MOST_TASKS = 64
"""Tasks of a visit that are kept in mind before those that have ended are let go."""
_Code = Coroutine[Any, Any, Any] | Generator[Any, None, Any]
_ENDPOINT = str(Path(__file__).parents[1] / "endpoint")


class Sender(Protocol):
    """Who sends for a visitor: the users of this process."""

    point: LoadPoint
    events: list[Event]

    async def send(self, visitor: Visitor, prompt: Prompt, said: Said, due_ns: int) -> RequestRecord:
        """Send one request and wait for its end; it was due at `due_ns`."""
        ...


class Visits(Struct, frozen=True):
    """What all visits of a process are made of."""

    file: UserFile
    prompts: PromptSource
    calls: Calls
    workers: int = 1
    """Processes that the users are dealt out to."""
    watched: bool = False
    """Every long step is named, also the first: where nothing is measured."""


def visits_of(workload: Workload, prompts: PromptSource, client: EndpointClient, workers: int = 1) -> Visits | None:
    """What a workload that is a Python file needs; None: it is another. Raises FileError, from where it is imported."""
    if workload.source != "python":
        return None
    with ends_within(IMPORT_S):
        file = load(path_of_workload(workload))
    return Visits(file, prompts, client.calls, workers)


class Visitor:
    """The handle of one user: see `llmtop.users.User`.

    Attributes:
        over: nothing of its visit is to go on: it is to go, or the visit has ended.
        sent: requests of this visit so far.
        part: of the length of its next answer, where that is the commanded one.
        failures, until_ns: requests that failed one after the other, and until when it sends none for that.
    """

    def __init__(self, party: Party, number: int, caller: Caller, rng: Random, lengths: Random, part: float) -> None:
        self._party = party
        self.number = number
        self.random = rng
        self.part = part
        self.caller = caller
        self.over = False
        self.sent = 0
        self.failures = self.until_ns = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.session = 0
        self._lengths = lengths
        self._pair: list[int | None] = [None, None]
        self._made: dict[int, tuple[str, int]] = {}

    def begin(self, session: int) -> None:
        """A visit begins."""
        self.session, self.sent, self.over = session, 0, False
        self._made.clear()

    @property
    def prompt_tokens(self) -> int:
        return self._length(0)

    @property
    def output_tokens(self) -> int:
        return self._length(1)

    def text(self, tokens: int) -> str:
        if not isinstance(tokens, int) or tokens < 1:
            raise UsageError(f"text({tokens!r}): a text has a whole number of tokens, 1 or more")
        text = self._party.visits.prompts.text(tokens, self._party.sender.point)
        if len(self._made) >= MOST_TEXTS:
            self._made.pop(next(iter(self._made)))
        self._made[id(text)] = text, tokens
        return text

    async def chat(
        self,
        said: str | Sequence[Mapping[str, Any]],
        *,
        after: Answer | None = None,
        output_tokens: int | None = None,
        name: str | None = None,
        model: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **body: Any,
    ) -> Answer:
        made = None
        messages: tuple[Any, ...] | None = None
        if after is None and isinstance(said, str):
            made = self._made.pop(id(said), None)
        else:
            new = ({"role": "user", "content": said},) if isinstance(said, str) else tuple(said)
            if not new or not all(type(message) is dict or isinstance(message, Mapping) for message in new):
                raise UsageError("chat(...): what is said is a text, or a list of messages with role and content")
            messages = new if after is None else (*after.messages(), *new)
        text = said if isinstance(said, str) else ""
        if tools is not None:
            body["tools"] = tools
        tokens = None if made is not None else tokens_of(said, after)
        by = self._party.chats_by
        return await self._ask(by, text, messages, made, tokens, output_tokens, name or "chat", model, body)

    async def complete(
        self,
        prompt: str,
        *,
        after: Answer | None = None,
        output_tokens: int | None = None,
        name: str | None = None,
        model: str | None = None,
        **body: Any,
    ) -> Answer:
        if not isinstance(prompt, str):
            raise UsageError("complete(...): a prompt is a text")
        made = self._made.pop(id(prompt), None) if after is None else None
        text = prompt if after is None else after.whole_text() + prompt
        tokens = None if made is not None else tokens_of(prompt, after)
        return await self._ask("completions", text, None, made, tokens, output_tokens, name or "complete", model, body)

    async def pause(self, seconds: float) -> None:
        if not 0 <= seconds < 1e9:
            raise UsageError(f"pause({seconds!r}): a pause has a number of seconds, 0 or more")
        await asyncio.sleep(seconds)

    async def http(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        name: str | None = None,
    ) -> Reply:
        party, calls = self._party, self._party.visits.calls
        if name is None:
            name = f"{method.upper()} {host_of(calls.where(url))}"
        began_ns = party.now()
        reply = await calls.ask(
            method, url, params=params, json=json, content=content, headers=headers, timeout_s=timeout_s
        )
        now = party.now()
        party.told.append(
            Call(
                t_s=now / 1e9,
                duration_s=(now - began_ns) / 1e9,
                name=plain(name, NAME_CHARACTERS),
                status=reply.status,
                error=reply.error,
                session=self.session,
                worker=party.worker,
            )
        )
        return reply

    def _length(self, place: int) -> int:
        if self._pair[place] is None:
            self._pair = list(self._party.visits.prompts.lengths(self._party.sender.point, self._lengths))
        length, self._pair[place] = self._pair[place], None
        assert length is not None
        return length

    async def _ask(
        self,
        api: str,
        text: str,
        messages: tuple[Any, ...] | None,
        made: tuple[str, int] | None,
        tokens: int | None,
        output_tokens: int | None,
        name: str,
        model: str | None,
        body: dict[str, Any],
    ) -> Answer:
        party = self._party
        if self.over:
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        due_ns = party.due_ns()
        if api not in party.apis:
            raise UsageError(f"the endpoint has no API for {api}, only for {', '.join(party.apis)}")
        if output_tokens is None:
            output_tokens = self._length(1)
        elif not isinstance(output_tokens, int) or output_tokens < 1:
            raise UsageError(f"output_tokens = {output_tokens!r} must be a whole number, 1 or more")
        calibration, source = party.visits.prompts.calibration, ""
        if made is not None:  # counted by the endpoint, it tells how our words are counted there
            tokens, source = calibration.tokens(calibration.words(made[1])), calibration.source
            calibration.made()
        assert tokens is not None
        self.sent += 1
        prompt = Prompt(
            text,
            tokens,
            output_tokens,
            source,
            messages,
            api=api,
            model=model,
            extra=extra_of(body) if body else b"",
            pinned="tools" not in body,
            name=party.named(name),
            session=self.session,
            turn=self.sent,
        )
        said = Said()
        record = await party.sender.send(self, prompt, said, due_ns)
        return Answer(prompt, said, record)


class Party:
    """The visits of one process.

    Args:
        sender: sends for them.
        apis: that the endpoint has.
        api: that of the load; `chat` asks by the responses API where that is it.
        now: nanoseconds of the run clock.
    """

    def __init__(
        self, sender: Sender, visits: Visits, apis: Sequence[str], api: str, now: Callable[[], int], worker: int
    ) -> None:
        self.sender, self.visits, self.apis, self.now, self.worker = sender, visits, apis, now, worker
        self.chats_by = "responses" if api == "responses" else "chat"
        self.told: list[Call] = []
        """Requests of users that are none to the model; whoever reads it, empties it."""
        self._steps = Steps(str(Path(visits.file.path).parent), now, self._note_held, calm=not visits.watched)
        self._count = 0
        self._sent = self._empty = 0
        self._names: dict[str, str] = {}
        self._held: dict[str, int] = {}
        """When each function that holds the loop was told last."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def named(self, name: str) -> str:
        """The name of a request as it is kept."""
        found = self._names.get(name)
        if found is None:
            found = plain(name, NAME_CHARACTERS)
            if len(self._names) < MOST_NAMES:
                self._names[name] = found
        return found

    def numbered(self, number: int) -> int:
        """A number of this process's, as one of the run's own."""
        return number * self.visits.workers + self.worker

    def due_ns(self) -> int:
        """When what is asked for now could have been asked for, had nothing of ours or of the user's been late."""
        return self._steps.due_ns if self._steps.visiting is not None else self.now()

    def ended(self, record: RequestRecord) -> None:
        """A request has ended in the step that runs: what is done next could have been done then."""
        if self._steps.visiting is not None:
            self._steps.due_ns = record.end_ns

    async def visit(self, visitor: Visitor, due_ns: int) -> tuple[int, float]:
        """One visit, to its end. Returns when the next could begin, and a pause before it that it must not go without.

        Raises UsersError.
        """
        if self._loop is None:
            self._listen()
        visitor.begin(self.numbered(self._count))
        self._count += 1
        try:
            await self._steps.through(self._run(visitor), visitor, due_ns)
        finally:
            visitor.over = True
            if visitor.tasks:
                await self._end_tasks(visitor)
        ends_ns = self._steps.due_ns
        if visitor.sent:
            self._sent += 1
            return ends_ns, 0.0
        return ends_ns, self._note_empty()

    async def _run(self, visitor: Visitor) -> None:
        try:
            await self.visits.file.run(visitor)
        except asyncio.CancelledError as cancelled:
            if visitor.over:
                raise
            raise fault(cancelled, self.visits.file.path) from None
        except BaseException as error:
            raise fault(error, self.visits.file.path) from None

    def close(self) -> None:
        if self._loop is not None:
            self._loop.set_task_factory(None)
            self._steps.close()
            self._loop = None

    def _listen(self) -> None:
        """Have the tasks that visits make made here."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(self._make_task)
        self._loop.set_exception_handler(_complain)
        self._steps.start()

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        code: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        /,
        **more: Any,
    ) -> asyncio.Task[Any]:
        visitor = self._steps.visiting
        if visitor is None or _is_ours(code):
            return asyncio.Task(code, loop=loop, **more)
        assert isinstance(visitor, Visitor)
        assert isinstance(code, Coroutine)
        task = asyncio.Task(self._aside(code, visitor), loop=loop, **more)
        if len(visitor.tasks) >= MOST_TASKS:
            visitor.tasks = {task for task in visitor.tasks if not task.done() or _unheard(task)}
        visitor.tasks.add(task)
        task.add_done_callback(lambda _: code.close())  # it may have been cancelled before its first step
        return task

    async def _aside(self, code: Coroutine[Any, Any, Any], visitor: Visitor) -> Any:
        """A task of a visit. What ends the interpreter elsewhere is an error like any other here."""
        try:
            return await self._steps.through(code, visitor)
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:
            raise fault(error, self.visits.file.path) from None

    async def _end_tasks(self, visitor: Visitor) -> None:
        """End what is left of a visit. Raises UsersError: something in it failed, and nobody has heard of it."""
        tasks, visitor.tasks = visitor.tasks, set()
        unheard = [task for task in tasks if task.done() and _unheard(task)]
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        for task in unheard:
            error = task.exception()
            if error is not None:
                raise fault(error, self.visits.file.path) from None
        for task in left:
            if not task.cancelled():
                task.exception()

    def _note_empty(self) -> float:
        """After a visit without any request. Returns the pause that follows. Raises UsersError: all were so."""
        self._empty += 1
        file = self.visits.file.path
        if not self._sent and self._empty >= MOST_EMPTY:
            raise fault(UsageError(f"{self._empty} visits have ended, and none has asked the model anything"), file)
        if self._empty == 1:
            pause = f"its user pauses for {EMPTY_VISIT_S:g} s"
            text = f"{plain(file)}: a visit ended without any request to the model; {pause}"
            self.sender.events.append(Event(self.now() / 1e9, "client", text, "warning"))
        return EMPTY_VISIT_S

    def _note_held(self, took_ns: int, where: str) -> None:
        now = self.now()
        last_ns = self._held.get(where)
        if last_ns is None and len(self._held) >= MOST_HELD:
            return
        if last_ns is None or now - last_ns >= HELD_TOLD_NS:
            self._held[where] = now
            self.sender.events.append(Event(now / 1e9, "client", held_loop(where, took_ns / 1e6), "warning"))


def _complain(loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
    """As the loop does, but for what is left of visits that were cancelled."""
    if not isinstance(told.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(told)


def _unheard(task: asyncio.Task[Any]) -> bool:
    """Whether it failed, and nobody has asked for that."""
    return bool(getattr(task, "_log_traceback", False))


def _is_ours(code: object) -> bool:
    """Whether a task is one of a request's own, and no user's."""
    made = getattr(code, "cr_code", None)
    return made is not None and made.co_filename.startswith(_ENDPOINT)
