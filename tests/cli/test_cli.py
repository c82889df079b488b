"""The command line: exit codes, messages that name what is wrong and what to do, and never a traceback."""

from __future__ import annotations

import http.server
import json
import threading
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import ended
import pytest
from documented import drift
from msgspec.structs import replace
from smoked import Smoked

from llmtop.cli import live, target
from llmtop.cli.keys import documents
from llmtop.cli.main import COMMANDS, main
from llmtop.cli.output import print_json
from llmtop.cli.run import as_json
from llmtop.dialects import DIALECTS
from llmtop.domain.endpoint import Endpoint
from llmtop.domain.load import Caps
from llmtop.domain.preferences import Settings
from llmtop.domain.profile import Profile
from llmtop.domain.run import FactBatch, LoadWorker, RunMeta
from llmtop.domain.samples import ClientSample
from llmtop.endpoint.probe import probe
from llmtop.endpoint.urls import endpoint_from_url
from llmtop.errors import EndpointError, UsageError
from llmtop.meter.facts import Facts
from llmtop.recording.writer import RunWriter


@pytest.fixture
def answering() -> Iterator[str]:
    """A server that gives one canned answer to everything; its URL. Set `status`, `kind` and `body` on the class."""

    class Canned(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = CANNED["answer"]
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Canned)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


CANNED: dict[str, tuple[int, str, bytes]] = {}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


def test_a_smoke_run_is_judged_and_recorded(smoked: Smoked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, told = smoked.path, smoked.told
    answer = 4 if smoked.swamped else 0
    assert smoked.code == (answer or 1), "a threshold is broken"
    assert told["totals"]["ok"] > 0
    assert told["endpoint"]["simulated"]
    assert drift("llmtop run --json", told) == []
    assert all(f"`{name}`" in documents()["llmtop run --json"]["endpoint"].meaning for name in told["endpoint"])
    run, (stage,) = told["figures"]["run"], told["figures"]["stages"]
    assert run["n"] == run["e2e_ms"]["n"] > 0
    assert 0.9 * run["n"] <= stage["n"] <= run["n"], "on a busy machine a few are sent as the stage begins or ends"
    assert "tok/s" in smoked.said
    assert "<testsuite" in smoked.junit.read_text()

    assert main(["report", str(path), "-o", str(tmp_path / "r.html")]) == 0
    assert main(["report", str(path), "-o", str(tmp_path / "r.json")]) == 0
    reported = json.loads((tmp_path / "r.json").read_text())
    assert drift("llmtop report -o FILE.json", reported) == []
    assert reported["figures"] == told["figures"]
    assert "<svg" in (tmp_path / "r.html").read_text()
    capsys.readouterr()
    assert main(["assess", str(path), "--json", "--slo", "ttft_p95<60s"]) == answer
    assessed = json.loads(capsys.readouterr().out)
    assert drift("llmtop assess --json", assessed) == []
    assert assessed["figures"] == told["figures"], "of the same run the same figures"
    assert main(["assess", str(path), "--slo", "ttft_p50<1ms"]) == (answer or 1), "another SLO, another verdict"
    missed = capsys.readouterr().out
    assert ("client was the bottleneck" if smoked.swamped else "keep the SLO: TTFT p50") in missed
    beside = ["--baseline", str(path), "--baseline", f"{path}@1"]
    assert main(["assess", str(path), "--json", *beside]) in (0, 1, 4, 5)
    assessed = json.loads(capsys.readouterr().out)
    assert drift("llmtop assess --json", assessed) == []
    names = [each["curve"]["label"] for each in assessed["baselines"]]
    assert len(set(names)) == len(names) == 2, "each has a name of its own"
    assert main(["assess", str(path), "--baseline", f"{path}@9"]) == 2
    assert f"{path}: has no configuration 9 with levels" in said(capsys)


def test_a_local_server_is_looked_for_where_the_tables_and_lm_studio_have_their_ports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(target, "_listens", lambda port: asked.append(port) or False)
    assert target.ask_for_local_server() is None
    assert {table.default_port for table in DIALECTS.values()} - {None} | {1234} == set(asked)
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, "text/html", b"<html><body>hello</body></html>"), "web page"),
        ((401, "application/json", b'{"error":"Unauthorized"}'), "--api-key-env"),
        ((404, "application/json", b'{"detail":"Not Found"}'), "--model"),
        ((200, "application/json", b"{"), "models"),
    ],
)
async def test_an_answer_that_is_no_endpoint(answering: str, answer: tuple[int, str, bytes], says: str) -> None:
    CANNED["answer"] = answer
    with pytest.raises(EndpointError, match=says) as refused:
        await probe(endpoint_from_url(answering), Caps())
    assert refused.value.exit_code == 3
    assert answering.partition("://")[2] in str(refused.value)


def test_a_run_against_what_is_no_endpoint_says_so(answering: str, capsys: pytest.CaptureFixture[str]) -> None:
    CANNED["answer"] = (200, "text/html", b"<html><body>hello</body></html>")
    assert main(["run", "smoke", answering]) == 3
    message = said(capsys)
    assert answering.partition("://")[2] in message
    assert "web page" in message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "no-such-profile"], "no-such-profile"),
        (["run", "capacity", "--sim", "--peak", "10"], "has no expected peak that could be 10"),
        (["run", "ramp", "--sim", "--peak", "600"], "1200 users are above limits.max_concurrency = 1024"),
        (["run", "smoke", "--sim", "--once"], "--once: repeat: synthetic prompts have no rows to be sent once"),
        (["run", "smoke", "--sim", "--trace-speed", "2"], "--trace-speed: is of a trace: a synthetic workload has no"),
        (["run", "smoke", "--sim", "--trace-speed", "21"], "--trace-speed"),
        (["run", "smoke", "--sim", "--trace-window", "1min,2min"], "--trace-window: is of a trace: a synthetic"),
        (["run", "smoke", "--sim", "--trace-window", "1min"], "--trace-window '1min' is no window: write where"),
        (["run", "smoke", "--sim", "--columns", "prompt"], "--columns 'prompt': names fields of the file, as prompt=q"),
        (["run", "smoke", "--sim", "--columns", "prompt=q"], "--columns: columns: names what is in a file of prompts"),
        (["run", "smoke", "--slo", "latency<2s", "--sim"], "'latency' is not known"),
        (["run", "smoke", "--sim", "--set", "max_num_seqs"], "KNOB=VALUE"),
        (["run", "smoke", "--sim", "--set", "warp=9"], "warp"),
        (["run", "smoke", "--sim", "no-such-preset"], "no-such-preset"),
        (["run", "smoke", "http://192.0.2.1:8000"], "--yes"),
        (["run", "smoke", "--concurrency", "2", "--rate", "3", "--sim"], "give one of them"),
        (["run", "capacity", "--sim", "--duration", "3"], "no stages"),
        (["replay", "nothing.llmtop"], "terminal"),
        (["report", "nothing.llmtop"], "no such file"),
        (["assess", "nothing.csv"], "nothing.csv"),
        (["run", "smoke", "--sim", "--baseline", "nothing"], "nothing: no such file"),
        (["run", "smoke", "--sim", "--baseline", "nothing.csv"], "nothing.csv: cannot be read"),
        (["run", "smoke", "--sim", *(["--baseline", "a"] * 9)], "at most 8 are shown beside a run"),
        (["predict", "no-such-preset"], "no-such-preset"),
        (["predict", "laptop", "--concurrency", "1,x"], "--concurrency"),
        ([], "terminal"),
    ],
)
def test_what_cannot_be_meant(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert says in said(capsys)


def test_a_broken_profile_names_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[[stage]]\nname = "a"\nduration = "soon"\nshape = "hold"\nconcurrency = 3\n')
    assert main(["run", str(path), "--sim"]) == 2
    message = said(capsys)
    assert "mine.toml" in message
    assert "duration" in message


def test_a_file_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.llmtop"
    path.write_text("hello")
    assert main(["report", str(path)]) == 2
    assert "not a run file" in said(capsys)


def test_an_empty_run_is_reported_as_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.llmtop"
    meta = RunMeta(
        llmtop_version="0", started_at=0.0, endpoint=Endpoint(base_url="http://h"), profile=Profile(name="p")
    )
    RunWriter(path, meta).close(0.0)
    assert main(["report", str(path)]) == 0
    assert main(["assess", str(path)]) == 5
    assert main(["assess", str(path), "--unknown-ok"]) == 0
    assert "Traceback" not in capsys.readouterr().err


def test_load_workers_are_told_of_a_file_as_of_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batches = [FactBatch(t_s=0.0, workers=tuple(LoadWorker(0.0, n, f"h{n}:47{n}") for n in range(3)))]
    for t_s in (1.0, 2.0):
        samples = (ClientSample(t_s=t_s, worker=n, lag_p99_ms=15.0 * (n == 1), chunks_per_s=100.0) for n in range(3))
        batches.append(FactBatch(t_s=t_s, client=tuple(samples)))
    result = replace(ended.result(), facts=Facts.of(batches))
    path = tmp_path / "a.llmtop"
    writer = RunWriter(path, replace(result.meta, ended_s=None, ending=None))
    for batch in batches:
        writer.write(batch)
    writer.close(2.0)
    print_json(as_json(result))
    told = json.loads(capsys.readouterr().out)["load_workers"]
    assert told["worst"][0]["name"] == "h1:471"
    main(["assess", str(path), "--json"])
    assert json.loads(capsys.readouterr().out)["load_workers"] == told
    alone = tmp_path / "alone.llmtop"
    RunWriter(alone, result.meta).close(0.0)
    main(["assess", str(alone), "--json"])
    assert json.loads(capsys.readouterr().out)["load_workers"] is None


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([name, "--help"])
        assert end.value.code == 0
        assert "usage:" in capsys.readouterr().out


def test_a_prediction_finds_the_slots(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "laptop", "--json", "--per-level", "60", "--set", "max_num_seqs=16"]) == 0
    result = json.loads(capsys.readouterr().out)
    points = result["points"]
    assert {"concurrency", "output_tokens_per_s", "requests_per_s", "ttft_ms", "kv_usage_max"} <= points[0].keys()
    assert "samples" not in points[0]
    assert result["cliff"]["kind"] == "cliff"
    assert result["cliff"]["at"] == pytest.approx(16, rel=0.1)


def test_a_prediction_closes_in_on_the_edge_of_the_slo(capsys: pytest.CaptureFixture[str]) -> None:
    """Users who start at once stay a convoy, which carries fewer than users who know nothing of each other."""
    assert main(["predict", "laptop", "--json", "--per-level", "60"]) == 0
    capacity = json.loads(capsys.readouterr().out)["capacity"]
    assert 49 <= capacity["at_slo"] <= 53
    assert capacity["fails_at"] - capacity["at_slo"] <= 2
    assert main(["predict", "laptop", "--json", "--per-level", "60", "--stagger", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["capacity"]["at_slo"] < 49


def test_a_prediction_without_end_of_slots_ends_and_what_does_not_fit_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["predict", "laptop", "--per-level", "20", "--set", "max_num_seqs=1e9", "--slo", "ttft_p95<2s"]) == 0
    capsys.readouterr()
    assert main(["predict", "laptop", "--prompt-tokens", "999999"]) == 2
    assert "999999 prompt and 64 output tokens do not fit laptop: a request may have 2048" in said(capsys)
    assert main(["predict", "laptop", "--concurrency", "1000000000"]) == 2
    assert "must be a whole number from 1 to 4,096 (users)" in said(capsys)


def test_a_request_list_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "requests.csv"
    path.write_text("arrival_s,input_tokens,output_tokens\n0,100,10\n0.5,200,20\n")
    assert main(["predict", "laptop", "--requests", str(path), "--json", "--rows"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["makespan_s"] > 0.5
    assert len(result["requests"]) == 2
    path.write_text("arrival_s,input_tokens\n0,100\n")
    assert main(["predict", "laptop", "--requests", str(path)]) == 2
    assert "no output tokens in it" in said(capsys)


def test_profiles_presets_and_places(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profiles", "--json"]) == 0
    asked = {entry["name"]: entry["question"] for entry in json.loads(capsys.readouterr().out)["profiles"]}
    assert {"ramp", "soak", "spike", "long-context", "chat", "code", "sharegpt", "smoke", "capacity"} <= asked.keys()
    assert (asked["ramp"], asked["smoke"]) == ("peak", "hold")
    assert main(["profiles"]) == 0
    assert "capacity       capacity searched" in capsys.readouterr().out
    assert main(["sim", "--list"]) == 0
    assert "h100-llama-3.1-8b" in capsys.readouterr().out
    assert main(["locate", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {
        "format",
        "runs",
        "profiles",
        "settings",
        "state",
        "log",
        "there",
        "ignored",
    }


def test_knobs_are_the_simulated_engines_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "smoke", "http://127.0.0.1:9", "--set", "max_num_seqs=4"]) == 2
    assert "a real server has none" in said(capsys)


def test_a_port_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--port", "70000"]) == 2
    assert "'70000': must be a whole number from 0 to 65,535" in capsys.readouterr().err


def test_a_peak_without_a_profile_is_refused() -> None:
    with pytest.raises(UsageError, match="--peak is of a profile"):
        live._profile(Namespace(profile=None, peak=3.0, max_concurrency=None, settings=Settings()), start=1)
    profile = live._profile(Namespace(profile="ramp", peak=3.0, max_concurrency=None, settings=Settings()), start=1)
    assert (profile.peak, profile.plan.top) == (3.0, 6.0)
