"""What a file of users is given and gets, for editors and for reading: nothing here does anything.

A file of users is Python with one function; `llmtop URL --users FILE` calls it again and again for each user::

    from llmtop.users import User

    async def run(user: User) -> None:
        first = await user.chat(user.text(user.prompt_tokens), name="retrieve")
        await user.pause(2.0)
        await user.chat("And why?", after=first, output_tokens=64, name="answer")

One call is a visit. In a closed loop the slider is the number of users, each of whom begins visit after visit, with the
think time between them; in an open loop every arrival is one visit. A user that is no longer wanted leaves at the end
of its visit, or after half a minute before its next request; a stop or a brake cancels it at once.

What fails on the way (an error of the server, no connection) is an answer whose `ok` is False, never an exception; an
exception of the file's own ends the run, with file and line. Requests may be sent side by side with `asyncio.gather`
and `asyncio.TaskGroup`: what is still going on when `run` returns is cancelled. The loop that calls `run` measures,
too: whatever computes or blocks for longer than 5 ms is named in the run's events and belongs into `asyncio.to_thread`.

The file is imported by the processes that send the load, by its path, and its folder is the last one where modules are
looked for: `import helper` finds a `helper.py` beside it, unless an installed module has that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Protocol

Message = Mapping[str, Any]
"""As in the chat API: {"role": "user", "content": "..."}."""


class ToolCall(Protocol):
    """A tool that the model wants to be called."""

    @property
    def id(self) -> str:
        """To be named as `tool_call_id` in the message that has the result."""

    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str:
        """JSON, as the model wrote it: it may be broken."""


class Answer(Protocol):
    """What became of one request."""

    @property
    def ok(self) -> bool:
        """Whether it ended well."""

    @property
    def error(self) -> str:
        """Why not; empty: it did."""

    @property
    def status(self) -> int | None:
        """The HTTP status; None: nobody answered."""

    @property
    def text(self) -> str:
        """As far as it came."""

    @property
    def reasoning(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[ToolCall]: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def prompt_tokens(self) -> int:
        """As the server counted, else estimated; and so is the next."""

    @property
    def output_tokens(self) -> int: ...
    @property
    def ttft_s(self) -> float | None:
        """Time to first token in seconds; None: none came."""

    @property
    def e2e_s(self) -> float | None:
        """Seconds to the last token."""


class Reply(Protocol):
    """What an HTTP request of a user's own came to."""

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""

    @property
    def status(self) -> int | None:
        """None: nobody answered, or not all of it came in time."""

    @property
    def error(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes:
        """The body, 16 MiB at most."""

    @property
    def text(self) -> str:
        """The body as text, in UTF-8."""

    def json(self) -> Any:
        """The decoded body. Raises ValueError where it is no JSON."""


class User(Protocol):
    """The handle that `run` is given; a user has the same one in all of its visits."""

    @property
    def number(self) -> int:
        """Its own in the run, from 0."""

    @property
    def random(self) -> Random:
        """Its own, of the run's seed and its number: what is drawn from it is the same in each run."""

    @property
    def prompt_tokens(self) -> int:
        """The length that the slider, or the workload's distribution, wants of a prompt; each look draws one."""

    @property
    def output_tokens(self) -> int:
        """The same of an answer. A prompt and an answer that are looked at in turn belong together."""

    def text(self, tokens: int) -> str:
        """English words of so many tokens, as the endpoint counts them, with a beginning that no other text has. The
        load's shared prefix is heeded: that share of it is common to all."""

    async def chat(
        self,
        said: str | Sequence[Message],
        *,
        after: Answer | None = None,
        output_tokens: int | None = None,
        name: str | None = None,
        model: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **body: Any,
    ) -> Answer:
        """Ask the endpoint and wait for the end of its answer.

        Args:
            said: a text of the user's, or messages as in the chat API.
            after: an answer that this goes on from: all that was said before, and the answer itself, come first.
            output_tokens: how long the answer is to be; None: `output_tokens` of the user. Where the server allows it,
                it is neither shorter nor longer; with `tools` the model ends by itself, and this is the most.
            name: what kind of request it is, for figures and limits by name; None: chat.
            model: None: the endpoint's.
            body: further fields of the request (`temperature=0.2`, `tool_choice="auto"`).
        """
        ...

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
        """The same by the completions API: the model goes on with a text."""
        ...

    async def pause(self, seconds: float) -> None:
        """Think, or do something else: no request is in flight."""

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
        """A request that is none to the model: a search, a tool. It is recorded and in no figure of the endpoint.

        Args:
            url: whole, or a path (`/search`) of the endpoint's own host. The endpoint's key and headers go to its own
                scheme, host and port alone.
            json: sent as JSON.
            timeout_s: for all of it.
            name: None: the method and the host.
        """
        ...
