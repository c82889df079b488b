"""Pods as a Prometheus keeps them: where they cannot be reached, what it scraped of each stands for its page.

One query gives all series of all pods that figures are read from; those of one pod are written as a page of metrics, so
that engines, models and names are added up as on any page. (`sum by (pod)` would add up what must not be: the KV usage
of two engines.) A second one gives the age of what was scraped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import httpx
from msgspec import Struct

from llmtop.dialects import DIALECTS, DialectTable
from llmtop.dialects.naming import own_names
from llmtop.domain.places import PrometheusServer
from llmtop.endpoint.access import Access
from llmtop.errors import EndpointError
from llmtop.telemetry.places import Found
from llmtop.telemetry.promql import Asker, Series
from llmtop.telemetry.signals import names_of
from llmtop.wording import replicas as words

LIMIT_S = 4.0
"""For one question."""
ASK_S = 5.0
"""How often: a Prometheus scrapes every 5 to 60 s."""
_BEFORE = "(?:ray_)?"
"""What may stand before an engine's own names."""
_WHO = ("pod", "instance")
"""Labels that tell pods apart, and processes of one pod."""


class KeptPod(Struct, frozen=True):
    key: str
    name: str
    page: bytes
    at_s: float
    """When it was asked, on the clock of the Prometheus."""


def picked(names: Iterable[str], matchers: Sequence[tuple[str, str, str]]) -> str:
    """A selector of PromQL for all series of these names, with colons or underscores."""
    ways = "|".join(sorted({name.removesuffix("_total").replace(":", "[:_]") for name in names}))
    told = [f'__name__=~"{_BEFORE}(?:{ways})(?:_total)?"']
    told += [f'{label}{how}"{_quoted(value)}"' for label, how, value in matchers]
    return f"{{{','.join(told)}}}"


def pods_of(series: Sequence[Series], own: Iterable[str]) -> tuple[KeptPod, ...]:
    """The pods that have series of an engine, each with its page.

    Args:
        own: names that only the engine has.
    """
    signs = tuple(re.compile(f"{_BEFORE}{name.removesuffix('_total').replace(':', '[:_]')}.*") for name in own)
    grouped: dict[tuple[str, str], list[Series]] = {}
    for each in series:
        grouped.setdefault(who(each), []).append(each)
    engines = {
        key: members
        for key, members in grouped.items()
        if any(key) and any(sign.fullmatch(each.metric.get("__name__", "")) for each in members for sign in signs)
    }
    pods = [pod for pod, _ in engines]
    found = []
    for (pod, instance), members in sorted(engines.items()):
        name = instance if not pod else pod if pods.count(pod) == 1 else f"{pod} {instance}"
        at_s = max((each.value[0] for each in members if each.value is not None), default=math.nan)
        found.append(KeptPod(name, name, "".join(map(_line, members)).encode("utf-8", "replace"), at_s))
    return tuple(found)


def who(series: Series) -> tuple[str, str]:
    """Pod and instance that a series is of; empty where it does not say."""
    pod, instance = (series.metric.get(label, "") for label in _WHO)
    return pod, instance


def _line(series: Series) -> str:
    if series.value is None:
        return ""
    labels = ",".join(f'{label}="{_quoted(value)}"' for label, value in series.metric.items() if label != "__name__")
    return f"{series.metric.get('__name__', '')}{{{labels}}} {series.value[1]}\n"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class KeptPods:
    """The pods of one service, as a Prometheus tells of them."""

    every_s = ASK_S

    def __init__(
        self, url: str, server: PrometheusServer, table: DialectTable, client: httpx.AsyncClient, access: Access
    ) -> None:
        self.problem: str | None = None
        self._url, self._matchers = url, server.matchers
        self._asker = Asker(client, server.root, access, LIMIT_S)
        self._tables = [table] if table.metrics else [each for each in DIALECTS.values() if each.metrics]
        """Those that may be meant; only the one that has series, once that is known."""
        self._scraped_s: dict[str, float] = {}
        """When what was told of a pod was scraped."""

    async def look(self) -> tuple[Found, ...] | None:
        try:
            for table in self._tables:
                pods = pods_of(await self._ask(table), own_names(table))
                if pods:
                    self._tables = [table]
                    self.problem = None
                    scraped_s = await self._scraped(table)
                    return tuple(self._found(pod, scraped_s.get(pod.key)) for pod in pods)
        except EndpointError as error:
            self.problem = f"{self._url}: {error.problem}"
            return None
        title = self._tables[0].title if len(self._tables) == 1 else "any engine that is known"
        selector = ",".join(f'{label}{how}"{value}"' for label, how, value in self._matchers)
        self.problem = words.no_series(self._url, title, selector)
        return ()

    async def _ask(self, table: DialectTable) -> list[Series]:
        names = names_of(table)
        if not self._matchers:  # others' processes have names of theirs, too
            names = {name for name in names if name.startswith(table.detection.metric_prefixes)}
        return await self._asker.ask("query", query=picked(names, self._matchers))

    async def _scraped(self, table: DialectTable) -> dict[str, float]:
        """When what is told of each pod was scraped; empty: it is not known."""
        names = [signal.name for signal in table.metrics.get("running", ())]
        try:
            query = f"max by ({', '.join(_WHO)}) (timestamp({picked(names, self._matchers)}))"
            series = await self._asker.ask("query", query=query)
        except EndpointError:
            return {}
        scraped_s: dict[str, float] = {}
        for each in series:
            pod, instance = who(each)
            if math.isfinite(each.number):
                scraped_s |= dict.fromkeys(filter(None, (pod, instance, f"{pod} {instance}")), each.number)
        return scraped_s

    def _found(self, pod: KeptPod, scraped_s: float | None) -> Found:
        new = scraped_s is None or self._scraped_s.get(pod.key) != scraped_s
        age_s = 0.0
        if scraped_s is not None:
            self._scraped_s[pod.key] = scraped_s
            age_s = max(pod.at_s - scraped_s, 0.0)
        return Found(key=pod.key, name=pod.name, page=pod.page if new else None, age_s=age_s)

    async def close(self) -> None:
        """Its client is another's."""
