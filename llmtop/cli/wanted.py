"""A screen as its user wants it: by the command line, the settings file, and how the last one was left."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from llmtop.cli.terminal import ascii_only
from llmtop.domain.preferences import Remembered, Settings
from llmtop.errors import FileError
from llmtop.files import make_folder, user_folder, write_whole
from llmtop.host.attendant import Attendant
from llmtop.inputs import bytes_of

if TYPE_CHECKING:
    from llmtop.tui.app import LlmtopApp

USUAL_FPS = 2.0
STAGE = "stage"
"""The layout of --stage, by the name that it has in the settings, too."""
MOST_BYTES = 1 << 16
PATIENCE_S = 1.0
"""How long a disk may take what is remembered, when the screen has gone."""
FORMAT = 1


@contextlib.contextmanager
def app_over(host: Attendant, arguments: argparse.Namespace, **options: Any) -> Iterator[LlmtopApp]:
    """The app over a host. Behind it, how it was left is on the disk.

    Args:
        arguments: with those of `groups.screen`.
        options: more of `LlmtopApp`'s.
    """
    from llmtop.tui.app import LlmtopApp

    settings: Settings = arguments.settings or Settings()
    memory = Memory(state_path())
    wants_ascii = arguments.ascii if arguments.ascii is not None else settings.ascii
    app = LlmtopApp(
        host,
        ascii=bool(wants_ascii) or ascii_only(),
        fps=arguments.fps or settings.fps or USUAL_FPS,
        theme=settings.theme,
        layout=STAGE if arguments.stage else settings.layout,
        private=arguments.private,
        keymap=dict(settings.keymap),
        remembered=memory.read(),
        remember=memory.keep,
        **options,
    )
    try:
        yield app
    finally:
        memory.close()


def state_path() -> Path:
    """Where it is kept how the last screen was left."""
    return user_folder("state") / "screen.json"


class _Kept(msgspec.Struct, frozen=True, tag="screen", tag_field="llmtop"):
    """The file. One of another format is another llmtop's: it is left alone."""

    remembered: Remembered
    format: int = FORMAT


class Memory:
    """How the last screen was left: read once, and written beside the screen, which never waits for a disk.

    It is no error where it cannot be read or written: then nothing is remembered. Of several screens the last one wins.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._wanted: Remembered | None = None
        self._writer: threading.Thread | None = None
        self._lock = threading.Lock()

    def read(self) -> Remembered:
        kept = _kept(_content(self.path))
        return Remembered() if kept is None else kept.remembered

    def keep(self, remembered: Remembered) -> None:
        with self._lock:
            self._wanted = remembered
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="remember", daemon=True)
                self._writer.start()

    def close(self) -> None:
        """Wait a moment for what is being written."""
        if (writer := self._writer) is not None:
            writer.join(PATIENCE_S)

    def _write(self) -> None:
        while True:
            with self._lock:
                wanted, self._wanted = self._wanted, None
                if wanted is None:
                    self._writer = None
                    return
            with contextlib.suppress(FileError, OSError):
                make_folder(self.path.parent)
                write_whole(self.path, msgspec.json.encode(_Kept(wanted)), is_kept)


def is_kept(content: bytes) -> bool:
    """Whether a file holds what is remembered, as this llmtop writes it."""
    return _kept(content) is not None


def unkept(path: Path) -> str | None:
    """Why nothing is remembered in a file that is there; None: it is."""
    content = _content(path)
    return "is not as this llmtop writes it, and stays so: remove it" if content and not is_kept(content) else None


def _content(path: Path) -> bytes:
    try:
        return bytes_of(path, MOST_BYTES) if path.is_file() else b""
    except (FileError, OSError):  # nor may everybody look whether it is there
        return b""


def _kept(content: bytes) -> _Kept | None:
    try:
        kept = msgspec.json.decode(content, type=_Kept)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return kept if kept.format == FORMAT else None
