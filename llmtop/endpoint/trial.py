"""The trial: a stream of two tokens by each API, with everything that a load request would have in it.

What the run will send is what is tried, so the probe is never stricter than the load: an endpoint is refused only where
nothing that it offers can be streamed.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from msgspec import Struct

from llmtop.dialects import DIALECTS, DialectTable
from llmtop.dialects.listing import entry_of, is_pattern, names_in
from llmtop.domain.endpoint import USUAL_APIS, Dialect, RequestShape
from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.admission import CERTIFICATE_WANTED, is_certificate_wanted
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.contact import Contact
from llmtop.endpoint.trace import Trace
from llmtop.endpoint.waiting import Tell, waiting
from llmtop.errors import EndpointError, EndpointUnreachable, EndpointUnusable
from llmtop.wording.refused import login_page, meaning

_TRIAL_S = 60.0
"""For a stream of two tokens: a cold model compiles first."""
_TRIAL_AGAIN_S = 15.0
"""For the stream of a second API where that of the first did not come in time: the model has been asked by then."""
TRIAL_TOKENS = 2
TRIAL_MOST = 64
"""Tokens of a trial after which its server is taken not to heed the asked length."""
TRIAL_TEXT = "Count to ten: one, two,"
_MODELS_TRIED = 5
"""Of a list whose first models cannot be streamed."""
_MODEL_STATUSES = (400, 404, 405, 422, 500, 501)
"""With which servers refuse a model that they do not have, or that cannot do what is asked."""
_MODELS_SHOWN = 10
_STREAMED = (Outcome.OK, Outcome.EMPTY, Outcome.TEXTLESS)
"""How a trial ends by which an API can be driven."""
_WEB_PAGE = "a web page"
"""How a stream that is one is told."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What the load will ask, so that nothing else is tried."""

    api: str | None = None
    """None, or one that an endpoint may have beside the others: those that its dialect streams."""
    extra: bytes = b""
    """Fields of every body, as in `Prompt.extra`."""
    models: tuple[str, ...] = ()
    """Those that share the load; (): the endpoint's one."""

    def among(self, apis: tuple[str, ...]) -> tuple[str, ...]:
        """The APIs to be tried, of those that the dialect has by itself."""
        return apis if self.api is None or self.api in USUAL_APIS else (self.api,)


class Find(Protocol):
    """Takes a finding: its name, whether all is well, what was seen, what to type."""

    def __call__(self, name: str, ok: bool | None, found: str, advice: str | None = None) -> None: ...


class _Listener:
    """Listens to a trial, and ends it when more tokens have come than any server sends by mistake."""

    def __init__(self, scope: asyncio.Timeout) -> None:
        self._scope = scope
        self._tokens = 0

    @property
    def is_endless(self) -> bool:
        return self._tokens > TRIAL_MOST

    def first_token(self, trace: Trace) -> None:
        pass

    def tokens(self, trace: Trace, n: int, stamp_ns: int, gap_ns: int | None) -> None:
        self._tokens += n
        if self.is_endless and not self._scope.expired():
            self._scope.reschedule(0.0)


class Trials:
    """Tries the models of an endpoint, and tells what came of it by `find`."""

    def __init__(self, client: EndpointClient, contact: Contact, find: Find, tell: Tell | None, wanted: Wanted) -> None:
        self._client = client
        self._wanted = wanted
        self._endpoint = client.endpoint
        self._url = client.endpoint.base_url
        self._contact = contact
        self._find = find
        self._tell = tell
        self.is_endless = False
        """A trial had to be ended from here."""

    async def try_models(self, entries: list[dict[str, Any]], dialect: Dialect) -> tuple[str, tuple[str, ...], bool]:
        """The model that is driven, the APIs that stream it, and whether they send usage.

        That is the one that was named, or else the first of the list that can be streamed: some begin with one for
        embeddings, or with one that the key may not ask.
        """
        asked, listed = self._asked, names_in(entries)
        models = tuple(model for model in listed if not is_pattern(model))
        if asked is None and not models:
            what = f"lists patterns alone ({', '.join(listed[:5])})" if listed else "lists no model"
            raise EndpointUnusable(self._client.api.url(self._url, "models"), f"{what}: name one with --model")
        tried: list[str] = []
        first: dict[str, Trace] = {}
        for model in models[:_MODELS_TRIED] if asked is None else (asked,):
            self._client.use(dialect, model, RequestShape())
            apis, usage, problems = await self._try_streams(DIALECTS[dialect])
            if apis:
                self._note_streams(apis, usage, problems, DIALECTS[dialect])
                await self._try_others(apis[0], entries)
                if tried:
                    said = f"{model}, for {', '.join(tried)} cannot be streamed"
                    self._find("model", None, said, "name another with --model")
                return model, apis, usage
            tried.append(model)
            first = first or problems
            if not all(_is_of_model(trace, model) for trace in problems.values()):
                break
        raise await self._refusal(first, entries, tried)

    @property
    def _asked(self) -> str | None:
        """The model that was named, or the first of those that share the load."""
        return self._endpoint.model or next(iter(self._wanted.models), None)

    async def _try_others(self, api: str, entries: list[dict[str, Any]]) -> None:
        """Try the other models that share the load and are not listed. Raises EndpointError for one that fails."""
        for model in self._wanted.models[1:]:
            if entry_of(model, entries) is None:
                trace, _ = await self._stream(api, _TRIAL_S, model)
                if trace.outcome not in _STREAMED:
                    raise await self._refusal({api: trace}, entries, [model], model)
        if self._wanted.models:
            self._find("models asked", True, ", ".join(self._wanted.models[:_MODELS_SHOWN]))

    async def _try_streams(self, table: DialectTable) -> tuple[tuple[str, ...], bool, dict[str, Trace]]:
        """Stream two tokens by each API. Returns those that work, whether they send usage, and how others ended."""
        apis: list[str] = []
        usage = False
        problems: dict[str, Trace] = {}
        limit_s = _TRIAL_S
        for api in self._client.api.among(self._wanted.among(table.request.api)):
            shape = self._client.bodies.shape
            trace, is_endless = await self._stream(api, limit_s)
            if trace.outcome is Outcome.CANCELLED and not is_endless:
                limit_s = _TRIAL_AGAIN_S
            self.is_endless = self.is_endless or is_endless
            if is_endless or trace.outcome in _STREAMED:
                apis.append(api)
                usage = usage or trace.token_source is TokenSource.USAGE
            else:
                problems[api] = trace
                self._client.use(self._client.dialect, self._client.bodies.model, shape)  # it was no field's fault
        return tuple(apis), usage, problems

    async def _stream(self, api: str, limit_s: float, model: str | None = None) -> tuple[Trace, bool]:
        """Stream two tokens. Returns how that ended, and whether it had to be ended from here for want of an end."""
        trace, is_endless = Trace(), False
        scope = asyncio.timeout(limit_s)
        trial = _Listener(scope)
        of = "" if model is None else f" of {model}"
        what = f"a first stream by {api}{of} (a cold model loads and compiles first)"
        try:
            with waiting(self._tell, what, limit_s):
                async with scope:
                    await self._client.generate(
                        TRIAL_TEXT, TRIAL_TOKENS, api, trace, trial, model=model, extra=self._wanted.extra
                    )
        except TimeoutError:
            is_endless = trial.is_endless
            trace.error = f"no stream within {limit_s:g} s"
        return trace, is_endless

    def _note_streams(
        self, apis: tuple[str, ...], usage: bool, problems: dict[str, Trace], table: DialectTable
    ) -> None:
        for api, trace in problems.items():
            self._find(f"{api} API", False, f"{trace.status or 'no answer'}: {trace.error}")
        self._find("streaming", True, f"works by {' and '.join(apis)}")
        self._find(
            "usage",
            usage,
            "token counts come from the server" if usage else "the server does not count tokens",
            table.advice.enable_usage,
        )
        least = self._client.bodies.shape.least_tokens
        if least > TRIAL_TOKENS:
            self._find("least output", None, f"{least} tokens")

    async def _refusal(
        self, problems: dict[str, Trace], entries: list[dict[str, Any]], tried: list[str], asked: str | None = None
    ) -> EndpointError:
        """Why no stream came, with its cause where the server's words or its list are evidence of it."""
        api, trace = min(problems.items(), key=lambda told: _rank(told[1]))
        status, error = trace.status or 0, (trace.error or "no reason given").rstrip(".")
        said = f"{api} answers {status or 'nothing'}: {error}"
        if trace.outcome in (Outcome.TIMEOUT, Outcome.CANCELLED):
            return EndpointUnusable(self._url, f"{error}: is the server overloaded, or still loading its model?")
        why = meaning(status, error, trace.retry_after_s) if status < 500 else None
        if why is None and (of_model := self._of_model(said, trace, entries, tried, asked)) is not None:
            return EndpointUnusable(self._url, of_model)
        if why is None and status in (401, 403):
            return await self._contact.not_let_in(api, status, error)
        kind = EndpointUnreachable if status == 503 else EndpointUnusable
        why = why or meaning(status, error, trace.retry_after_s) or _cause(status, error)
        return kind(self._url, said if why is None else f"{said}; {why}")

    def _of_model(
        self, said: str, trace: Trace, entries: list[dict[str, Any]], tried: list[str], asked: str | None
    ) -> str | None:
        """What to do where the model is what is refused, around what was said; None: it is not."""
        asked, names = asked or self._asked, names_in(entries)
        rest = [name for name in names if name not in tried][:_MODELS_SHOWN]
        others = f": it has {', '.join(rest)}" if rest else ""
        if asked is not None and rest and entry_of(asked, entries) is None and _is_of_model(trace, asked):
            return f"has no model {asked!r}{others}; {said}"
        if not _is_of_model(trace, tried[0]) or not _names(trace, tried[0]) or trace.status == 500:
            return None
        key = ", or another key with --api-key-env" if trace.status == 403 else ""
        if names and not rest:
            unlisted = f"or name one with --model that it does not list{key}"
            return f"{said}; it lists no other: is this one loaded, and can it chat? {unlisted}"
        return f"{said}; name another with --model{others}{key}"


def _rank(trace: Trace) -> int:
    """Which refusal is told of several: that of a key first, that of a path that is not there last."""
    return 0 if trace.status == 401 else 2 if trace.status in (404, 405) and not _names(trace, "") else 1


def _names(trace: Trace, model: str) -> bool:
    """Whether a refusal speaks of a model."""
    error = (trace.error or "").lower()
    return "model" in error or (model != "" and model.lower() in error)


def _is_of_model(trace: Trace, model: str) -> bool:
    """Whether another model may do where this one is refused."""
    return trace.status in _MODEL_STATUSES or (trace.status == 403 and _names(trace, model))


def _cause(status: int, error: str) -> str | None:
    """What a refusal is about that is neither of a key nor of a model; None: it does not show."""
    is_page = error.startswith(_WEB_PAGE)
    if (300 <= status < 400 or is_page) and (login := login_page(error)) is not None:
        return login
    if is_certificate_wanted(status, error.encode()):
        return CERTIFICATE_WANTED
    if status == 404:
        return "no OpenAI API here: is a base path missing, or is it another port?"
    return "is that the right port, or is a base path missing?" if is_page else None
