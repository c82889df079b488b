"""What the first bytes of a file say: whether another tool may have written it. Imported by whoever only glances."""

from __future__ import annotations

import re
from pathlib import Path

GZIP = b"\x1f\x8b"
YAML = re.compile(r"(?:\s*(?:#[^\n]*|---)?\n)*(?:version|run|scenario|results):")
_HEAD = 4096


def looks_foreign(path: Path) -> bool:
    """Whether a file may be another tool's: text that begins as JSON or YAML does, or packed; by its first bytes."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith(GZIP) or text[:1] in (b"{", b"[") or bool(YAML.match(text.decode("utf-8", "replace")))
