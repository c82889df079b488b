"""Profile files: what makes a run repeatable, but for the server."""

from __future__ import annotations

from llmtop.profiles.asking import at_slots
from llmtop.profiles.files import (
    ProfileEntry,
    list_profiles,
    load_profile,
    look_up,
    own_folder,
    own_problem,
    profile_names,
    save_profile,
    shipped_folder,
)
from llmtop.profiles.saving import check_name, repeated_by, save_driven
from llmtop.profiles.timeline import profile_from_run, simulated_by

__all__ = [
    "ProfileEntry",
    "at_slots",
    "check_name",
    "list_profiles",
    "load_profile",
    "look_up",
    "own_folder",
    "own_problem",
    "profile_from_run",
    "profile_names",
    "repeated_by",
    "save_driven",
    "save_profile",
    "shipped_folder",
    "simulated_by",
]
