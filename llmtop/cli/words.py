"""The words of a command line: which of them names the command, which option was meant, and what a stray word is.

No word is repeated that may be the value of a misspelt option: it may be a key. Imports nothing that `--help` does not
need.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence

from llmtop.cli import options
from llmtop.domain.plain import LONG, plain
from llmtop.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:  # the real one takes 4 ms of --help to import
    from typing import NoReturn

Commands = Mapping[str, object]
ALIASES = {"profile": "profiles"}
"""What commands may be called besides their names."""
SHOWN = 60
"""Characters of a stray word that are shown."""
ALIKE = 0.7
"""How much of two names must be the same for one to be meant by the other: a letter too many, missing or wrong."""
_NAME = re.compile(r"--[a-z]{1,20}(?:-[a-z]{1,20}){0,3}")
"""What the name of an option looks like: what stands in its place may be a key."""
_NUMBER = re.compile(r"-\.?\d")
_ELSEWHERE = {
    "--api-key": "--api-key-env VAR",
    "--key": "--api-key-env VAR",
    "--token": "--api-key-env VAR",
    "--users": "--concurrency",
    "--vus": "--concurrency",
    "--qps": "--rate",
    "--rps": "--rate",
    "--request-rate": "--rate",
    "--max-tokens": "--output-tokens",
    "--time": "--duration",
    "--output": "--record",
    "--threshold": "--fail-on",
    "--thresholds": "--fail-on",
    "--url": "the URL without an option",
    "--base-url": "the URL without an option",
}
"""What other tools call it."""
_WANTS = {
    "PROFILE": "`llmtop profiles` lists them",
    "RUN": "`llmtop runs` lists them, `last` is the newest",
    "PRESET": "`llmtop sim --list` shows them",
    "URL": "e.g. http://127.0.0.1:8000",
}


class Parser(argparse.ArgumentParser):
    """One whose complaints are an error in one line, in the words of the command line, as text."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        if message.startswith("the following arguments are required: "):
            message = _missing(self, message.rpartition(": ")[2])
        elif message.endswith(": expected one argument"):
            option = message.partition(":")[0]
            action = self._option_string_actions[option.rpartition("/")[2]]
            message = f"{option} wants a value: {option} {action.metavar or action.dest.upper()}"
        elif message.startswith("ambiguous option: "):
            name, _, meant = message.removeprefix("ambiguous option: ").partition(" could match ")
            message = f"{name.partition('=')[0]} may be {meant}"
        elif ": ignored explicit argument" in message:
            message = f"{message.partition(':')[0]} takes no value"
        elif ": invalid choice: " in message and "(choose from " in message:
            option, _, choices = message.partition(": invalid choice: ")
            allowed = choices.partition("(choose from ")[2].rstrip(")").replace("'", "")
            message = f"{option} must be one of {allowed}"
        elif message.startswith("-"):
            message = message.replace(": '", " '", 1)  # a value that is out of its bounds
        raise UsageError(plain(f"{message}; `{self.prog} --help` tells more", LONG))

    def read(self, words: Sequence[str], commands: Commands) -> argparse.Namespace:
        """The words as arguments, options before, between or behind the rest. Raises UsageError."""
        try:
            _check_options(self, words, commands)
            arguments, stray = self.parse_known_intermixed_args(_without_preset(self, words))
            if stray:
                raise UsageError(_too_many(self, words, stray, commands))
        except UsageError as error:
            meant = None if self.prog.count(" ") else _mistyped(words, commands)
            raise error if meant is None else UsageError(meant) from None
        return arguments


def sorted_out(words: Sequence[str], commands: Commands) -> tuple[str, list[str]]:
    """The command and its words. Options may come before it; without one it is the cockpit; `help` asks for help."""
    rest = [ALIASES.get(word, word) for word in words[:2]] + list(words[2:])
    if words[:1] != ["help"]:
        rest[1:2] = words[1:2]
    if rest[:1] == ["help"]:
        return (rest[1] if rest[1:] and rest[1] in commands else "live"), ["--help"]
    if rest and rest[0] in commands:
        return rest.pop(0), rest
    if any(word in commands for word in rest):
        at = _behind_options(rest, commands)
        if at is not None:
            return rest[at], rest[at + 1 :] + rest[:at]
    return "live", rest


def _behind_options(words: list[str], commands: Commands) -> int | None:
    """Where the command stands behind options and their values; None: there is none."""
    every = argparse.ArgumentParser(conflict_handler="resolve")
    for add in options.ADD.values():
        add(every)
    at = 0
    while at < len(words) and words[at].startswith("-"):
        action = every._option_string_actions.get(words[at])
        at += 1
        may_be_value = at < len(words) and not words[at].startswith("-")
        if (
            action is not None
            and may_be_value
            and (action.nargs is None or (action.nargs == "?" and words[at] not in commands))
        ):
            at += 1
    return at if at < len(words) and words[at] in commands else None


def _without_preset(parser: Parser, words: Sequence[str]) -> list[str]:
    """The words, where a profile behind a bare `--sim` is not taken for its preset."""
    told = list(words)
    if "PROFILE" in _positionals(parser) and "--sim" in told[:-1]:
        from llmtop.profiles import profile_names
        from llmtop.simulator.engine import preset_names

        at = told.index("--sim")
        if told[at + 1] in profile_names() and told[at + 1] not in preset_names():
            told.append(told.pop(at))
    return told


def _check_options(parser: Parser, words: Sequence[str], commands: Commands) -> None:
    """Raises UsageError for an option that there is not: names it, and which was meant."""
    known = parser._option_string_actions
    for word in words:
        name = word.partition("=")[0]
        if word == "--":
            return
        if not word.startswith("-") or word == "-" or " " in word or _NUMBER.match(word) or name in known:
            continue
        long = word.startswith("--")
        alike = [option for option in known if long and option.startswith(name)]
        if len(alike) == 1 or (not long and word[:2] in known):
            continue
        sound = _NAME.fullmatch(name) or len(name) == 2 or f"-{name}" in known
        shown = name if sound else f"{name[: 3 if long else 2]}…"
        raise UsageError(f"{shown} is no option of {parser.prog}: {_meant(name, alike, parser, commands)}")


def _meant(name: str, alike: list[str], parser: Parser, commands: Commands) -> str:
    """What to do about an option that there is not."""
    import difflib

    more = f"`{parser.prog} --help` lists them"
    known = parser._option_string_actions
    other = _ELSEWHERE.get(name)
    if other is not None and (not other.startswith("--") or other.split()[0] in known):
        return f"write {other}; {more}"
    if alike:
        return f"did you mean {' or '.join(alike)}? {more}"
    owners = [command for command in commands if name in _options_of(command)]
    if owners:
        return f"it is one of {', '.join('llmtop' if each == 'live' else f'llmtop {each}' for each in owners)}; {more}"
    bare = {option[2:]: option for option in known if option.startswith("--")}
    near = difflib.get_close_matches(name.lstrip("-")[:SHOWN], bare, n=1, cutoff=ALIKE)
    return f"did you mean {bare[near[0]]}? {more}" if near else more


def _options_of(command: str) -> Mapping[str, object]:
    parser = argparse.ArgumentParser()
    options.ADD[command](parser)
    return parser._option_string_actions


def _positionals(parser: argparse.ArgumentParser) -> list[str]:
    """The words that a command takes besides options, those in brackets that may be missing."""
    told = []
    for action in parser._actions:
        if not action.option_strings:
            name = str(action.metavar or action.dest.upper())
            told.append(f"[{name}]" if action.nargs == "?" else name)
    return told


def _missing(parser: Parser, names: str) -> str:
    first = names.split(", ")[0]
    known = next((tip for word, tip in _WANTS.items() if first.startswith(word)), "")
    return f"{first} is missing: {' '.join((parser.prog, *_positionals(parser)))}{f' ({known})' if known else ''}"


def _too_many(parser: Parser, words: Sequence[str], stray: Sequence[str], commands: Commands) -> str:
    """Of words that belong to nothing. None is shown: a header without its quotes leaves its key standing there."""
    if stray[0] in commands:
        return f"{stray[0]} is a command, and comes first: llmtop {stray[0]} ...; `llmtop {stray[0]} --help` tells more"
    place = max(at for at, word in enumerate(words, 1) if word == stray[0])
    takes = " ".join(_positionals(parser)) or "nothing"
    return (
        f"word {place} behind {parser.prog} belongs to nothing: it takes {takes} and options; "
        "a value with blanks needs quotes"
    )


def _mistyped(words: Sequence[str], commands: Commands) -> str | None:
    """What to say where a word that is almost a command begins a line that fits no command; None: none does."""
    import difflib

    if len(words) < 2 or words[0].startswith("-") or not difflib.get_close_matches(words[0][:SHOWN], commands, n=1):
        return None
    return no_url(words[0], commands, alone=True)


def no_url(word: str, commands: Commands, *, alone: bool = False) -> str | None:
    """What to say of a word in the place of a URL that is none; None: it may be one.

    Args:
        alone: it is the first word of all: a name of nothing but letters is hardly a host there.
    """
    if not word or "://" in word or ":" in word:
        return None
    shown, name = repr(plain(word, SHOWN)), plain(word, SHOWN)
    instead = _of_file(word, name) or _of_name(word)
    if instead is None and alone and word.replace("-", "").replace("_", "").isalpha() and word != "localhost":
        instead = _near(word, commands)
    if instead is None:
        return None
    what = "no command and no URL" if alone else "no URL"
    return f"{shown} is {what}: {instead}. A host of that name is written http://{name}"


def _of_file(word: str, name: str) -> str | None:
    """What takes such a file, by the end of its name."""
    if word == "last" or word.endswith((".llmtop", ".db", ".sqlite", ".sqlite3")):
        return f"for a recording there are `llmtop replay {name}` and `llmtop report {name}`"
    if word.endswith(".csv"):
        return f"a table of levels is judged by `llmtop assess {name}`"
    if word.endswith(".toml"):
        return f"a profile is run by `llmtop run {name} [URL]`, and shown by `llmtop --profile {name}`"
    if word.endswith((".json", ".xml", ".html", ".md", ".txt")):
        return "it looks like a file to be written: --json goes to stdout (> FILE), --junit FILE into a file"
    return None


def _of_name(word: str) -> str | None:
    """A profile or a preset of that name, and what takes it."""
    if "/" in word:
        return None
    from llmtop.profiles import profile_names
    from llmtop.simulator.engine import preset_names

    if word in profile_names():
        return f"the profile of that name is run by `llmtop run {word} [URL]`"
    if word in preset_names():
        return f"the simulated server of that name is driven by `llmtop --sim {word}`"
    return None


def _near(word: str, commands: Commands) -> str:
    import difflib

    from llmtop.profiles import profile_names

    typed = {**{name: name for name in commands}, **{name: f"run {name}" for name in profile_names()}}
    near = difflib.get_close_matches(word.lower()[:SHOWN], typed, n=1)
    return f"perhaps you mean `llmtop {typed[near[0]]}`" if near else "`llmtop --help` lists the commands"
