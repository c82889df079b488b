"""The settings file: what a user wants of every run and screen; and `llmtop settings`: one to begin with."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from llmtop.cli.output import complain, say
from llmtop.domain.alike import meant
from llmtop.domain.bounds import FPS
from llmtop.domain.plain import plain
from llmtop.domain.preferences import Settings
from llmtop.domain.slo import Slo, parse_slo
from llmtop.errors import FileError, UsageError
from llmtop.files import user_folder
from llmtop.inputs import tables_of, text_of

MOST_BYTES = 1 << 18
SHOWN = 40
"""Characters of a value that are shown in an error."""


def settings_path() -> Path:
    """Where the file is looked for."""
    return user_folder("config") / "settings.toml"


def read_settings(*, screen: bool) -> Settings:
    """What the file says; nothing where there is none.

    Args:
        screen: whether a screen is drawn. Else all that is of screens is not looked at, and may be wrong.

    Raises FileError: file, key, and what is allowed.
    """
    path = settings_path()
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except OSError as error:
        complain(f"{path}: settings cannot be looked at: {error.strerror or error}")
        return Settings()
    return settings_of(text_of(path, MOST_BYTES), path, screen=screen)


def settings_of(text: str, path: object, *, screen: bool = True) -> Settings:
    """The settings in the text of a file, as `read_settings` reads it."""
    table = tables_of(text, path)
    wanted = _READ if screen else {"slo": _slo}
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _READ:
            if screen:
                raise FileError(path, _unknown(key, _READ), plain(key, SHOWN))
        elif key in wanted:
            try:
                found["keymap" if key == "keys" else key] = wanted[key](value)
            except _KeyOfKeys as error:
                raise FileError(path, str(error), f'keys."{plain(error.name, SHOWN)}"') from None
            except UsageError as error:
                raise FileError(path, str(error), key) from None
    return Settings(**found)


class _KeyOfKeys(UsageError):
    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


def _unknown(name: object, allowed: Iterable[str]) -> str:
    names = list(allowed)
    return f"is not known; {meant(str(name)[:SHOWN], names)}(allowed: {', '.join(names)})"


def _text(value: object, like: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"must be a text, such as {like}")
    return value


def _named(value: object, allowed: Iterable[str], like: str) -> str:
    text = _text(value, f'"{like}"')
    names = list(allowed)
    if text not in names:
        raise UsageError(f"{plain(text, SHOWN)!r} {_unknown(text, names)}")
    return text


def _theme(value: object) -> str:
    from llmtop.tui.palette import ALL_THEMES

    return _named(value, ALL_THEMES, ALL_THEMES[0])


def _layout(value: object) -> str:
    from llmtop.view.arrangement import Layout

    return _named(value, map(str, Layout), str(Layout.ALL))


def _fps(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not FPS.holds(value):
        raise UsageError(f"must be {FPS.allowed}")
    return float(value)


def _ascii(value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError("must be true or false")
    return value


def _slo(value: object) -> Slo:
    return parse_slo(_text(value, '"ttft_p95<2s,error_ratio<1%"'))


def _keys(value: object) -> tuple[tuple[str, str], ...]:
    from llmtop.tui.keymap import check, keys_of

    if not isinstance(value, Mapping):
        raise UsageError('must be a table: [keys] with lines such as "app.export" = "E"')
    keymap = {}
    for name, keys in _flat(value):
        try:
            keymap[name] = keys_of(_text(keys, '"E", or "E,ctrl+e" for two keys'))
        except UsageError as error:
            raise _KeyOfKeys(name, str(error)) from None
    if (wrong := check(keymap)) is not None:
        raise _KeyOfKeys(*wrong)
    return tuple(keymap.items())


def _flat(table: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, object]]:
    """`app.export` in quotes and without: TOML makes a table in a table of the second."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


_READ: dict[str, Callable[[object], object]] = {
    "slo": _slo,
    "theme": _theme,
    "fps": _fps,
    "ascii": _ascii,
    "layout": _layout,
    "keys": _keys,
}


# -- llmtop settings ---------------------------------------------------------------------------------------------------


def main(arguments: argparse.Namespace) -> int:
    say(template())
    return 0


def template() -> str:
    """A settings file in which every line is a comment: all keys, what they take, and what is built in."""
    from llmtop.tui.keymap import ALWAYS, does, movable
    from llmtop.tui.palette import ALL_THEMES
    from llmtop.view.arrangement import LAYOUTS, Layout

    layouts = "; ".join(f"{layout}: {what}" for layout, what in LAYOUTS.items())
    blocks = (
        _block("Settings of llmtop. What is not set here is as built in; options of a command come before it.", ""),
        _block("Of whatever is judged where neither profile nor command line name limits.", _line("slo", str(Slo()))),
        _block(f"One of {', '.join(ALL_THEMES)}.", _line("theme", ALL_THEMES[0])),
        _block(f"Updates of the screen in a second: {FPS.allowed}.", "# fps = 2"),
        _block("Whether to draw with ASCII characters only.", "# ascii = false"),
        _block(f"How a screen begins, in place of how the last one was left. {layouts}.", _line("layout", Layout.ALL)),
        _block(
            "Keys of the cockpit by what they do, several with commas between them. Pages, help and the last line "
            "follow; sentences that name a key name the built-in one. "
            f"These stay what they are: {', '.join(ALWAYS)}.",
            "\n".join(
                ("# [keys]", *(f"{_line(_quoted(name), keys):<42} # {does(name)}" for name, keys in movable().items()))
            ),
        ),
    )
    return "\n\n".join(blocks)


def _line(key: str, value: str) -> str:
    return f'# {key} = "{value}"'


def _quoted(name: str) -> str:
    return f'"{name}"'


def _block(told: str, lines: str) -> str:
    return "\n".join(
        [*(f"## {each}" for each in textwrap.wrap(told, 110, break_on_hyphens=False)), *filter(None, [lines])]
    )
