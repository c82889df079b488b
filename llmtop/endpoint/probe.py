"""What an endpoint is and can: found by asking it, not by being told.

Evidence for a dialect is what only that server says: a prefix of its metrics, `owned_by` of its models, a path with
certain keys, its Server header. Then a stream is tried (`trial`). Every step leaves a `Finding`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import Any, TypeVar

from llmtop.dialects import DIALECTS, DialectTable, JsonFact, dig, text_of
from llmtop.dialects.listing import LIST_PATH, context_of, entries_in, fact_at, names_in
from llmtop.dialects.recognition import Answers, clues, recognise
from llmtop.domain.endpoint import USUAL_ROOT, Dialect, Endpoint, EndpointInfo, Finding, safe_url
from llmtop.domain.load import Caps
from llmtop.domain.places import pages_in, places_in
from llmtop.domain.plain import LONG
from llmtop.endpoint.admission import is_port_of_tls
from llmtop.endpoint.client import EndpointClient
from llmtop.endpoint.clock import KERNEL
from llmtop.endpoint.contact import Contact
from llmtop.endpoint.flags import Flags, flags_in
from llmtop.endpoint.question import (
    FOLLOWS,
    JSON_BYTES,
    LIST_BYTES,
    PAGE_BYTES,
    REFUSAL_BYTES,
    Answer,
    NoAnswer,
    NotHttp,
    Refused,
    ask,
)
from llmtop.endpoint.refusals import refusal_text
from llmtop.endpoint.roots import likely_root, settle
from llmtop.endpoint.trial import TRIAL_MOST, TRIAL_TEXT, TRIAL_TOKENS, Trials, Wanted
from llmtop.endpoint.waiting import Tell, waiting
from llmtop.errors import EndpointError, EndpointUnusable
from llmtop.wording.findings import explained
from llmtop.wording.refused import NAME_A_MODEL
from llmtop.wording.restarts import ANSWERS, LISTS

Asked = TypeVar("Asked")
Reached = Callable[[str], None]
_ASK_S = 5.0
"""For one question. A busy vLLM takes 0.6 s for /metrics."""
_VERSION_LETTERS = 80
"""Of a version, as it is shown."""
_MODELS_KEPT = 1000
"""Models that are kept of a list."""
_ADDRESSES_SHOWN = 8
_NOTHING = Answer(0, b"")
"""There was no answer."""
_MISSING = Answer(404, b"")
"""Stands for an answer that cannot be read, where the root is looked for."""


async def probe(
    endpoint: Endpoint,
    caps: Caps,
    tell: Tell | None = None,
    reached: Reached | None = None,
    wanted: Wanted | None = None,
) -> EndpointInfo:
    """Find out what an endpoint is and can, on connections that end with the probe.

    A model and a dialect that `endpoint` names are believed; what it leaves open is found out. All of it is fit to be
    shown but for `model`, which is as it must be sent: `Access.shown` is for that. `tell` hears what is waited for, and
    `reached` how far the endpoint is, in words. `wanted` is what the load will ask; None: nothing beyond the usual.

    Raises EndpointUnreachable, EndpointAuthFailed or EndpointUnusable, with what to do, and UsageError as `Access`.
    """
    return await _asked(endpoint, caps, lambda client: _Probe(client, tell, reached, wanted or Wanted()).run())


async def reach(endpoint: Endpoint, caps: Caps) -> None:
    """Connect to an endpoint once, and ask nothing. Raises as `probe`."""
    await _asked(endpoint, caps, lambda client: Contact(client).reach())


async def _asked(endpoint: Endpoint, caps: Caps, ask: Callable[[EndpointClient], Awaitable[Asked]]) -> Asked:
    client = EndpointClient(endpoint, None, caps, perf_counter_ns())
    try:
        return await ask(client)
    except EndpointError as error:
        raise type(error)(safe_url(error.url), client.access.heard(error.problem, LONG)) from None
    finally:
        await client.close()


def unchecked(endpoint: Endpoint, wanted: Wanted | None = None) -> EndpointInfo:
    """What is known of an endpoint that is asked nothing: what `endpoint` and `wanted` say, a model among it."""
    wanted = wanted or Wanted()
    dialect = endpoint.dialect or Dialect.OPENAI
    table = DIALECTS[dialect]
    return EndpointInfo(
        dialect=dialect,
        model=endpoint.model or next(iter(wanted.models), ""),
        apis=endpoint.api.among(wanted.among(table.request.api)),
        api_root=likely_root(endpoint.base_url) if endpoint.api.root is None else None,
        server=f"{table.title} (unchecked)",
        has_metrics=table.metrics_path is not None or bool(endpoint.metrics_urls),
        findings=(Finding("checks", None, "skipped: nothing was asked of the endpoint", "llmtop doctor asks"),),
    )


class _Probe:
    def __init__(self, client: EndpointClient, tell: Tell | None, reached: Reached | None, wanted: Wanted) -> None:
        self._client = client
        self._reached = reached or (lambda stage: None)
        self._endpoint = client.endpoint
        self._url = client.endpoint.base_url
        self._heard = client.access.heard
        self._contact = Contact(client)
        self._answers: dict[str, Answer] = {}
        self._pages: set[str] = set()
        """Where metrics may be."""
        self._tell = tell
        self._trials = Trials(client, self._contact, self._find, tell, wanted)
        self._refused_pages: list[str] = []
        """Those of them that were not read, and why."""
        self._findings: list[Finding] = []
        self._entries: list[dict[str, Any]] = []
        """What the list of models holds."""

    async def run(self) -> EndpointInfo:
        with waiting(self._tell, "a connection", self._client.caps.connect_timeout_s):
            await self._contact.reach()
        self._reached(ANSWERS)
        models = await self._list_models()
        self._reached(LISTS)
        dialect = await self._detect()
        table = DIALECTS[dialect]
        facts = [*itertools.chain(*table.json_facts.values()), *table.version_facts]
        await self._gather(sorted({*(fact.path for fact in facts), *(each.path for each in table.flags if each.path)}))
        model, apis, has_usage = await self._trials.try_models(self._entries, dialect)
        max_model_len = self._figure(table, "max_model_len", model) or context_of(model, self._entries)
        max_num_seqs = self._figure(table, "max_num_seqs", model)
        self._find(
            "context length",
            None if max_model_len is None else True,
            "not told" if max_model_len is None else f"{max_model_len} tokens",
            f"set by {table.advice.max_model_len}" if table.advice.max_model_len else None,
        )
        flags = self._note_flags(table, model)
        pins = self._note_pinning(table) if apis != ("embeddings",) else False
        has_tokenize = await self._note_tokenizer(table)
        has_metrics = self._note_metrics(table)
        self._note_reach()
        return EndpointInfo(
            dialect=dialect,
            model=model,
            models=tuple(map(self._heard, models[:_MODELS_KEPT])),
            apis=apis,
            api_root=self._client.api.root,
            server=self._server_name(table),
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            has_tokenize=has_tokenize,
            has_metrics=has_metrics,
            pins_output=pins,
            has_usage=has_usage,
            flags=flags,
            request_shape=self._client.bodies.shape,
            findings=tuple(self._findings),
        )

    def _find(self, name: str, ok: bool | None, found: str, advice: str | None = None) -> None:
        self._findings.append(explained(Finding(name, ok, self._heard(found, LONG), None if ok else advice)))

    async def _list_models(self) -> tuple[str, ...]:
        """The models that are listed. Where one is named, the list is not needed: whatever becomes of it is a finding,
        and the trial decides."""
        path = self._client.api.path("models")
        problem: EndpointError | None = None
        is_fatal, seen = False, ""
        try:
            with waiting(self._tell, f"the list of models ({safe_url(path)})", _ASK_S):
                answer = await ask(self._client.stock, path, limit_s=_ASK_S, limit_bytes=LIST_BYTES)
        except NoAnswer as error:
            problem, is_fatal = await self._contact.no_answer(self._url + path, error)
            seen = str(error)
            answer, is_known = _NOTHING, isinstance(error, NotHttp)
        else:
            is_known = True
        if self._client.api.root is None and is_known and not is_fatal:
            root, settled = await settle(self._client, _MISSING if problem is not None else answer, _ASK_S)
            self._client.use_root(root)
            path = self._client.api.path("models")
            if problem is None or settled.status != _MISSING.status:
                problem, answer = None, settled
        if problem is None:
            is_fatal = is_port_of_tls(answer.status, answer.body)
            problem = self._contact.problem_of(self._url + path, answer)
        if problem is not None and (is_fatal or self._endpoint.model is None):
            raise problem
        self._answers[LIST_PATH] = answer
        if self._client.api.root not in (None, USUAL_ROOT):
            api = next(iter(self._client.api.among(("chat",))))
            self._find("address", True, f"{api} is asked at {safe_url(self._client.api.url(self._url, api))}")
        entries = entries_in(answer.json) if answer.status == 200 else None
        if entries is None and self._endpoint.model is None:
            said = self._heard(refusal_text(answer.body[:REFUSAL_BYTES])) or "nothing"
            why = f"no list of models ({said}): is that the right port? or {NAME_A_MODEL}"
            raise EndpointUnusable(self._url + path, why)
        if problem is not None or entries is None:
            seen = self._contact.seen(answer) if answer.status else seen
            self._find("models", None, f"{safe_url(path)}: {seen}; not needed with --model")
            return ()
        self._entries = entries
        models = names_in(entries)
        self._find("models", bool(models), ", ".join(models[:5]) or "none listed", "name the model with --model")
        return models

    # What it is

    async def _gather(self, paths: list[str]) -> None:
        """Ask all `paths` that were not asked yet."""
        wanted = [path for path in paths if path not in self._answers]
        with waiting(
            self._tell, f"what the server says of itself ({', '.join(map(safe_url, wanted[:3]))} ...)", _ASK_S
        ):
            found = await asyncio.gather(*(self._ask(path) for path in wanted))
        self._answers.update(zip(wanted, found, strict=True))

    async def _ask(self, path: str) -> Answer:
        is_page = path in self._pages
        try:
            limit = PAGE_BYTES if is_page else JSON_BYTES
            return await ask(self._client.stock, path, limit_s=_ASK_S, limit_bytes=limit, follows=FOLLOWS)
        except Refused as error:
            if is_page:
                self._refused_pages.append(f"{safe_url(path)} {error}")
        except NoAnswer:
            pass
        return _NOTHING

    async def _detect(self) -> Dialect:
        given = self._endpoint.dialect
        tables = list(DIALECTS.values()) if given is None else [DIALECTS[given]]
        paths = {path for table in tables for path in table.detection.json_keys}
        self._pages = {table.metrics_path for table in tables if table.metrics_path} | {
            *pages_in(self._endpoint.metrics_urls)
        }
        await self._gather(sorted(paths | self._pages))
        if given is not None:
            self._find("dialect", True, f"{DIALECTS[given].title}, as told")
            return given
        dialect, found = recognise(self._evidence())
        why = (
            f", by {', '.join(clue.text for clue in found)}" if found else ": nothing points to a server that is known"
        )
        unread = f"; {'; '.join(self._refused_pages)}" if self._refused_pages and not found else ""
        self._find("dialect", True, DIALECTS[dialect].title + why + unread)
        return dialect

    def _evidence(self) -> Answers:
        models = self._answers[LIST_PATH]
        return Answers(
            pages={path: answer.body for path, answer in self._answers.items() if answer.status == 200},
            json=self._json,
            models=models.json if models.status == 200 else None,
            server=models.server,
            named=pages_in(self._endpoint.metrics_urls),
        )

    def _json(self, path: str) -> Any:
        answer = self._answers.get(path, _NOTHING)
        return answer.json if answer.status == 200 else None

    def _figure(self, table: DialectTable, field: str, model: str) -> int | None:
        told = (fact_at(self._json(fact.path), fact, model) for fact in table.json_facts.get(field, ()))
        return next((int(number) for number in told if number is not None and number >= 1), None)

    def _text(self, facts: tuple[JsonFact, ...]) -> str | None:
        told = (text_of(dig(self._json(fact.path), fact.key)) for fact in facts)
        return next((text for text in told if text is not None), None)

    def _server_name(self, table: DialectTable) -> str:
        version = self._text(table.version_facts)
        if version is None:
            return self._heard(self._answers[LIST_PATH].server) or table.title
        return f"{table.title} {self._heard(version, _VERSION_LETTERS)}"

    def _note_flags(self, table: DialectTable, model: str) -> Flags:
        pages = (answer.body for path in self._pages if (answer := self._answers[path]).status == 200)
        flags = flags_in(table, self._json, pages, model, self._heard)
        if flags:
            self._find("settings", True, ", ".join(f"{name} {value}" for name, value in flags))
        return flags

    # What it can

    def _note_pinning(self, table: DialectTable) -> bool:
        bodies = self._client.bodies
        dropped = bodies.shape.dropped
        if self._trials.is_endless:
            found = f"not heeded: more than {TRIAL_MOST} tokens where {TRIAL_TOKENS} were asked"
            self._find("output length", False, found, "compare asked and delivered output tokens in the report")
            return False
        if bodies.pins_output and table.request.pin_is_certain:
            self._find("output length", True, "pinned")
            return True
        if bodies.pins_output:
            self._find("output length", None, "pinning was not refused; whether it works shows in the run")
            return False
        self._find(
            "output length",
            False,
            f"{' and '.join(dropped)} refused: streams may end early" if dropped else "cannot be pinned",
            "compare asked and delivered output tokens in the report",
        )
        return False

    async def _note_tokenizer(self, table: DialectTable) -> bool:
        count = await self._client.tokenize(TRIAL_TEXT)
        self._find(
            "tokenizer",
            count is not None,
            f"{table.tokenizer.path} counts" if count is not None and table.tokenizer else "none to ask",
            table.advice.enable_tokenize,
        )
        return count is not None

    def _note_metrics(self, table: DialectTable) -> bool:
        if table.metrics_path is None and not self._endpoint.metrics_urls:
            self._find("metrics", None, f"{table.title} has none", table.advice.enable_metrics)
            return False
        if places_in(self._endpoint.metrics_urls):
            shown = ", ".join(map(safe_url, self._endpoint.metrics_urls))
            self._find("metrics", None, f"of each replica that is found by {shown}")
            return True
        has = any(clue.kind == "metrics" for clue in clues(table, self._evidence()))
        path = ", ".join(self._endpoint.metrics_urls) or table.metrics_path or ""
        status = self._answers.get(path, _NOTHING).status
        shown = ", ".join(map(safe_url, self._endpoint.metrics_urls)) or path
        told = next(
            (refused for refused in self._refused_pages if refused.startswith(shown)),
            f"{shown} answers {status or 'nothing'}, without {table.title}'s names",
        )
        advice = table.advice.enable_metrics or "name the page with --metrics-url"
        if table.metrics_port:
            advice += (
                f" (port {table.metrics_port})"
                if "--metrics-url" in advice
                else (f" (or --metrics-url with port {table.metrics_port})")
            )
        self._find(
            "metrics",
            has,
            path if has else told,
            advice,
        )
        return has

    def _note_reach(self) -> None:
        access = self._client.access
        addresses = self._client.addresses
        if len(addresses) > 1:
            shown = ", ".join(addresses[:_ADDRESSES_SHOWN])
            self._find("addresses", True, f"{len(addresses)} addresses: {shown}: connections go to each in turn")
        if access.proxy:
            self._find(
                "transport",
                False,
                f"stock httpx through {access.proxy.shown}",
                "--proxy none, or NO_PROXY with this host, measures it directly",
            )
        elif access.uses_stock:
            self._find("transport", None, "stock httpx, as told", "use --transport auto")
        else:
            source = self._client.stamp_source
            kernel = source == KERNEL
            self._find(
                "stamps",
                True if kernel else None,
                f"from the {source}"
                if kernel
                else f"from the {source}: token times are late by the client's own delay",
                "Linux and TCP give the kernel's own stamps",
            )
        if self._endpoint.insecure:
            self._find("TLS", False, "certificates are not checked", "name the CA with --ca-file")
