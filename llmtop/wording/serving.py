"""What is said of a server that is started or changed by a command of the user's."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from llmtop.wording.figures import TEXT

USUAL_STARTS = "0.2 s to 8 min"
"""llama.cpp with a small model, and vLLM with a large one on eight GPUs; Qwen3-8B on an H100 takes 51 s."""


def loading_text(waited_s: float, last_start_s: float | None, problem: str | None) -> str:
    """`loading, 41 s; expected 50 s to 8 min: connection refused`"""
    expected = USUAL_STARTS if last_start_s is None else f"about {TEXT.duration(max(1, round(last_start_s)))}"
    return f"loading, {TEXT.duration(round(waited_s))}; expected {expected}{f': {problem}' if problem else ''}"


def ended_text(kind: str, code: int) -> str:
    """How a command ended that was not to: `the server ended with exit code 1 before it was ready`."""
    what = "the server" if kind == "serve" else "the command"
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        how = f"was ended by {names.get(-code, f'signal {-code}')}"
    else:
        how = f"ended with exit code {code}"
    early = " before it was ready" if kind == "serve" else ""
    hint = "; a command that returns when the server runs is for --apply" if kind == "serve" and code == 0 else ""
    return f"{what} {how}{early}{hint}"


def taken_text(url: str, by: str | None, waited_s: float) -> str:
    """`http://127.0.0.1:8000: the port is taken by python3 (process 4711); end that server, or ...`"""
    whom = f" by {by}" if by else ""
    since = f", {TEXT.duration(round(waited_s))} after the server of before has ended" if waited_s >= 1 else ""
    return f"{url}: the port is taken{whom}{since}; end that server, or drive it without --serve"


def not_ready_text(limit_s: float, problem: str | None) -> str:
    """`not ready within 15 min (--ready-within): connection refused`"""
    return f"not ready within {TEXT.duration(limit_s)} (--ready-within){f': {problem}' if problem else ''}"


def settings_text(settings: Mapping[str, str]) -> str:
    """`max_num_seqs 64, kv_cache_dtype fp8`"""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def working_text(kind: str, settings: Mapping[str, str]) -> str:
    """`starting the server with max_num_seqs 64`, `applying max_num_seqs 64`"""
    told = settings_text(settings)
    if kind == "apply":
        return f"applying {told or 'the command'}"
    return f"starting the server{f' with {told}' if told else ''}"


def not_resumed_text(proof: str) -> str:
    """What a server says that is not what was asked for."""
    return f"{proof}; no load was sent"


def asked_text(serves: bool, changed: Mapping[str, str], start_s: float | None, loaded: bool) -> str:
    """`restart the server with max_num_seqs 64? about 50 s, then the same load`: the question of the knob bank."""
    what = f"{'restart the server' if serves else 'apply'}{f' with {settings_text(changed)}' if changed else ''}?"
    lasts = USUAL_STARTS if start_s is None else f"about {TEXT.duration(max(1, round(start_s)))}"
    return f"{what} {lasts}{', then the same load' if loaded else ''}"
