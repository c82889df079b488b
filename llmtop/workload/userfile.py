"""A file of users: Python with an `async def run(user)`. Looked at by anybody, executed by who sends the load."""

from __future__ import annotations

import ast
import sys
import traceback
from collections.abc import Awaitable, Callable
from functools import lru_cache
from hashlib import sha256
from inspect import iscoroutinefunction, signature
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from msgspec import Struct

from llmtop.domain.plain import LONG, plain
from llmtop.errors import FileError, LlmtopError, UsersError
from llmtop.inputs import expanded, text_of

MOST_BYTES = 1 << 20
"""Of a file that somebody wrote by hand."""
RUN = "run"
MODULE = "_llmtop_users"
"""The name that it is imported under: no other module has it."""
_HOW = "async def run(user): await user.chat(...)"
_INSTALLED = ("site-packages", "dist-packages")
"""Folders of what others wrote, also where they lie below that of the file."""

Run = Callable[[Any], Awaitable[object]]


class EndlessStep(BaseException):
    """Raised in users' code that goes on and on without awaiting anything. No `except Exception` catches it."""

    def __str__(self) -> str:
        return "does not end and awaits nothing, so that nothing can be sent, read or stopped meanwhile"


class UserFile(Struct, frozen=True):
    """One that was imported."""

    path: str
    run: Run
    """One visit of the user that it is given."""


def check(name: str | Path) -> Path:
    """The path, in full, of a file that can be users as far as is seen without executing it. Raises FileError."""
    path = expanded(name).absolute()
    _found(path, _parsed(path, text_of(path, MOST_BYTES)))
    return path


def note(name: str | Path) -> str:
    """Which file it is, for a reader of the run. Raises FileError."""
    path = expanded(name)
    text = text_of(path, MOST_BYTES)
    digest = sha256(text.encode()).hexdigest()[:12]
    return f"users are {plain(path.name)}, {len(text.splitlines())} lines, sha256 {digest}"


def load(name: str | Path) -> UserFile:
    """Import a file of users. Raises FileError, and UsersError with the line where it fails.

    It is compiled from its text: nothing is written beside it. Its folder becomes the last place where modules are
    looked for, so that none of its neighbours stands for one that is installed.
    """
    path = expanded(name).absolute()
    text = text_of(path, MOST_BYTES)
    _found(path, _parsed(path, text))
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    module = ModuleType(MODULE)
    module.__file__, module.__package__ = str(path), ""
    sys.modules[MODULE] = module
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    except BaseException as error:
        raise fault(error, path) from None
    run = getattr(module, RUN, None)
    if not iscoroutinefunction(run):
        raise FileError(path, f"its {RUN} is not an async function of its own: write {_HOW}")
    _check_call(path, run)
    return UserFile(str(path), run)


def fault(error: BaseException, path: Path | str) -> UsersError:
    """What users raised, as `FILE:LINE in FUNCTION: Error: text` of the innermost line that the user wrote."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, UsersError):
        return error
    path = Path(path)
    if isinstance(error, SyntaxError) and error.filename:
        return UsersError(f"{plain(error.filename)}:{error.lineno}", _in_words(error))
    own = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if is_own(frame.f_code.co_filename, str(path.parent))
    ]
    if not own:
        return UsersError(plain(str(path)), _in_words(error))
    frame, line = own[-1]
    return UsersError(place(frame, line), _in_words(error))


def place(frame: FrameType, line: int | None = None) -> str:
    """`FILE:LINE in FUNCTION`"""
    code = frame.f_code
    function = getattr(code, "co_qualname", code.co_name)
    where = f"{plain(code.co_filename)}:{line or frame.f_lineno}"
    return where if function == "<module>" else f"{where} in {plain(function)}"


@lru_cache(maxsize=1024)
def is_own(file: str, folder: str) -> bool:
    """Whether a source file is one of the user's: in the folder of the file of users, and not installed there."""
    return file.startswith(folder.rstrip("/") + "/") and not any(f"/{name}/" in file for name in _INSTALLED)


def _parsed(path: Path, text: str) -> ast.Module:
    try:
        return ast.parse(text, str(path))
    except SyntaxError as error:
        raise FileError(f"{path}:{error.lineno}", f"is not Python: {plain(error.msg)}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise FileError(path, f"is not Python: {plain(str(error)) or type(error).__name__}") from None


def _found(path: Path, tree: ast.Module) -> None:
    """Raises FileError unless there is a `run` that can be called with a user and awaits something.

    A `run` that is imported or made by a decorator is looked at when it is there.
    """
    made = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == RUN]
    if not made:
        if not any(_binds(node) for node in tree.body):
            raise FileError(path, f"has no {RUN}: write {_HOW}")
        return
    node = made[-1]
    where = f"{path}:{node.lineno}"
    if node.decorator_list:
        return
    if isinstance(node, ast.FunctionDef):
        raise FileError(where, f"{RUN} is not async: write {_HOW}")
    names = node.args
    required = len(names.posonlyargs) + len(names.args) - len(names.defaults)
    takes_one = names.vararg is not None or names.posonlyargs or names.args
    if required > 1 or not takes_one or None in names.kw_defaults:
        raise FileError(where, f"{RUN} is called with the user alone: write {_HOW}")
    inside = [each for part in node.body for each in ast.walk(part)]
    if any(isinstance(each, ast.Yield | ast.YieldFrom) for each in inside):
        raise FileError(where, f"{RUN} yields, and nobody takes it: write {_HOW}")
    if not any(isinstance(each, ast.Await | ast.AsyncFor | ast.AsyncWith) for each in inside):
        raise FileError(where, f"{RUN} awaits nothing, so that it would never let anybody else go on: write {_HOW}")


def _binds(node: ast.stmt) -> bool:
    """Whether a statement may give the name to something: an import, an assignment, a condition around one."""
    for each in ast.walk(node):
        if isinstance(each, ast.alias) and (each.asname or each.name) in (RUN, "*"):
            return True
        if isinstance(each, ast.Name) and each.id == RUN and isinstance(each.ctx, ast.Store):
            return True
        if isinstance(each, ast.AsyncFunctionDef) and each.name == RUN and each is not node:
            return True
    return False


def _check_call(path: Path, run: Run) -> None:
    try:
        signature(run).bind(object())
    except (TypeError, ValueError):
        raise FileError(path, f"{RUN} is called with the user alone: write {_HOW}") from None


def _in_words(error: BaseException) -> str:
    if isinstance(error, LlmtopError | EndlessStep):
        return plain(str(error), LONG)
    try:
        said = str(error)
    except Exception:
        said = ""
    name = type(error).__name__
    return plain(f"{name}: {said}" if said else name, LONG)
