"""What an endpoint's refusal means, and what to type: by its words first, then by its status."""

from __future__ import annotations

import re

from llmtop.wording.figures import TEXT

PAYMENT, PROXY, TOO_MANY, OVERLOADED = 402, 407, 429, 529
_SPENT = re.compile(
    r"(?i)insufficient[_ ](quota|credit|balance|fund)|exceeded your current quota"
    r"|(out of|no|more) credits?\b|\bbilling\b"
)
_LOGIN = re.compile(r"(?i)\b(log|sign)[ _-]?(in|on)\b|\bsso\b|\boauth2?\b|\bauthenticate\b|type=.password")
_PAST_LOGIN = (
    "a login page: whatever is in front of the server wants a login in a browser; name the URL of the API itself, or "
    "what lets a program in (--api-key-env, --basic-auth, --header)"
)
PROXY_LOGIN = "the proxy wants a user and password that it knows: put them into its URL, http://user:password@host:port"
NAME_A_MODEL = "name a model with --model, and its list is not needed"


def meaning(status: int, said: str, wait_s: float | None = None) -> str | None:
    """What a refusal means, and what to do; None: neither its status nor its words tell.

    Args:
        said: the server's own words.
        wait_s: seconds that it asks to wait; None: it does not say.
    """
    later = f"try again in {TEXT.duration(wait_s)}, as it asks" if wait_s else "try again later"
    if status == PAYMENT or (status in (400, 403, TOO_MANY) and _SPENT.search(said)):
        return "the account behind the key has no credit left: top it up, or name another key with --api-key-env"
    if status == PROXY:
        return PROXY_LOGIN
    if status == TOO_MANY:
        return f"it limits how much may be asked: {later}"
    if status == OVERLOADED:
        return f"it is overloaded: {later}"
    if status == 503:
        return f"the server is not ready yet, or has no room: {later}"
    if status in (502, 504):
        return f"a proxy or gateway in front of the server gets no answer from it: see whether that is up, and {later}"
    if status >= 500:
        return f"an error inside the server: its log says more; {later}"
    return None


def login_page(words: str) -> str | None:
    """What it means that a page, or the place that a redirect leads to, asks for a login; None: it does not."""
    return _PAST_LOGIN if _LOGIN.search(words) else None
