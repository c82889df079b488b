"""Every option of every command. Kept apart from the commands so that `--help` imports none of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from llmtop.cli import driving, groups, reading, values
from llmtop.domain import bounds

_Parser = argparse.ArgumentParser


def _doctor(parser: _Parser) -> None:
    parser.add_argument("url", metavar="URL", help="endpoint")
    groups.endpoint(parser, loads=False)
    parser.add_argument("--json", action="store_true", help="as JSON")


def _turned(parser: _Parser) -> None:
    parser.add_argument("url", nargs="?", metavar="URL", help="endpoint: which knobs it has, or why none")
    parser.add_argument("--print", action="store_true", help="write llmtop's scheduler for vLLM to standard output")
    groups.knobs_url(parser)
    groups.endpoint(parser, loads=False)


def _selftest(parser: _Parser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--seconds", type=values.number(bounds.STEP_S), default=3.0, metavar="S", help="of each step (default: 3)"
    )


def _profiles(parser: _Parser) -> None:
    parser.add_argument(
        "do",
        nargs="?",
        metavar="save|show|schema",
        help="save: a recording's load as a profile; show: a profile's file; schema: of profile files, for editors",
    )
    parser.add_argument(
        "what", nargs="?", metavar="RUN|PROFILE", help=f"save: {groups.RUN}; show: a profile or its file"
    )
    parser.add_argument("--name", metavar="NAME", help="save: of the profile (default: the recording's)")
    groups.nothing(parser)


def _serve(parser: _Parser) -> None:
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="name in `llmtop ls`, label, or last (none: the only one)"
    )
    parser.add_argument(
        "--bind", default="127.0.0.1:8010", metavar="ADDRESS:PORT", help="0: any free one (default: 127.0.0.1:8010)"
    )
    parser.add_argument("--yes", action="store_true", help="also at an address that other machines reach")
    groups.shown_as(parser)


def _dashboard(parser: _Parser) -> None:
    groups.slo(parser)


def _worker(parser: _Parser) -> None:
    parser.add_argument(
        "crew",
        nargs="?",
        type=values.scheduler,
        metavar="URL",
        help="the scheduler: dask://HOST:8786, or tls://HOST:8786?ca=&cert=&key=",
    )
    parser.add_argument(
        "--stdio",
        action="store_true",
        help="hear a run's orders on stdin and tell its facts on stdout: what --workers ssh://HOST starts on HOST",
    )
    parser.add_argument(
        "--processes",
        type=values.processes,
        default=0,
        metavar="N|auto",
        help="load processes of this machine (default: auto: one for each core but one)",
    )
    parser.add_argument(
        "--name", default="", metavar="NAME", help="what this machine is called (default: its own name)"
    )


SHELLS = ("bash", "zsh", "fish")


def _completion(parser: _Parser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="|".join(SHELLS), help="whose script is printed")
    parser.epilog = """\
where it goes, for every new shell:
  bash   ~/.local/share/bash-completion/completions/llmtop
         without the package bash-completion, a line in ~/.bashrc instead:
         eval "$(llmtop completion bash)"
  zsh    ~/.zfunc/_llmtop, and in ~/.zshrc:
         fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit
  fish   ~/.config/fish/completions/llmtop.fish

It is made of the options of this version by shtab, which the extra `completion`
brings: pip install 'llmtop[completion]'. The script itself needs nothing; make
it anew for another version."""


ADD: dict[str, Callable[[_Parser], None]] = {
    "live": driving.live,
    "demo": driving.demo,
    "run": driving.run,
    "check": driving.check,
    "attach": driving.attach,
    "ls": groups.nothing,
    "stop": driving.stop,
    "replay": reading.replay,
    "assess": reading.assess,
    "compare": reading.compare,
    "import": reading.import_,
    "traffic": reading.traffic,
    "export": reading.export,
    "report": reading.report,
    "serve": _serve,
    "runs": reading.runs,
    "sim": driving.sim,
    "tune": driving.tune,
    "predict": reading.predict,
    "knobs": _turned,
    "doctor": _doctor,
    "selftest": _selftest,
    "profiles": _profiles,
    "dashboard": _dashboard,
    "settings": lambda parser: None,
    "locate": groups.nothing,
    "completion": _completion,
    "worker": _worker,
}
