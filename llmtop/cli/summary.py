"""What is said at the end of a run, for people."""

from __future__ import annotations

from llmtop.domain.assessment import Assessment
from llmtop.domain.frame import Frame, NewUser
from llmtop.domain.run import Ending, RunMeta
from llmtop.wording.canary import felt_text
from llmtop.wording.cost import as_block
from llmtop.wording.endings import ENDED_BY, ending_text
from llmtop.wording.failures import all_failed
from llmtop.wording.figures import TEXT, clock
from llmtop.wording.kinds import as_lines, tables, visits
from llmtop.wording.replicas import balancer_of
from llmtop.wording.sentences import hung_up_text, sentence


def last_word(frame: Frame, assessment: Assessment) -> str:
    """Why nothing was measured; empty where something was, or nothing has failed."""
    if not frame.totals.sent and frame.endpoint.last_error:
        return f"no request was sent: {frame.endpoint.last_error}"
    if frame.totals.ok or not frame.totals.errors:
        return ""
    return all_failed(assessment.failures)


def kind_lines(assessment: Assessment) -> list[str]:
    """What names, models, turns and visits came to, and calls, with blank lines around; () of requests of one kind."""
    lines = [line for table in tables(assessment, TEXT, short=True) for line in ("", *as_lines(table))]
    lines += ["", visits(assessment.sessions)] if assessment.sessions is not None else []
    return [*lines, ""] if lines else []


def text(meta: RunMeta, frame: Frame, assessment: Assessment, felt: NewUser | None = None) -> str:
    """The verdict first, then what it rests on, then where the facts lie.

    Args:
        felt: what canaries of the whole run felt; None: there were none.
    """
    totals = frame.totals
    ended = totals.ok + totals.errors
    errors = f"{totals.errors} errors ({TEXT.percent(totals.errors / ended)})" if totals.errors else "no errors"
    model = meta.info.model if meta.info else meta.endpoint.model or "no model"
    target = f"simulated engine, preset {meta.preset}" if meta.endpoint.simulated else meta.endpoint.base_url
    lines = [assessment.judgement.sentence or "nothing was measured"]
    lines += [threshold.text for threshold in assessment.judgement.thresholds]
    lines += as_block(assessment.costs)
    lines += [sentence(each.text) for each in assessment.comparisons]
    if balancer := balancer_of(assessment.diagnosis.evidence):
        lines.append(balancer)
    if assessment.diagnosis.advice:
        lines.append(sentence(assessment.diagnosis.advice))
    lines += [sentence(each) for each in assessment.scaled_besides]
    lines += [sentence(note) for note in assessment.notes]
    lines.append("")
    embeds = meta.profile.workload.api == "embeddings"
    tokens = "" if embeds else f"{totals.output_tokens} tokens, "
    counts = f"{totals.ok} requests, {tokens}{errors}"
    if totals.hung_up:
        counts += f", {hung_up_text(totals.hung_up, TEXT)}"
    lines.append(f"{model} at {target}: {clock(frame.t_s)}, {counts}")
    if felt is not None:
        lines.append(felt_text(felt, TEXT))
    lines += kind_lines(assessment)
    plan_s = meta.profile.plan.duration_s
    if meta.ending is Ending.HAND and (plan_s or meta.profile.search):
        lines.append(ending_text(meta.ending, frame.t_s, plan_s))
    elif meta.ending not in (None, Ending.PLAN, Ending.HAND):
        lines.append(ENDED_BY[meta.ending])
    if frame.run_file:
        lines.append(f"run file: {frame.run_file}")
        if frame.recording_problem:
            lines.append(f"  {frame.recording_problem}")
        lines.append(f"  llmtop replay {frame.run_file}")
        lines.append(f"  llmtop report {frame.run_file}")
    elif frame.recording_problem:
        lines.append(frame.recording_problem)
    return "\n".join(lines)
