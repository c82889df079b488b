"""What the command line says of prices."""

from __future__ import annotations

import argparse

from llmtop.domain.cost import Cost


def stated(arguments: argparse.Namespace) -> Cost:
    """What is stated there; it goes before what a profile says."""
    return Cost(
        gpu_price_per_hour=arguments.gpu_price,
        gpus=arguments.gpus,
        currency=arguments.currency or "",
        peak=getattr(arguments, "cost_peak", None),
    )
