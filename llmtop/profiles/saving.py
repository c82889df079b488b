"""A run that was driven by hand, saved among the user's own profiles."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path

from msgspec.structs import replace

from llmtop.domain.plain import plain
from llmtop.domain.run import Chapter, LoadChange, RunMeta
from llmtop.errors import UsageError
from llmtop.profiles.files import own_folder, save_profile
from llmtop.profiles.timeline import profile_from_run

MOST_NAME = 200
"""Bytes of a profile's name; file systems take 255 with what is added."""


def save_driven(
    meta: RunMeta,
    changes: Sequence[LoadChange],
    chapters: Sequence[Chapter],
    *,
    name: str | None = None,
    run_file: Path | None = None,
) -> Path:
    """The loads of a run as an own profile, to be repeated against the next configuration: where it was written.

    Args:
        name: of the profile; None: as its run file, or when it was begun, and another where a profile has that name.

    Raises UsageError: no name of a profile, or nothing was driven; FileError: it cannot be written, or there is one.
    """
    if not any(change.point.value for change in changes) and not meta.profile.plan.base.value:
        raise UsageError("nothing was driven yet: there is no load to save")
    profile = profile_from_run(meta, changes, chapters)
    if name is not None:
        check_name(name)
        path = own_folder() / f"{name}.toml"
        save_profile(replace(profile, name=name), path)
        return path
    stem = f"{datetime.fromtimestamp(meta.started_at):%Y%m%d-%H%M%S}" if run_file is None else run_file.stem
    path = own_folder() / f"{_fit(stem)}.toml"
    for number in count(2):
        if not path.exists():
            break
        path = path.with_name(f"{_fit(stem)}-{number}.toml")
    save_profile(profile, path)
    return path


def check_name(name: str) -> None:
    """Raises UsageError where a profile cannot be called so."""
    odd = not name.strip() or name.startswith((".", "~")) or not name.isprintable() or "/" in name
    if odd or len(name.encode()) > MOST_NAME:
        what = f"a name of a profile is 1 to {MOST_NAME} bytes without a slash, and begins with no dot or ~"
        raise UsageError(f"--name {plain(name, 60)!r}: {what}")


def _fit(stem: str) -> str:
    """The name of a run file as that of a profile."""
    fit = "".join(letter if letter.isprintable() else "-" for letter in stem).lstrip(".~ ") or "run"
    while len(fit.encode()) > MOST_NAME - 10:
        fit = fit[:-1]
    return fit


def repeated_by(path: Path) -> str:
    """The command that plays a profile of the user's own."""
    return f"llmtop run {shlex.quote(path.stem)}"
