"""What this machine is short of ends a command in one line and its own exit code."""

from __future__ import annotations

import errno
import resource

import pytest

from llmtop.channel import ends_in_words
from llmtop.cli import main as main_module
from llmtop.errors import MachineShort, UsageError, shortage

SHORT: list[tuple[BaseException, str]] = [
    (MemoryError(), "no memory left"),
    (OSError(errno.ENOMEM, "x"), "no memory left"),
    (OSError(errno.EMFILE, "x"), "no more files may be open"),
    (OSError(errno.ENFILE, "x"), "too many files open"),
    (BlockingIOError(errno.EAGAIN, "x"), "no more processes or threads"),
    (RuntimeError("can't start new thread"), "no more processes or threads"),
    (ImportError("libcrypto.so.3: failed to map segment from shared object"), "no memory left"),
    (OSError(errno.EADDRNOTAVAIL, "x"), "no ports left"),
]


@pytest.mark.parametrize(("error", "said"), SHORT)
def test_a_shortage_ends_in_one_line(
    error: BaseException, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: object) -> int:
        raise RuntimeError("because of it") from error

    monkeypatch.setattr("llmtop.cli.locate.main", fail)
    assert main_module.main(["locate"]) == MachineShort.exit_code == 4
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert ends_in_words(lambda: fail(None)) == 4
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), ImportError("no module"), OSError(2, "x")])
def test_another_error_is_none(error: Exception) -> None:
    assert shortage(error) is None

    def fail() -> int:
        raise error

    with pytest.raises(type(error)):
        ends_in_words(fail)


def test_a_loop_of_causes_has_an_end() -> None:
    first, second = UsageError("a"), UsageError("b")
    first.__context__, second.__context__ = second, first
    assert shortage(first) is None


@pytest.mark.parametrize(
    ("kind", "limit", "said"),
    [
        (resource.RLIMIT_AS, (main_module.LEAST_MB << 20) - 1, "only 111 MB of memory may be used"),
        (resource.RLIMIT_NOFILE, main_module.LEAST_FILES - 1, "only 9 files may be open"),
    ],
)
def test_too_little_to_begin_with_is_said_before_anything_is_loaded(
    kind: int, limit: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda asked: (limit, limit) if asked == kind else (-1, -1))
    assert main_module.main(["doctor", "http://127.0.0.1:1"]) == MachineShort.exit_code
    assert said in capsys.readouterr().err
    monkeypatch.setattr(resource, "getrlimit", lambda asked: (limit + 1, limit + 1) if asked == kind else (-1, -1))
    main_module._has_room()
