"""JUnit's XML: what CI systems read as test results."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from llmtop.domain.run import FactBatch, RunMeta
from llmtop.domain.verdicts import Assessment, SloVerdict
from llmtop.errors import FileError


class JUnitOutput:
    """Writes the final verdict when the run ends.

    Args:
        path: the file; what is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._verdict = SloVerdict()

    def begin(self, meta: RunMeta) -> None:
        """Nothing is known yet."""

    def tell(self, batch: FactBatch) -> None:
        """Facts are not written, only what they come to."""

    def judged(self, assessment: Assessment) -> None:
        self._verdict = assessment.slo

    def end(self, meta: RunMeta) -> None:
        """Raises FileError: it cannot be written."""
        try:
            self._path.write_bytes(junit(meta.profile.name, self._verdict))
        except OSError as error:
            raise FileError(self._path, f"cannot be written: {error.strerror or error}") from None


def junit(name: str, verdict: SloVerdict) -> bytes:
    """One test case for each SLO limit; a limit without enough samples is skipped."""
    suite = ElementTree.Element("testsuite", name=f"llmtop {name}", tests=str(len(verdict.targets)))
    suite.set("failures", str(sum(target.ok is False for target in verdict.targets)))
    suite.set("skipped", str(sum(target.ok is None for target in verdict.targets)))
    for target in verdict.targets:
        case = ElementTree.SubElement(suite, "testcase", classname=f"slo.{name}", name=target.name)
        if target.ok is False:
            ElementTree.SubElement(case, "failure", message=target.text)
        elif target.ok is None:
            ElementTree.SubElement(case, "skipped", message=target.text)
    return bytes(ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True))
