"""Where profiles lie, and the way in and out of their files."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from llmtop.domain.alike import meant
from llmtop.domain.endpoint import safe_url
from llmtop.domain.plain import LONG, plain
from llmtop.domain.profile import Profile, Question
from llmtop.domain.slo import Slo
from llmtop.errors import ProfileError
from llmtop.files import check_new, make_folder, user_folder, write_whole
from llmtop.inputs import path_of, text_of
from llmtop.profiles.reading import parse_profile
from llmtop.profiles.writing import profile_text

MOST_BYTES = 2_000_000
"""Of a profile file: the moves of a load over hours. Reading so much takes seconds."""


class ProfileEntry(Struct, frozen=True, kw_only=True):
    """One line of `llmtop profiles`. A file that cannot be read is listed with its `problem`."""

    name: str
    path: str
    shipped: bool
    description: str = ""
    question: Question | None = None
    """What it asks; None: it cannot be read."""
    peak: float | None = None
    """The expected one; None: none was named."""
    duration_s: float = 0.0
    problem: str | None = None


def shipped_folder() -> Path:
    """The profiles that come with llmtop: inside the installed package, or beside it in a source tree."""
    packaged = Path(__file__).with_name("shipped")
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "profiles"


def own_folder() -> Path:
    """The user's own profiles."""
    return user_folder("config") / "profiles"


def own_problem() -> str | None:
    """Why the user's own profiles cannot be looked at; None: they can, or there are none."""
    try:
        for _ in own_folder().iterdir():
            break
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        return f"{own_folder()}: own profiles cannot be read: {error.strerror or error}"
    return None


def _named(folder: Path) -> dict[str, Path]:
    """The profiles of a folder by name; none where it cannot be read."""
    try:
        return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    except OSError:
        return {}


def load_profile(
    name_or_path: str | Path, *, peak: float | None = None, most: int | None = None, slo: Slo | None = None
) -> Profile:
    """Read a profile by path, or by the name of an own or a shipped one; an own one comes first.

    Args:
        peak: the expected peak, instead of the file's; every load that is a share of it follows.
        most: requests in flight that are allowed, where that is more than the file says.
        slo: the user's default, where the profile has none.

    Raises ProfileError: no such profile (says which there are), or broken (says the key and what is allowed).
    """
    path = _find(name_or_path)
    return parse_profile(text_of(path, MOST_BYTES, ProfileError), path, peak=peak, most=most, slo=slo)


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile where none is yet, folders included; `load_profile` gives the same back.

    Raises FileError: it cannot be written, or could not be read again.
    """
    try:
        content = profile_text(profile, path).encode()
    except UnicodeEncodeError:
        raise ProfileError(path, "has a name or a description that is no text") from None
    if len(content) > MOST_BYTES:
        raise ProfileError(path, "its load moved too often to be repeated: a profile file would be too large")
    parse_profile(content.decode(), path)
    check_new(path)
    make_folder(path.parent)
    write_whole(path, content, is_ours=lambda old: False)


def profile_names() -> tuple[str, ...]:
    """What profiles are called, in alphabetical order; none of them is read."""
    return tuple(sorted(_named(shipped_folder()) | _named(own_folder())))


def list_profiles() -> tuple[ProfileEntry, ...]:
    """All profiles that go by a name, own ones first, each folder in alphabetical order."""
    own = [_entry(path, shipped=False) for path in _named(own_folder()).values()]
    shipped = [_entry(path, shipped=True) for path in _named(shipped_folder()).values()]
    return (*own, *shipped)


def look_up(name_or_path: str | Path) -> tuple[ProfileEntry, str]:
    """What a profile is, and its file as it stands. Raises ProfileError: there is none, or it cannot be read."""
    path = _find(name_or_path)
    return _entry(path, shipped=path.parent == shipped_folder()), text_of(path, MOST_BYTES, ProfileError)


def _entry(path: Path, *, shipped: bool) -> ProfileEntry:
    try:
        profile = load_profile(path)
    except ProfileError as error:
        problem = plain(str(error), LONG)
        return ProfileEntry(name=plain(path.stem), path=plain(str(path), LONG), shipped=shipped, problem=problem)
    return ProfileEntry(
        name=plain(path.stem),
        path=plain(str(path), LONG),
        shipped=shipped,
        description=profile.description,
        question=profile.asks,
        peak=profile.peak,
        duration_s=profile.plan.duration_s,
    )


def _find(name_or_path: str | Path) -> Path:
    """The file of a profile. Raises ProfileError for a name that none has: says the nearest, and which there are."""
    path = path_of(name_or_path, ProfileError)
    if not isinstance(name_or_path, Path) and path.name == name_or_path:
        named = _named(shipped_folder()) | _named(own_folder())
        if name_or_path in named:
            return named[name_or_path]
        if not path.suffix:
            raise ProfileError(plain(str(name_or_path)), f"no such profile; {_there_are(path.stem)}")
    if "://" in str(name_or_path):
        raise ProfileError(safe_url(str(name_or_path)), "is a URL; a profile comes before it: llmtop run PROFILE URL")
    if not path.exists():
        raise ProfileError(path, f"cannot be read: No such file or directory; {_there_are(path.stem)}")
    return path


def _there_are(name: str) -> str:
    names = profile_names()
    near = meant(name[:100], names)
    listed = f"there are {', '.join(names)}, or give the path of a .toml file"
    return f"{near}({listed})" if near else listed
