"""Where the command begins: before anything is imported that takes its time, so that Ctrl-C is heard from then on, or
that the working directory may have another one of.
"""

import _signal  # type: ignore[import-not-found]  # built in: `signal` takes longer than all that comes before it
import gc
import os
import sys

from llmtop import isolation
from llmtop.errors import INTERRUPTED, LlmtopError, MachineShort

ENDS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGQUIT, _signal.SIGHUP)
IGNORED = _signal.SIG_IGN
"""By whoever started us, as nohup does with SIGHUP: that stays so."""


def main() -> int:
    """As `llmtop.cli.main.main`; a signal ends it at once, until the command takes signals into its own hands.

    An exception out of a signal would not do: libraries that are interrupted while they are loaded crash at the exit.
    """
    gc.disable()  # until the command begins, or its screen is drawn: what is imported stays
    before = {number: _signal.signal(number, _leave) for number in ENDS if _signal.getsignal(number) != IGNORED}
    sys.path[:] = isolation.import_paths()
    _open_streams()

    def begun() -> None:
        for number, handler in before.items():
            _signal.signal(number, handler)

    # numpy's threads cost memory and time, for arrays that one core sorts in microseconds.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from llmtop.cli.main import main as command
    except (ImportError, MemoryError) as error:
        if isinstance(error, ImportError) and "failed to map" not in str(error):
            raise
        os.write(2, b"llmtop: this machine has no memory left for it (ulimit -v)\n")
        return MachineShort.exit_code

    code = _all_said(command(begun=begun))
    if code == INTERRUPTED:
        os._exit(code)  # the interpreter, which knows of the interrupt too, would end itself by the signal instead
    return code


def _leave(number: int, frame: object) -> None:
    os.write(2, b"llmtop: interrupted\n")
    os._exit(INTERRUPTED)


def _open_streams() -> None:
    """In place of streams that were closed by whoever started us: else the next socket would be taken for stderr."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    if {sys.stdout.encoding, sys.stderr.encoding} != {"utf-8"}:
        from llmtop.cli.letters import use_letters

        use_letters(sys.stdout, sys.stderr)


def _all_said(code: int) -> int:
    """The exit code, once all that was said has gone out; a full disk under stdout makes it that of a file."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)  # the interpreter tries again, and would complain
            if number == 1 and code == 0 and not isinstance(error, BrokenPipeError):
                os.write(2, f"llmtop: stdout cannot be written: {error}\n".encode())
                code = LlmtopError.exit_code
    return code
