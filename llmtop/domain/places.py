"""Where pages of metrics are found, in the forms that `--metrics-url` takes beside the URL of a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from llmtop.domain.endpoint import safe_url
from llmtop.domain.plain import plain
from llmtop.errors import UsageError


class DnsName(Struct, frozen=True):
    """`dns://NAME:PORT[/PATH]`: a page at every address of a name."""

    host: str
    port: int
    path: str
    """Empty: the server's usual one."""


class KubeService(Struct, frozen=True):
    """`k8s://NAMESPACE/SERVICE[:PORT][/PATH][?scale=KIND/NAME]`: a page of every pod of a service."""

    namespace: str
    name: str
    port: str
    """A number, or a name of one of the service's ports; empty: as the service has it."""
    path: str
    """Empty: the server's usual one."""
    scale: str = ""
    """What scales it, `deployment/vllm`; empty: whatever owns the service's pods."""


class PrometheusServer(Struct, frozen=True):
    """`prometheus://HOST:PORT[/PATH]?selector=LABELS`: what a Prometheus keeps of each pod."""

    root: str
    """By http or https, with the user that is named."""
    matchers: tuple[tuple[str, str, str], ...]
    """(label, operator, value)"""


FoundPlace = DnsName | KubeService | PrometheusServer

_DNS, _KUBE = "dns://NAME:PORT[/PATH]", "k8s://NAMESPACE/SERVICE[:PORT][?scale=deployment/NAME]"
_PROMETHEUS = "prometheus://HOST:PORT?selector=LABEL=VALUE,LABEL=VALUE"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?")
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""Of Kubernetes: the name of a namespace, a service or a port."""
_NAMESPACE = re.compile(_LABEL)
_SCALED = re.compile(rf"(?P<kind>[a-z]+)/(?P<name>{_LABEL}(\.{_LABEL})*)")
_KINDS = {"deployment": "deployment", "deploy": "deployment", "statefulset": "statefulset", "sts": "statefulset"}
_KINDS |= dict.fromkeys(("leaderworkerset", "lws"), "leaderworkerset")
"""What `scale=` may name, and the short forms that kubectl has for it."""
_SERVICE = re.compile(rf"(?P<name>{_LABEL})(:(?P<port>{_LABEL}))?")
_MATCHER = re.compile(
    r'\s*(?P<label>[A-Za-z_][A-Za-z0-9_]*)\s*(?P<how>=~|!~|!=|=)\s*("(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^",{}]*?))\s*(,|$)'
)
_PAGE = re.compile(r"/(graph|query|targets|classic/.*|api/v1(/.*)?)$")
"""The end of a URL that was copied from Prometheus's own pages."""


def place_in(url: str) -> FoundPlace | None:
    """What a URL of a place names; None: it is the URL of a page itself. Raises UsageError."""
    scheme = url.partition("://")[0].lower()
    if scheme == "dns":
        return _dns(url)
    if scheme == "k8s":
        return _service(url)
    if scheme in ("prometheus", "prometheus+http", "prometheus+https"):
        return _prometheus(url, "https" if scheme.endswith("+https") else "http")
    return None


def pages_in(urls: Iterable[str]) -> tuple[str, ...]:
    """The URLs that are those of pages."""
    return tuple(url for url in urls if place_in(url) is None)


def places_in(urls: Iterable[str]) -> tuple[str, ...]:
    """The URLs of places in which pages are found."""
    return tuple(url for url in urls if place_in(url) is not None)


def asked_in(urls: Iterable[str]) -> Iterator[str]:
    """What is asked by HTTP as it was named: pages, and the roots of Prometheus servers."""
    for url in urls:
        place = place_in(url)
        if place is None:
            yield url
        elif isinstance(place, PrometheusServer):
            yield place.root


def prometheus_root(url: str) -> str:
    """The root of a Prometheus, of the URL of one of its pages."""
    return _PAGE.sub("", url.rstrip("/"))


def _dns(url: str) -> DnsName:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _wrong(url, _DNS) from None
    if not _HOST.fullmatch(host) or not port or parts.query or "@" in parts.netloc:
        raise _wrong(url, _DNS)
    return DnsName(host, port, parts.path.rstrip("/"))


def _service(url: str) -> KubeService:
    namespace, _, rest = url.partition("://")[2].partition("/")
    rest, asks, query = rest.partition("?")
    service, slash, path = rest.partition("/")
    match = _SERVICE.fullmatch(service)
    if not _NAMESPACE.fullmatch(namespace) or match is None or re.search(r"[\s?#]", path):
        raise _wrong(url, _KUBE)
    port = match["port"] or ""
    if port.isdecimal() and not 0 < int(port) < 1 << 16:
        raise _wrong(url, _KUBE)
    scaled = _SCALED.fullmatch(query.removeprefix("scale="))
    if asks and (scaled is None or scaled["kind"] not in _KINDS or not query.startswith("scale=")):
        raise _wrong(url, _KUBE)
    scale = f"{_KINDS[scaled['kind']]}/{scaled['name']}" if asks and scaled is not None else ""
    return KubeService(namespace, match["name"], port, f"{slash}{path}".rstrip("/"), scale)


def _prometheus(url: str, scheme: str) -> PrometheusServer:
    try:
        parts = urlsplit(url)
        is_one = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise _wrong(url, _PROMETHEUS)
    selector = ""
    for pair in filter(None, parts.query.split("&")):
        name, _, value = pair.partition("=")
        if name != "selector":
            raise _wrong(url, _PROMETHEUS)
        selector = unquote(value).strip()
    return PrometheusServer(prometheus_root(f"{scheme}://{parts.netloc}{parts.path}"), tuple(_matchers(url, selector)))


def _matchers(url: str, selector: str) -> Iterator[tuple[str, str, str]]:
    if selector.startswith("{") and selector.endswith("}"):
        selector = selector[1:-1]
    at = 0
    while at < len(selector):
        match = _MATCHER.match(selector, at)
        if match is None or match["label"] == "__name__":
            raise _wrong(url, _PROMETHEUS)
        value = match["bare"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
        yield match["label"], match["how"], value
        at = match.end()


def _wrong(url: str, form: str) -> UsageError:
    return UsageError(f"--metrics-url {plain(safe_url(url))}: write it like {form}")
