"""How what lone requests beside the load felt is said."""

from __future__ import annotations

from llmtop.domain.frame import NewUser
from llmtop.wording.figures import Figures


def felt_text(felt: NewUser, figures: Figures) -> str:
    """`a new user felt 0.4 s (p50), at most 3.2 s: 212 canaries, 3 without a token`"""
    count = f"{figures.whole(felt.n)} {'canary' if felt.n == 1 else 'canaries'}"
    if felt.p50_ms is None:
        return f"a new user got no token: {count}"
    failed = f", {figures.whole(felt.failed)} without a token" if felt.failed else ""
    p50, most = figures.latency(felt.p50_ms), figures.latency(felt.max_ms)
    return f"a new user felt {p50} (p50), at most {most}: {count}{failed}"
