"""The terminal as the cockpit has it: what it takes is watched, and it is given back as it was."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
from codecs import getincrementaldecoder
from io import TextIOWrapper
from typing import Any, cast

from textual import events
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size
from textual.message import Message

from llmtop.domain.bounds import COLUMNS, ROWS
from llmtop.domain.terminal import RESET
from llmtop.tui.packets import Packets

PIECE_BYTES = 1024
"""Written at once: a line of 20 bytes/s still takes one within the time in which load must be seen."""
BATCH_BYTES = 8192
MOST_COLUMNS, MOST_ROWS = int(COLUMNS.most), int(ROWS.most)
"""Drawn on at most: with a million cells, all the time goes into drawing, and no key is heard."""
ROOM_S = 0.2
"""How long a terminal may take to have room again after all that waited for it was dropped."""
SUSPENDED = b"llmtop is suspended; load that nobody sees ends after a minute\n"
BEGUN_LINE = b"\r\x1b[K"
"""Takes away what was said and typed on the line where the screen begins: it would be found there after its end."""
PACKET_BYTES = 4096
JOIN_S = 0.02
"""What is typed or pasted within so long is one packet: nobody strikes two keys so fast."""
LEAVING = frozenset(b"q\x03\x11\x1c")
"""Keys that count although they were typed before there was a screen: q, ctrl+c, ctrl+q, ctrl+\\."""


class Paper:
    """What the driver writes on, from its thread. `taken` grows with every piece that the terminal takes."""

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor, self._encoding = descriptor, encoding
        self._batch = bytearray()
        self.taken = 0
        self.waiting = False
        """Something is written that the terminal has not taken."""
        self.gone = False
        """There is no terminal any more."""
        self.shut = False
        """Whatever is still to be written is dropped."""

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> None:
        self._batch += text.encode(self._encoding, "replace")
        if len(self._batch) > BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        batch, self._batch = memoryview(self._batch), bytearray()
        self.waiting = True
        try:
            while batch and not self.shut:
                try:
                    written = os.write(self._descriptor, batch[:PIECE_BYTES])
                except BlockingIOError:
                    select.select((), (self._descriptor,), (), 1.0)
                    continue
                self.taken += written
                batch = batch[written:]
        except OSError:
            self.gone = self.shut = True
        finally:
            self.waiting = False


class TerminalDriver(LinuxDriver):
    """Textual's driver for POSIX, on a terminal that may stall, vanish, be stopped and gone on with."""

    leaving = False
    """An end was asked for: what stops this process would keep its load."""
    _stopped_by_us = False
    beyond: tuple[int, int] | None = None
    """Cells of a window of which only a part is drawn on."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        drawn_on = sys.__stderr__
        assert drawn_on is not None
        self.paper = Paper(drawn_on.fileno(), drawn_on.encoding)
        self._file = cast(TextIOWrapper, self.paper)
        self.left_early = False
        """A key to leave was typed before the screen was there."""
        self._size = self._size or self._get_terminal_size()
        try:
            self._settings: list[Any] | None = termios.tcgetattr(self.fileno)
        except termios.error:
            self._settings = None

    def start_application_mode(self) -> None:
        self._drop_what_was_typed()
        with contextlib.suppress(OSError):
            os.write(self.paper.fileno(), BEGUN_LINE)
        super().start_application_mode()  # type: ignore[no-untyped-call]
        self.attrs_before = self._settings

    def stop_application_mode(self) -> None:
        """As Textual does it, but nothing where the terminal was given back, and no mode of a shell that has it."""
        if self._stopped_by_us and self.leaving:
            return
        if not self._is_ours():
            self.attrs_before = None
        super().stop_application_mode()

    def _get_terminal_size(self) -> tuple[int, int]:
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(self.fileno)
            if 0 in size:  # what Rich takes instead: with two sizes no layout settles
                return self._within(*self._app.console.size)
            return self._within(*size)
        return self._within(*super()._get_terminal_size())

    def _within(self, width: int, height: int) -> tuple[int, int]:
        """As much of a window as is drawn on."""
        self.beyond = (width, height) if width > MOST_COLUMNS or height > MOST_ROWS else None
        return min(width, MOST_COLUMNS), min(height, MOST_ROWS)

    def process_message(self, message: Message) -> None:
        if isinstance(message, events.Resize):  # of a terminal that tells its size among the keys
            size = Size(*self._within(*message.size))
            message = events.Resize(size, size, size, message.pixel_size)
        super().process_message(message)

    def _drop_what_was_typed(self) -> None:
        """Keys from before the screen are no commands to it, but for those to leave."""
        if self._settings is None:
            return
        raw = self._settings.copy()
        raw[3] &= ~(termios.ICANON | termios.ECHO)
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(self.fileno, termios.TCSANOW, raw)
            while select.select((self.fileno,), (), (), 0)[0] and (typed := os.read(self.fileno, 4096)):
                self.left_early = self.left_early or not LEAVING.isdisjoint(typed)

    def _disable_mouse_support(self) -> None:
        super()._disable_mouse_support()
        if self._mouse_pixels:
            self.write("\x1b[?1016l")

    def _run_input_thread(self) -> None:
        try:
            self.run_input_thread()
        except OSError:  # the terminal is gone: whoever watches it ends the run
            self.paper.gone = True

    def run_input_thread(self) -> None:
        """As Textual's, but what comes at once is looked at as a whole, and bytes that are no UTF-8 end nothing."""
        parser, packets = XTermParser(self._debug), Packets(self._app.typed)  # type: ignore[attr-defined]
        decode = getincrementaldecoder("utf-8")("replace").decode
        while not self.exit_event.is_set():
            text = decode(self._packet())
            found = [*(parser.feed(text) if text else ()), *parser.tick()]
            for event in packets.sift(found, time.monotonic(), getattr(self._app, "writing", False)):
                self.process_message(event)

    def _packet(self) -> bytes:
        """What has come from the terminal within 100 ms. Raises OSError: there is none any more."""
        packet, wait_s = b"", 0.1
        while len(packet) < PACKET_BYTES and select.select((self.fileno,), (), (), wait_s)[0]:
            piece = os.read(self.fileno, PACKET_BYTES)
            if not piece:
                raise OSError("hung up")
            packet, wait_s = packet + piece, JOIN_S
            if packet.startswith(b"\x1b"):  # of the mouse, and of keys that stand for no letter
                break
        return packet

    # -- stopped and gone on with ------------------------------------------------------------------------------------

    # Signals interrupt the main thread anywhere, also inside the driver's queue: the loop does what they ask for.

    def _sigtstp_application(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)

    def _sigcont_application(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._go_on)

    def _stop(self) -> None:
        """Give the terminal back and stop this process, until it is told to go on."""
        if self.leaving:
            return
        if self._auto_restart and not self._stopped_by_us:
            self._stopped_by_us = True
            self.suspend_application_mode()
            with contextlib.suppress(OSError):
                os.write(self.paper.fileno(), SUSPENDED)
        os.kill(os.getpid(), signal.SIGSTOP)

    def _go_on(self) -> None:
        if self.leaving or not self._auto_restart:
            return
        if not self._is_ours():
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        if self._stopped_by_us:
            self._stopped_by_us = False
            self.resume_application_mode()
        else:
            self._begin_anew()
        self._repaint()

    def _is_ours(self) -> bool:
        """Whether we may write on it: not while a shell has put us into the background."""
        try:
            return os.tcgetpgrp(self.fileno) == os.getpgrp()
        except OSError:  # it is nobody's controlling terminal
            return True

    def _begin_anew(self) -> None:
        """Every mode once more: a shell has had the terminal since."""
        assert self._settings is not None
        raw = self._settings.copy()
        raw[0], raw[3] = self._patch_iflag(raw[0]), self._patch_lflag(raw[3])
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self.fileno, termios.TCSANOW, raw)
        self.write("\x1b[?1049h\x1b[?25l\x1b[?1004h")
        self._enable_mouse_support()
        if self._mouse_pixels:
            self.write("\x1b[?1016h")
        self._enable_bracketed_paste()
        self._disable_line_wrap()
        self.flush()

    def _repaint(self) -> None:
        for screen in self._app.screen_stack:
            screen.refresh(layout=True)
        self._app.refresh(repaint=True, layout=True)

    # -- by force ----------------------------------------------------------------------------------------------------

    def give_back(self, words: str = "") -> None:
        """Put the terminal back as it was, from any thread and without waiting for it; then say `words` on it."""
        self.paper.shut = True
        if self._is_ours():
            with contextlib.suppress(termios.error):
                termios.tcflush(self.fileno, termios.TCOFLUSH)
            if self._settings is not None:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self.fileno, termios.TCSANOW, self._settings)
        with contextlib.suppress(OSError):
            # Opened anew: not to wait is then a setting of ours alone, and not of the shell's.
            anew = os.open(os.ttyname(self.fileno), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            try:
                select.select((), (anew,), (), ROOM_S)
                os.write(anew, (("" if self._stopped_by_us else RESET) + words).encode(errors="replace"))
            finally:
                os.close(anew)
