"""Where llmtop's scheduler shows the knobs of a vLLM, and whether they are those of the server that is driven."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from llmtop.dialects import DialectTable
from llmtop.domain.endpoint import Endpoint, EndpointInfo, safe_url
from llmtop.domain.places import pages_in
from llmtop.domain.plain import plain
from llmtop.endpoint.access import Access
from llmtop.endpoint.question import PAGE_BYTES, NoAnswer, NotConnected, ask
from llmtop.errors import EndpointError, UsageError
from llmtop.session.liveknobs import ASK_S, MOST_ENGINES, Panel, Stand, panel_stand
from llmtop.telemetry.exposition import ExpositionParser, TooManySeries
from llmtop.wording.knobs import elsewhere_text, engines_text, no_panel_text, not_its_panel_text, other_start_text

USUAL = "http://127.0.0.1:9475"
"""Where the first engine's are unless somebody says otherwise: PORT of llmtop_knobs.py."""
SPOKEN = 1
"""The version of what a panel says."""
PANEL_BYTES = 1 << 14
TICK_S = 0.02
"""Start times of one process, read twice: the kernel counts hundredths."""
_LETTERS = 80


class Page(Struct, frozen=True):
    """What a server's page of metrics tells of its processes."""

    start_s: float | None = None
    engines: int = 0
    """0: it is no page of such a server, or shows none."""


async def find_panel(
    endpoint: Endpoint, info: EndpointInfo, table: DialectTable, url: str | None
) -> tuple[Panel, Stand] | str:
    """The panels of all engines of the server, and where its knobs stand; or what is there instead, "" for nothing.

    Args:
        url: of the first engine's, as somebody named it; None: as usual, on this machine.
    """
    if url is None and not endpoint.is_here:
        return elsewhere_text()
    base = Endpoint(
        base_url=(url or USUAL).rstrip("/"),
        proxy=endpoint.proxy,
        ca_file=endpoint.ca_file,
        insecure=endpoint.insecure,
        addresses=endpoint.addresses,
    )
    where = safe_url(base.base_url)
    try:
        first = await _asked(base)
    except NotConnected as error:
        return "" if url is None else no_panel_text(where, f"cannot be reached ({plain(str(error), _LETTERS)})")
    except NoAnswer as error:
        return no_panel_text(where, f"gives no answer ({plain(str(error), _LETTERS)})")
    if not isinstance(first, dict) or first.get("llmtop_knobs") != SPOKEN:
        what = f"status {first}" if isinstance(first, int) else "no knobs in it"
        return no_panel_text(where, f"answers, but not as llmtop's scheduler does ({what})")
    models = [plain(str(each), _LETTERS) for each in _list(first.get("model"))[:4]]
    if not set(_list(first.get("model"))) & {info.model, *info.models}:
        return not_its_panel_text(where, models, plain(info.model, _LETTERS))
    page = await _page(endpoint, table, next(iter(pages_in(endpoint.metrics_urls)), table.metrics_path))
    if url is None and not is_same_start(page.start_s, _list(first.get("starts"))):
        return other_start_text(where)
    return await _all_engines(base, first, min(max(1, page.engines), MOST_ENGINES))


async def _all_engines(base: Endpoint, first: dict[str, Any], engines: int) -> tuple[Panel, Stand] | str:
    where = safe_url(base.base_url)
    others = [at_rank(base, rank) for rank in range(1, engines)]
    told = [first, *await asyncio.gather(*map(_told, others))]
    same = [isinstance(each, dict) and each.get("model") == first.get("model") for each in told]
    missing = [f"engine {rank} ({safe_url(at_rank(base, rank).base_url)})" for rank, ok in enumerate(same) if not ok]
    if missing:
        return engines_text(where, engines, missing)
    try:
        return Panel([base, *others]), panel_stand(told, where)
    except EndpointError as error:
        return no_panel_text(where, error.problem)


def at_rank(base: Endpoint, rank: int) -> Endpoint:
    """Where the panel of another engine is: so many ports on."""
    parts = urlsplit(base.base_url)
    port = (parts.port or (443 if parts.scheme == "https" else 80)) + rank
    user, at, host = parts.netloc.rpartition("@")
    name = host.rpartition(":")[0] if parts.port is not None else host
    return Endpoint(
        base_url=urlunsplit(parts._replace(netloc=f"{user}{at}{name}:{port}")),
        proxy=base.proxy,
        ca_file=base.ca_file,
        insecure=base.insecure,
        addresses=base.addresses,
    )


async def _told(panel: Endpoint) -> Any:
    try:
        return await _asked(panel)
    except (NoAnswer, UsageError):  # ports end at 65535
        return None


async def _asked(panel: Endpoint) -> Any:
    """What a panel answers, or the status of an answer that is none. Raises NoAnswer."""
    async with Access(panel).stock_client() as stock:
        answer = await ask(stock, "/", limit_s=ASK_S, limit_bytes=PANEL_BYTES)
    return answer.json if answer.status == 200 else answer.status


async def replicas_of(endpoint: Endpoint, table: DialectTable) -> int:
    """How many servers' pages were named: others of them may be of GPUs."""
    pages = await asyncio.gather(*(_page(endpoint, table, url) for url in pages_in(endpoint.metrics_urls)))
    return sum(page.engines > 0 for page in pages)


async def _page(endpoint: Endpoint, table: DialectTable, url: str | None) -> Page:
    """What a page of the endpoint's tells of its processes."""
    if url is None:
        return Page()
    try:
        async with Access(endpoint).stock_client(pages_in(endpoint.metrics_urls)) as stock:
            answer = await ask(stock, url, limit_s=ASK_S, limit_bytes=PAGE_BYTES)
    except NoAnswer:
        return Page()
    return page_in(answer.body, table) if answer.status == 200 else Page()


def page_in(body: bytes, table: DialectTable) -> Page:
    """What a page of metrics tells."""
    starts = [signal.name for signal in table.metrics.get("process_start_s", ())]
    running = [signal.name for signal in table.metrics.get("running", ())]
    try:
        samples = ExpositionParser([*starts, *running]).parse(body)
    except TooManySeries:
        return Page()
    label = table.engine_label or ""
    engines = {series.labels.get(label) for series, _ in samples if series.name in running}
    return Page(next((value for series, value in samples if series.name in starts), None), len(engines))


def is_same_start(start_s: float | None, starts: Sequence[Any]) -> bool:
    """Whether a server that was started then may be one of those processes; nobody tells: it may be.

    The kernel says when the machine was started in whole seconds, and may say the next one at another time.
    """
    known = [each for each in starts if isinstance(each, float | int)]
    if start_s is None or not known:
        return True
    return any(min(abs(abs(start_s - each) - second) for second in (0.0, 1.0)) <= TICK_S for each in known)


def _list(found: Any) -> list[Any]:
    return [each for each in found if isinstance(each, str | float | int)] if isinstance(found, list) else []
