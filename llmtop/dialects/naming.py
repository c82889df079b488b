"""What becomes of a server's metric names on their way: a prefix before them, underscores for their colons. Pure.

Ray Serve writes `ray_vllm:num_requests_running` or `ray_vllm_num_requests_running`, collectors and some versions
`vllm_num_requests_running`, an exporter of one's own puts its name before. One name that the table knows tells how all
of them are written; a bare word that an engine is called by tells nothing.
"""

from __future__ import annotations

import re

from msgspec import Struct

from llmtop.dialects import DialectTable

_OCCURRENCES = 16
"""Of one name that are looked at: it also stands in comments, and as a part of longer names."""
_BEFORE = rb"(?:[A-Za-z_][A-Za-z0-9_]*[_:.])?"
_AFTER = rb"(?:_total|_sum|_count|_bucket)?[ \t{]"


class Naming(Struct, frozen=True):
    """How the names of an engine are written on a page."""

    prefix: str = ""
    joined: bool = False
    """Colons are underscores."""

    def of(self, name: str) -> str:
        """A name as it is written."""
        return self.prefix + (name.replace(":", "_") if self.joined else name)


AS_EXPORTED = Naming()


def naming_on(page: bytes, table: DialectTable) -> Naming | None:
    """How a page writes the names of a dialect; None: it has none of them."""
    for start in table.detection.metric_prefixes:
        begins = start.encode()
        if page.startswith(begins) or b"\n" + begins in page:
            return AS_EXPORTED
    for name in own_names(table):
        found = _written(page, name)
        if found is not None:
            return found
    return None


def own_names(table: DialectTable) -> tuple[str, ...]:
    """The names that only this engine has: those with its prefix."""
    prefixes = table.detection.metric_prefixes
    names = (signal.name for signals in table.metrics.values() for signal in signals)
    return tuple(dict.fromkeys(name for name in names if name.startswith(prefixes)))


def _written(page: bytes, name: str) -> Naming | None:
    """How a page writes one name; None: it does not have it."""
    tail = re.split("[:_]", name, maxsplit=1)[1].removesuffix("_total").encode()
    own = re.escape(name.removesuffix("_total").encode()).replace(b":", b"([:_])")
    line_of = re.compile(b"(" + _BEFORE + b")" + own + _AFTER)
    at = -1
    for _ in range(_OCCURRENCES):
        at = page.find(tail, at + 1)
        if at < 0:
            return None
        line = page[page.rfind(b"\n", 0, at) + 1 : at + len(tail) + 16]
        match = line_of.match(line)
        if match is not None:
            joined = line_of.groups > 1 and match[2] == b"_"
            return Naming(match[1].decode(), joined)
    return None
