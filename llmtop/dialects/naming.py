"""What becomes of a server's metric names on their way: a prefix before them, underscores for their colons. Pure.

Ray Serve writes `ray_vllm:num_requests_running` or `ray_vllm_num_requests_running`, collectors and some versions
`vllm_num_requests_running`, an exporter of one's own puts its name before. One name that the table knows tells how all
of them are written; a bare word that an engine is called by tells nothing. TensorRT-LLM has versions that export
without any prefix, which Dynamo writes with `trtllm:`: several of those names together tell it.
"""

from __future__ import annotations

import re

from msgspec import Struct

from llmtop.dialects import DialectTable

_OCCURRENCES = 16
"""Of one name that are looked at: it also stands in comments, and as a part of longer names."""
_INDENT = rb"[ \t]*(?:\{\")?"
"""What may stand before a name: blanks, and the brace of a quoted one."""
_BEFORE = rb"(?:[A-Za-z_][A-Za-z0-9_]*[_:.])?"
_AFTER = rb"(?:_total|_sum|_count|_bucket)?[ \t{\"]"
BARE_SIGNS = 3
"""Bare names from which on a page is taken for that of the engine that has them: one or two are anybody's."""


class Naming(Struct, frozen=True):
    """How the names of an engine are written on a page."""

    prefix: str = ""
    joined: bool = False
    """Colons are underscores."""
    start: str | None = None
    """What stands in the place of the engine's own prefix; None: that itself."""

    def of(self, name: str) -> str:
        """A name as it is written."""
        if self.start is not None:
            name = self.start + _after_prefix(name)
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
    return _bare(page, table)


def _bare(page: bytes, table: DialectTable) -> Naming | None:
    """How a page writes names that have no prefix of their own; None: it has too few of them."""
    signs = table.detection.bare_metrics
    for start in ("", f"{table.dialect.value}:"):
        names = (re.escape((start + name.removesuffix("_total")).encode()) for name in signs)
        if sum(re.search(rb"(?m)^" + name + _AFTER, page) is not None for name in names) >= BARE_SIGNS:
            return Naming(start=start)
    return None


def _after_prefix(name: str) -> str:
    return re.split("[:_]", name, maxsplit=1)[1]


def own_names(table: DialectTable) -> tuple[str, ...]:
    """The names that only this engine has: those with its prefix."""
    prefixes = table.detection.metric_prefixes
    names = (signal.name for signals in table.metrics.values() for signal in signals)
    return tuple(dict.fromkeys(name for name in names if name.startswith(prefixes)))


def _written(page: bytes, name: str) -> Naming | None:
    """How a page writes one name; None: it does not have it."""
    tail = _after_prefix(name).removesuffix("_total").encode()
    own = re.escape(name.removesuffix("_total").encode()).replace(b":", b"([:_])")
    line_of = re.compile(_INDENT + b"(" + _BEFORE + b")" + own + _AFTER)
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
