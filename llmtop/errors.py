"""The exception tree. Every error a user can cause is one of these; anything else is a bug.

    LlmtopError                      exit code 2 unless a subclass says otherwise
    ├── UsageError                   a command line, SLO text or slider value that cannot be meant
    ├── FileError                    names the file
    │   ├── ProfileError             a profile or preset: file, key, what is allowed
    │   ├── RunFileError             a run file that is not one, is newer, or is damaged
    │   └── UsersError               users of a Python file raised something, at a line of it
    ├── EndpointError                exit code 3; names the URL
    │   ├── EndpointUnreachable      refused, no route, name not found, connect timeout
    │   ├── EndpointAuthFailed       401 or 403
    │   └── EndpointUnusable         answers, but not as an LLM endpoint (HTML, 404, no such model, no streaming)
    ├── ServeError                   exit code 3; a server that was to be started or changed is not as it was to be
    ├── SessionLost                  exit code 3, or that of its cause; the session process is gone
    └── MachineShort                 exit code 4; this machine has no memory, threads or files left for it

A failing server during a run is data (an `Outcome`), never an exception. Messages say what is wrong, where, and what
to do; foreign exceptions are mapped once, at the border of the room that uses the foreign library.
"""

from __future__ import annotations

import errno

INTERRUPTED = 130
"""Exit code of what a signal has ended, as shells count it: no error of llmtop's."""


class LlmtopError(Exception):
    """An error with a message for the user. `exit_code` is what the command line ends with."""

    exit_code = 2


class UsageError(LlmtopError):
    """What was asked for cannot be meant."""


class FileError(LlmtopError):
    """A file cannot be read or used.

    Args:
        path: the file, as the user named it.
        problem: what is wrong and what is allowed.
        key: where in the file, if it has keys.
    """

    def __init__(self, path: object, problem: str, key: str | None = None) -> None:
        self.path = str(path)
        self.key = key
        self.problem = problem
        where = f"{path}: {key}" if key else str(path)
        super().__init__(f"{where}: {problem}")


class ProfileError(FileError):
    """A profile or preset is broken."""


class RunFileError(FileError):
    """A run file cannot be read."""


class UsersError(FileError):
    """Users that are a Python file raised an exception. `path` is `FILE:LINE in FUNCTION`."""


class EndpointError(LlmtopError):
    """The endpoint cannot be driven. `url` is what was asked."""

    exit_code = 3

    def __init__(self, url: str, problem: str) -> None:
        self.url = url
        self.problem = problem
        super().__init__(f"{url}: {problem}")


class EndpointUnreachable(EndpointError):
    """Nothing answers there."""


class EndpointAuthFailed(EndpointError):
    """The endpoint wants a key, or another one."""


class EndpointUnusable(EndpointError):
    """Something answers, but it cannot be driven."""


class ServeError(LlmtopError):
    """A server that was to be started or changed by a command did not come, or the command failed.

    Args:
        problem: what went wrong.
        tail: the last lines that the command wrote.
        exit_code: another than 3, where somebody wished the end.
    """

    def __init__(self, problem: str, tail: tuple[str, ...] = (), exit_code: int = 3) -> None:
        self.problem = problem
        self.tail = tail
        self.exit_code = exit_code
        super().__init__(problem)


class PortTaken(ServeError):
    """Another server answers where one was to be started."""


class SessionLost(LlmtopError):
    """The session process ended without being asked to, or could not begin.

    Args:
        problem: why.
        exit_code: of what went wrong there.
    """

    def __init__(self, problem: str, exit_code: int = 3) -> None:
        self.exit_code = exit_code
        super().__init__(problem)


class MachineShort(LlmtopError):
    """This machine does not give what is needed: the client was the bottleneck before it could measure anything."""

    exit_code = 4


_REASONS = 8
"""How many reasons of a reason are looked at."""
_SHORT = {
    errno.ENOMEM: "this machine has no memory left for it (ulimit -v)",
    errno.EMFILE: "no more files may be open (ulimit -n)",
    errno.ENFILE: "this machine has too many files open",
    errno.EAGAIN: "no more processes or threads may be started (ulimit -u, or memory for them: ulimit -v)",
    errno.EADDRNOTAVAIL: "this machine has no ports left for connections",
}


def shortage(error: BaseException) -> str | None:
    """What this machine is short of, in words, where that is the reason of `error`; None: it is another one."""
    seen: BaseException | None = error
    for _ in range(_REASONS):
        if seen is None:
            return None
        if (number := _shortage_number(seen)) in _SHORT:
            return _SHORT[number]
        seen = seen.__cause__ or seen.__context__
    return None


def _shortage_number(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError):
        return error.errno or 0
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return errno.EAGAIN
    if isinstance(error, ImportError) and ("failed to map" in str(error) or "allocate memory" in str(error)):
        return errno.ENOMEM
    return 0
