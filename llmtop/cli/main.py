"""The command line: what each word means, and what the exit code says.

    0  done, and the answer to the run's question is yes   4  the client was the bottleneck: the figures are void
    1  the answer is no                                    5  the answer is not known (`--unknown-ok` makes it 0)
    2  the command line or a file is wrong                 130  interrupted
    3  the endpoint cannot be reached, is gone, hangs or restarted

Nothing heavy is imported before a command is known: `llmtop --help` must answer at once.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import sys
from collections.abc import Callable, Sequence

from llmtop import __version__
from llmtop.cli import options
from llmtop.cli.help import epilog
from llmtop.cli.words import Parser, no_url, sorted_out
from llmtop.errors import INTERRUPTED, LlmtopError, MachineShort, UsageError, shortage

COMMANDS = {
    "live": ("llmtop.cli.live", "the cockpit: drive load by hand and see where it breaks (the default)"),
    "demo": ("llmtop.cli.demo", "five limits of the simulated engine, one after the other: watch, or take the wheel"),
    "run": ("llmtop.cli.run", "run a profile headless; the exit code is the answer to its question"),
    "check": ("llmtop.cli.check", "one user of a Python file, as a timeline: try it before it is load"),
    "attach": (
        "llmtop.cli.attach",
        "the cockpit of a run that goes on, detached or on another screen",
    ),
    "ls": ("llmtop.cli.ls", "the runs that go on now: load, age, headline, who looks at them"),
    "stop": ("llmtop.cli.stop", "end a run that goes on: its load first, then its file"),
    "replay": ("llmtop.cli.replay", "the cockpit over a recording"),
    "assess": ("llmtop.cli.assess", "the verdicts of a recording or of a table of levels"),
    "compare": ("llmtop.cli.compare", "before and after: recordings beside each other, load by load"),
    "import": ("llmtop.cli.foreign", "levels and verdicts of other tools' result files"),
    "traffic": (
        "llmtop.cli.traffic",
        "what your own traffic is like, out of logs, traces or Prometheus; a profile of it",
    ),
    "export": ("llmtop.cli.export", "a recording in the file format of another tool"),
    "report": ("llmtop.cli.report", "a recording as HTML, Markdown, JSON or CSV"),
    "serve": ("llmtop.cli.serve", "a run that goes on, in browsers, to look at"),
    "runs": ("llmtop.cli.runs", "your recordings, newest first; prune deletes old ones"),
    "worker": ("llmtop.cli.worker", "this machine sends load, for a run that is driven elsewhere"),
    "sim": ("llmtop.cli.sim", "only the simulated server, on a port"),
    "tune": ("llmtop.cli.tune", "try settings of a server: which carry most users at the SLO, with few restarts"),
    "predict": ("llmtop.cli.predict", "the simulated engine's curve and cliff, without hardware, in seconds"),
    "knobs": ("llmtop.cli.knobs", "which knobs of a server turn while it runs; a scheduler that gives vLLM some"),
    "doctor": ("llmtop.cli.doctor", "what an endpoint offers, what is missing, and which flag gives it"),
    "selftest": ("llmtop.cli.selftest", "what this machine's client can drive, and its error"),
    "profiles": ("llmtop.cli.profiles", "shipped and own profiles; a hand-driven run saved as one"),
    "dashboard": ("llmtop.cli.dashboard", "a Grafana dashboard of what --out prometheus shows, as JSON"),
    "settings": ("llmtop.cli.settings", "a settings file to begin with: theme, keys, default SLO"),
    "locate": ("llmtop.cli.locate", "where files lie"),
    "completion": ("llmtop.cli.completion", "a script by which bash, zsh or fish completes commands and options"),
}

IN_ORDER = ("report", "import", "export", "traffic", "runs", "profiles", "sim", "serve", "worker")
"""What an interrupt must find a way out of: files that are half written, a server. A run and a screen hear of signals
themselves while they last; the others leave nothing behind."""
ON_SCREEN = ("live", "demo", "attach", "replay")
"""Hundreds of milliseconds pass before they draw."""
LEAST_MB = 112
"""Of address space, and `LEAST_FILES` open files: below, libraries end the process in the middle of their start."""
LEAST_FILES = 10
FRUGAL = ("profiles", "runs", "locate", "ls", "stop", "dashboard")

_DESCRIPTION = "Drive load against a live LLM endpoint and feel where it breaks."
_EPILOG = "commands:\n" + "\n".join(f"  {name:<10} {does}" for name, (_, does) in COMMANDS.items())
_EPILOG += "\n\n`llmtop COMMAND --help` tells more. The first word that is no command is the URL of the endpoint."


def main(argv: Sequence[str] | None = None, begun: Callable[[], None] = lambda: None) -> int:
    """Run one command; returns the exit code. A user's mistake is one line on stderr.

    Args:
        argv: the words after the program's name; None: those of this process.
        begun: called before a command that has something to put in order when it is interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        name, words = sorted_out(words, COMMANDS)
        arguments = _parser(name).read(words, COMMANDS)
        if "://" not in (getattr(arguments, "profile", None) or ""):  # they changed places: that is said of the profile
            _check_url(getattr(arguments, "url", None), alone=name == "live")
        casts = getattr(arguments, "cast", None) is not None
        if name not in FRUGAL:
            _has_room()
        if name in ON_SCREEN and not casts:
            from llmtop.cli.terminal import starting

            starting()
        command = importlib.import_module(COMMANDS[name][0])
        if hasattr(arguments, "settings"):  # what begins a load or draws a screen
            from llmtop.cli.settings import read_settings

            arguments.settings = read_settings(screen=hasattr(arguments, "fps"))
        if name in IN_ORDER or casts:
            begun()
        if name not in ON_SCREEN or casts:
            gc.enable()
        code: int = command.main(arguments)
        return code
    except LlmtopError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left (`llmtop profiles | head -1`); that is its right.
        sys.stderr.close()
        return 0
    except (MemoryError, OSError, RuntimeError, ImportError) as error:
        if (short := shortage(error)) is not None:
            _complain(short)
            return MachineShort.exit_code
        if not isinstance(error, OSError) or error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        _complain(f"stdout cannot be written: {error.strerror}")
        return LlmtopError.exit_code


def _complain(text: str) -> None:
    from llmtop.cli.output import complain

    complain(text)


def _check_url(url: str | None, *, alone: bool) -> None:
    """Raises UsageError for what is the name of something else."""
    if url is not None and (refusal := no_url(url, COMMANDS, alone=alone)) is not None:
        raise UsageError(refusal)


def _parser(name: str) -> Parser:
    live = name == "live"
    parser = Parser(
        prog="llmtop" if live else f"llmtop {name}",
        description=_DESCRIPTION if live else f"{COMMANDS[name][1][0].upper()}{COMMANDS[name][1][1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if live:
        parser.add_argument("--version", action="version", version=f"llmtop {__version__}")
    options.ADD[name](parser)
    parser.epilog = epilog(name, _EPILOG if live else parser.epilog)
    return parser


def _has_room() -> None:
    """Raises MachineShort where less memory or fewer files may be used than it takes to begin."""
    import resource

    memory, files = (resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE))
    if 0 <= memory[0] < LEAST_MB * 2**20:
        raise MachineShort(f"only {memory[0] >> 20} MB of memory may be used (ulimit -v); {LEAST_MB} are the least")
    if 0 <= files[0] < LEAST_FILES:
        raise MachineShort(f"only {files[0]} files may be open (ulimit -n); {LEAST_FILES} are the least")
