"""A server's words, a file's and a user's are shown and never obeyed: by no terminal, page, table or reader of XML."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import socket
import sqlite3
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hostile import WORDS, filled, obeyed, texts
from msgspec import structs
from trying import METRICS, Misdeed, Terminal, says, serving, streams, tried, tried_here, whole

from llmtop.cli import doctor, output, summary
from llmtop.cli.main import main
from llmtop.domain.assessment import Assessment
from llmtop.domain.commands import Command
from llmtop.domain.endpoint import EndpointInfo
from llmtop.domain.frame import Frame, Timeline
from llmtop.domain.plainly import plainly
from llmtop.domain.profile import Profile
from llmtop.domain.request import Outcome, RequestRecord
from llmtop.domain.run import Ended, FactBatch, RunMeta
from llmtop.domain.shown import Shown
from llmtop.domain.slo import Slo
from llmtop.exchange.junit import junit
from llmtop.meter.facts import Facts
from llmtop.report import ReportInput, report_input
from llmtop.report.markdown import markdown_text
from llmtop.report.page import html_text
from llmtop.report.tables import csv_text, json_text
from llmtop.tui.app import LlmtopApp


def a_report(words: str) -> ReportInput:
    batch = filled(FactBatch, words)
    failed = structs.replace(filled(RequestRecord, words), outcome=Outcome.HTTP_ERROR, status=500)
    return report_input(
        filled(RunMeta, words),
        Facts.of([batch]),
        filled(Assessment, words),
        filled(Timeline, words),
        slo=filled(Slo, words),
        length_s=1.0,
        records=(failed,),
        gpus=(words,),
    )


@pytest.fixture(scope="module")
def report() -> ReportInput:
    return a_report(WORDS)


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_every_text_of_a_report_is_fit_to_be_shown(report: ReportInput) -> None:
    assert sum("cmd" in text for text in texts(report)) > 40
    assert not [text for text in texts(report) if obeyed(text)]


def test_a_page_has_the_tags_that_it_has_with_good_words(report: ReportInput) -> None:
    page, good = Page(html_text(report)), Page(html_text(a_report("good")))
    assert page.tags == good.tags
    assert page.words.count("<script>alert(1)</script>") > 10
    assert not obeyed(html_text(report))


def test_markdown_has_the_cells_and_lines_that_it_has_with_good_words(report: ReportInput) -> None:
    text, good = markdown_text(report), markdown_text(a_report("good"))
    lines, good_lines = text.split("\n"), good.split("\n")
    assert len(lines) == len(good_lines)
    assert not obeyed(text)
    for line, as_good in zip(lines, good_lines, strict=True):
        assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", as_good)), line
        for sign in "`[<*":
            bare = re.findall(rf"(?<!\\){re.escape(sign)}", line)
            assert len(bare) == len(re.findall(rf"(?<!\\){re.escape(sign)}", as_good)), line


@pytest.mark.parametrize(
    "start", ["# a", "- a", "+ a", "1. a", "2) a", "> a", "=== a", "--- a", "    a", "~~~", "```", "<p>"]
)
def test_no_line_of_markdown_begins_with_a_mark_of_somebody_else(start: str) -> None:
    report = a_report("good")
    text = markdown_text(structs.replace(report, meta=structs.replace(report.meta, label=start)))
    line = text.split("\n")[2]
    assert re.match(r"\\|\d+\\|a|&", line), line


def test_a_table_has_no_formula_and_its_numbers_stay_numbers(report: ReportInput) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(report))))
    assert {len(row) for row in rows} == {len(rows[0])}
    for row in rows[1:]:
        assert row[0].startswith("'=cmd")
        assert not [cell for cell in row if cell.startswith(("=", "@", "\t", "\r"))]
        assert all(cell == "" or float(cell) >= 0 for cell in row[2:])
    assert not obeyed(csv_text(report))


def test_json_means_what_was_said_and_holds_nothing_to_obey(
    report: ReportInput, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not obeyed(json_text(report))
    json.loads(json_text(report))
    output.print_json({"words": WORDS})
    printed = capsys.readouterr().out
    assert json.loads(printed)["words"] == WORDS
    assert not obeyed(printed)


def test_junit_is_xml_whatever_was_said() -> None:
    suite = ElementTree.fromstring(junit(WORDS, filled(Assessment)))
    said = [value for element in suite.iter() for value in element.attrib.values()]
    assert sum("<script>" in text for text in said) >= 4
    assert not [text for text in said if obeyed(text)]


def test_what_is_printed_of_a_run_and_of_an_endpoint_is_fit_to_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(summary.text(filled(RunMeta), filled(Frame), filled(Assessment)))
    output.say(doctor.as_text(filled(EndpointInfo)))
    output.complain(WORDS)
    said = capsys.readouterr()
    assert "cmd" in said.out
    assert not obeyed(said.out + said.err)
    assert len(said.err.splitlines()) == 1


def test_a_whole_value_is_made_plain_and_stays_what_it_is() -> None:
    meta = filled(RunMeta)
    plain = plainly(meta)
    assert type(plain) is RunMeta
    assert not [text for text in texts(plain) if obeyed(text)]
    assert plainly(plain) == plain
    assert plainly(filled(RunMeta, "good")) == filled(RunMeta, "good")


def hostile_profile(folder: Path) -> Path:
    words = json.dumps(WORDS.replace("\x00", ""))
    path = folder / "p.toml"
    path.write_text(
        f"name = {words}\ndescription = {words}\n"
        f"[[stage]]\nname = {words}\nshape = 'hold'\nduration = '2s'\nconcurrency = 1\n"
    )
    return path


def test_the_words_of_a_profile_are_fit_to_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from llmtop.profiles import load_profile

    folder = tmp_path / "llmtop" / "profiles"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    profile: Profile = load_profile(hostile_profile(folder))
    assert not [text for text in texts(profile) if obeyed(text)]
    (folder / "broken\x1b]52;c;aGk=\x07.toml").write_text('"\\u001b]52;c;aGk=\\u0007" = 1')
    assert main(["profiles"]) == 0
    assert main(["profiles", "--json"]) == 0
    said = capsys.readouterr().out
    assert "broken" in said
    assert not obeyed(said)


def test_the_words_of_a_recording_are_fit_to_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from llmtop.recording.reader import RunReader
    from llmtop.recording.writer import RunWriter

    path = tmp_path / "r.llmtop"
    good = structs.replace(filled(RunMeta, "good"), ended_s=None)
    slo = good.profile.slo
    plain_limits = tuple(structs.replace(target, kind="") for target in slo.targets)
    profile = structs.replace(good.profile, slo=structs.replace(slo, targets=plain_limits))
    good = structs.replace(good, profile=profile)
    writer = RunWriter(path, good)
    writer.write(filled(FactBatch, "good"))
    writer.close(1.0)
    with sqlite3.connect(path) as database:
        for table, column in database.execute(
            "SELECT t.name, '\"' || c.name || '\"' FROM sqlite_master t, pragma_table_info(t.name) c "
            "WHERE t.type = 'table'"
        ).fetchall():
            words = WORDS.replace("\x00", "")
            database.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = 'good'", (words,))
            coded = json.dumps(words)[1:-1]
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE typeof({column}) = 'text'",
                ('"good"', f'"{coded}"'),
            )
    database.close()
    with RunReader(path) as run:
        told = (run.meta, *run.batches())
    assert sum("cmd" in text for text in texts(told)) > 20
    assert not [text for text in texts(told) if obeyed(text)]
    assert main(["assess", str(path), "--unknown-ok"]) in (0, 1)
    assert main(["report", str(path)]) == 0
    said = capsys.readouterr()
    assert not obeyed(said.out + said.err)
    for suffix in (".html", ".md"):
        assert not obeyed(path.with_suffix(suffix).read_text())


class Attendant:
    """Of a run in which every word is hostile."""

    def __init__(self, ended: Ended | None = None) -> None:
        self.slo = filled(Slo)
        self._shown = Shown(frame=filled(Frame), assessment=filled(Assessment), ended=ended)

    @property
    def left(self) -> bool:
        return False

    def shown(self) -> Shown:
        return self._shown

    def send(self, command: Command) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("ended", [None, Ended(WORDS, 3)])
async def test_no_row_of_a_screen_holds_anything_to_obey(ended: Ended | None) -> None:
    app = LlmtopApp(Attendant(ended))
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.pause()
        app.tick()
        await pilot.pause()
        widgets = [widget for screen in app.screen_stack for widget in screen.walk_children()]
        rows = [widget.render_line(y).text for widget in widgets for y in range(widget.size.height)]
    assert sum("cmd" in row for row in rows) > 2
    assert any("[red]x[/red]" in row for row in rows), "markup is text"
    assert not [row for row in rows if obeyed(row)]


# ── The command, against a server that says all this ──────────────────────────────────────────────────────────────────

PRINTABLE = WORDS.replace("\x00", "").replace("\r", "").replace("\n", "")
"""As a header can hold it."""
PAGE = METRICS + (
    b'vllm:num_requests_running{engine="x\x1b]52;c;aGk=\x07",model_name="m"} 1\n'
    b'DCGM_FI_DEV_GPU_UTIL{gpu="0",modelName="L4\x1b]52;c;aGk=\x07"} 1\n'
)


def saying(words: str) -> dict[str, Misdeed]:
    """A server that works, and puts these words wherever it can."""
    header = words.encode("latin-1", "ignore").decode("latin-1")
    turns = itertools.count()
    error = says(500, {"error": {"message": words, "type": words, "code": words}})

    def answer(connection: socket.socket) -> None:
        turn = next(turns)
        if turn > 2 and turn % 3 == 0:
            error(connection)
        elif turn > 2 and turn % 3 == 1:
            ended = {"choices": [{"index": 0, "delta": {"content": words}, "finish_reason": words}]}
            event = b"data: " + json.dumps(ended).encode() + b"\n\n"
            connection.sendall(whole(200, event, kind="text/event-stream"))
        else:
            streams(words, " two", model=words)(connection)

    models = {"data": [{"id": words, "owned_by": "vllm"}, {"id": "other" + words}]}
    return {
        "/v1/models": lambda connection: connection.sendall(
            whole(200, json.dumps(models).encode()).replace(b"\r\n", f"\r\nserver: {header}\r\n".encode("latin-1"), 1)
        ),
        "/version": says(200, {"version": words}),
        "/metrics": says(200, PAGE, kind="text/plain"),
        "/v1/chat/completions": answer,
        "/v1/completions": answer,
    }


def test_the_doctor_obeys_no_server_and_asks_for_the_model_by_its_own_name(home: Path) -> None:
    with serving(saying(PRINTABLE)) as server:
        looked = tried_here("doctor", server.url, home=home)
        looked.is_in_words(0)
        assert not obeyed(looked.said)
        assert "cmd" in looked.out
        asked = [json.loads(each.partition(b"\r\n\r\n")[2]) for each in server.asked if each.startswith(b"POST /v1/c")]
        assert {body["model"] for body in asked} == {PRINTABLE}


@pytest.mark.faults
def test_a_run_obeys_no_server_and_no_label(home: Path, tmp_path: Path) -> None:
    path, record, xml = hostile_profile(tmp_path), tmp_path / "r.llmtop", tmp_path / "j.xml"
    with serving(saying(PRINTABLE)) as server:
        ran = tried(
            "run", str(path), server.url, "--label", PRINTABLE, "--record", str(record), "--junit", str(xml),
            "--unknown-ok", home=home,
        )  # fmt: skip
        ran.is_in_words(0, 1)
        assert not obeyed(ran.said)
        assert record.stat().st_size
        ElementTree.parse(xml)
        asked = [json.loads(each.partition(b"\r\n\r\n")[2]) for each in server.asked if each.startswith(b"POST /v1/c")]
        assert {body["model"] for body in asked} == {PRINTABLE}
    for more in (("assess", str(record), "--unknown-ok"), ("report", str(record)), ("profiles", "save", str(record))):
        told = tried(*more, home=home)
        assert told.code in (0, 1)
        assert not obeyed(told.said)


@pytest.mark.faults
@pytest.mark.parametrize("words", ["replay", "live"])
def test_the_screen_obeys_no_server_and_no_recording(words: str, home: Path, tmp_path: Path) -> None:
    path, record = hostile_profile(tmp_path), tmp_path / "r.llmtop"
    with serving(saying(PRINTABLE)) as server:
        if words == "replay":
            tried("run", str(path), server.url, "--label", PRINTABLE, "--record", str(record), home=home)
            arguments = ["replay", str(record), "--speed", "50"]
        else:
            arguments = [server.url, "--profile", str(path), "--label", PRINTABLE]
        with Terminal(*arguments, home=home, size=(160, 50)) as cockpit:
            cockpit.until(b"TTFT")
            cockpit.read(5.0)
            cockpit.send(b"q")
            cockpit.code()
            written = cockpit.written
    own = b"\x1b]22;default\x07"
    """The shape of the mouse's pointer."""
    assert b"&amp; | pipe" in written, "the model's name stands there, as text"
    assert b"\x1b]52" not in written
    assert b"\x07" not in written.replace(own, b"")
    assert b"\xc2\x9b" not in written
    assert "\u202e".encode() not in written
    assert "\u200b".encode() not in written
