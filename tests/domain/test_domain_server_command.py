"""A command for the shell takes settings as single words, and nothing in a value is ever obeyed."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.domain.server_command import ServerCommand, settings_in
from llmtop.errors import UsageError


def test_names_stand_once_in_the_order_of_the_command() -> None:
    assert ServerCommand("A={b} serve {a} --x={b}").names == ("b", "a")


def test_doubled_braces_are_the_shells_own() -> None:
    command = ServerCommand("echo ${{HOME}} {{a,b}} {n}")
    assert command.names == ("n",)
    assert command.filled({"n": "3"}) == "echo ${HOME} {a,b} 3"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (" ", "empty"),
        ("serve {", "stands alone"),
        ("serve }", "stands alone"),
        ("echo {a,b}", "names no setting"),
        ("echo {}", "names no setting"),
        ("echo {1st}", "names no setting"),
        ("echo ${HOME}", r"write \$HOME or \$\{\{HOME\}\}"),
        ("a\0b", "NUL"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(template: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ServerCommand(template)


def test_settings_that_are_missing_or_unknown_are_named() -> None:
    with pytest.raises(UsageError, match=r"\{b\} has no value: give one with --set b=VALUE"):
        ServerCommand("{a} {b}").filled({"a": "1"})
    with pytest.raises(UsageError, match=r"there is no \{c\} in the command; it has \{a\}"):
        ServerCommand("{a}").filled({"a": "1", "c": "2"})


@given(value=st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30))
def test_a_value_is_one_word_whatever_is_in_it(value: str) -> None:
    assert shlex.split(ServerCommand("serve --x={v} {v}").filled({"v": value})) == ["serve", f"--x={value}", value]


def test_the_shell_itself_gets_the_value_and_runs_nothing_of_it() -> None:
    value = "a b $(echo run) `echo run` ; echo 'run' \" \\ * {x}"
    line = ServerCommand("printf %s {v}").filled({"v": value})
    assert subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True).stdout == value


@pytest.mark.parametrize(
    "template",
    ['ssh gpu1 "serve {v}"', "sh -c 'serve {v}'", "echo $(serve {v})", "echo `serve {v}`", "cat <<X\n{v}\nX", "a\\{v}"],
)
def test_where_quotes_would_be_undone_only_plain_values_are_taken(template: str) -> None:
    assert ServerCommand(template).filled({"v": "64"}) == template.replace("{v}", "64")
    with pytest.raises(UsageError, match="inside quotes"):
        ServerCommand(template).filled({"v": "$(rm x)"})


def test_settings_are_read_as_they_are_typed() -> None:
    assert settings_in(("a=1", "b=x=y z", "a=2")) == {"a": "2", "b": "x=y z"}
    with pytest.raises(UsageError, match="NAME=VALUE"):
        settings_in(("a",))
