"""The screen's end of a session: a child process, its newest frame, its facts, and a way to send it commands."""

from __future__ import annotations

import threading
from pathlib import Path

import platformdirs

from llmtop import channel
from llmtop.domain.commands import Command, Quit
from llmtop.domain.frame import Frame
from llmtop.domain.run import FactBatch, RunMeta
from llmtop.errors import SessionLost
from llmtop.meter import Facts
from llmtop.session import messages
from llmtop.session.options import SessionOptions

CLOSE_S = 12.0
"""How long a session may take to leave: its requests are cancelled and the server is watched while it drains."""


def log_path() -> Path:
    """Where the session's process writes what goes wrong."""
    return Path(platformdirs.user_log_dir("llmtop")) / "session.log"


class SessionLink:
    """Starts the session's process at once. Must be made before a screen takes the terminal.

    `frame`, `send`, `alive`, `error` may be used from any thread; `facts` from one thread at a time.
    """

    def __init__(self, options: SessionOptions) -> None:
        self.error: str | None = None
        self.exit_code = 0
        self.meta: RunMeta | None = None
        self._frame: Frame | None = None
        self._facts = Facts()
        self._untold: list[FactBatch] = []
        self._lock = threading.Lock()
        self._asked_to_end = False
        log_path().parent.mkdir(parents=True, exist_ok=True)
        with log_path().open("ab") as log:
            # numpy's threads would spin beside the load for arrays that one core sorts in microseconds.
            self._child = channel.Child("llmtop.session.process", environment={"OPENBLAS_NUM_THREADS": "1"}, log=log)
        self._child.send(messages.packed(options))
        self._reader = threading.Thread(target=self._listen, name="session link", daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        ended = None
        while (body := self._read()) is not None:
            match messages.decode_message(body):
                case messages.Shown(frame):
                    self._frame = frame
                case messages.Told(batches):
                    with self._lock:
                        self._untold.extend(batches)
                case messages.Began(meta):
                    self.meta = meta
                case messages.Ended() as message:
                    ended = message
        status = self._child.wait()
        if ended is not None and ended.error is not None:
            self.error, self.exit_code = ended.error, ended.exit_code
        elif ended is None and not self._asked_to_end:
            self.error = f"the session process has ended unasked (status {status}); see {log_path()}"
            self.exit_code = 3

    def _read(self) -> bytes | None:
        try:
            return channel.read(self._child.stdout)
        except SessionLost:  # it can say nothing more that could be understood: as good as gone
            self._child.kill()
            return None

    def frame(self) -> Frame | None:
        """The newest frame; None until the first has come."""
        return self._frame

    @property
    def facts(self) -> Facts:
        """Everything told so far."""
        with self._lock:
            untold, self._untold = self._untold, []
        for batch in untold:
            self._facts.extend(batch)
        return self._facts

    @property
    def alive(self) -> bool:
        return self._reader.is_alive()

    def send(self, command: Command) -> None:
        """Ask for something; nothing happens if the session is gone."""
        self._asked_to_end = self._asked_to_end or isinstance(command, Quit)
        self._child.send(messages.packed(command))

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """End the session in order and wait for it; end it by force if it takes longer than `timeout_s`."""
        self.send(Quit())
        self._reader.join(timeout_s)
        self._child.end(0.0)
