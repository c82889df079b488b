"""What lets somebody in, kept out of everything that is shown or kept: also where a server repeats it."""

from __future__ import annotations

import base64
import binascii
import html
import json
import os
import re
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from llmtop.domain.plain import LIMIT, plain
from llmtop.errors import UsageError

HIDDEN = "***"
SHORTEST = 6
"""Characters. A shorter text stands inside other words (`user`, `EMPTY`): hiding it would hide those, and guards
nothing that could not be guessed."""
HEAD = 16
"""Characters of a secret by which it is known where its end is missing: parsers quote the start of a line."""
_SCHEMES = frozenset({"basic", "bearer", "token", "apikey", "digest", "negotiate"})
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_PERCENT = re.compile("%[0-9A-Fa-f]{2}")
_OPEN = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})
"""Headers that say how to talk, not who talks."""
_OPEN_QUERY = frozenset({"api-version", "deployment", "model", "region", "selector"})
"""Parameters of a query that are known to say what is asked, not who asks: they are in names and messages."""


class Secrets:
    """Texts that nobody is to see, in every way in which they are usually written down.

    Args:
        values: as they are sent; those shorter than `SHORTEST` are left out.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        written = {_in_capitals(form) for value in values if len(value) >= SHORTEST for form in _forms(value)}
        self._forms = sorted(written, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """`text` with `HIDDEN` in place of each secret, and of one whose end was cut off."""
        text = _in_capitals(text)
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        for form in self._forms:
            head, tail = form[:HEAD], form[HEAD:]
            first, *others = text.split(head)
            if others:
                text = HIDDEN.join((first, *(part[_alike(part, tail) :] for part in others)))
        return text

    def heard(self, text: str, limit: int = LIMIT) -> str:
        """What a server said, fit to be shown and kept: without secrets, on one line, and no terminal obeys it."""
        return plain(self.mask(text), limit)


def key_in(variable: str | None, option: str = "--api-key-env", what: str = "the key") -> str | None:
    """What an environment variable holds; None: none is named. Raises UsageError: it is not set."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(no_such_variable(variable, option, what))
    return key


def no_such_variable(name: str, option: str = "--api-key-env", what: str = "the key") -> str:
    """What to say of a variable that is not set; what looks like the secret itself is not shown."""
    named = f" {name}" if _VARIABLE.fullmatch(name) else ""
    return f"{option}{named}: this environment variable is not set; put {what} into one, and name that here"


def basic_in(variable: str | None) -> str | None:
    """The value of `Authorization` for the user:password that a variable holds; None: none is named.

    Raises UsageError: it is not set, or has no colon.
    """
    pair = key_in(variable, "--basic-auth", "user:password")
    if pair is None:
        return None
    if ":" not in pair:
        raise UsageError(f"--basic-auth {variable}: this environment variable does not hold user:password")
    return "Basic " + base64.b64encode(pair.encode("utf-8", "surrogateescape")).decode()


def of_header(name: str, value: str) -> Iterator[str]:
    """The secrets in a header that was given: its value and, of those that have parts, the part that counts."""
    if name.lower() in _OPEN:
        return
    yield value
    scheme, _, rest = value.partition(" ")
    if scheme.lower() in _SCHEMES:
        yield rest.strip()
        if scheme.lower() == "basic":
            yield from _of_basic(rest.strip())
    if name.lower() == "cookie":
        for crumb in value.split(";"):
            yield crumb.partition("=")[2].strip()


def of_url(url: str) -> Iterator[str]:
    """The secrets in a URL: user, password, and what its query holds."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
    except ValueError:
        return
    user = parts.netloc.rpartition("@")[0]
    if user:
        name, _, password = user.partition(":")
        yield from (user, unquote(user), name, unquote(name), password, unquote(password))
    if parts.query:
        private = [(n, v) for n, v in parse_qsl(parts.query, keep_blank_values=True) if n.lower() not in _OPEN_QUERY]
        if private:
            yield from (parts.query, unquote(parts.query))
        for name, value in private:
            yield value or name


def _in_capitals(text: str) -> str:
    """A text with the digits of its percent-encoding in capitals: they are the same in any case, and in any mix."""
    return _PERCENT.sub(lambda match: match.group().upper(), text) if "%" in text else text


def _alike(text: str, other: str) -> int:
    """How many characters both begin with."""
    return next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))


def _of_basic(coded: str) -> Iterator[str]:
    try:
        pair = base64.b64decode(coded, validate=True).decode()
    except (binascii.Error, ValueError):
        return
    yield from (pair, pair.partition(":")[2])


def _forms(value: str) -> Iterator[str]:
    """A value as JSON, HTML, URLs and Basic authentication write it."""
    yield value
    yield from (quote(value, safe=""), quote(value), quote_plus(value))
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield html.escape(value)
    raw = value.encode("utf-8", "surrogateescape")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
