"""Options that several commands have: of endpoint, load, limits, cost, screen and what is written."""

from __future__ import annotations

import argparse

from llmtop.cli import values
from llmtop.domain import bounds

_Parser = argparse.ArgumentParser


RUN = "run file, its name in `llmtop runs` or its label, or last"
APIS = ("chat", "completions", "responses", "embeddings")


def endpoint(parser: _Parser, *, loads: bool = True) -> None:
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
    let_in(parser)
    way(parser)


def knobs_url(parser: _Parser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--knobs-url",
        metavar="URL",
        help="where llmtop's scheduler shows the server's knobs (default: http://127.0.0.1:9475, of a server here)",
    )


def let_in(parser: _Parser) -> None:
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


def way(parser: _Parser) -> None:
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


def simulated(parser: _Parser) -> None:
    parser.add_argument(
        "--sim",
        nargs="?",
        const="laptop",
        metavar="PRESET",
        help="drive the simulated engine (default preset: laptop; `llmtop sim --list` shows all)",
    )
    knobs(parser)


def knobs(parser: _Parser, what: str = "turn a knob of the simulated engine (max_num_seqs=64)") -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KNOB=N",
        help=what,
    )


def command(parser: _Parser) -> None:
    group = parser.add_argument_group(
        "the server's command",
        "CMD is a line for the shell. {NAME} in it is a setting: --set NAME=VALUE gives its first value, and the key k "
        "changes it. A brace of the shell's own is written twice.",
    )
    group.add_argument("--serve", metavar="CMD", help="start the server, in the foreground; it ends with llmtop")
    group.add_argument("--apply", metavar="CMD", help="change a server by a command that returns; it does not end")
    group.add_argument(
        "--ready-within",
        type=values.number(bounds.LASTING_S),
        default=900.0,
        metavar="S",
        help="how long a start may take, until a token comes (default: 900)",
    )


def slo(parser: _Parser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--slo",
        metavar="LIMITS",
        help='e.g. "ttft_p95<2s,tpot_p95<50ms,error_ratio<1%%" (default: the profile\'s, else that of the settings)',
    )
    parser.set_defaults(settings=None)


def cost(parser: _Parser, whose: str = "the profile", *, peak: bool = True) -> None:
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
    group.add_argument("--gpu-price", type=values.number(bounds.PRICE), metavar="N", help="of one GPU for an hour")
    group.add_argument(
        "--gpus",
        type=values.number(bounds.GPUS),
        metavar="N",
        help="that the measured endpoint runs on (default: as many as its server tells, else 1)",
    )
    group.add_argument("--currency", metavar="TEXT", help="of the price, as EUR")
    if peak:
        group.add_argument(
            "--cost-peak",
            type=values.number(bounds.CARRIED),
            metavar="N",
            help="users (open loop: requests/s) to be carried, by as many GPUs as it takes (default: the profile's "
            "expected peak)",
        )


def baseline(parser: _Parser) -> None:
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="RUN|FILE",
        help=f"compare with an earlier measurement: {RUN}; RUN@2, its second configuration; or a .csv table of levels "
        "(may be repeated)",
    )


def load(parser: _Parser) -> None:
    group = parser.add_argument_group("load")
    group.add_argument("--concurrency", type=values.USERS, metavar="N", help="requests in flight at the start")
    group.add_argument("--rate", type=values.RATE, metavar="RPS", help="open loop: requests sent per second")
    group.add_argument("--peak", type=values.PEAK, metavar="N", help="expected peak of the profile: its loads follow")
    group.add_argument("--prompt-tokens", type=values.TOKENS, metavar="N", help="length of a prompt")
    group.add_argument("--output-tokens", type=values.TOKENS, metavar="N", help="length of an answer")
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
        type=values.number(bounds.TRACE_SPEED),
        metavar="X",
        help="replay the trace X times as fast",
    )
    group.add_argument("--trace-window", metavar="FROM,TO", help="replay only this part of the trace: 10min,20min")
    group.add_argument("--think-time", type=values.TIME, metavar="S", help="pause of a user between two requests")
    group.add_argument(
        "--shared-prefix", type=values.SHARE, metavar="SHARE", help="share of a prompt common to all, 0 to 1"
    )
    group.add_argument(
        "--start",
        choices=("staggered", "together"),
        help="closed loop: users begin spread over a moment (default), or all at once as vllm bench's do",
    )
    group.add_argument(
        "--gate",
        type=values.GATE,
        metavar="M",
        help="let M requests through at once, as a server with max_num_seqs M would",
    )
    group.add_argument(
        "--canary",
        type=values.CANARY,
        metavar="RPS",
        help="beside the load, one small request at a time, so many a second: what a new user feels (0.5)",
    )
    group.add_argument(
        "--max-concurrency", type=values.MOST_USERS, metavar="N", help="never more requests in flight than this"
    )
    group.add_argument(
        "--skip-checks",
        action="store_true",
        help="start at once: nothing is asked of the endpoint before the load (needs --model)",
    )
    workers(group)
    group.add_argument("--seed", type=values.SEED, default=0, help="of prompts and arrivals")


def carried(parser: _Parser) -> None:
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


def workers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workers",
        type=values.crew,
        default="1",
        metavar="N|auto|URL",
        help="load processes (default: 1); or those of dask://HOST:8786, tls://HOST:8786, ssh://USER@HOST1,HOST2 "
        "(?processes=N on each, ?llmtop=PATH)",
    )


def recording(parser: _Parser) -> None:
    parser.add_argument("--record", metavar="FILE", help="where the run file goes (default: among your runs)")
    parser.add_argument("--label", metavar="TEXT", help="name of the run in its file and reports")


def out(parser: _Parser) -> None:
    parser.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="KIND[=WHERE]",
        help="figures of the run while it runs (may be repeated): prometheus=127.0.0.1:9464, a page at /metrics until "
        "llmtop ends; otlp=URL, pushed every 10 s and at the end, with the headers of OTEL_EXPORTER_OTLP_HEADERS; "
        "json=FILE, a line a second",
    )


def screen(parser: _Parser) -> None:
    group = parser.add_argument_group("screen")
    group.add_argument(
        "--ascii", action=argparse.BooleanOptionalAction, help="draw with ASCII characters only (default: as needed)"
    )
    group.add_argument("--fps", type=values.FPS, metavar="N", help="screen updates per second (default: 2)")
    shown_as(group)
    parser.set_defaults(settings=None)


def shown_as(group: argparse._ActionsContainer) -> None:
    group.add_argument("--stage", action="store_true", help="the layout for the back of a room: digits three rows high")
    group.add_argument(
        "--private",
        action="store_true",
        help="host, model, label, names and paths are not on the screen; what is recorded, exported and printed at the "
        "end is as ever",
    )


def left_alone(parser: _Parser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group(
        "detaching", "The key d leaves a run, which goes on: llmtop attach comes back, llmtop stop ends it."
    )
    group.add_argument(
        "--detached-for",
        type=values.lasting,
        metavar="TIME",
        help="a detached run that nobody comes back to ends after so long: 90s, 30min, 2h (default: 2h)",
    )
    return group


def unknown_ok(parser: _Parser | argparse._ArgumentGroup) -> None:
    parser.add_argument("--unknown-ok", action="store_true", help="exit code 0, not 5, where the answer is not known")


def nothing(parser: _Parser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")
