"""The scheduler that load workers are reached by: its address, its certificates, and whether it is there."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmtop.domain.crew import CrewSpec
from llmtop.domain.endpoint import is_loopback
from llmtop.domain.plain import plain
from llmtop.errors import FileError, SessionLost, UsageError

if TYPE_CHECKING:
    from distributed import Security

PATIENCE_S = 5.0
"""How long a scheduler or a Dask worker may take to answer."""
_HEAD = struct.Struct("<Q")
_MOST_FRAMES = 1024
"""A scheduler speaks first, and begins with the number of parts of its greeting: a handful."""


class NobodyThere(SessionLost):
    """No scheduler listens there; one may come."""


def address_of(spec: CrewSpec) -> str:
    """As Dask writes it: `tcp://HOST:8786`."""
    host = spec.hosts[0]
    return f"{'tls' if spec.where == 'tls' else 'tcp'}://{host.name}:{host.port}"


def is_near(address: str) -> bool:
    """Whether an address of Dask's (`tcp://127.0.0.1:4711`) is this machine's own; a name is none but `localhost`."""
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    return host == "localhost" or is_loopback(host)


def security_of(spec: CrewSpec) -> Security | None:
    """Who may speak with whom, of tls, whose files are there (`check_files`); None: everybody. Raises FileError."""
    if spec.where != "tls":
        return None
    files = dict(spec.options)
    from distributed import Security

    security = Security(
        tls_ca_file=files["ca"],
        tls_client_cert=files["cert"],
        tls_client_key=files["key"],
        tls_worker_cert=files["cert"],
        tls_worker_key=files["key"],
        require_encryption=True,
    )
    try:
        security.get_connection_args("client")
    except (ssl.SSLError, OSError) as error:
        raise FileError(files["cert"], f"with key={files['key']} and ca={files['ca']}: {_in_words(error)}") from None
    return security


def check_files(spec: CrewSpec) -> None:
    """Raises UsageError, FileError where the PEM files of tls are not named, or not there."""
    files = dict(spec.options)
    if missing := [name for name in ("ca", "cert", "key") if name not in files]:
        wanted = " and ".join(f"{name}=FILE.pem" for name in missing)
        raise UsageError(f"{spec}: TLS needs three PEM files; not given: {wanted}")
    for path in files.values():
        if not Path(path).is_file():
            raise FileError(path, "is no file; tls:// reads PEM files from it")


async def check_there(spec: CrewSpec, security: Security | None) -> None:
    """Raises SessionLost, in one sentence, unless a Dask scheduler answers there."""
    host, where = spec.hosts[0], f"{spec.where}://{spec.hosts[0]}"
    context = None if security is None else security.get_connection_args("client")["ssl_context"]
    connecting = asyncio.open_connection(host.name.strip("[]"), host.port, ssl=context)
    other = "it may want tls://" if context is None else "it may want dask://, or another certificate"
    strange = f"what answers there is no Dask scheduler; if it is one, {other}"
    writer, kind = None, SessionLost
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await connecting
            head = await reader.readexactly(_HEAD.size)
    except TimeoutError:
        if writer is None:
            problem = f"nobody answers within {PATIENCE_S:g} s: does a firewall keep port {host.port}?"
            kind = NobodyThere
        else:
            problem = strange
    except (asyncio.IncompleteReadError, ConnectionResetError):
        problem = strange
    except socket.gaierror:
        problem = f"there is no host {plain(host.name)}"
    except ConnectionRefusedError:
        problem = f"no scheduler listens there: start one with dask scheduler --port {host.port}"
        kind = NobodyThere
    except ssl.SSLError as error:
        problem = f"TLS fails: {_in_words(error)}; ca, cert and key must be those of the scheduler's own authority"
    except OSError as error:
        problem = _in_words(error)
    else:
        if _HEAD.unpack(head)[0] <= _MOST_FRAMES:
            return
        problem = strange
    finally:
        if writer is not None:
            writer.transport.abort()
    raise kind(f"{where}: {problem}")


def _in_words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return plain((error.reason or str(error)).lower().replace("_", " "))
    return plain(error.strerror or str(error)) if isinstance(error, OSError) else plain(str(error))


def source(text: str) -> Callable[..., object]:
    """A function that is sent as its text: whoever runs it needs no llmtop, and no Python like ours."""
    return _Source(text)


class _Source:
    def __init__(self, text: str) -> None:
        self._text = text

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (self._text,)

    def __call__(self) -> None:
        raise TypeError("it is to be run elsewhere")
