"""The settings file: what it may say, what is refused of it and how, and that the command line comes before it."""

from __future__ import annotations

import json
import os
import threading
from argparse import Namespace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.cli import live, settings, wanted
from llmtop.cli.effects import effects
from llmtop.cli.main import COMMANDS, _parser, main
from llmtop.cli.settings import read_settings, settings_of, template
from llmtop.cli.target import by_hand, with_arguments
from llmtop.cli.wanted import Memory, unkept
from llmtop.domain.preferences import Remembered, Settings
from llmtop.domain.slo import Slo, parse_slo, usual_slo
from llmtop.errors import FileError
from llmtop.profiles.reading import parse_profile
from llmtop.tui.keymap import movable

OWN = parse_slo("ttft_p95<700ms,error_ratio<2%")
SETTABLE = [
    line.removeprefix("# ")
    for line in template().splitlines()
    if line.startswith("# ") and line != "# [keys]" and not line.startswith('# "')
]
KEY_LINES = [line.removeprefix("# ") for line in template().splitlines() if line.startswith('# "')]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the settings file lies; there is none yet. The state folder is empty, too."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "config/llmtop").mkdir(parents=True)
    return tmp_path / "config/llmtop/settings.toml"


# -- the template ----------------------------------------------------------------------------------------------------


def test_the_template_changes_nothing_and_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    printed = capsys.readouterr().out
    assert settings_of(printed, "x") == Settings()
    assert {line.partition(" = ")[0] for line in SETTABLE} == settings._READ.keys() - {"keys"}
    assert [line.split('"')[1] for line in KEY_LINES] == list(movable())


@given(st.sets(st.sampled_from(SETTABLE)), st.sets(st.sampled_from(KEY_LINES)))
def test_any_lines_of_the_template_are_settings_and_say_what_is_built_in(lines: set[str], keys: set[str]) -> None:
    read = settings_of("\n".join([*lines, "[keys]", *keys]), "x")
    assert dict(read.keymap) == {line.split('"')[1]: movable()[line.split('"')[1]] for line in keys}
    assert read.slo in (None, Slo(tuple(read.slo.targets if read.slo else ())))
    assert str(read.slo or Slo()) == str(Slo())
    assert (read.fps, read.ascii, read.layout) in {
        (f, a, ly) for f in (None, 2) for a in (None, False) for ly in (None, "all")
    }


def test_no_file_and_an_empty_one_say_nothing(file: Path) -> None:
    assert read_settings(screen=True) == Settings()
    file.write_text("")
    assert read_settings(screen=True) == Settings()


def test_all_of_it_is_read(file: Path) -> None:
    file.write_text(
        'slo = "ttft_p95<700ms,error_ratio<2%"\ntheme = "nord"\nfps = 5\nascii = true\nlayout = "curve"\n'
        '[keys]\n"app.export" = "E, ctrl+e"\napp.big = "?"\nhelp = 0'.replace("help = 0", '"app.help" = "B"')
    )
    keymap = (("app.export", "E,ctrl+e"), ("app.big", "question_mark"), ("app.help", "B"))
    assert read_settings(screen=True) == Settings("nord", 5.0, True, "curve", OWN, keymap)
    assert read_settings(screen=False) == Settings(slo=OWN), "without a screen the rest is not looked at"


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ('theem = "nord"', "theem", "did you mean theme? (allowed: slo, theme, fps, ascii, layout, keys)"),
        ('theme = "nrod"', "theme", "'nrod' is not known; did you mean nord?"),
        ("theme = 3", "theme", "must be a text"),
        ('fps = "5"', "fps", "must be a number from 0.1 to 60"),
        ("fps = true", "fps", "must be a number"),
        ("fps = 0", "fps", "must be a number"),
        ("fps = nan", "fps", "must be a number"),
        ("ascii = 1", "ascii", "must be true or false"),
        ('layout = "curv"', "layout", "did you mean curve?"),
        ('slo = "ttf<1s"', "slo", "'ttf' is not known; did you mean ttft?"),
        ("slo = []", "slo", "must be a text"),
        ("keys = 3", "keys", "must be a table"),
        ('[keys]\n"app.exprt" = "E"', 'keys."app.exprt"', "did you mean app.export?"),
        ('[keys]\napp.exprt = "E"', 'keys."app.exprt"', "did you mean app.export?"),
        ('[keys]\n"app.export" = "ctrl+c"', 'keys."app.export"', "ctrl+c always leaves, whatever the settings say"),
        ('[keys]\n"app.export" = "3"', 'keys."app.export"', "3 writes numbers"),
        ('[keys]\n"app.export" = "."', 'keys."app.export"', "full_stop writes numbers"),
        ('[keys]\n"app.export" = "m"', 'keys."app.export"', "m is the key of run.mark (mark this moment), too"),
        ('[keys]\n"app.big" = "h"\n"app.edge" = "H"', 'keys."app.big"', "h is the key of big.hide"),
        ('[keys]\n"app.big" = "y"\n"run.mark" = "y"', 'keys."app.big"', "y is the key of run.mark"),
        ('[keys]\n"app.export" = "shift+e"', 'keys."app.export"', "write the character that it gives"),
        ('[keys]\n"app.export" = "pagedwn"', 'keys."app.export"', "'pagedwn' is no key; did you mean pagedown?"),
        ('[keys]\n"app.export" = "f99"', 'keys."app.export"', "'f99' is no key"),
        ('[keys]\n"app.export" = "E,"', 'keys."app.export"', "'' is no key"),
        ('[keys]\n"app.export" = " "', 'keys."app.export"', "has no key"),
        ('[keys]\n"app.export" = 3', 'keys."app.export"', "must be a text"),
        ('[keys]\n"load.hold" = "y"', 'keys."load.hold"', "stays on enter, which answers questions"),
        ('[keys]\n"panel.1" = "y"', 'keys."panel.1"', "stays on 1"),
        ('[keys]\n"big.back" = "y"', 'keys."big.back"', "follows app.big"),
    ],
)
def test_what_is_wrong_is_refused_with_file_and_key(text: str, key: str, says: str) -> None:
    with pytest.raises(FileError) as told:
        settings_of(text, "settings.toml")
    assert str(told.value).startswith(f"settings.toml: {key}: ")
    assert says in str(told.value)
    assert told.value.exit_code == 2


def test_a_file_that_cannot_be_read_ends_a_command_with_a_sentence(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content, says in ((b"[keys", "is not TOML"), (b"\xff", "is not UTF-8"), (b"#" * (1 << 19), "is larger than")):
        file.write_bytes(content)
        assert main(["run", "smoke", "--sim"]) == 2
        assert f"{file}: {says}" in capsys.readouterr().err
    file.unlink()
    file.mkdir()
    assert main(["replay", "last"]) == 2
    assert f"{file}: is a folder" in capsys.readouterr().err


def test_a_folder_that_cannot_be_looked_at_is_said_and_ends_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "lstat", refuse)
    assert read_settings(screen=True) == Settings()
    assert f"{file}: settings cannot be looked at: Permission denied" in capsys.readouterr().err


def test_a_run_without_a_screen_does_not_look_at_what_is_of_screens(file: Path) -> None:
    file.write_text('theme = 3\nnew = 1\n[keys]\n"no.id" = "x"\n')
    assert read_settings(screen=False) == Settings()


def test_every_command_that_begins_a_load_or_draws_a_screen_reads_them() -> None:
    told = {name for name in COMMANDS if "settings" in _parser(name)._defaults}
    assert told >= {"live", "attach", "run", "replay", "tune"}


# -- the SLO ---------------------------------------------------------------------------------------------------------


def arguments(*words: str, own: Slo | None = OWN) -> Namespace:
    read = _parser("run").parse_args(["smoke", *words])
    read.settings = Settings(slo=own)
    return read


def test_the_default_slo_stands_where_neither_profile_nor_command_line_says_one() -> None:
    said = parse_profile('[slo]\nttft_p95 = "2s"\n', Path("a.toml"), slo=OWN)
    silent = parse_profile("", Path("a.toml"), slo=OWN)
    for profile, words, judged, told in (
        (silent, (), OWN, True),
        (by_hand(1, OWN), (), OWN, True),
        (said, (), parse_slo("ttft_p95<2s"), False),
        (silent, ("--slo", "ttft_p95<3s"), parse_slo("ttft_p95<3s"), False),
        (by_hand(1), (), Slo(), False),
    ):
        asked = arguments(*words)
        after = with_arguments(profile, asked)
        assert after.slo == judged
        assert any("the default of your settings" in line for line in effects(after, asked)) == told


def test_limits_that_are_the_built_in_ones_are_a_profiles_own_when_it_says_them() -> None:
    said = parse_profile(f'slo = "{Slo()}"\n', Path("a.toml"), slo=OWN)
    assert str(with_arguments(said, arguments()).slo) == str(Slo())


def test_embeddings_keep_their_own_default_where_the_settings_limit_a_first_token() -> None:
    e2e = parse_slo("e2e_p95<3s")
    assert usual_slo("embeddings", OWN) == usual_slo("embeddings")
    assert usual_slo("embeddings", e2e) is e2e
    for own, judged in ((OWN, usual_slo("embeddings")), (e2e, e2e)):
        profile = with_arguments(by_hand(1, own), arguments("--api", "embeddings", own=own))
        assert profile.slo == judged


def test_the_cockpit_by_hand_is_judged_by_the_settings() -> None:
    asked = Namespace(profile=None, peak=None, max_concurrency=None, settings=Settings(slo=OWN))
    assert live._profile(asked, start=1).slo is OWN


# -- the screen ------------------------------------------------------------------------------------------------------


class Host:
    slo = Slo()


def app_of(words: list[str], says: Settings) -> object:
    read = _parser("replay").parse_args(["last", *words])
    read.settings = says
    with wanted.app_over(Host(), read) as app:  # type: ignore[arg-type]
        return app


def test_the_command_line_comes_before_settings_and_those_before_what_is_built_in(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(wanted, "ascii_only", lambda: False)
    says = Settings(theme="nord", fps=5.0, ascii=True, keymap=(("app.export", "E"),))
    app = app_of([], says)
    assert (app.theme, app.fps, app.glyphs.ascii, app.keys_of("app.export")) == ("nord", 5.0, True, ["E"])  # type: ignore[attr-defined]
    app = app_of(["--fps", "9", "--no-ascii"], says)
    assert (app.fps, app.glyphs.ascii) == (9.0, False)  # type: ignore[attr-defined]
    app = app_of([], Settings())
    assert (app.fps, app.glyphs.ascii, app.keys_of("app.export")) == (2.0, False, ["e"])  # type: ignore[attr-defined]


# -- what is remembered ----------------------------------------------------------------------------------------------

LEFT = Remembered(coach=False, layout="curve", maximised=8, theme="nord")


def kept(memory: Memory, left: Remembered) -> Remembered:
    memory.keep(left)
    memory.close()
    return Memory(memory.path).read()


def test_how_a_screen_was_left_comes_back_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "new/llmtop/screen.json")
    assert memory.read() == Remembered()
    assert kept(memory, LEFT) == LEFT
    assert kept(memory, Remembered()) == Remembered()
    assert memory.path.stat().st_mode & 0o777 == 0o600
    assert list(memory.path.parent.iterdir()) == [memory.path], "nothing is left beside it"


@pytest.mark.parametrize(
    "content",
    [
        *(b"{", b"\xff", b"[]", b"[" * 100_000, b" " * 100_000, b'{"llmtop":"report"}'),
        b'{"llmtop":"screen","remembered":{"layout":7},"format":1}',
        b'{"llmtop":"screen","remembered":{"layout":"new"},"format":2}',
    ],
)
def test_a_file_of_anything_else_is_ignored_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "screen.json"
    path.write_bytes(content)
    assert Memory(path).read() == Remembered()
    assert kept(Memory(path), LEFT) == Remembered()
    assert path.read_bytes() == content


def test_where_nothing_can_be_kept_nothing_is_and_nobody_hears_of_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("file/screen.json", "folder", "fifo", "link"):
        assert kept(Memory(tmp_path / name), LEFT) == Remembered()
    assert not (tmp_path / "elsewhere").exists()


def test_of_several_screens_the_last_one_wins_and_the_file_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "screen.json"
    lefts = [Remembered(maximised=number) for number in range(60)]
    read: list[Remembered] = []

    def leave(mine: list[Remembered]) -> None:
        memory = Memory(path)
        for left in mine:
            memory.keep(left)
            read.append(Memory(path).read())
        memory.close()

    threads = [threading.Thread(target=leave, args=(lefts[first::3],)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(read) <= {Remembered(), *lefts}
    assert Memory(path).read() in lefts[-3:]


# -- llmtop locate ---------------------------------------------------------------------------------------------------


def test_locate_tells_both_files_whether_they_are_there_and_why_elsewhere(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("")
    assert main(["locate", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["settings"], told["there"], told["ignored"]) == (str(file), ["settings"], [])
    state = Path(told["state"])
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    assert main(["locate"]) == 0
    out, err = capsys.readouterr()
    assert f"settings  {file}\n" in out
    assert "(not there yet)" in out
    assert f"{state}: is not as this llmtop writes it, and stays so: remove it" in err
    monkeypatch.setenv("XDG_CONFIG_HOME", "config")
    assert main(["locate"]) == 0
    assert "XDG_CONFIG_HOME is ignored: 'config' is no absolute path" in capsys.readouterr().err


def test_where_nobody_may_look_nothing_is_remembered_and_nothing_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    memory = Memory(tmp_path / "state" / "screen.json")
    monkeypatch.setattr(Path, "is_file", refuses)
    assert memory.read() == Remembered()
    assert unkept(memory.path) is None
