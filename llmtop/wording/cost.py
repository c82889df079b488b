"""What a capacity costs, in lines and in a table: the words of one `Costs`, whoever shows it."""

from __future__ import annotations

from collections.abc import Sequence

from llmtop.domain.cost import HEADROOM, LOW_USE, MONTH_H, Amount, CostRow, Costs
from llmtop.wording.figures import TEXT, UNKNOWN, Figures
from llmtop.wording.names import short_unit
from llmtop.wording.sentences import sentence

TITLE = "Cost"
NO_CAPACITY = "no load held the SLO, so there is no capacity to pay for"
CAPACITY_UNKNOWN = "the capacity at the SLO is not known"
NO_LEVEL = "no load was held for long enough with the server as it is now"
NOT_FORESEEN = "the capacity at the SLO is not foreseen"
NO_PRICE = "a price gives what tokens cost: --gpu-price, or [cost] gpu_price_per_hour"
NO_PEAK = "a peak gives the GPUs that it takes: --cost-peak, or [cost] peak"
NO_TRAFFIC = "the shares of a day give what your traffic costs: [cost] traffic, with a peak"
NO_THINK_TIME = "the pause of a user gives what one costs: [cost] think_time"
NO_TOKENS = "how many tokens a second were made is not told, and so not what they cost"
_BY_PROMPTS = "at the lowest load times requests/s, an estimate: where a prefill waits the input's part is too large"
_SPLIT = {
    "steps": "split by the engine's time for prompts and for tokens, by a model of its steps",
    "server": f"split by prefill time {_BY_PROMPTS}",
    "ttft": f"split by TTFT {_BY_PROMPTS}",
    "whole": "all of it input",
}
_USES = {
    "slo": "at the SLO capacity",
    "autoscaled": "at your traffic, autoscaled",
    "fixed": "at your traffic, as many as its peak needs, without a spare",
    "third": f"at {100 * LOW_USE:.0f} % use",
}
HEADS = ("", "per 1M output tokens", "part per 1M input", "part per 1M output", "per user and month", "per month")


def money(value: float | None, currency: str, figures: Figures = TEXT) -> str:
    """`0.42 EUR`; without a currency `0.42`."""
    if value is None:
        return UNKNOWN
    return f"{figures.digits(value)}{figures.gap}{currency}" if currency else figures.digits(value)


def amount_text(amount: Amount | None, unit: str, figures: Figures = TEXT) -> str:
    """`0.42 EUR (0.39 to 0.45)`, `at most 0.42 EUR`"""
    if amount is None:
        return UNKNOWN
    if amount.low is None:
        return f"at most {money(amount.value, unit, figures)}"
    low, high = (figures.digits(amount.value if end is None else end) for end in (amount.low, amount.high))
    span = "" if low == high else f" ({low} to {high})"
    return f"{money(amount.value, unit, figures)}{span}"


def _count_text(amount: Amount, unit: str, figures: Figures) -> str:
    """`5 GPUs (4 to 6)`"""
    low, high = (figures.whole(amount.value if end is None else end) for end in (amount.low, amount.high))
    value = f"{figures.whole(amount.value)} {unit}{'' if amount.value == 1 else 's'}"
    if amount.low is None:
        return f"at most {value}"
    return value if low == high else f"{value} ({low} to {high})"


def load_text(costs: Costs, load: float | None, figures: Figures = TEXT) -> str:
    """`41 users`, `3.5 requests/s`"""
    return UNKNOWN if load is None else f"{figures.load(load, costs.axis)} {short_unit(costs.axis, load)}"


def basis_text(costs: Costs, figures: Figures = TEXT) -> str:
    """`41 users on 2 GPUs at 2.49 EUR an hour each`, `41 users on 3 replicas of 2 GPUs at 2.49 EUR an hour each`"""
    each = costs.gpus // costs.replicas
    gpus = f"{figures.whole(each)} GPU{'' if each == 1 else 's'}"
    if costs.replicas > 1:
        gpus = f"{figures.whole(costs.replicas)} replicas of {gpus}"
    price = money(costs.price_per_hour, costs.currency, figures)
    return f"{load_text(costs, costs.at, figures)} on {gpus} at {price} an hour{'' if costs.gpus == 1 else ' each'}"


def lines(costs: Costs | None, figures: Figures = TEXT) -> list[str]:
    """For a terminal, the verdict first; () where nothing is to be told."""
    if costs is None:
        return []
    return [*_priced_lines(costs, figures), *notes(costs, figures)]


def as_block(costs: Costs | None, figures: Figures = TEXT) -> list[str]:
    """The same under its name, further lines below the first."""
    said = lines(costs, figures)
    return [f"{'' if at else TITLE + ':':<6}{each}" for at, each in enumerate(said)]


def _priced_lines(costs: Costs, figures: Figures) -> list[str]:
    def amount(value: Amount | None) -> str:
        return amount_text(value, costs.currency, figures)

    slo, low = costs.row("slo"), costs.row("third")
    if slo is None or low is None:
        return []
    tokens, who = _per_tokens(slo, costs, figures), _who(costs, figures)
    found = [f"{tokens} at {basis_text(costs, figures)}; {_low_text(low, costs, figures)}"] if tokens else []
    if slo.per_user_month is not None:
        basis = "" if tokens else f" at {basis_text(costs, figures)}"
        found.append(f"{amount(slo.per_user_month)} per user and month{basis}{f'; {who}' if who else ''}")
    found += [
        f"{_USES[row.use]}: {_per_tokens(row, costs, figures) or 'not told a token'}, {amount(row.per_month)} a month"
        for row in costs.rows
        if row.use in ("autoscaled", "fixed")
    ]
    return found


def _who(costs: Costs, figures: Figures) -> str:
    """How many users an endpoint has, where that is another number than its load; empty: it is the same."""
    if costs.users is None or (costs.axis == "concurrency" and costs.users == costs.at):
        return ""
    return f"an endpoint has {figures.whole(costs.users)} users, who pause between two requests"


def _per_tokens(row: CostRow, costs: Costs, figures: Figures) -> str:
    """What is sold: output, or of embeddings the input; empty: it is not told how much."""
    whole, what = (row.per_million_output, "output") if row.per_million_output else (row.input_part, "input")
    return "" if whole is None else f"{amount_text(whole, costs.currency, figures)} per 1M {what} tokens"


def _low_text(row: CostRow, costs: Costs, figures: Figures) -> str:
    return f"{amount_text(row.per_million_output or row.input_part, costs.currency, figures)} {_USES[row.use]}"


def notes(costs: Costs, figures: Figures = TEXT) -> list[str]:
    """What stands beside the table: how the cost splits, GPUs at a peak, energy, and what is missing."""
    if costs.void:
        return [f"not told: {costs.void}"]
    found = [split_text(costs, figures), peak_text(costs, figures), energy_text(costs, figures)]
    return [*filter(None, found), *costs.missing]


def split_text(costs: Costs, figures: Figures = TEXT) -> str:
    """`apart 0.05 EUR per 1M input and 0.31 EUR per 1M output tokens, split by ...`; empty: it does not split."""
    slo = costs.row("slo")
    if slo is None or slo.input_part is None or slo.output_part is None or costs.split in (None, "whole"):
        return ""
    input_part, output_part = (money(part.value, costs.currency, figures) for part in (slo.input_part, slo.output_part))
    said = f"apart {input_part} per 1M input and {output_part} per 1M output tokens, {_SPLIT[str(costs.split)]}"
    if not costs.cached:
        return said
    return f"{said}; {figures.percent(costs.cached)} of the input came from the prefix cache and is counted as input"


def peak_text(costs: Costs, figures: Figures = TEXT) -> str:
    """`5 GPUs (4 to 5) for a peak of 120 users, with 20 % headroom and a spare endpoint`; empty: no peak is known."""
    if costs.gpus_at_peak is None:
        return ""
    count = _count_text(costs.gpus_at_peak, "GPU", figures)
    peak = load_text(costs, costs.peak, figures)
    spare = "replica" if costs.replicas > 1 else "endpoint"
    return f"{count} for a peak of {peak}, with {100 * HEADROOM:.0f} % headroom and a spare {spare}"


def energy_text(costs: Costs, figures: Figures = TEXT) -> str:
    """`0.42 J (0.40 to 0.44) per output token: 310 W of the 1 GPU that is read`; empty: no power was read."""
    joules = costs.joules_per_output_token
    if joules is None:
        return ""
    gpus = f"{figures.whole(costs.gpus_read)} GPU{'' if costs.gpus_read == 1 else 's'}"
    which = "is read" if costs.gpus_read == 1 else "are read"
    if costs.gpus_read < costs.gpus_seen:
        which = f"tell{'s' if costs.gpus_read == 1 else ''} it, of {figures.whole(costs.gpus_seen)}"
    power = f"{figures.count(costs.power_w)}{figures.gap}W"
    return f"{amount_text(joules, 'J', figures)} per output token: {power} of the {gpus} that {which}"


def table_rows(costs: Costs, figures: Figures) -> Sequence[tuple[str, ...]]:
    """By `HEADS`; () without a price."""
    return [
        (
            _USES[row.use],
            *(
                amount_text(amount, costs.currency, figures)
                for amount in (
                    row.per_million_output,
                    row.input_part,
                    row.output_part,
                    row.per_user_month,
                    row.per_month,
                )
            ),
        )
        for row in costs.rows
    ]


def note(costs: Costs, figures: Figures) -> str:
    """What the table rests on; empty without one."""
    if not costs.rows:
        return ""
    least, who = "at least " if costs.at_most else "", _who(costs, figures)
    return (
        f"What {least}{basis_text(costs, figures)} come to: requests that failed are paid for and not sold. "
        "In brackets by the interval of the capacity. Prices are those that were stated; "
        f"a month has {MONTH_H:g} hours."
        f"{f' {sentence(who)}.' if who else ''}"
    )
