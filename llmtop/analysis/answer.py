"""An answer to the question of a run, before its circumstances are looked at."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from llmtop.analysis.slo import overall
from llmtop.domain.judgement import PartVerdict
from llmtop.domain.slo import Slo
from llmtop.domain.verdicts import SloVerdict
from llmtop.wording import answers


@dataclass(frozen=True, slots=True)
class Answer:
    """The SLO over the judged span, the answer, and the words for it."""

    verdict: SloVerdict
    ok: bool | None
    text: str
    reasons: tuple[str, ...] = ()
    reach: bool = False
    """It holds for as much as was driven, also where the plan was not driven to its end."""
    said: bool = False
    """The text has the reasons in it."""
    parts: tuple[PartVerdict, ...] = ()

    def told(self, *more: str) -> str:
        """The text with its reasons, and with more of them."""
        return answers.with_reasons(self.text, more if self.said else (*self.reasons, *more))


def with_errors_of(pooled: SloVerdict, verdict: SloVerdict, slo: Slo) -> SloVerdict:
    """The verdict with the limit on errors as `pooled` has it."""
    errors = {each.name: each for each in pooled.targets if each.name == "error_ratio"}
    targets = tuple(errors.get(each.name, each) for each in verdict.targets)
    return msgspec.structs.replace(verdict, targets=targets, ok=overall(targets, slo).ok)
