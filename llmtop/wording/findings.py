"""What a gap that doctor finds means, and what to type: by the name of the finding. One place for the words."""

from __future__ import annotations

from msgspec.structs import replace

from llmtop.domain.endpoint import Finding

_NO_CAUSE = "a cause is named by the client's figures alone"
_NAME_PAGE = "name the page with --metrics-url"
_OTHER_API = "load goes by the other API"
_OTHER_SERVER = "nothing where the other API will do; --dialect where the server is another than was found"

GAPS: dict[str, tuple[str, str]] = {
    "checks": ("what the endpoint is and can is not known before the load", "llmtop doctor asks"),
    "models": (
        "which models there are is not known: the one that is named is asked",
        "keep --model: without it the list would be needed",
    ),
    "model": ("another than the first of the list is driven", "name one with --model"),
    "chat API": (_OTHER_API, _OTHER_SERVER),
    "completions API": (_OTHER_API, _OTHER_SERVER),
    "streaming": (
        "requests of a run would end like this, and count as errors",
        "see the logs of the server and of what is in front of it, and their limits of time and size",
    ),
    "usage": (
        "tokens are counted by events, shown with ≈",
        "compare with the server's own count of output tokens in the report",
    ),
    "least output": ("shorter answers are asked for as that many", "ask for no less with --output-tokens"),
    "context length": (
        "prompts and answers are not kept within it: longer ones may be refused or cut",
        "keep --prompt-tokens and --output-tokens together below the server's limit",
    ),
    "output length": (
        "answers may have another length than asked, and with it the load",
        "compare asked and delivered output tokens in the report",
    ),
    "tokenizer": (
        "lengths of prompts are estimated, shown with ≈",
        "compare asked and counted prompt tokens in the report",
    ),
    "metrics": (f"queue and KV cache are not seen: {_NO_CAUSE}", _NAME_PAGE),
    "server figures": (f"queue and KV cache are not seen: {_NO_CAUSE}", _NAME_PAGE),
    "queue": ("whether requests wait inside the server is not seen", _NAME_PAGE),
    "KV cache": ("whether the KV cache is what fills up is not seen", _NAME_PAGE),
    "slots": ("at how many requests the server is full is estimated", "name the engine's own page with --metrics-url"),
    "counters": ("the server's own count of tokens and preemptions is not seen", _NAME_PAGE),
    "server latency": ("TTFT cannot be split into network, queue and prefill", _NAME_PAGE),
    "GPU": (
        "memory and throttling are not seen",
        "name the page of dcgm-exporter or AMD's exporter with --metrics-url",
    ),
    "path": ("TTFT and TPOT may be those of the path, not of the server", "llmtop doctor once more, at an idle server"),
    "transport": (
        "stamps are those of a task: token times are good up to about 100 streams",
        "--transport auto, and --proxy none, or NO_PROXY with this host, where it can be reached directly",
    ),
    "stamps": ("token times are late by the client's own delay", "Linux and TCP give the kernel's own stamps"),
    "TLS": ("whoever is in between can read and change all", "name the CA with --ca-file"),
}
"""What it means where not all is well, and what to type where nothing better is known."""
ALWAYS_WELL = frozenset({"address", "addresses", "dialect", "models asked", "settings", "speculation"})
"""Findings without a gap."""


def explained(finding: Finding) -> Finding:
    """A finding with what it means, and what to type, where not all is well."""
    if finding.ok or finding.name not in GAPS:
        return finding
    means, types = GAPS[finding.name]
    return replace(finding, means=finding.means or means, advice=finding.advice or types)
