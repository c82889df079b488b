"""How what stands between client and engine is said: a path that buffers, replicas behind one address."""

from __future__ import annotations

from collections.abc import Sequence

from llmtop.wording.figures import TEXT
from llmtop.wording.names import target_name

NOT_THE_SERVERS = "TTFT and TPOT are those of the path, not of the server"
STREAM_THROUGH = "for nginx `proxy_buffering off`, for HAProxy `option http-no-delay`"
"""What lets tokens through one by one, by the proxies that keep them back as they come."""
IN_TURN = "replicas answer here in turn"
"""Of an address behind which several servers stand."""
PROMPTS_CUT = "prompts are cut to"
AT_ONCE = (PROMPTS_CUT, IN_TURN)
"""What in a note is to be known while a run goes on: its figures are others than were asked for."""
BRIEFLY = ("path buffers: TTFT, TPOT void", "proxy_buffering off / http-no-delay")
"""Cause, and what to type, in the verdict."""


def several_replicas(url: str, count: int) -> str:
    """`URL: 2 replicas answer here in turn: name the page of each with --metrics-url`; below 2: it is not known"""
    many = "several" if count < 2 else f"{count}"
    return f"{url}: {many} {IN_TURN}: name the page of each with --metrics-url"


def prompts_cut(used: float, sent: float) -> str:
    """`prompts are cut to 2 048 of 4 096 tokens`"""
    return f"{PROMPTS_CUT} {TEXT.whole(used)} of {TEXT.whole(sent)} tokens"


def prompts_cut_by(used: float, sent: float, flag: str | None) -> str:
    """That prompts are cut, what that means, and what to turn."""
    turn = f"raise {flag}" if flag else "raise the server's context length"
    return f"{prompts_cut(used, sent)}: all figures are those of the shorter prompts; {turn}, or ask for less"


def arrives(whole: bool) -> str:
    """`the path buffers: answers arrive whole`"""
    return f"the path buffers: {'answers arrive whole' if whole else 'tokens arrive in lumps'}"


def reads_seen(tokens: int, reads: int, ttft_s: float, e2e_s: float) -> str:
    """`32 tokens in 1 read, the first after 1.02 s of 1.02 s`"""
    first = f"the first after {TEXT.latency(1e3 * ttft_s)} of {TEXT.latency(1e3 * e2e_s)}"
    return f"{tokens} tokens in {reads} {'read' if reads == 1 else 'reads'}, {first}"


def buffered(whole: bool) -> str:
    """What buffers, what that spoils, and what to type."""
    return f"{arrives(whole)}; {NOT_THE_SERVERS}: {STREAM_THROUGH}"


def no_verdict(names: Sequence[str], whole: bool) -> str:
    """`TTFT p95 and TPOT p95 are not judged: the path buffers: ...`"""
    said = " and ".join(map(target_name, names))
    return f"{said} {'is' if len(names) == 1 else 'are'} not judged, as {buffered(whole)}"
