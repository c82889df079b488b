"""Questions to a Prometheus by its HTTP API (prometheus.io/docs/prometheus/latest/querying/api).

Thanos, Mimir and VictoriaMetrics have it as well. Each question is bounded in time and bytes; nothing is followed.
"""

from __future__ import annotations

import math
from urllib.parse import urlencode

import httpx
import msgspec
from msgspec import Struct

from llmtop.domain.endpoint import safe_url
from llmtop.endpoint.access import Access
from llmtop.endpoint.question import Answer, Late, NoAnswer, NotConnected, ask
from llmtop.endpoint.refusals import is_html, refusal_text
from llmtop.errors import EndpointAuthFailed, EndpointError, EndpointUnreachable, EndpointUnusable
from llmtop.wording import traffic as words

ANSWER_BYTES = 8 << 20


class Series(Struct):
    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    values: list[tuple[float, str]] = []

    @property
    def number(self) -> float:
        """Its value now; nan: it has none."""
        return math.nan if self.value is None else number_in(self.value[1])


class _Data(Struct):
    result: list[Series]


class _Reply(Struct):
    data: _Data


def number_in(text: str) -> float:
    """nan: it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def series_in(decoded: object) -> list[Series]:
    """The series of a decoded answer. Raises ValueError: it is no answer of a Prometheus."""
    try:
        return msgspec.convert(decoded, _Reply).data.result
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


class Asker:
    """Asks one Prometheus.

    Args:
        root: scheme, host, port and base path.
    """

    def __init__(self, client: httpx.AsyncClient, root: str, access: Access, limit_s: float) -> None:
        self._client, self._root, self._access, self._limit_s = client, root, access, limit_s

    async def ask(self, what: str, **parameters: str) -> list[Series]:
        """The series that `query` or `query_range` gives. Raises EndpointError."""
        url = f"{self._root}/api/v1/{what}?{urlencode(parameters)}"
        try:
            answer = await ask(
                self._client, url, limit_s=self._limit_s, limit_bytes=ANSWER_BYTES, accept="application/json"
            )
        except (Late, NotConnected) as error:
            raise EndpointUnreachable(safe_url(self._root), self._access.heard(str(error))) from None
        except NoAnswer as error:
            raise EndpointUnusable(safe_url(self._root), self._access.heard(str(error))) from None
        if answer.status != httpx.codes.OK:
            raise self._refusal(answer)
        try:
            return series_in(answer.json)
        except ValueError:
            page = "a web page" if is_html(answer.body) else "something else"
            raise EndpointUnusable(safe_url(self._root), words.no_prometheus_text(f"answers with {page}")) from None

    def _refusal(self, answer: Answer) -> EndpointError:
        url, said = safe_url(self._root), self._access.heard(refusal_text(answer.body) or "")
        if answer.status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return EndpointAuthFailed(url, words.not_let_in_text(answer.status, said))
        if httpx.codes.is_redirect(answer.status):
            there = self._access.heard(safe_url(answer.location))
            return EndpointUnusable(url, words.redirected_text(there))
        if answer.status == httpx.codes.NOT_FOUND:
            return EndpointUnusable(url, words.no_prometheus_text("answers 404"))
        return EndpointUnusable(url, f"answers {answer.status}{f': {said}' if said else ''}")
