"""What the command line says of prices."""

from __future__ import annotations

import argparse

from llmtop.domain.cost import Cost, currency_problem
from llmtop.domain.plain import plain
from llmtop.errors import UsageError


def stated(arguments: argparse.Namespace) -> Cost:
    """What is stated there; it goes before what a profile says. Raises UsageError for what is no currency."""
    given: str | None = arguments.currency
    if given is not None and (problem := currency_problem(given)):
        raise UsageError(f"--currency {plain(given, 40)!r}: {problem}")
    return Cost(
        gpu_price_per_hour=arguments.gpu_price,
        gpus=arguments.gpus,
        currency=given or "",
        peak=getattr(arguments, "cost_peak", None),
    )
