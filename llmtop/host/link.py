"""The host's end of a session: a child process, its newest frame, what it has told, and a way to send it commands."""

from __future__ import annotations

import os
import threading

import msgspec

from llmtop import channel
from llmtop.domain.commands import Command, Quit
from llmtop.domain.frame import Frame
from llmtop.domain.run import Ended, FactBatch, RunMeta, Told
from llmtop.errors import SessionLost
from llmtop.host.log import Log, ended_unasked
from llmtop.host.options import CLOSE_S
from llmtop.session import messages
from llmtop.session.options import SessionOptions
from llmtop.telemetry.kubectl import login_environment

SPEECHLESS_S = 0.5
"""And one that has not said a word yet: it has begun nothing that would have to be ended in order."""


class SessionLink:
    """Starts the session's process at once. Must be made before a screen takes the terminal."""

    def __init__(self, options: SessionOptions) -> None:
        self._frame: Frame | None = None
        self._meta: RunMeta | None = None
        self._batches: list[FactBatch] = []
        self._ended: Ended | None = None
        self._lock = threading.Lock()
        self._asked_to_end = False
        self._log = Log()
        # numpy's threads would spin beside the load for arrays that one core sorts in microseconds.
        secret = () if options.endpoint is None else options.endpoint.secret_variables
        login = {} if options.endpoint is None else login_environment(options.endpoint.metrics_urls, secret)
        own = dict(os.environ) if options.serving is not None else {}  # a command of the user's sees what the user sees
        agent = ("SSH_AUTH_SOCK",) if options.workers.where == "ssh" else ()
        handed = {**own, "OPENBLAS_NUM_THREADS": "1", **login, **channel.outward_environment(*secret, *agent)}
        self._child = channel.Child("llmtop.session.process", environment=handed, log=self._log.fileno())
        self._child.send(messages.packed(options))
        self._reader = threading.Thread(target=self._listen, name="session link", daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        ended = None
        while (message := self._read()) is not None:
            match message:
                case messages.Framed(frame):
                    self._frame = frame
                case Told() as told:
                    ended = told.ended or ended
                    with self._lock:
                        self._meta = told.meta or self._meta
                        self._batches.extend(told.batches)
            self._log.bound()
        status = self._child.wait()
        if ended is None and not self._asked_to_end:
            ended = ended_unasked(status, self._log.path)
        self._log.close()
        with self._lock:
            self._ended = ended or Ended()

    def _read(self) -> messages.Message | None:
        try:
            body = channel.read(self._child.stdout)
            return None if body is None else messages.decode_message(body)
        except (SessionLost, msgspec.MsgspecError):  # it says nothing that could be understood: as good as gone
            self._child.kill()
            return None

    def frame(self) -> Frame | None:
        """The newest frame; None until the first has come."""
        return self._frame

    def take(self) -> Told:
        """Everything told since the last call."""
        with self._lock:
            told = Told(meta=self._meta, batches=tuple(self._batches), ended=self._ended)
            self._meta, self._batches = None, []
        return told

    def send(self, command: Command) -> None:
        """Ask for something; nothing happens if the session is gone."""
        if isinstance(command, Quit):
            self._asked_to_end = True
            self._child.wake()
        self._child.send(messages.packed(command))

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """End the session in order and wait for it; end it by force if it takes longer than `timeout_s`."""
        if not self._asked_to_end:
            self.send(Quit())
        self._reader.join(timeout_s if self._frame is not None else min(timeout_s, SPEECHLESS_S))
        self._child.end(0.0)
        self._reader.join(1.0)
