"""Which proxy a request goes through: read here from the environment, for load, probe and scrapes alike.

httpx is never let near the environment: it makes patterns of NO_PROXY's entries and fails at those of IPv6.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from urllib.parse import urlsplit

from msgspec import Struct

from llmtop.domain.endpoint import PROXY_FROM_ENVIRONMENT, PROXY_NONE, Endpoint, ascii_name, safe_url
from llmtop.domain.plain import plain
from llmtop.errors import UsageError

OPTION = "--proxy"
_SYSTEM = "the system's settings"
"""What names a proxy on macOS and Windows besides the environment."""
_SOCKS = ("socks5", "socks5h")
_SCHEMES = ("http", "https", *_SOCKS)
_SHOWN = 80
"""Letters of a proxy's URL that are shown in an error."""
_PORTS = {"http": 80, "https": 443}
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxy(Struct, frozen=True):
    """A proxy, and who says that it is to be used: `--proxy`, or a variable of the environment."""

    url: str
    named_by: str

    @property
    def shown(self) -> str:
        """`the proxy http://host:port that HTTPS_PROXY names`, without user and password."""
        return f"the proxy {safe_url(self.url)} that {self.named_by} names"


def proxy_for(endpoint: Endpoint, url: str) -> Proxy | None:
    """The proxy for a URL; None: it is asked directly.

    No proxy of the environment is asked for this machine, whatever it is called (RFC 6761): that would be the proxy's
    own. One that `--proxy` names is used for the endpoint, and for pages that are not of this machine.

    Raises UsageError when what is named for this URL is no proxy that can be used.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_own = parts.netloc.rpartition("@")[2] == urlsplit(endpoint.base_url).netloc
    if endpoint.proxy == PROXY_NONE or (is_own and endpoint.unix_socket is not None):
        return None
    address = _address(host)
    unspecified = address is not None and address.is_unspecified  # servers tell it as where they listen
    here = endpoint.has_here(host) or unspecified or f".{host.rstrip('.')}".endswith(".localhost")
    if endpoint.proxy != PROXY_FROM_ENVIRONMENT:
        return None if here and not is_own else _usable(endpoint.proxy, OPTION)
    if here:
        return None
    port = parts.port or _PORTS.get(parts.scheme, 0)
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        variable, value = _variable(name)
        if value:
            return None if spares(_variable("no_proxy")[1], host, port) else _usable(value, variable)
    return _of_the_system(parts.scheme, host)


def check_option(proxy: str) -> None:
    """Raises UsageError unless `--proxy` has a proxy's URL, `env` or `none`."""
    if proxy not in (PROXY_FROM_ENVIRONMENT, PROXY_NONE):
        _usable(proxy, OPTION)


def named_proxies(endpoint: Endpoint) -> Iterator[str]:
    """Every proxy that is named, for whatever: its user and password are secrets."""
    yield endpoint.proxy
    yield from (value for name, value in os.environ.items() if name.lower().endswith("_proxy"))
    if sys.platform in ("darwin", "win32"):
        from urllib.request import getproxies

        yield from getproxies().values()


def spares(no_proxy: str, host: str, port: int) -> bool:
    """Whether NO_PROXY spares a host: names (and all below them), addresses, ranges, each with a port or without, `*`.

    An entry that is none of them spares nobody.
    """
    name, address = ascii_name(host).rstrip("."), _address(host)
    return any(_matches(entry.lower(), name, address, port) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _matches(entry: str, name: str, address: _Address | None, port: int) -> bool:
    if entry == "*":
        return True
    entry = entry.partition("://")[2] or entry
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
        except ValueError:
            return False
    found = re.fullmatch(r"\[([^\[\]]*)\](?::(\d+))?|([^:\[\]]*):(\d+)|([^\[\]]+)", entry.partition("/")[0])
    if found is None:
        return False
    bracketed, port_6, named, port_4, whole = found.groups()
    wanted_port = port_6 or port_4
    if wanted_port is not None and wanted_port.lstrip("0") != str(port):
        return False
    wanted = next(text for text in (bracketed, named, whole, "") if text is not None)
    if address is not None:
        return _address(wanted) == address
    wanted = ascii_name(wanted.removeprefix("*").lstrip(".")).rstrip(".")
    return bool(wanted) and (name == wanted or name.endswith(f".{wanted}"))


def _address(text: str) -> _Address | None:
    """An IP address, an IPv4 one in IPv6's clothes as what it is; None: it is a name."""
    try:
        found = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None) or found


def _variable(name: str) -> tuple[str, str]:
    """A variable as it is called, and its value. Small letters come first, as everywhere; empty ones say: none."""
    for variable in (name, name.upper()):
        if variable in os.environ:
            return variable, os.environ[variable].strip()
    return name.upper(), ""


def _of_the_system(scheme: str, host: str) -> Proxy | None:
    if sys.platform not in ("darwin", "win32"):
        return None
    from urllib.request import getproxies, proxy_bypass

    found = getproxies().get(scheme)
    return None if not found or proxy_bypass(host) else _usable(found, _SYSTEM)


def _usable(text: str, named_by: str) -> Proxy:
    """A proxy's URL, whole. Raises UsageError, which shows neither user nor password."""
    import httpx  # a screen starts without it

    url = text.strip()
    url = url if "://" in url else f"http://{url}"
    shown = f"{named_by} {plain(safe_url(url), _SHOWN)!r}"
    how = "write it like http://host:port, or --proxy none to go without"
    try:
        parsed, port = httpx.URL(url), urlsplit(url).port
        can = url.isascii() and url.isprintable() and " " not in url and bool(parsed.host) and port != 0
    except (httpx.InvalidURL, ValueError):
        can = False
    if not can:
        raise UsageError(f"{shown}: is no URL of a proxy; {how}")
    if parsed.scheme not in _SCHEMES:
        raise UsageError(f"{shown}: a proxy is asked by http, https, socks5 or socks5h; {how}")
    if parsed.scheme in _SOCKS and find_spec("socksio") is None:
        raise UsageError(
            f"{shown}: the library for SOCKS is not installed; install it beside llmtop (pip install socksio), "
            "name an HTTP proxy with --proxy, or --proxy none"
        )
    return Proxy(url, named_by)
