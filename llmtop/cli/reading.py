"""Options of the commands that read what was measured, or foresee what would be."""

from __future__ import annotations

import argparse

from llmtop.cli import groups, values
from llmtop.domain import bounds

_Parser = argparse.ArgumentParser


EXPORTS = ("vllm", "guidellm", "aiperf", "br", "csv", "map", "jsonl", "parquet")


def replay(parser: _Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=groups.RUN)
    parser.add_argument(
        "--speed", type=values.number(bounds.SPEED), default=1.0, metavar="X", help="0.5 to 50 (default: 1)"
    )
    groups.slo(parser)
    groups.baseline(parser)
    groups.screen(parser)
    group = parser.add_argument_group("as a film")
    group.add_argument(
        "--cast",
        metavar="FILE",
        help="no screen: write it as an asciicast (v2), marks as markers; - is standard output",
    )
    group.add_argument("--size", type=values.size, metavar="COLUMNSxROWS", help="of the film (default: 120x40)")
    group.add_argument("--force", action="store_true", help="write over a file that llmtop did not write, too")


def assess(parser: _Parser) -> None:
    parser.add_argument(
        "file", metavar="RUN|FILE", help=f"{groups.RUN}; a .csv table of levels; another tool's results"
    )
    groups.slo(parser)
    groups.baseline(parser)
    groups.unknown_ok(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--metric", choices=("ttft", "tpot", "e2e"), default="ttft", help="of which a cliff is sought")
    parser.add_argument("--stat", choices=("p50", "p95"), default="p50")
    parser.add_argument("--axis", choices=("concurrency", "rate"), default="concurrency", help="of a table's levels")
    groups.cost(parser, "the profile that the run was driven with")


def compare(parser: _Parser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN|LEVELS.csv",
        help=f"the first is the one before: {groups.RUN}; RUN@2 for its second configuration; "
        "or a .csv table of levels",
    )
    groups.slo(parser)
    parser.add_argument(
        "--fail-on", metavar="CHANGES", help='exit code 1 where it got so much worse: "capacity -5%%, ttft_p95 +10%%"'
    )
    groups.unknown_ok(parser)
    parser.add_argument("--anyway", action="store_true", help="compare other workloads and models, too")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it down, too, with charts: .html or .md")
    parser.add_argument("--force", action="store_true", help="write over a file that llmtop did not write, too")
    parser.add_argument("--axis", choices=("concurrency", "rate"), default="concurrency", help="of a table's levels")
    groups.cost(parser, "the profiles that the runs were driven with", peak=False)


def import_(parser: _Parser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="results of one configuration or several, also .gz")
    parser.add_argument("--load", type=values.LOAD, metavar="N", help="of the entries that do not say theirs")
    parser.add_argument(
        "-o", "--output", metavar="LEVELS.csv", help="the levels as a table, which assess, compare and --baseline read"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that llmtop did not write, too")
    groups.slo(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")


def traffic(parser: _Parser) -> None:
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
    group.add_argument("--days", type=values.number(bounds.DAYS), metavar="N", help="how far back (default: 7)")
    group.add_argument("--model", metavar="NAME", help="of one model only (default: all together)")
    parser.set_defaults(dialect=None, metrics_url=[], transport="auto")
    groups.let_in(parser)
    groups.way(parser)


def export(parser: _Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=groups.RUN)
    parser.add_argument(
        "--format",
        required=True,
        choices=EXPORTS,
        help="vllm bench serve, GuideLLM 2, AIPerf 1.4 (records with -o FILE.jsonl), llm-d Benchmark Report 0.2.1; "
        "csv: a table of levels; map: users by prompt length, as CSV; jsonl, parquet: every request",
    )
    parser.add_argument(
        "--load", type=values.LOAD, metavar="N", help="only the level at this load (aiperf, br: one alone)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    parser.add_argument("--force", action="store_true", help="write over a file that llmtop did not write, too")


def report(parser: _Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=groups.RUN)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help=".html, .md, .json or .csv (default: .html and .md beside the run file)"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that llmtop did not write, too")
    groups.slo(parser)
    groups.baseline(parser)
    groups.cost(parser, "the profile that the run was driven with")


def runs(parser: _Parser) -> None:
    parser.add_argument("do", nargs="?", metavar="prune", help="delete recordings; says which, and asks")
    group = parser.add_argument_group("prune")
    group.add_argument("--keep", type=values.number(bounds.KEPT_RUNS), metavar="N", help="all but the newest N")
    group.add_argument("--older", metavar="AGE", help="those that were begun longer ago: 12h, 30d, 8w")
    group.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--all", action="store_true", help="list all, not only the newest 20")
    groups.nothing(parser)


def predict(parser: _Parser) -> None:
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
    parser.add_argument("--prompt-tokens", type=values.TOKENS, default=None, metavar="N")
    parser.add_argument("--output-tokens", type=values.TOKENS, default=None, metavar="N")
    parser.add_argument(
        "--shared-prefix", type=values.SHARE, metavar="SHARE", help="share of a prompt common to all, 0 to 1"
    )
    parser.add_argument(
        "--stagger",
        type=values.TIME,
        default=None,
        metavar="S",
        help="closed loop: users start over S seconds (default: over one request's time; 0: at once, as a convoy)",
    )
    parser.add_argument(
        "--per-level",
        type=values.number(bounds.REQUESTS),
        default=None,
        metavar="N",
        help="requests measured at each level",
    )
    groups.knobs(parser, "turn a knob of the simulated engine, or slots and KV cache of a twin (max_num_seqs=64)")
    groups.slo(parser)
    parser.add_argument("--seed", type=values.SEED, default=0)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--rows", action="store_true", help="with --requests and --json: every request too")
    groups.cost(parser, "the profile of a run that --fit names")
