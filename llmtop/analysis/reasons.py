"""Why an answer is what it is, in words."""

from __future__ import annotations

from functools import cached_property

from llmtop.analysis.failing import dominating, without_text
from llmtop.analysis.stats import FEWEST
from llmtop.domain.slo import LATENCIES, Slo, SloTarget
from llmtop.domain.verdicts import SloVerdict, TargetVerdict
from llmtop.meter.facts import Facts
from llmtop.wording import answers


class Reasons:
    """Why an answer is what it is: which limits broke, which were kept, and what is missing to know."""

    def __init__(self, facts: Facts, slo: Slo) -> None:
        self._facts, self.slo = facts, slo

    @cached_property
    def limits(self) -> dict[str, SloTarget]:
        return {target.name: target for target in self.slo.limits}

    def misses(self, verdict: SloVerdict) -> tuple[str, ...]:
        return tuple(self.miss(each, self.limits[each.name]) for each in verdict.targets if each.ok is False)

    def miss(self, verdict: TargetVerdict, target: SloTarget) -> str:
        """A limit that is missed; one on errors with what they mostly are."""
        told = answers.miss(verdict, target)
        mostly = dominating(self._facts) if target.name == "error_ratio" else ""
        return f"{told}, {mostly}" if mostly else told

    def unsaid(self, verdict: SloVerdict, text: str) -> str:
        """What failures mostly are, where their limit is missed, or that no answer had text, unless `text` says it."""
        missed = any(each.ok is False and each.name == "error_ratio" for each in verdict.targets)
        mostly = dominating(self._facts) if missed else without_text(self._facts)
        return "" if mostly in text else mostly

    def doubts(self, verdict: SloVerdict) -> tuple[str, ...]:
        """What is missing for an answer."""
        short: dict[tuple[int, int], list[str]] = {}
        unsure, nobody = [], dict[str, None]()
        for each in verdict.targets:
            target = self.limits[each.name]
            if each.ok is None and target.kind and self._facts.names.known(target.kind) is None:
                nobody[target.kind] = None
            elif each.ok is None and (target.metric in LATENCIES or (target.kind and not each.n)):
                short.setdefault((each.n, FEWEST[target.stat or "p95"]), []).append(each.name)
            elif each.ok is None and each.n and target.metric == "error_ratio":
                unsure.append(answers.too_few_failed(each, target))
        return (
            *(answers.none_called(kind, self._facts.names.texts) for kind in nobody),
            *(answers.too_few(names, *counts) for counts, names in short.items()),
            *unsure,
        )

    def proof(self, verdict: SloVerdict) -> tuple[str, ...]:
        return tuple(answers.met(each, self.limits[each.name]) for each in verdict.targets if each.ok)

    def of(self, verdict: SloVerdict) -> tuple[str, ...]:
        return {True: self.proof, False: self.misses, None: self.doubts}[verdict.ok](verdict)
