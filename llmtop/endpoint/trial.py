"""The trial: a stream of two tokens by each API, with everything that a load request would have in it.

What the run will send is what is tried, so the probe is never stricter than the load: an endpoint is refused only where
nothing that it offers can be streamed.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from llmtop.dialects import DIALECTS, DialectTable
from llmtop.dialects.listing import is_listed
from llmtop.domain.endpoint import Dialect, RequestShape
from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.contact import Contact
from llmtop.endpoint.trace import Trace
from llmtop.errors import EndpointAuthFailed, EndpointError, EndpointUnusable

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
TOO_MANY = 429


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

    def __init__(self, client: EndpointClient, contact: Contact, find: Find) -> None:
        self._client = client
        self._endpoint = client.endpoint
        self._url = client.endpoint.base_url
        self._contact = contact
        self._find = find
        self.is_endless = False
        """A trial had to be ended from here."""

    async def try_models(self, models: tuple[str, ...], dialect: Dialect) -> tuple[str, tuple[str, ...], bool]:
        """The model that is driven, the APIs that stream it, and whether they send usage.

        That is the one that was named, or else the first of the list that can be streamed: some begin with one for
        embeddings.
        """
        asked, table = self._endpoint.model, DIALECTS[dialect]
        if asked is None and not models:
            raise EndpointUnusable(self._client.api.url(self._url, "models"), "lists no model: name one with --model")
        tried: list[str] = []
        first: dict[str, Trace] = {}
        for model in models[:_MODELS_TRIED] if asked is None else (asked,):
            self._client.use(dialect, model, RequestShape())
            apis, usage, problems = await self._try_streams(table)
            if apis:
                self._note_streams(apis, usage, problems, table)
                if tried:
                    said = f"{model}, for {', '.join(tried)} cannot be streamed"
                    self._find("model", None, said, "name another with --model")
                return model, apis, usage
            tried.append(model)
            first = first or problems
            if not all(trace.status in _MODEL_STATUSES for trace in problems.values()):
                break
        raise self._refusal(first, models)

    async def _try_streams(self, table: DialectTable) -> tuple[tuple[str, ...], bool, dict[str, Trace]]:
        """Stream two tokens by each API. Returns those that work, whether they send usage, and how others ended."""
        apis: list[str] = []
        usage = False
        problems: dict[str, Trace] = {}
        limit_s = _TRIAL_S
        for api in self._client.api.among(table.request.api):
            trace, is_endless = Trace(), False
            shape = self._client.bodies.shape
            scope = asyncio.timeout(limit_s)
            trial = _Listener(scope)
            try:
                async with scope:
                    await self._client.generate(TRIAL_TEXT, TRIAL_TOKENS, api, trace, trial)
            except TimeoutError:
                is_endless = trial.is_endless
                trace.error = f"no stream within {limit_s:g} s"
                limit_s = limit_s if is_endless else _TRIAL_AGAIN_S
            self.is_endless = self.is_endless or is_endless
            if is_endless or trace.outcome in (Outcome.OK, Outcome.EMPTY, Outcome.TEXTLESS):
                apis.append(api)
                usage = usage or trace.token_source is TokenSource.USAGE
            else:
                problems[api] = trace
                self._client.use(self._client.dialect, self._client.bodies.model, shape)  # it was no field's fault
        shut = next((trace for trace in problems.values() if trace.status in (401, 403)), None)
        if shut is not None and not apis:
            raise EndpointAuthFailed(
                self._url, self._contact.auth_problem(shut.status or 0, (shut.error or "").encode())
            )
        return tuple(apis), usage, problems

    def _note_streams(
        self, apis: tuple[str, ...], usage: bool, problems: dict[str, Trace], table: DialectTable
    ) -> None:
        for api, trace in problems.items():
            self._find(f"{api} API", False, f"{trace.status or 'no answer'}: {trace.error}", f"use {apis[0]}")
        self._find("streaming", True, f"works by {' and '.join(apis)}")
        self._find(
            "usage",
            usage,
            "token counts come from the server" if usage else "the server does not count tokens: shown with ≈",
            table.advice.enable_usage or "stream_options.include_usage is not understood",
        )
        least = self._client.bodies.shape.least_tokens
        if least > TRIAL_TOKENS:
            self._find("least output", None, f"{least} tokens: shorter answers are asked for as that many", None)

    def _refusal(self, problems: dict[str, Trace], models: tuple[str, ...]) -> EndpointError:
        """Why no stream came, with its cause where the server's words or its list are evidence of it."""
        api, trace = next(iter(problems.items()))
        said = f"{api} answers {trace.status or 'nothing'}: {trace.error}"
        asked, others = self._endpoint.model, ", ".join(models[:10])
        if trace.outcome is Outcome.TIMEOUT or trace.outcome is Outcome.CANCELLED:
            return EndpointUnusable(self._url, f"{trace.error}: is the server overloaded, or still loading its model?")
        if trace.status == TOO_MANY:
            return EndpointUnusable(self._url, f"{said}; it limits how much may be asked: try again later")
        names_model = "model" in (trace.error or "").lower()
        if asked is not None and models and not is_listed(asked, models) and trace.status in _MODEL_STATUSES:
            return EndpointUnusable(self._url, f"has no model {asked!r}: it has {others}; {said}")
        if trace.status in _MODEL_STATUSES and names_model:
            return EndpointUnusable(
                self._url, f"{said}; name another with --model{f': it has {others}' if others else ''}"
            )
        if trace.status == 404:
            return EndpointUnusable(
                self._url, f"{said}; no OpenAI API here: is a base path missing, or is it another port?"
            )
        return EndpointUnusable(self._url, said)
