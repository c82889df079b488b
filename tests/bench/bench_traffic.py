"""How fast a million rows of each source become traffic, and in how much memory; each in a process of its own.

python tests/bench/bench_traffic.py [SOURCE ...] [--rows N]

The bar: a million rows in less than 10 s and less than 300 MB. `loop` is what an empty turn of a loop takes meanwhile,
8 ns or so where nothing else runs: times on a busy machine are longer by as much.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

ROWS = 1_000_000
APART_S = 0.08
PER_DOCUMENT = 50
"""Spans of a line, as a collector writes them."""
HEAD, TAIL = '{"resourceSpans": [{"scopeSpans": [{"spans": [', "]}]}]}"
NAMES = ("source", "MB", "rows", "s", "cpu s", "rows/s", "MB idle", "MB most", "loop ns")


def stamp(at_s: float, zone: str = "Z") -> str:
    day, rest = divmod(at_s, 86_400)
    hour, rest = divmod(rest, 3600)
    return f"2026-11-{1 + int(day):02}T{int(hour):02}:{int(rest // 60):02}:{rest % 60:09.6f}{zone}"


def azure(at_s: float, place: int, prompt: int, output: int) -> str:
    return f"{stamp(at_s, '+00:00').replace('T', ' ')},{prompt},{output}"


def burstgpt(at_s: float, place: int, prompt: int, output: int) -> str:
    return f"{at_s:.2f},{place // 5},3.5,ChatGPT,{prompt},{output},{prompt + output},Conversation log"


def plain(at_s: float, place: int, prompt: int, output: int) -> str:
    return f"{at_s:.3f},{prompt},{output}"


def mooncake(at_s: float, place: int, prompt: int, output: int) -> str:
    prompt *= 10  # as in Mooncake's conversations, some 24 blocks each
    ids = list(range(place * 3, place * 3 + -(-prompt // 512)))
    row = {"timestamp": int(at_s * 1e3), "input_length": prompt, "output_length": output, "hash_ids": ids}
    return json.dumps(row)


def litellm(at_s: float, place: int, prompt: int, output: int) -> str:
    row = {
        "request_id": f"chatcmpl-{place:032x}",
        "call_type": "acompletion",
        "api_key": f"{place % 99:064x}",
        "spend": 0.1,
        "total_tokens": prompt + output,
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "startTime": stamp(at_s),
        "endTime": stamp(at_s + 3),
        "completionStartTime": stamp(at_s + 0.2),
        "model": "toy",
        "model_group": "toy",
        "api_base": "http://vllm:8000/v1",
        "session_id": f"s{place // 4}",
        "cache_hit": "False",
        "status": "success",
        "metadata": {"alias": "a", "usage_object": {"prompt_tokens_details": {"cached_tokens": 0}}},
    }
    return json.dumps(row)


def litellm_csv(at_s: float, place: int, prompt: int, output: int) -> str:
    times = ",".join(stamp(at_s + later, "").replace("T", " ") for later in (0, 3, 0.2))
    return f'chatcmpl-{place:032x},acompletion,{prompt},{output},{times},toy,s{place // 4},False,success,"{{""a"": 1}}"'


def otel(at_s: float, place: int, prompt: int, output: int) -> str:
    """The first of a document begins it, the last ends it."""
    start = 1_794_000_000_000_000_000 + int(at_s * 1e9)
    told = {"usage.prompt_tokens": f"{prompt}", "usage.completion_tokens": f"{output}", "request.max_tokens": "4096"}
    took = {"latency.time_to_first_token": 0.1, "latency.time_in_queue": 0.0, "latency.e2e": 3.0}
    texts = {f"response.{name}": "toy" for name in ("model", "id", "finish_reasons", "system")}
    kinds: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("intValue", told),
        ("doubleValue", took),
        ("stringValue", texts),
    )
    span = {
        "traceId": f"{place + 1:032x}",
        "spanId": f"{place + 1:016x}",
        "name": "llm_request",
        "kind": 2,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 3_000_000_000),
        "attributes": [
            {"key": f"gen_ai.{key}", "value": {kind: value}} for kind, values in kinds for key, value in values.items()
        ],
    }
    head = HEAD if place % PER_DOCUMENT == 0 else ""
    return f"{head}{json.dumps(span)}{TAIL if place % PER_DOCUMENT == PER_DOCUMENT - 1 else ','}"


def usage(at_s: float, place: int, prompt: int, output: int) -> str:
    row = {
        "id": f"chatcmpl-{place:032x}",
        "object": "chat.completion",
        "created": 1_794_000_000 + int(at_s),
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 40}}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    return json.dumps(row)


def nginx(at_s: float, place: int, prompt: int, output: int) -> str:
    row = {
        "time": stamp(at_s),
        "msec": 1_794_000_000.2 + at_s,
        "request": "POST /v1/chat/completions HTTP/1.1",
        "status": 200,
        "request_length": prompt,
        "request_time": 0.2,
    }
    return json.dumps(row)


def envoy(at_s: float, place: int, prompt: int, output: int) -> str:
    row = {
        "start_time": stamp(at_s),
        "method": "POST",
        "path": "/v1/chat/completions",
        "response_code": 200,
        "duration": 200 + output,
        "bytes_received": prompt,
        "request_id": f"{place:032x}",
    }
    return json.dumps(row)


Row = Callable[[float, int, int, int], str]
SOURCES: dict[str, tuple[str, Row]] = {
    "azure": ("TIMESTAMP,ContextTokens,GeneratedTokens", azure),
    "burstgpt": (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type",
        burstgpt,
    ),
    "plain": ("arrival_s,input_tokens,output_tokens", plain),
    "mooncake": ("", mooncake),
    "litellm": ("", litellm),
    "litellm.gz": ("", litellm),
    "litellm-csv": (
        "request_id,call_type,prompt_tokens,completion_tokens,startTime,endTime,completionStartTime,model,session_id,"
        "cache_hit,status,metadata",
        litellm_csv,
    ),
    "otel": ("", otel),
    "usage": ("", usage),
    "nginx": ("", nginx),
    "envoy": ("", envoy),
}


def write(name: str, rows: int, path: Path) -> None:
    head, row = SOURCES[name]
    rng = Random(1)
    with gzip.open(path, "wt", compresslevel=1) if name.endswith(".gz") else path.open("w") as file:
        if head:
            file.write(f"{head}\n")
        for place in range(rows):
            text = row(place * APART_S, place, int(rng.paretovariate(1.2) * 300) % 16_000 + 1, rng.randrange(1, 900))
            file.write(text if text[-1] == "," else f"{text}\n")


def measured(path: str) -> str:
    """Of one file, in a process of its own."""
    from llmtop.traffic.read import read

    def used_mb() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before_mb, began_s, cpu_s = used_mb(), time.perf_counter(), time.process_time()
    traffic = read(path)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    began = time.process_time()
    for _ in range(1_000_000):
        pass
    loop_ns = (time.process_time() - began) * 1e3
    rate = len(traffic) / took_s
    sizes = f"{before_mb:>8.0f} {used_mb():>8.0f}"
    return f"{len(traffic):>10,} {took_s:>6.1f} {cpu_s:>6.1f} {rate:>9,.0f} {sizes} {loop_ns:>8.0f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", nargs="*", choices=[*SOURCES, []])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--measure")
    asked = parser.parse_args()
    if asked.measure:
        print(measured(asked.measure))
        return
    print("{:<12} {:>6} {:>10} {:>6} {:>6} {:>9} {:>8} {:>8} {:>8}".format(*NAMES))
    for name in asked.source or SOURCES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log"
            write(name, asked.rows // PER_DOCUMENT * PER_DOCUMENT, path)
            size_mb = path.stat().st_size / 1e6
            child = subprocess.run(
                [sys.executable, __file__, "--measure", str(path)], capture_output=True, text=True, check=True
            )
            print(f"{name:<12} {size_mb:>6.0f} {child.stdout.rstrip()}", flush=True)


if __name__ == "__main__":
    main()
