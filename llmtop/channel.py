"""Between processes of one machine: messages, each after its length, and children that end with their parent.

A child watches its stdin and ends when that does. A pipe ends with whoever holds its other end, kill -9 included, so no
child is left behind whatever becomes of its parent. It starts isolated: modules come from where its parent's come from
and never from the working directory, and of the environment it sees what a process of this machine needs and what it is
handed, by its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Protocol, Self

import msgspec

from llmtop import isolation
from llmtop.errors import LlmtopError, MachineShort, SessionLost, UsageError, shortage

_LENGTH = struct.Struct("<I")
MOST_BYTES = 1 << 28
"""A longer message is none: the stream is damaged, by a print between two messages, say."""
READY_S = 20.0
"""How long a `Server` may take to say its port."""
GRACE_S = 3.0
LAST_WORDS_BYTES = 2000
MACHINE = {
    *("HOME", "USER", "LOGNAME", "PATH", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LOCPATH", "LOCALE_ARCHIVE"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "GLIBC_TUNABLES"),
}
MACHINE_FAMILIES = ("LC_", "XDG_", "CUDA_", "NVIDIA_", "OMP_", "OPENBLAS_", "MKL_", "MALLOC_")
"""Variables that every child keeps: where things lie, how they are written, how many threads."""
NETWORK = {"SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF", "HOSTALIASES", "RES_OPTIONS"}
"""Variables for those that reach out to an endpoint, with all that end with _PROXY."""
SEARCHED = {"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}
"""Of these, lists of folders; an empty or relative one would mean the working directory."""


def framed(body: bytes) -> bytes:
    """`body` after its length. ValueError: longer than `MOST_BYTES`."""
    if len(body) > MOST_BYTES:
        raise ValueError(f"a message of {len(body)} bytes; at most {MOST_BYTES} can be sent")
    return _LENGTH.pack(len(body)) + body


def read(stream: IO[bytes]) -> bytes | None:
    """The next body, waiting for it; None at the end of the stream, also when it was cut in the middle.

    Raises SessionLost when the stream is damaged.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    length = _length(head)
    body = stream.read(length)
    return body if len(body) == length else None


class Reader(Protocol):
    """What messages come from: a pipe of this machine, or one through a connection."""

    async def readexactly(self, n: int, /) -> bytes:
        """Raises asyncio.IncompleteReadError at its end."""


async def receive(stream: Reader, most: int | None = None) -> bytes | None:
    """As `read`, on an event loop; a message of more than `most` bytes is damage, too."""
    try:
        return await stream.readexactly(_length(await stream.readexactly(_LENGTH.size), most))
    except asyncio.IncompleteReadError:
        return None


def _length(head: bytes, most: int | None = None) -> int:
    (length,) = _LENGTH.unpack(head)
    if length > (MOST_BYTES if most is None else most):
        raise SessionLost(f"what another process of llmtop wrote is no message (it claims {length} bytes)")
    return int(length)


def claim_stdout() -> int:
    """A descriptor of stdout for messages alone: whatever prints from then on goes to stderr and damages none."""
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return descriptor


async def streams(incoming: Any, outgoing: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Two pipes on the running event loop, which owns them from then on. Each has `fileno` and `close`."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), incoming)
    transport, protocol = await loop.connect_write_pipe(lambda: asyncio.streams.FlowControlMixin(loop), outgoing)
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


def _flags() -> list[str]:
    """How this interpreter was started, as far as a child is to be started so and -I would not."""
    flags = ["-X", f"utf8={sys.flags.utf8_mode}"]
    if os.path.isabs(sys.pycache_prefix or ""):  # noqa: PTH117 - a relative one would mean the working directory
        flags += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    return [*flags, "-B"] if sys.dont_write_bytecode else flags


def machine_environment() -> dict[str, str]:
    """What every child sees of this process's environment: no key, no proxy, nothing of the interpreter's own."""
    kept = {name: value for name, value in os.environ.items() if name in MACHINE or name.startswith(MACHINE_FAMILIES)}
    for name in SEARCHED & kept.keys():
        kept[name] = os.pathsep.join(filter(os.path.isabs, kept[name].split(os.pathsep)))
    return kept


def outward_environment(*more: str) -> dict[str, str]:
    """What a child that sends requests is handed besides: proxies, certificates, and what `more` names."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in NETWORK or name.upper().endswith("_PROXY") or name in more
    }


@contextlib.contextmanager
def interrupts(how: int) -> Iterator[None]:
    """SIGINT waits (`signal.SIG_BLOCK`), or comes (`SIG_UNBLOCK`): to this thread and to processes that it starts."""
    before = signal.pthread_sigmask(how, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ends_in_words(main: Callable[[], int]) -> int:
    """The exit code of a child: what this machine is short of ends it with one line on stderr, for its parent."""
    try:
        return main()
    except Exception as error:
        if (short := shortage(error)) is None:
            raise
        sys.stderr.write(f"{short}\n")
        return MachineShort.exit_code


class Child:
    """`python -m MODULE ARGUMENTS`, with pipes for its stdin and stdout; the module must end when its stdin does.

    In a process group of its own, so that Ctrl-C in a terminal reaches its parent alone, which closes it in order. An
    interrupt that is sent to it waits until it asks for `interrupts`.

    Args:
        environment: beside `machine_environment`; read from its stdin, so that no list of processes shows it.
        log: a descriptor that takes what it writes to stderr; None: a file of its own, read by `said`.
    """

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None, log: int | None = None
    ) -> None:
        self.module = module
        # A file, so that nobody has to read along.
        self._words = None if log is not None else _file_for_words()
        said_to = log if log is not None else self._words or subprocess.DEVNULL
        python = [sys.executable, *_flags(), "-I", "-c", isolation.START, isolation.package_home()]
        try:
            with interrupts(signal.SIG_BLOCK):
                self._process = subprocess.Popen(
                    [*python, module, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=said_to,
                    env=machine_environment(),
                    start_new_session=True,
                )
        except OSError as error:
            if self._words is not None:
                self._words.close()
            if shortage(error) is not None:
                raise
            raise SessionLost(
                f"{sys.executable} cannot be started again ({error.strerror}): was its environment removed or upgraded?"
            ) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.stdin, self.stdout = self._process.stdin, self._process.stdout
        self._writer: asyncio.StreamWriter | None = None
        self.send(isolation.handed_over(dict(environment or {})))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, piece: bytes) -> None:
        """Write to its stdin, waiting while it does not read; nothing happens when it is gone."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.stdin.write(piece)
            self.stdin.flush()

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Its pipes on the running event loop, instead of `stdin` and `stdout`."""
        reader, self._writer = await streams(_Handed(self.stdout), _Handed(self.stdin))
        return reader, self._writer

    def wait(self, timeout_s: float | None = None) -> int:
        """Its exit status, once it is gone; below 0: minus the signal. subprocess.TimeoutExpired: it is not yet."""
        return self._process.wait(timeout_s)

    def said(self) -> str:
        """The end of what it wrote to stderr."""
        if self._words is None:
            return ""
        self._words.seek(max(0, self._words.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
        return self._words.read().decode(errors="replace").strip()

    def kill(self) -> None:
        self._process.kill()

    def let_go(self) -> None:
        """It goes on by itself, and is waited for no more; it must not end with its stdin then."""
        for pipe in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.returncode = 0  # else it is taken for one that was forgotten
        if self._words is not None:
            self._words.close()

    def end(self, grace_s: float = GRACE_S) -> None:
        """Close its stdin and wait until it is gone; kill it when that takes longer than `grace_s`."""
        self._hang_up()
        self._outlive(grace_s)
        self._let_go()

    async def close(self, grace_s: float = GRACE_S) -> None:
        """As `end`, on an event loop."""
        self._hang_up()
        await asyncio.to_thread(self._outlive, grace_s)
        self._let_go()

    def wake(self) -> None:
        """Let it go on where it was stopped: else it would hear nothing."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)

    def _hang_up(self) -> None:
        self.wake()
        with contextlib.suppress(BrokenPipeError):
            (self._writer or self.stdin).close()

    def _outlive(self, grace_s: float) -> None:
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _let_go(self) -> None:
        if self._writer is None:  # else the event loop closes it when it has read its end
            self.stdout.close()
        if self._words is not None:
            self._words.close()


class _Handed:
    """A pipe that belongs to an event loop, which closes it: by the descriptor (uvloop) or by `close` (asyncio).

    The file that it was would close the same number again, which may be somebody else's by then.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._descriptor = os.dup(pipe.fileno())
        pipe.close()

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)


def _file_for_words() -> IO[bytes] | None:
    """None where there is no room for one: what the child says is lost then, and nothing else."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        if shortage(error) is not None:
            raise
        return None


class Server(Child):
    """A child that serves on a port of this machine. When it does, it says so in a line of JSON: `{"port": 8000}`."""

    port = 0

    @classmethod
    async def launch(cls, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Self:
        """Ready when it returns.

        Raises UsageError, in the child's own words, for arguments that are wrong, SessionLost when it does not come up.
        """
        child = cls(module, *arguments, environment=environment)
        try:
            await child._read_port()
        except BaseException:
            await child.close()
            raise
        return child

    async def _read_port(self) -> None:
        try:
            line = await asyncio.wait_for(asyncio.to_thread(self.stdout.readline), READY_S)
        except TimeoutError:
            self.kill()
            raise SessionLost(f"{self.module} was not ready within {READY_S:g} s") from None
        if not line:
            raise await self._failure()
        self.port = int(msgspec.json.decode(line)["port"])

    async def _failure(self) -> LlmtopError:
        """Why the child ended before it was ready."""
        code, said = await asyncio.to_thread(self.wait), self.said()
        if code == UsageError.exit_code and said:
            return UsageError(said.splitlines()[-1])
        if code == MachineShort.exit_code:
            return MachineShort(said or "this machine has no memory, threads or files left for it")
        return SessionLost(f"{self.module} ended with exit code {code} before it was ready: {said}")

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
