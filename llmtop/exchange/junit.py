"""JUnit's XML: what CI systems read as test results, one case for each promise of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from msgspec.structs import replace

from llmtop.domain.assessment import Assessment
from llmtop.domain.load import Axis
from llmtop.domain.plain import plain
from llmtop.domain.plainly import plainly
from llmtop.domain.run import LOST, Ending, FactBatch, RunMeta, safe_meta
from llmtop.domain.verdicts import Bound
from llmtop.files import write_whole
from llmtop.wording.answers import FAIL_ON, not_asked
from llmtop.wording.endings import ENDED_BY
from llmtop.wording.failures import failure_seen
from llmtop.wording.names import load_unit, target_name

_Element = ElementTree.Element


def _nowhere() -> str | None:
    return None


class JUnitOutput:
    """Writes the final verdict when the run ends.

    Args:
        path: the file; an older one of ours is replaced.
        unknown_ok: no answer is skipped instead of an error.
    """

    def __init__(self, path: Path, *, unknown_ok: bool = False) -> None:
        self._path = path
        self._unknown_ok = unknown_ok
        self._assessment = Assessment()
        self._meta: RunMeta | None = None
        self.run_file: Callable[[], str | None] = _nowhere
        """Tells where the recording lies."""

    def begin(self, meta: RunMeta) -> None:
        self._meta = meta

    def tell(self, batch: FactBatch) -> None:
        """Facts are not written, only what they come to."""

    def judged(self, assessment: Assessment) -> None:
        self._assessment = assessment

    def end(self, meta: RunMeta) -> None:
        """Raises FileError: it cannot be written."""
        self._write(meta.profile.name, self._assessment, meta, self._unknown_ok)

    def broke(self, profile: str, why: str) -> None:
        """The run could not start, or was lost: an error, with the reason. Raises FileError: it cannot be written."""
        judgement = replace(self._assessment.judgement, ok=None, sentence=why)
        self._write(profile, replace(self._assessment, judgement=judgement), self._meta)

    def _write(self, name: str, assessment: Assessment, meta: RunMeta | None, unknown_ok: bool = False) -> None:
        content = junit(name, assessment, meta=meta, run_file=self.run_file(), unknown_ok=unknown_ok)
        write_whole(self._path, content, is_junit)


def is_junit(content: bytes) -> bool:
    """Whether this is a file that `JUnitOutput` has written, also that of a version without a root of suites."""
    return any(mark in content[:200] for mark in (b'<testsuites name="llmtop"', b'<testsuite name="llmtop '))


def junit(
    name: str,
    assessment: Assessment,
    *,
    meta: RunMeta | None = None,
    run_file: str | None = None,
    unknown_ok: bool = False,
) -> bytes:
    """A test case for the answer to the run's question, for each part of it, each SLO limit and each threshold.

    No answer, and a threshold that is not known, is an error, which is as red as a failure, or skipped with
    `unknown_ok`, as the exit code has it; a limit or a part that cannot be judged by itself is skipped. Cases are named
    by what was promised, without its figures, so that a CI system follows them from run to run.

    Args:
        name: of the profile.
        meta: of the run; None: it did not come so far.
        run_file: where the recording lies.
    """
    assessment, name = plainly(assessment), plain(name)
    meta = None if meta is None else safe_meta(meta)
    length_s = 0.0 if meta is None else meta.ended_s or assessment.t_s
    judgement, told = assessment.judgement, _Cases(name)
    no_answer = "skipped" if unknown_ok and not judgement.void and judgement.ending not in LOST else "error"
    told.add("question", str(judgement.question), judgement.ok, judgement.sentence, no_answer, length_s)
    for part in judgement.parts:
        told.add("part", part.name, part.ok, part.text)
    for target in assessment.slo.targets:
        told.add("slo", target.name, target.ok, target.text)
    for limit in () if meta is None else meta.profile.slo.limits:
        if limit.name not in {target.name for target in assessment.slo.targets}:
            told.add("slo", limit.name, None, not_asked(target_name(limit.name)))
    for threshold in judgement.thresholds:
        told.add(FAIL_ON.lstrip("-"), threshold.name, threshold.ok, threshold.text, no_answer)
    return told.file(_properties(assessment, meta, run_file), _said(assessment, meta), length_s, meta)


class _Cases:
    """Test cases as they come, counted by what became of them."""

    def __init__(self, profile: str) -> None:
        self._profile = profile
        self._cases: list[_Element] = []
        self._names: set[tuple[str, str]] = set()
        self._counts = dict.fromkeys(("failure", "error", "skipped"), 0)

    def add(
        self, kind: str, name: str, ok: bool | None, text: str, unknown: str = "skipped", time_s: float = 0.0
    ) -> None:
        """One case; `text` says why it is as it is. One more of a name that was there has a number behind it."""
        number, called = 1, name
        while (kind, called) in self._names:
            number += 1
            called = f"{name} ({number})"
        self._names.add((kind, called))
        where = {"classname": f"{kind}.{self._profile}", "name": called, "time": f"{time_s:.3f}"}
        case = ElementTree.Element("testcase", where)
        if ok:
            ElementTree.SubElement(case, "system-out").text = text
        else:
            how = "failure" if ok is False else unknown
            self._counts[how] += 1
            more = {} if how == "skipped" else {"type": kind}
            ElementTree.SubElement(case, how, {"message": text, **more}).text = None if how == "skipped" else text
        self._cases.append(case)

    def file(self, properties: Iterable[tuple[str, str]], said: str, length_s: float, meta: RunMeta | None) -> bytes:
        """All of it, with their sums."""
        sums = {"tests": str(len(self._cases)), "failures": str(self._counts["failure"])}
        sums |= {"errors": str(self._counts["error"]), "time": f"{length_s:.3f}"}
        root = ElementTree.Element("testsuites", {"name": "llmtop", **sums})
        own = {"name": f"llmtop {self._profile}", **sums, "skipped": str(self._counts["skipped"])}
        if meta is not None:
            own["timestamp"] = datetime.fromtimestamp(meta.started_at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        suite = ElementTree.SubElement(root, "testsuite", own)
        listed = ElementTree.SubElement(suite, "properties")
        for name, value in properties:
            ElementTree.SubElement(listed, "property", name=name, value=value)
        suite.extend(self._cases)
        if said:
            ElementTree.SubElement(suite, "system-out").text = said
        ElementTree.indent(root, " ")
        return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _properties(assessment: Assessment, meta: RunMeta | None, run_file: str | None) -> list[tuple[str, str]]:
    """What was driven and what it came to: (name, value), only what is known."""
    cliff, judgement = assessment.cliff, assessment.judgement
    rows: list[tuple[str, str | float | None]] = [("run_file", run_file and plain(run_file))]
    if meta is not None:
        endpoint, info = meta.endpoint, meta.info
        rows += [
            ("label", meta.label),
            ("profile", meta.profile.name),
            ("endpoint", endpoint.base_url),
            ("preset", meta.preset if endpoint.simulated else None),
            ("model", info.model if info else endpoint.model),
            ("server", info.server if info else None),
            ("dialect", info.dialect if info else endpoint.dialect),
            ("slo", str(meta.profile.slo)),
            ("llmtop_version", meta.llmtop_version),
            ("ending", meta.ending),
        ]
    rows += _capacity(assessment, cliff.axis)
    if cliff.at is not None:
        cause = None if cliff.cause is Bound.NONE else str(cliff.cause)
        rows += [("cliff", cliff.at), ("cliff_low", cliff.low), ("cliff_high", cliff.high), ("cliff_cause", cause)]
    rows.append(("client_bound_share", judgement.client_bound))
    known = ((name, value) for name, value in rows if value is not None and value != "")
    return [(name, value if isinstance(value, str) else f"{value:g}") for name, value in known]


def _capacity(assessment: Assessment, axis: Axis) -> list[tuple[str, str | float | None]]:
    capacity = assessment.capacity
    if assessment.judgement.void or (capacity.at_slo is None and capacity.fails_at is None):
        return []
    ends = [(f"capacity_{end}", getattr(capacity, end)) for end in ("low", "high", "fails_at")]
    return [("capacity", capacity.at_slo), *ends, ("capacity_unit", load_unit(axis))]


def _said(assessment: Assessment, meta: RunMeta | None) -> str:
    """What cut the run short, and the kinds of failures."""
    ending = None if meta is None else meta.ending
    ended = "" if ending in (None, Ending.PLAN) else ENDED_BY[ending]
    return "\n".join(filter(None, (ended, *map(failure_seen, assessment.failures))))
