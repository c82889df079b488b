"""JUnit's XML: what CI systems read as test results."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from msgspec.structs import replace

from llmtop.domain.plain import plain
from llmtop.domain.plainly import plainly
from llmtop.domain.run import Ending, FactBatch, RunMeta
from llmtop.domain.verdicts import Assessment
from llmtop.files import write_whole
from llmtop.wording.endings import ENDED_BY
from llmtop.wording.failures import failure_seen


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

    def begin(self, meta: RunMeta) -> None:
        """Nothing is known yet."""

    def tell(self, batch: FactBatch) -> None:
        """Facts are not written, only what they come to."""

    def judged(self, assessment: Assessment) -> None:
        self._assessment = assessment

    def end(self, meta: RunMeta) -> None:
        """Raises FileError: it cannot be written."""
        ended = "" if meta.ending in (None, Ending.PLAN) else ENDED_BY[meta.ending]
        content = junit(meta.profile.name, self._assessment, unknown_ok=self._unknown_ok, ended=ended)
        write_whole(self._path, content, is_junit)

    def broke(self, profile: str, why: str) -> None:
        """The run could not start, or was lost: an error, with the reason. Raises FileError: it cannot be written."""
        judgement = replace(self._assessment.judgement, ok=None, sentence=why)
        write_whole(self._path, junit(profile, replace(self._assessment, judgement=judgement)), is_junit)


def is_junit(content: bytes) -> bool:
    """Whether this is a file that `JUnitOutput` has written."""
    return b'<testsuite name="llmtop ' in content[:200]


def junit(name: str, assessment: Assessment, *, unknown_ok: bool = False, ended: str = "") -> bytes:
    """One test case for the answer to the run's question, and one for each SLO limit in the span that it is about.

    No answer is an error, which is as red as a failure, or skipped with `unknown_ok`; a limit that cannot be judged by
    itself is skipped. `ended`: what cut the run short, which is told with the kinds of failures.
    """
    assessment, name = plainly(assessment), plain(name)
    judgement, targets = assessment.judgement, assessment.slo.targets
    suite = ElementTree.Element("testsuite", name=f"llmtop {name}", tests=str(1 + len(targets)))
    failed = [judgement.ok is False, *(target.ok is False for target in targets)]
    suite.set("failures", str(sum(failed)))
    unknown = judgement.ok is None
    suite.set("errors", str(int(unknown and not unknown_ok)))
    suite.set("skipped", str(sum(target.ok is None for target in targets) + int(unknown and unknown_ok)))
    case = ElementTree.SubElement(suite, "testcase", classname=f"question.{name}", name=judgement.question)
    if judgement.ok is not True:
        kind = "failure" if not unknown else "skipped" if unknown_ok else "error"
        ElementTree.SubElement(case, kind, message=judgement.sentence)
    else:
        ElementTree.SubElement(case, "system-out").text = judgement.sentence
    for target in targets:
        case = ElementTree.SubElement(suite, "testcase", classname=f"slo.{name}", name=target.name)
        if target.ok is False:
            ElementTree.SubElement(case, "failure", message=target.text)
        elif target.ok is None:
            ElementTree.SubElement(case, "skipped", message=target.text)
    if said := "\n".join(filter(None, (ended, *map(failure_seen, assessment.failures)))):
        ElementTree.SubElement(suite, "system-out").text = said
    return bytes(ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True))
