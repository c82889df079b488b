"""The command by which a server is started or changed: a line for the shell, with `{name}` where a setting goes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct

from llmtop.errors import UsageError

Kind = Literal["serve", "apply"]
"""`serve`: it stays in the foreground and is the server; `apply`: it returns when the server was changed."""
LETTERS_MOST = 1 << 16
"""Of a command, and of one value; Linux takes 128 KiB in one argument."""
_PARTS = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NESTS = ("$(", "`", "$'", "<<")
"""With these in a command, what stands inside quotes cannot be told by counting them."""


class ServerCommand(Struct, frozen=True):
    """A command with settings. `{{` and `}}` are braces of the shell's own. Raises UsageError: it cannot be meant."""

    template: str
    kind: Kind = "serve"

    def __post_init__(self) -> None:
        if not self.template.strip():
            raise UsageError(f"--{self.kind}: the command is empty")
        if len(self.template) > LETTERS_MOST or "\0" in self.template:
            raise UsageError(f"--{self.kind}: the command is longer than {LETTERS_MOST} letters, or holds a NUL")
        for start, text, name in self._parts():
            if name is None and text in ("{", "}"):
                raise UsageError(f"--{self.kind}: {text} stands alone: write {text * 2} for a brace of the shell's")
            if name is not None and not _NAME.fullmatch(name):
                raise UsageError(
                    f"--{self.kind}: {text} names no setting: a name has letters, digits and _, "
                    f"and braces of the shell's are written {{{{ and }}}}"
                )
            if name is not None and self.template[:start].endswith("$"):
                raise UsageError(
                    f"--{self.kind}: ${text} is a variable of the shell's: write ${name} or ${{{{{name}}}}}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The settings, each once, in the order in which they stand there."""
        return tuple(dict.fromkeys(name for _, _, name in self._parts() if name is not None))

    def filled(self, values: Mapping[str, str]) -> str:
        """The line for the shell, each value quoted so that it is one word and nothing in it is obeyed.

        Raises UsageError: a name is missing or not in the command, or a value cannot be quoted where it stands.
        """
        missing = [name for name in self.names if name not in values]
        if missing:
            raise UsageError(f"--{self.kind}: {{{missing[0]}}} has no value: give one with --set {missing[0]}=VALUE")
        unknown = sorted(values.keys() - set(self.names))
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in self.names) or "none"
            raise UsageError(f"--{self.kind}: there is no {{{unknown[0]}}} in the command; it has {known}")
        line, end = [], 0
        for start, text, name in self._parts():
            line.append(self.template[end:start])
            end = start + len(text)
            line.append(text[0] if name is None else self._quoted(name, values[name], start))
        return "".join((*line, self.template[end:]))

    def _parts(self) -> Iterator[tuple[int, str, str | None]]:
        """Where it stands, what stands there, and the name in it; None: a brace."""
        for part in _PARTS.finditer(self.template):
            yield part.start(), part.group(), part.group(1)

    def _quoted(self, name: str, value: str, start: int) -> str:
        if len(value) > LETTERS_MOST or "\0" in value:
            raise UsageError(f"{name}: the value is longer than {LETTERS_MOST} letters, or holds a NUL")
        quoted = shlex.quote(value)
        if quoted != value and (_in_quotes(self.template[:start]) or any(each in self.template for each in _NESTS)):
            raise UsageError(
                f"{name}={quoted}: {{{name}}} stands inside quotes or beside a command inside the command, where only "
                "letters, digits and @%+=:,./_- are safe in a value"
            )
        return quoted


def _in_quotes(text: str) -> bool:
    """Whether a shell that has read `text` waits for the end of a quotation."""
    within, at = "", 0
    while at < len(text):
        letter = text[at]
        if letter == "\\" and within != "'":
            at += 1
        elif letter == within:
            within = ""
        elif not within and letter in "'\"":
            within = letter
        at += 1
    return bool(within) or at > len(text)


def settings_in(texts: tuple[str, ...]) -> dict[str, str]:
    """`name=value` texts as settings of a command, the last of a name counts. Raises UsageError."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise UsageError(f"--set {text}: is not NAME=VALUE")
        found[name] = value
    return found
