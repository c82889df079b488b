"""Options of the commands that drive a server, or go on with a run that does."""

from __future__ import annotations

import argparse
from pathlib import Path

from llmtop.cli import groups, values
from llmtop.domain import bounds

_Parser = argparse.ArgumentParser


def live(parser: _Parser) -> None:
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="endpoint, e.g. http://127.0.0.1:8000 (none: the simulated engine)"
    )
    groups.simulated(parser)
    groups.command(parser)
    parser.add_argument("--profile", metavar="PROFILE", help="name or file: its workload, SLO and load stages")
    groups.slo(parser)
    groups.baseline(parser)
    _driven(parser)
    groups.left_alone(parser).add_argument(
        "--keep-on-hangup", action="store_true", help="a lost terminal (ssh) detaches, too; else it ends the run"
    )
    groups.screen(parser)


def _driven(parser: _Parser) -> None:
    """What is driven, by a hand or a plan, and what is told of it."""
    groups.recording(parser)
    groups.out(parser)
    groups.load(parser)
    groups.carried(parser)
    groups.cost(parser)
    groups.endpoint(parser)
    groups.knobs_url(parser)


def demo(parser: _Parser) -> None:
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help="leave after the fifth scene, with the summary")
    parser.add_argument(
        "--record", metavar="FILE", help="keep the run in this file, a mark at each scene (default: it is not kept)"
    )
    groups.screen(parser)
    groups.left_alone(parser)
    parser.set_defaults(skip_checks=False, private=True)
    parser.epilog = (
        "A key that moves the load or turns a knob takes the wheel; a goes on with the demo, as does a minute without "
        "a key. No endpoint is loaded: the engine is a simulated one."
    )


def run(parser: _Parser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="name of a shipped or own profile, or its file")
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="endpoint (none: the profile's, else the simulated engine)"
    )
    groups.simulated(parser)
    groups.slo(parser)
    groups.baseline(parser)
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout (its keys: KEYS.md)")
    parser.add_argument("--junit", metavar="FILE", help="a JUnit file: a case for each promise, and what was driven")
    parser.add_argument(
        "--fail-on",
        metavar="LIMITS",
        help='exit code 1 where the run comes to this: "ttft_p95 > 1.5s, capacity < 40, error_ratio > 0.5%%"',
    )
    groups.unknown_ok(parser)
    parser.add_argument(
        "--duration",
        type=values.number(bounds.LASTING_S),
        metavar="S",
        help="squeeze or stretch the plan to this length",
    )
    _driven(parser)


def check(parser: _Parser) -> None:
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="Python with `async def run(user)`; or an example: chat, rag, agent"
    )
    parser.add_argument("url", nargs="?", metavar="URL", help="endpoint (none: the simulated engine)")
    parser.add_argument(
        "--print", action="store_true", help="write the file to standard output: an example to begin with"
    )
    parser.add_argument(
        "--visits", type=values.number(bounds.VISITS), default=1, metavar="N", help="of one user (default: 1)"
    )
    parser.add_argument(
        "--within",
        type=values.number(bounds.LASTING_S),
        default=300.0,
        metavar="S",
        help="for all visits (default: 300)",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    groups.simulated(parser)
    group = parser.add_argument_group("what the sliders offer")
    group.add_argument("--prompt-tokens", type=values.TOKENS, metavar="N", help="length of a prompt")
    group.add_argument("--output-tokens", type=values.TOKENS, metavar="N", help="length of an answer")
    group.add_argument(
        "--shared-prefix", type=values.SHARE, metavar="SHARE", help="share of a prompt common to all, 0 to 1"
    )
    group.add_argument("--seed", type=values.SEED, default=0, help="of texts and of user.random")
    groups.endpoint(parser)


_GOES_ON = "name or label of a run that goes on, the beginning of its name, or last (none: the only one)"


def attach(parser: _Parser) -> None:
    parser.add_argument("going", nargs="?", metavar="RUN", help=_GOES_ON)
    parser.add_argument("--view", action="store_true", help="only look on: this screen drives nothing")
    groups.left_alone(parser)
    groups.screen(parser)
    parser.set_defaults(skip_checks=False)


def stop(parser: _Parser) -> None:
    parser.add_argument("going", nargs="?", metavar="RUN", help=_GOES_ON)
    parser.add_argument("--all", action="store_true", help="all that go on")


def tune(parser: _Parser) -> None:
    parser.add_argument("url", metavar="URL", help="where the server answers, e.g. http://127.0.0.1:8000")
    group = parser.add_argument_group(
        "the server's command", "{NAME} in it is replaced by a value that is tried, quoted for the shell."
    )
    group.add_argument("--serve", metavar="CMD", help="starts the server in the foreground; it ends with llmtop")
    group.add_argument("--apply", metavar="CMD", help="changes a server that runs, and returns; it is put back")
    group.add_argument(
        "--try",
        dest="tries",
        action="append",
        required=True,
        metavar="NAME=V,V,...",
        help="values of one setting, the one that it has now first (may be repeated: all combinations)",
    )
    group.add_argument("--ready-within", type=values.TIME, metavar="S", help="how long a start may take (default: 900)")
    group = parser.add_argument_group("what is asked")
    group.add_argument(
        "--users",
        type=values.MOST_USERS,
        metavar="N",
        help="most tokens/s with N users at the SLO (default: most users)",
    )
    groups.slo(group)
    group.add_argument("--profile", metavar="PROFILE", help="whose requests and SLO are taken; its loads are not")
    group.add_argument("--prompt-tokens", type=values.TOKENS, metavar="N", help="length of a prompt")
    group.add_argument("--output-tokens", type=values.TOKENS, metavar="N", help="length of an answer")
    group.add_argument(
        "--max-concurrency", type=values.MOST_USERS, metavar="N", help="never more requests in flight than this"
    )
    groups.workers(group)
    group.add_argument("--seed", type=values.SEED, default=0, help="of prompts")
    group = parser.add_argument_group("the result")
    group.add_argument("--json", action="store_true", help="as JSON")
    group.add_argument("-o", "--output", metavar="FILE", help=".md or .html, beside what is printed")
    groups.unknown_ok(group)
    group.add_argument("--dry-run", action="store_true", help="only say what would be started, and for how long")
    group.add_argument("--fresh", action="store_true", help="measure again what an interrupted tune has measured")
    groups.endpoint(parser)
    parser.epilog = Path(__file__).with_name("recipes.txt").read_text(encoding="utf-8").rstrip()


def sim(parser: _Parser) -> None:
    parser.add_argument(
        "preset", nargs="?", metavar="PRESET", default="laptop", help="shipped name or TOML file (default: laptop)"
    )
    parser.add_argument("--list", action="store_true", help="show the presets")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=values.number(bounds.PORT), default=8000, help="0: any free one (default: 8000)")
    groups.knobs(parser)
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME", help="start with this fault (repeatable)"
    )
    parser.add_argument(
        "--served-model-name",
        action="append",
        default=[],
        metavar="NAME",
        help="serve the model by this name (may be repeated; default: the preset's)",
    )
    parser.add_argument("--seed", type=values.SEED, default=0)
    parser.epilog = (
        "Its control (/llmtop/control) asks for a token: that of LLMTOP_SIM_CONTROL_TOKEN, or a random one, which is "
        "printed. With LLMTOP_SIM_API_KEY, /v1 and the control ask for that key. It scales by a script (--set "
        '"scale=at=30 replicas=3 created=5 ready=60") or by its queue (--set autoscale_queue=30 --set max_replicas=4 '
        "--set pod_start_s=80); --set balance=connection shares the load out as a Kubernetes service does. "
        "/llmtop/replicas tells which replicas there are, and where each has its metrics."
    )
