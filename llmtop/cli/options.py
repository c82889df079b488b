"""Every option of every command. Kept apart from the commands so that `--help` imports none of them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmtop.domain import bounds
from llmtop.domain.bounds import Quantity
from llmtop.domain.plain import plain

if TYPE_CHECKING:
    from llmtop.domain.crew import CrewSpec

_Parser = argparse.ArgumentParser


def _number(quantity: Quantity) -> Callable[[str], float]:
    """What reads an option: an error tells the value and what is allowed."""

    def read(text: str) -> float:
        try:
            return quantity.read_whole(text) if quantity.whole else quantity.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{plain(text, SHOWN)!r}: {error}") from None

    return read


_RUN = "run file, its name in `llmtop runs` or its label, or last"
APIS = ("chat", "completions", "responses", "embeddings")
SHOWN = 40
"""Characters of a value that are shown in an error."""
_TOKENS, _USERS, _MOST_USERS = _number(bounds.TOKENS), _number(bounds.USERS), _number(bounds.MOST_USERS)
_GATE, _CANARY = _number(bounds.GATE), _number(bounds.CANARY)
_RATE, _PEAK, _TIME = _number(bounds.SENT_RATE), _number(bounds.PEAK), _number(bounds.TIME_S)
_LOAD = _number(bounds.SENT_RATE)
_SHARE, _SEED, _FPS = _number(bounds.SHARE), _number(bounds.SEED), _number(bounds.FPS)


def _endpoint(parser: _Parser, *, loads: bool = True) -> None:
    group = parser.add_argument_group("endpoint")
    group.add_argument("--model", help="model to ask for (default: the first that the endpoint lists)")
    group.add_argument("--dialect", help="vllm, sglang, tgi, llamacpp, ... instead of finding out")
    group.add_argument(
        "--metrics-url",
        action="append",
        default=[],
        metavar="URL",
        help="where /metrics is (once for each replica), or what lists replicas: dns://NAME:PORT, "
        "k8s://NAMESPACE/SERVICE[:PORT] by your kubectl, prometheus://HOST:PORT?selector=LABEL=VALUE",
    )
    group.add_argument("--transport", choices=("auto", "httpx"), default="auto", help="httpx: without kernel stamps")
    asks = "do not ask before loading an address beyond this machine, or listening there"
    group.add_argument("--yes", action="store_true", help=asks if loads else "taken as elsewhere: nothing is asked")
    _let_in(parser)
    _way(parser)


def _knobs_url(parser: _Parser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--knobs-url",
        metavar="URL",
        help="where llmtop's scheduler shows the server's knobs (default: http://127.0.0.1:9475, of a server here)",
    )


def _let_in(parser: _Parser) -> None:
    group = parser.add_argument_group(
        "being let in", "What is secret comes from environment variables, goes to the endpoint alone, and is not kept."
    )
    group.add_argument("--api-key-env", metavar="VAR", help="environment variable that holds the API key")
    group.add_argument(
        "--api-key-header", metavar="NAME", help="header that takes the key as it is (api-key; default: a Bearer token)"
    )
    group.add_argument("--basic-auth", metavar="env:VAR", help="VAR holds user:password, for HTTP basic authentication")
    group.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME:VALUE|NAME=env:VAR",
        help="extra request header, its value as it is or in the environment variable VAR (may be repeated)",
    )
    group.add_argument("--client-cert", metavar="FILE", help="certificate to show, in PEM, perhaps with its key")
    group.add_argument("--client-key", metavar="FILE", help="key of that certificate, in PEM, without a password")


def _way(parser: _Parser) -> None:
    group = parser.add_argument_group("way to the endpoint")
    group.add_argument(
        "--proxy",
        default="env",
        metavar="URL|env|none",
        help="for load and metrics (default: env, as HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say, "
        "never for this machine)",
    )
    group.add_argument("--ca-file", metavar="FILE", help="certificate authority to trust")
    group.add_argument("--insecure", action="store_true", help="do not check the server's certificate")


def _simulated(parser: _Parser) -> None:
    parser.add_argument(
        "--sim",
        nargs="?",
        const="laptop",
        metavar="PRESET",
        help="drive the simulated engine (default preset: laptop; `llmtop sim --list` shows all)",
    )
    _knobs(parser)


def _knobs(parser: _Parser, what: str = "turn a knob of the simulated engine (max_num_seqs=64)") -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KNOB=N",
        help=what,
    )


def _command(parser: _Parser) -> None:
    group = parser.add_argument_group(
        "the server's command",
        "CMD is a line for the shell. {NAME} in it is a setting: --set NAME=VALUE gives its first value, and the key k "
        "changes it. A brace of the shell's own is written twice.",
    )
    group.add_argument("--serve", metavar="CMD", help="start the server, in the foreground; it ends with llmtop")
    group.add_argument("--apply", metavar="CMD", help="change a server by a command that returns; it does not end")
    group.add_argument(
        "--ready-within",
        type=_number(bounds.LASTING_S),
        default=900.0,
        metavar="S",
        help="how long a start may take, until a token comes (default: 900)",
    )


def _slo(parser: _Parser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--slo",
        metavar="LIMITS",
        help='e.g. "ttft_p95<2s,tpot_p95<50ms,error_ratio<1%%" (default: the profile\'s, else that of the settings)',
    )
    parser.set_defaults(settings=None)


def _cost(parser: _Parser, whose: str = "the profile", *, peak: bool = True) -> None:
    """Args:
    whose: profile may have a price.
    """
    group = parser.add_argument_group(
        "cost",
        f"Over the table [cost] of {whose}:\n"
        'gpu_price_per_hour = 2.49, gpus, currency = "EUR", peak, and, there alone,\n'
        "traffic (shares of the peak over a day) and think_time. No price is known or\n"
        "assumed: without one no cost is told.",
    )
    group.add_argument("--gpu-price", type=_number(bounds.PRICE), metavar="N", help="of one GPU for an hour")
    group.add_argument(
        "--gpus",
        type=_number(bounds.GPUS),
        metavar="N",
        help="that the measured endpoint runs on (default: as many as its server tells, else 1)",
    )
    group.add_argument("--currency", metavar="TEXT", help="of the price, as EUR")
    if peak:
        group.add_argument(
            "--cost-peak",
            type=_number(bounds.CARRIED),
            metavar="N",
            help="users (open loop: requests/s) to be carried, by as many GPUs as it takes (default: the profile's "
            "expected peak)",
        )


def _baseline(parser: _Parser) -> None:
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="RUN|FILE",
        help=f"compare with an earlier measurement: {_RUN}; RUN@2, its second configuration; or a .csv table of levels "
        "(may be repeated)",
    )


def _load(parser: _Parser) -> None:
    group = parser.add_argument_group("load")
    group.add_argument("--concurrency", type=_USERS, metavar="N", help="requests in flight at the start")
    group.add_argument("--rate", type=_RATE, metavar="RPS", help="open loop: requests sent per second")
    group.add_argument("--peak", type=_PEAK, metavar="N", help="expected peak of the profile: its loads follow")
    group.add_argument("--prompt-tokens", type=_TOKENS, metavar="N", help="length of a prompt")
    group.add_argument("--output-tokens", type=_TOKENS, metavar="N", help="length of an answer")
    group.add_argument(
        "--users", metavar="FILE", help="users are this Python file: `async def run(user)`, called again and again"
    )
    group.add_argument(
        "--columns", metavar="WHAT=NAME,...", help="of the profile's data set: prompt=q,output_tokens=n; also messages"
    )
    group.add_argument(
        "--once", action="store_true", help="send each row of the profile's data set or trace once; then the load ends"
    )
    group.add_argument(
        "--trace-speed",
        type=_number(bounds.TRACE_SPEED),
        metavar="X",
        help="replay the trace X times as fast",
    )
    group.add_argument("--trace-window", metavar="FROM,TO", help="replay only this part of the trace: 10min,20min")
    group.add_argument("--think-time", type=_TIME, metavar="S", help="pause of a user between two requests")
    group.add_argument("--shared-prefix", type=_SHARE, metavar="SHARE", help="share of a prompt common to all, 0 to 1")
    group.add_argument(
        "--start",
        choices=("staggered", "together"),
        help="closed loop: users begin spread over a moment (default), or all at once as vllm bench's do",
    )
    group.add_argument(
        "--gate", type=_GATE, metavar="M", help="let M requests through at once, as a server with max_num_seqs M would"
    )
    group.add_argument(
        "--canary",
        type=_CANARY,
        metavar="RPS",
        help="beside the load, one small request at a time, so many a second: what a new user feels (0.5)",
    )
    group.add_argument(
        "--max-concurrency", type=_MOST_USERS, metavar="N", help="never more requests in flight than this"
    )
    group.add_argument(
        "--skip-checks",
        action="store_true",
        help="start at once: nothing is asked of the endpoint before the load (needs --model)",
    )
    _workers(group)
    group.add_argument("--seed", type=_SEED, default=0, help="of prompts and arrivals")


def _carried(parser: _Parser) -> None:
    group = parser.add_argument_group("what requests carry", "Over what the profile says in [workload].")
    group.add_argument("--api", choices=APIS, help="what is asked (default: the profile's, chat)")
    group.add_argument(
        "--body",
        metavar="JSON|@FILE",
        help="further fields of every request, as an object; they are kept in the run file and in reports",
    )
    group.add_argument("--stop", action="append", metavar="TEXT", help="stop word (may be repeated)")
    group.add_argument("--models", metavar="NAME:N,...", help="models or LoRA adapters, each for so many shares of all")
    group.add_argument("--affinity", choices=("none", "session"), help="session: a user keeps a connection of its own")
    group.add_argument("--user-header", metavar="NAME", help="header with the user's number in each request")
    group.add_argument(
        "--cancel", metavar="SHARE[@S]", help="hang up so many requests, so long after they were sent (1%%@2s)"
    )


def _recording(parser: _Parser) -> None:
    parser.add_argument("--record", metavar="FILE", help="where the run file goes (default: among your runs)")
    parser.add_argument("--label", metavar="TEXT", help="name of the run in its file and reports")


def _out(parser: _Parser) -> None:
    parser.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="KIND[=WHERE]",
        help="figures of the run while it runs (may be repeated): prometheus=127.0.0.1:9464, a page at /metrics until "
        "llmtop ends; otlp=URL, pushed every 10 s and at the end, with the headers of OTEL_EXPORTER_OTLP_HEADERS; "
        "json=FILE, a line a second",
    )


def _screen(parser: _Parser) -> None:
    group = parser.add_argument_group("screen")
    group.add_argument(
        "--ascii", action=argparse.BooleanOptionalAction, help="draw with ASCII characters only (default: as needed)"
    )
    group.add_argument("--fps", type=_FPS, metavar="N", help="screen updates per second (default: 2)")
    _shown_as(group)
    parser.set_defaults(settings=None)


def _shown_as(group: argparse._ActionsContainer) -> None:
    group.add_argument("--stage", action="store_true", help="the layout for the back of a room: digits three rows high")
    group.add_argument(
        "--private",
        action="store_true",
        help="host, model, label, names and paths are not on the screen; what is recorded, exported and printed at the "
        "end is as ever",
    )


def _left_alone(parser: _Parser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group(
        "detaching", "The key d leaves a run, which goes on: llmtop attach comes back, llmtop stop ends it."
    )
    group.add_argument(
        "--detached-for",
        type=_lasting,
        metavar="TIME",
        help="a detached run that nobody comes back to ends after so long: 90s, 30min, 2h (default: 2h)",
    )
    return group


def _lasting(text: str) -> float:
    """Seconds of `2h`, `30min`, or of a number of them."""
    from llmtop.profiles.quantity import Lasting  # late: --help does without it

    for read in (bounds.LASTING_S.read, Lasting.read):
        with contextlib.suppress(ValueError):
            return float(read(text))
    allowed = "must be a duration from 1 ms to 31 days: 90s, 30min, 2h"
    raise argparse.ArgumentTypeError(f"{plain(text, SHOWN)!r}: {allowed}")


def _live(parser: _Parser) -> None:
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="endpoint, e.g. http://127.0.0.1:8000 (none: the simulated engine)"
    )
    _simulated(parser)
    _command(parser)
    parser.add_argument("--profile", metavar="PROFILE", help="name or file: its workload, SLO and load stages")
    _slo(parser)
    _baseline(parser)
    _recording(parser)
    _out(parser)
    _load(parser)
    _carried(parser)
    _cost(parser)
    _endpoint(parser)
    _knobs_url(parser)
    _left_alone(parser).add_argument(
        "--keep-on-hangup", action="store_true", help="a lost terminal (ssh) detaches, too; else it ends the run"
    )
    _screen(parser)


def _demo(parser: _Parser) -> None:
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help="leave after the fifth scene, with the summary")
    parser.add_argument(
        "--record", metavar="FILE", help="keep the run in this file, a mark at each scene (default: it is not kept)"
    )
    _screen(parser)
    _left_alone(parser)
    parser.set_defaults(skip_checks=False, private=True)
    parser.epilog = (
        "A key that moves the load or turns a knob takes the wheel; a goes on with the demo, as does a minute without "
        "a key. No endpoint is loaded: the engine is a simulated one."
    )


def _run(parser: _Parser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="name of a shipped or own profile, or its file")
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="endpoint (none: the profile's, else the simulated engine)"
    )
    _simulated(parser)
    _slo(parser)
    _baseline(parser)
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout (its keys: KEYS.md)")
    parser.add_argument("--junit", metavar="FILE", help="a JUnit file: a case for each promise, and what was driven")
    parser.add_argument(
        "--fail-on",
        metavar="LIMITS",
        help='exit code 1 where the run comes to this: "ttft_p95 > 1.5s, capacity < 40, error_ratio > 0.5%%"',
    )
    _unknown_ok(parser)
    parser.add_argument(
        "--duration", type=_number(bounds.LASTING_S), metavar="S", help="squeeze or stretch the plan to this length"
    )
    _recording(parser)
    _out(parser)
    _load(parser)
    _carried(parser)
    _cost(parser)
    _endpoint(parser)
    _knobs_url(parser)
    parser.set_defaults(settings=None)


def _unknown_ok(parser: _Parser | argparse._ArgumentGroup) -> None:
    parser.add_argument("--unknown-ok", action="store_true", help="exit code 0, not 5, where the answer is not known")


def _check(parser: _Parser) -> None:
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="Python with `async def run(user)`; or an example: chat, rag, agent"
    )
    parser.add_argument("url", nargs="?", metavar="URL", help="endpoint (none: the simulated engine)")
    parser.add_argument(
        "--print", action="store_true", help="write the file to standard output: an example to begin with"
    )
    parser.add_argument(
        "--visits", type=_number(bounds.VISITS), default=1, metavar="N", help="of one user (default: 1)"
    )
    parser.add_argument(
        "--within", type=_number(bounds.LASTING_S), default=300.0, metavar="S", help="for all visits (default: 300)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    _simulated(parser)
    group = parser.add_argument_group("what the sliders offer")
    group.add_argument("--prompt-tokens", type=_TOKENS, metavar="N", help="length of a prompt")
    group.add_argument("--output-tokens", type=_TOKENS, metavar="N", help="length of an answer")
    group.add_argument("--shared-prefix", type=_SHARE, metavar="SHARE", help="share of a prompt common to all, 0 to 1")
    group.add_argument("--seed", type=_SEED, default=0, help="of texts and of user.random")
    _endpoint(parser)


def _replay(parser: _Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=_RUN)
    parser.add_argument("--speed", type=_number(bounds.SPEED), default=1.0, metavar="X", help="0.5 to 50 (default: 1)")
    _slo(parser)
    _baseline(parser)
    _screen(parser)
    group = parser.add_argument_group("as a film")
    group.add_argument(
        "--cast",
        metavar="FILE",
        help="no screen: write it as an asciicast (v2), marks as markers; - is standard output",
    )
    group.add_argument("--size", type=_size, metavar="COLUMNSxROWS", help="of the film (default: 120x40)")
    group.add_argument("--force", action="store_true", help="write over a file that llmtop did not write, too")


def _assess(parser: _Parser) -> None:
    parser.add_argument("file", metavar="RUN|FILE", help=f"{_RUN}; a .csv table of levels; another tool's results")
    _slo(parser)
    _baseline(parser)
    _unknown_ok(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--metric", choices=("ttft", "tpot", "e2e"), default="ttft", help="of which a cliff is sought")
    parser.add_argument("--stat", choices=("p50", "p95"), default="p50")
    parser.add_argument("--axis", choices=("concurrency", "rate"), default="concurrency", help="of a table's levels")
    _cost(parser, "the profile that the run was driven with")


def _compare(parser: _Parser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN|LEVELS.csv",
        help=f"the first is the one before: {_RUN}; RUN@2 for its second configuration; or a .csv table of levels",
    )
    _slo(parser)
    parser.add_argument(
        "--fail-on", metavar="CHANGES", help='exit code 1 where it got so much worse: "capacity -5%%, ttft_p95 +10%%"'
    )
    _unknown_ok(parser)
    parser.add_argument("--anyway", action="store_true", help="compare other workloads and models, too")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it down, too, with charts: .html or .md")
    parser.add_argument("--force", action="store_true", help="write over a file that llmtop did not write, too")
    parser.add_argument("--axis", choices=("concurrency", "rate"), default="concurrency", help="of a table's levels")
    _cost(parser, "the profiles that the runs were driven with", peak=False)


def _import(parser: _Parser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="results of one configuration or several, also .gz")
    parser.add_argument("--load", type=_LOAD, metavar="N", help="of the entries that do not say theirs")
    parser.add_argument(
        "-o", "--output", metavar="LEVELS.csv", help="the levels as a table, which assess, compare and --baseline read"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that llmtop did not write, too")
    _slo(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")


def _traffic(parser: _Parser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="log, trace or recording, also .gz; or the URL of a Prometheus"
    )
    parser.add_argument("-o", "--output", metavar="PROFILE.toml", help="write a profile that drives such traffic")
    parser.add_argument("--force", action="store_true", help="write over a file that is there, too")
    parser.add_argument("--json", action="store_true", help="as JSON")
    group = parser.add_argument_group("a file")
    group.add_argument("--format", metavar="NAME", help="what it is, where its content does not tell")
    group.add_argument(
        "--unit", choices=("ms", "s"), help="of times that are plain numbers (default: guessed, and said)"
    )
    group = parser.add_argument_group("a Prometheus")
    group.add_argument("--days", type=_number(bounds.DAYS), metavar="N", help="how far back (default: 7)")
    group.add_argument("--model", metavar="NAME", help="of one model only (default: all together)")
    parser.set_defaults(dialect=None, metrics_url=[], transport="auto")
    _let_in(parser)
    _way(parser)


EXPORTS = ("vllm", "guidellm", "aiperf", "br", "csv", "map", "jsonl", "parquet")


def _export(parser: _Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=_RUN)
    parser.add_argument(
        "--format",
        required=True,
        choices=EXPORTS,
        help="vllm bench serve, GuideLLM 2, AIPerf 1.4 (records with -o FILE.jsonl), llm-d Benchmark Report 0.2.1; "
        "csv: a table of levels; map: users by prompt length, as CSV; jsonl, parquet: every request",
    )
    parser.add_argument("--load", type=_LOAD, metavar="N", help="only the level at this load (aiperf, br: one alone)")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    parser.add_argument("--force", action="store_true", help="write over a file that llmtop did not write, too")


def _report(parser: _Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=_RUN)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help=".html, .md, .json or .csv (default: .html and .md beside the run file)"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that llmtop did not write, too")
    _slo(parser)
    _baseline(parser)
    _cost(parser, "the profile that the run was driven with")


def _runs(parser: _Parser) -> None:
    parser.add_argument("do", nargs="?", metavar="prune", help="delete recordings; says which, and asks")
    group = parser.add_argument_group("prune")
    group.add_argument("--keep", type=_number(bounds.KEPT_RUNS), metavar="N", help="all but the newest N")
    group.add_argument("--older", metavar="AGE", help="those that were begun longer ago: 12h, 30d, 8w")
    group.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--all", action="store_true", help="list all, not only the newest 20")
    _nothing(parser)


_GOES_ON = "name or label of a run that goes on, the beginning of its name, or last (none: the only one)"


def _attach(parser: _Parser) -> None:
    parser.add_argument("going", nargs="?", metavar="RUN", help=_GOES_ON)
    parser.add_argument("--view", action="store_true", help="only look on: this screen drives nothing")
    _left_alone(parser)
    _screen(parser)
    parser.set_defaults(skip_checks=False)


def _stop(parser: _Parser) -> None:
    parser.add_argument("going", nargs="?", metavar="RUN", help=_GOES_ON)
    parser.add_argument("--all", action="store_true", help="all that go on")


def _sim(parser: _Parser) -> None:
    parser.add_argument(
        "preset", nargs="?", metavar="PRESET", default="laptop", help="shipped name or TOML file (default: laptop)"
    )
    parser.add_argument("--list", action="store_true", help="show the presets")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_number(bounds.PORT), default=8000, help="0: any free one (default: 8000)")
    _knobs(parser)
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
    parser.add_argument("--seed", type=_SEED, default=0)
    parser.epilog = (
        "Its control (/llmtop/control) asks for a token: that of LLMTOP_SIM_CONTROL_TOKEN, or a random one, which is "
        "printed. With LLMTOP_SIM_API_KEY, /v1 and the control ask for that key. It scales by a script (--set "
        '"scale=at=30 replicas=3 created=5 ready=60") or by its queue (--set autoscale_queue=30 --set max_replicas=4 '
        "--set pod_start_s=80); --set balance=connection shares the load out as a Kubernetes service does. "
        "/llmtop/replicas tells which replicas there are, and where each has its metrics."
    )


def _tune(parser: _Parser) -> None:
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
    group.add_argument("--ready-within", type=_TIME, metavar="S", help="how long a start may take (default: 900)")
    group = parser.add_argument_group("what is asked")
    group.add_argument(
        "--users", type=_MOST_USERS, metavar="N", help="most tokens/s with N users at the SLO (default: most users)"
    )
    _slo(group)
    group.add_argument("--profile", metavar="PROFILE", help="whose requests and SLO are taken; its loads are not")
    group.add_argument("--prompt-tokens", type=_TOKENS, metavar="N", help="length of a prompt")
    group.add_argument("--output-tokens", type=_TOKENS, metavar="N", help="length of an answer")
    group.add_argument(
        "--max-concurrency", type=_MOST_USERS, metavar="N", help="never more requests in flight than this"
    )
    _workers(group)
    group.add_argument("--seed", type=_SEED, default=0, help="of prompts")
    group = parser.add_argument_group("the result")
    group.add_argument("--json", action="store_true", help="as JSON")
    group.add_argument("-o", "--output", metavar="FILE", help=".md or .html, beside what is printed")
    _unknown_ok(group)
    group.add_argument("--dry-run", action="store_true", help="only say what would be started, and for how long")
    parser.set_defaults(settings=None)
    group.add_argument("--fresh", action="store_true", help="measure again what an interrupted tune has measured")
    _endpoint(parser)
    parser.epilog = Path(__file__).with_name("recipes.txt").read_text(encoding="utf-8").rstrip()


def _predict(parser: _Parser) -> None:
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="shipped name or TOML file; or a run of one (last)")
    parser.add_argument(
        "--fit", metavar="RUN", help="in place of a preset a twin of the server that a run has measured; or LEVELS.csv"
    )
    parser.add_argument("--axis", choices=("concurrency", "rate"), default="concurrency", help="of a table's levels")
    parser.add_argument(
        "--concurrency", metavar="N,N,...", help="closed loop (default: to past the slots, then closing in on the SLO)"
    )
    parser.add_argument("--rate", metavar="RPS,RPS,...", help="open loop")
    parser.add_argument("--requests", metavar="FILE.csv", help="replay a list: arrival_s,input_tokens,output_tokens")
    parser.add_argument("--prompt-tokens", type=_TOKENS, default=None, metavar="N")
    parser.add_argument("--output-tokens", type=_TOKENS, default=None, metavar="N")
    parser.add_argument("--shared-prefix", type=_SHARE, metavar="SHARE", help="share of a prompt common to all, 0 to 1")
    parser.add_argument(
        "--stagger",
        type=_TIME,
        default=None,
        metavar="S",
        help="closed loop: users start over S seconds (default: over one request's time; 0: at once, as a convoy)",
    )
    parser.add_argument(
        "--per-level", type=_number(bounds.REQUESTS), default=None, metavar="N", help="requests measured at each level"
    )
    _knobs(parser, "turn a knob of the simulated engine, or slots and KV cache of a twin (max_num_seqs=64)")
    _slo(parser)
    parser.add_argument("--seed", type=_SEED, default=0)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--rows", action="store_true", help="with --requests and --json: every request too")
    _cost(parser, "the profile of a run that --fit names")


def _doctor(parser: _Parser) -> None:
    parser.add_argument("url", metavar="URL", help="endpoint")
    _endpoint(parser, loads=False)
    parser.add_argument("--json", action="store_true", help="as JSON")


def _turned(parser: _Parser) -> None:
    parser.add_argument("url", nargs="?", metavar="URL", help="endpoint: which knobs it has, or why none")
    parser.add_argument("--print", action="store_true", help="write llmtop's scheduler for vLLM to standard output")
    _knobs_url(parser)
    _endpoint(parser, loads=False)


def _selftest(parser: _Parser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--seconds", type=_number(bounds.STEP_S), default=3.0, metavar="S", help="of each step (default: 3)"
    )


def _profiles(parser: _Parser) -> None:
    parser.add_argument(
        "do",
        nargs="?",
        metavar="save|show|schema",
        help="save: a recording's load as a profile; show: a profile's file; schema: of profile files, for editors",
    )
    parser.add_argument("what", nargs="?", metavar="RUN|PROFILE", help=f"save: {_RUN}; show: a profile or its file")
    parser.add_argument("--name", metavar="NAME", help="save: of the profile (default: the recording's)")
    _nothing(parser)


def _serve(parser: _Parser) -> None:
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="name in `llmtop ls`, label, or last (none: the only one)"
    )
    parser.add_argument(
        "--bind", default="127.0.0.1:8010", metavar="ADDRESS:PORT", help="0: any free one (default: 127.0.0.1:8010)"
    )
    parser.add_argument("--yes", action="store_true", help="also at an address that other machines reach")
    _shown_as(parser)


def _dashboard(parser: _Parser) -> None:
    _slo(parser)


def _nothing(parser: _Parser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def _worker(parser: _Parser) -> None:
    parser.add_argument(
        "crew",
        nargs="?",
        type=_scheduler,
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
        type=_processes,
        default=0,
        metavar="N|auto",
        help="load processes of this machine (default: auto: one for each core but one)",
    )
    parser.add_argument(
        "--name", default="", metavar="NAME", help="what this machine is called (default: its own name)"
    )


def _scheduler(text: str) -> CrewSpec:
    return _crew(text, scheduler=True)


def _processes(text: str) -> int:
    return 0 if text == "auto" else int(_number(bounds.WORKERS)(text))


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
    "live": _live,
    "demo": _demo,
    "run": _run,
    "check": _check,
    "attach": _attach,
    "ls": _nothing,
    "stop": _stop,
    "replay": _replay,
    "assess": _assess,
    "compare": _compare,
    "import": _import,
    "traffic": _traffic,
    "export": _export,
    "report": _report,
    "serve": _serve,
    "runs": _runs,
    "sim": _sim,
    "tune": _tune,
    "predict": _predict,
    "knobs": _turned,
    "doctor": _doctor,
    "selftest": _selftest,
    "profiles": _profiles,
    "dashboard": _dashboard,
    "settings": lambda parser: None,
    "locate": _nothing,
    "completion": _completion,
    "worker": _worker,
}


def _size(text: str) -> tuple[int, int]:
    columns, _, rows = text.lower().partition("x")
    try:
        return bounds.COLUMNS.read_whole(columns), bounds.ROWS.read_whole(rows)
    except ValueError:
        allowed = " and ".join(
            f"from {each.least} to {each.most} {each.name}" for each in (bounds.COLUMNS, bounds.ROWS)
        )
        raise argparse.ArgumentTypeError(f"{plain(text, SHOWN)!r}: must be a size as 120x40, {allowed}") from None


def _workers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workers",
        type=_crew,
        default="1",
        metavar="N|auto|URL",
        help="load processes (default: 1); or those of dask://HOST:8786, tls://HOST:8786, ssh://USER@HOST1,HOST2 "
        "(?processes=N on each, ?llmtop=PATH)",
    )


def _crew(text: str, *, scheduler: bool = False) -> CrewSpec:
    from llmtop.domain.crew import parse_crew, parse_scheduler
    from llmtop.errors import UsageError

    try:
        return parse_scheduler(text) if scheduler else parse_crew(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
