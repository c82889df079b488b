"""The limits that a command judges by: those of --slo, else the profile's, else the settings', else the usual ones.

A recording has the profile that it was driven with; what has none, a prediction or another tool's results, goes on to
the settings.
"""

from __future__ import annotations

import argparse

from llmtop.cli.output import complain
from llmtop.domain.preferences import Settings
from llmtop.domain.slo import Slo, parse_slo


def asked_slo(arguments: argparse.Namespace) -> Slo | None:
    """What --slo says; None: it was not given. Raises UsageError."""
    return None if arguments.slo is None else parse_slo(arguments.slo)


def own_slo(arguments: argparse.Namespace) -> Slo | None:
    """The user's default; None: the settings say none, or were not read."""
    settings: Settings | None = arguments.settings
    return None if settings is None else settings.slo


def slo_without_profile(arguments: argparse.Namespace) -> Slo:
    """Of what has no profile. Says where the settings decide. Raises UsageError."""
    asked, own = asked_slo(arguments), own_slo(arguments)
    if asked is None and own is not None:
        complain(of_settings(own))
    return asked or own or Slo()


def of_settings(own: Slo) -> str:
    """That the user's default is what is judged by."""
    return f"SLO {own}: the default of your settings, as neither profile nor --slo says one"
