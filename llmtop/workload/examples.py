"""Files of users that come with llmtop: to be run by their names, and to begin one's own with."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "examples"
NAMES = ("chat", "rag", "agent")


def users_file(name: str) -> str:
    """The path of an example by its name; any other name is that of a file, and stays as it is.

    A file without a suffix that is called as an example is written `./chat`.
    """
    return str(FOLDER / f"{name}.py") if name in NAMES else name
