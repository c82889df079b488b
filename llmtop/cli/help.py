"""What stands below the options in each `--help`: examples, exit codes, and what a limit of an SLO may be called."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "live": (
        "llmtop                        no GPU, no server: the simulated engine",
        "llmtop http://127.0.0.1:8000 --baseline last",
    ),
    "demo": ("llmtop demo", "llmtop demo --once --record demo.llmtop && llmtop replay demo.llmtop"),
    "run": (
        "llmtop run ramp http://127.0.0.1:8000 --json > ramp.json",
        'llmtop run smoke --sim --slo "ttft_p95<1s,error_ratio<1%" --junit a.xml',
    ),
    "check": ("llmtop check rag.py", "llmtop check rag --print > rag.py      an example to begin with"),
    "attach": ("llmtop attach", "llmtop attach last --view"),
    "ls": ("llmtop ls", "llmtop ls --json"),
    "stop": ("llmtop stop last", "llmtop stop --all"),
    "replay": (
        'llmtop replay before.llmtop --slo "ttft_p95<1s"',
        "llmtop replay last --cast run.cast --speed 4",
    ),
    "assess": ("llmtop assess last --json", "llmtop assess levels.csv --metric tpot --stat p95"),
    "compare": (
        "llmtop compare before.llmtop after.llmtop",
        'llmtop compare before.llmtop last --fail-on "capacity-5%,ttft_p95+10%"',
    ),
    "import": (
        'llmtop import bench.jsonl --slo "ttft_p95<2s" -o levels.csv',
        "llmtop import c8/profile_export.jsonl c16/profile_export.jsonl --json",
    ),
    "traffic": (
        "llmtop traffic spend-logs.jsonl.gz -o mine.toml",
        "llmtop traffic http://prometheus:9090 --days 14 --model m -o mine.toml",
    ),
    "export": (
        "llmtop export last --format guidellm -o benchmarks.json",
        "llmtop export last --format br --load 32 > report.json",
    ),
    "report": ("llmtop report last", "llmtop report before.llmtop -o before.html"),
    "serve": ("llmtop serve", "llmtop serve last --bind 127.0.0.1:8011"),
    "runs": ("llmtop runs", "llmtop runs prune --keep 20"),
    "worker": (
        "llmtop worker dask://gpu-load:8786 --processes 4",
        "llmtop worker 'tls://gpu-load:8786?ca=ca.pem&cert=me.pem&key=me.key'",
    ),
    "sim": ("llmtop sim h100-llama-3.1-8b --port 8001", "llmtop sim --set max_num_seqs=64 --fault http_500=0.05"),
    "tune": (
        'llmtop tune http://127.0.0.1:8000 --serve "./up {slots}" --try slots=8,16,32',
        'llmtop tune http://gpu1:8000 --apply "./set {np}" --try np=8,4 --users 40',
    ),
    "predict": (
        "llmtop predict h100-llama-3.1-8b --set max_num_seqs=128",
        "llmtop predict --fit last --set max_num_seqs=192",
    ),
    "knobs": ("llmtop knobs --print > llmtop_knobs.py", "llmtop knobs http://127.0.0.1:8000"),
    "doctor": (
        "llmtop doctor http://127.0.0.1:8000",
        "llmtop doctor https://llm.example/v1 --api-key-env LLM_KEY",
    ),
    "selftest": ("llmtop selftest", "llmtop selftest --seconds 10 --json"),
    "profiles": ("llmtop profiles show ramp", "llmtop profiles save last --name before"),
    "dashboard": (
        "llmtop dashboard > llmtop.json      then: Dashboards, New, Import",
        'llmtop dashboard --slo "ttft_p95<1s" > llmtop.json',
    ),
    "settings": ("llmtop settings", "llmtop settings > ~/.config/llmtop/settings.toml   (llmtop locate says where)"),
    "locate": ("llmtop locate", "llmtop locate --json"),
    "completion": ("llmtop completion zsh > ~/.zfunc/_llmtop", "llmtop completion bash > llmtop.bash"),
}
CODES = {
    0: "done",
    1: "no",
    2: "the command line or a file is wrong",
    3: "the endpoint cannot be reached, is gone, hangs or restarted",
    4: "this machine was the bottleneck: the figures are void",
    5: "not known (--unknown-ok makes it 0)",
    130: "interrupted",
}
ANSWERED = "yes, or there was no question"
"""What 0 says of a command that has a 1, too."""
_EVERY = (0, 2, 130)
_ENDS = {
    "live": (0, 2, 3, 4, 130),
    "run": tuple(CODES),
    "attach": (0, 2, 3, 130),
    "stop": (0, 2, 3, 130),
    "worker": (0, 2, 3, 130),
    "check": (0, 1, 2, 3, 130),
    "assess": tuple(CODES),
    "compare": (0, 1, 2, 5, 130),
    "doctor": (0, 2, 3, 130),
    "traffic": (0, 2, 3, 130),
    "knobs": (0, 1, 2, 3, 130),
    "tune": tuple(CODES),
}
"""Exit codes of a command; the others have those of `_EVERY`."""
SLO = """\
limits of --slo, each as NAME<LIMIT, with commas between them:
  ttft tpot e2e    latencies, with _mean, _p50, _p90, _p95 (as without) or _p99;
                   in ms, s or min
  error_ratio      share of requests that failed: 1% or 0.01
  queue            requests that wait in the server
  kv               share of the KV cache in use: 80% or 0.8
  in quotes, as a shell takes < for itself: --slo "ttft_p95<2s,error_ratio<1%\""""
FAIL_ON = """\
thresholds of --fail-on, with commas between them; no search steers by them:
  FIGURE > LIMIT   any figure of --slo, also of one name's requests alone:
                   ttft_p95 > 1.5s, answer.ttft_p95 > 500ms, error_ratio > 0.5%
  capacity < N     users at the SLO; of an open loop requests/s
  output_tokens_per_s < N, requests_per_s < N
  goodput < N      requests/s that ended well inside the SLO's latency limits
  judged over what the answer of the run is about: a hold or a soak, and each
  load in it (rates: all of it); the loads at the expected peak; the load that a
  capacity names; what lies outside of a spike. What is not known is no pass

where GITHUB_STEP_SUMMARY names a file, as in a job of GitHub's, a summary is
appended to it as Markdown; `llmtop compare` and `llmtop tune` do the same"""
WITH_SLO = ("live", "run", "tune", "replay", "assess", "compare", "import", "report", "predict", "dashboard")


def epilog(command: str, more: str | None = None) -> str:
    """What stands below the options of a command.

    Args:
        more: what stands there before.
    """
    parts = [more] if more else []
    parts.append("\n".join(("examples:", *(f"  {line}" for line in EXAMPLES[command]))))
    if command in WITH_SLO:
        parts.append(SLO)
    if command == "run":
        parts.append(FAIL_ON)
    codes = _ENDS.get(command, _EVERY)
    told = {**CODES, 0: ANSWERED} if 1 in codes else CODES
    parts.append("\n".join(("exit codes:", *(f"  {code:<4} {told[code]}" for code in codes))))
    return "\n\n".join(parts)
