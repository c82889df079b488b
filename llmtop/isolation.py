"""Where modules come from: never the working directory, whose files may be anybody's."""

# ruff: noqa: PTH100, PTH109, PTH117, PTH118, PTH119, PTH120
# It runs before anything else is imported, pathlib too (and `__future__`, which is a module).

import os
import sys

START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from llmtop.isolation import begin; begin()"
"""What an isolated interpreter (`python -I -c START HOME MODULE ARGUMENTS`) runs; `begin` says the rest."""


def package_home() -> str:
    """The folder or archive that this package is imported from."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def import_paths() -> list[str]:
    """`sys.path` without the working directory and without what is relative to it.

    Python puts it there for `-c` and `-m`, and for every empty or relative entry of PYTHONPATH (`:$MORE` has one). What
    PYTHONPATH names in full is its user's wish and stays; so do the package's own place and the installation.
    """
    if sys.flags.isolated:  # a child, which was given such paths
        return list(sys.path)
    here, home = os.getcwd() if _has_working_directory() else "", package_home()
    asked = [] if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "").split(os.pathsep)
    wanted = {home, *filter(os.path.isabs, asked)}
    strange = {here, *(os.path.normpath(os.path.join(here, entry)) for entry in asked)} - wanted
    kept, installed = [], False
    library = f"python{sys.version_info.major}{sys.version_info.minor}.zip"  # the first entry of the installation's own
    for entry in sys.path:
        installed = installed or os.path.basename(entry) == library
        place = os.path.abspath(entry) if here else entry
        if installed or place in wanted or (os.path.isabs(entry) and os.path.normpath(entry) not in strange):
            kept.append(place)
    return kept


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:  # it was removed
        return False
    return True


def handed_over(environment: dict[str, str]) -> bytes:
    """What `begin` reads from stdin: where modules come from, and variables that nobody but the child may see."""
    body = b"\0\0".join(
        b"\0".join(map(os.fsencode, texts))
        for texts in (import_paths(), [f"{name}={value}" for name, value in environment.items()])
    )
    return len(body).to_bytes(4, "little") + body


def begin() -> None:
    """Run the module that the command line names, as `python -m` would, with what its parent has `handed_over`.

    Read without a buffer: what follows is the module's.
    """
    body = _take(int.from_bytes(_take(4), "little"))
    paths, _, environment = body.partition(b"\0\0")
    sys.path[:] = [os.fsdecode(path) for path in paths.split(b"\0")]
    for entry in filter(None, environment.split(b"\0")):
        name, _, value = os.fsdecode(entry).partition("=")
        os.environ[name] = value
    del sys.argv[0]
    from runpy import run_module

    run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _take(size: int) -> bytes:
    """So many bytes of stdin; where it ends before, the parent is gone, and so is the child."""
    taken = b""
    while len(taken) < size:
        piece = os.read(0, size - len(taken))
        if not piece:
            os._exit(2)
        taken += piece
    return taken
