"""The prompt source: what the load engine asks for the next prompt, thousands of times a second if need be."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from msgspec import Struct

from llmtop.domain.load import LoadPoint
from llmtop.domain.profile import Workload
from llmtop.errors import UsageError
from llmtop.workload.calibration import Calibration
from llmtop.workload.conversations import read_conversations
from llmtop.workload.entries import Conversation, Message
from llmtop.workload.lengths import Pairs, draw
from llmtop.workload.sizing import Sizes
from llmtop.workload.words import CLOSING, CLOSING_WORDS, HEAD_WORDS, WordTable

if TYPE_CHECKING:
    from llmtop.traffic.table import Floats
    from llmtop.workload.recorded import Recorded

_CLOSED_FROM = 2 * (HEAD_WORDS + CLOSING_WORDS)
"""Shorter prompts have no room for the closing words."""


class Prompt(Struct, frozen=True, gc=False):
    """All that one request says. `messages` is set when it is a conversation; else `text` is all there is."""

    text: str
    tokens: int
    """How many tokens the endpoint is expected to count, chat template included once that is known."""
    output_tokens: int
    """How many tokens to ask for."""
    count_source: str
    """tiktoken: words of one token each; usage or tokenize: checked against the endpoint; ratio: right on average;
    empty: an estimate, of which nothing is to be learnt."""
    messages: tuple[Message, ...] | None = None
    api: str | None = None
    """Of this one; None: the workload's."""
    model: str | None = None
    """Of this one; None: the endpoint's."""
    extra: bytes = b""
    """Fields of the body besides those of the dialect, as they stand in JSON between commas: `,"seed":7`."""
    pinned: bool = True
    """Whether the answer is to be as long as `output_tokens` wherever that can be pinned; else that is the most."""
    hang_up_s: float | None = None
    """How long after it was sent the client closes the connection; None: it waits for the end."""
    name: str | None = None
    """As `RequestRecord.name`, and so are the next two."""
    session: int | None = None
    turn: int | None = None

    def said(self, api: str) -> str | tuple[Message, ...]:
        """What is sent to an API: the conversation where it takes one."""
        return self.text if api in ("completions", "embeddings") else self.messages or self.text


class PromptSource:
    """Prompts for a workload, each a function of (seed, salt, index) and of the load point alone.

    Args:
        workload: source, file, length distributions and seed. Files are read here, once; this takes seconds for large
            ones, so call it from a thread where a loop must go on.
        model_tokens_per_word: tokens of one English word for the model, where that is known and not 1.
        max_model_len: longest prompt + output of the endpoint. Drawn lengths are cut to fit and rows of a file that do
            not fit are left out, because the endpoint would only refuse them.
        salt: changes the heads of prompts and nothing else. Give each run its own, or its prompts are found in the
            prefix cache that the run before has left.
        start, step: indices start, start + step, ...: how several workers share one source without a prompt in common.
        recorded: the trace, where another process has read it.

    Raises:
        FileError: the file of the workload is missing or broken; says where and what is allowed.
        UsageError: the source is not known.
    """

    def __init__(
        self,
        workload: Workload,
        *,
        model_tokens_per_word: float | None = None,
        max_model_len: int | None = None,
        salt: int = 0,
        start: int = 0,
        step: int = 1,
        recorded: Recorded | None = None,
    ) -> None:
        self.workload = workload
        self.calibration = Calibration(model_tokens_per_word)
        self.sizes: Sizes | None = None
        """What the endpoint counted before the load, for other sources of the same prompts."""
        self.cut = 0
        """How many prompts were cut to `max_model_len`."""
        self._max_model_len = max_model_len
        self._words = WordTable(workload.seed)
        self._salt = salt
        self._index = start
        self._step = step
        self._common: tuple[int, str] = (0, "")
        self._conversations: Sequence[Conversation] = ()
        self._pairs = Pairs(workload.lengths, workload.seed) if workload.lengths else None
        self.recorded = recorded
        """What is replayed; None: prompts are of another source."""
        self.notes: tuple[str, ...] = ()
        """What is to be said of the file: rows that were left out, what was guessed; of pairs that are too long."""
        self.summary = ""
        """What was read of a file of prompts."""
        if workload.source in ("sharegpt", "jsonl"):
            self._conversations, self.notes, self.summary = read_conversations(workload, max_model_len)
        elif workload.source == "trace":
            if recorded is None:
                from llmtop.workload.recorded import read_recorded  # takes numpy in, which other sources do without

                self.recorded, self.notes, self.summary = read_recorded(workload, max_model_len)
        elif workload.source not in ("synthetic", "python"):
            known = "synthetic, sharegpt, jsonl, trace or python"
            raise UsageError(f"workload {workload.source!r} is not known; use {known}")
        if self._pairs is not None:
            self.notes = (*self.notes, *self._pairs.too_long(max_model_len))

    @property
    def rows(self) -> int | None:
        """How many rows the file gave; None for drawn prompts. After the last it starts again from the first, unless
        the workload's `repeat` is off."""
        return len(self._conversations) or (None if self.recorded is None else len(self.recorded))

    @property
    def arrivals_s(self) -> Floats | None:
        """When the requests of a trace are due, in seconds into the load; None: of other sources."""
        return None if self.recorded is None else self.recorded.start_s

    @property
    def again(self) -> bool:
        """Whether rows have come again."""
        return self.rows is not None and self._index - self._step >= self.rows

    @property
    def spent(self) -> bool:
        """Whether every row was given, of a file whose rows do not come again."""
        return not self.workload.repeat and self.rows is not None and self._index >= self.rows

    def next(self, point: LoadPoint, row: int | None = None) -> Prompt:
        """The next prompt under the load commanded now.

        Args:
            row: of a trace, the one whose turn it is; the next prompt without it comes after that.
        """
        if row is None:
            index = self._index
            self._index += self._step
        else:
            index = row
            self._index += max(0, row - self._index + self._step) // self._step * self._step
        self.calibration.made()
        rng = Random((self.workload.seed << 64) ^ (index + 1))
        if self._conversations:
            return self._from_conversation(index, point, rng)
        if self.recorded is not None:
            return self._from_trace(self.recorded, index, point, rng)
        prompt_tokens, output_tokens = self.lengths(point, rng, index)
        count = self.calibration.words(prompt_tokens)
        text = self._synthesize(index, count, point.shared_prefix, rng)
        return Prompt(text, self.calibration.tokens(count), output_tokens, self.calibration.source)

    def lengths(self, point: LoadPoint, rng: Random, index: int | None = None) -> tuple[int, int]:
        """Tokens of a prompt and of its answer under the load commanded now.

        Args:
            index: of the request, which is dealt its pair of a sample; None: any pair, as `rng` says.
        """
        if self._pairs is not None:
            index = rng.randrange(len(self.workload.lengths)) if index is None else index
            return self._fit(*self._pairs.draw(index, point.prompt_tokens, point.output_tokens))
        output_tokens = draw(self.workload.output, point.output_tokens, rng)
        prompt_tokens = draw(self.workload.prompt, point.prompt_tokens, rng)
        return self._fit(prompt_tokens, output_tokens)

    def text(self, tokens: int, point: LoadPoint) -> str:
        """A text of so many tokens, written as the prompts of `next` are: no two begin alike but for what is shared."""
        index = self._index
        self._index += self._step
        rng = Random((self.workload.seed << 64) ^ (index + 1))
        return self._synthesize(index, self.calibration.words(tokens), point.shared_prefix, rng)

    def peek(self, point: LoadPoint) -> Prompt:
        """The prompt that `next` gives, which it still gives afterwards."""
        index, cut = self._index, self.cut
        prompt = self.next(point)
        self._index, self.cut = index, cut
        return prompt

    def calibrate(self, asked_tokens: int, usage_prompt_tokens: int, source: str = "usage") -> None:
        """Tell what the endpoint counted for a prompt whose `tokens` was `asked_tokens`; call it for every answer.

        After one answer the chat template is known, and with another length the tokenizer; the next prompts are written
        so that the endpoint's count is what the load point says.

        Args:
            source: usage, or tokenize where the count comes from the endpoint's /tokenize.
        """
        if not self._conversations:
            self.calibration.learn(asked_tokens, usage_prompt_tokens, source)

    @property
    def drawn(self) -> bool:
        """Whether prompts are of words of the list and of the load point's lengths: of no file."""
        return not self._conversations and self.recorded is None

    def closes(self, tokens: int) -> bool:
        """Whether a prompt of `tokens` has room for the closing words."""
        return tokens >= _CLOSED_FROM

    def settle(self, sizes: Sizes) -> None:
        """Write all prompts by what the endpoint counted before the load; see `llmtop.workload.sizing`."""
        self.sizes = sizes
        self.calibration.settle(sizes)

    def _fit(self, prompt_tokens: int, output_tokens: int) -> tuple[int, int]:
        if self._max_model_len is None:
            return prompt_tokens, output_tokens
        room = self._max_model_len - (0 if self.calibration.constant else 64)
        if prompt_tokens + output_tokens <= room:
            return prompt_tokens, output_tokens
        self.cut += 1
        output_tokens = min(output_tokens, max(1, room // 2))
        return max(1, min(prompt_tokens, room - output_tokens)), output_tokens

    def _synthesize(self, index: int, count: int, shared: float, rng: Random) -> str:
        """Common head, unique head, random words, closing words: `count` in all."""
        common = round(count * min(max(shared, 0.0), 1.0))
        closing = CLOSING_WORDS if count - common >= _CLOSED_FROM else 0
        head = min(HEAD_WORDS, count - common)
        body = count - common - head - closing
        text = self._words.head(index + self._salt, head) + self._words.text(body, rng)
        if closing:
            text += CLOSING
        if common:
            text = self._shared(common) + text
        return text[1:]

    def _shared(self, count: int) -> str:
        if self._common[0] != count:
            self._common = (count, self._words.block(f"shared {self._salt}", count))
        return self._common[1]

    def _from_conversation(self, index: int, point: LoadPoint, rng: Random) -> Prompt:
        lap, place = divmod(index, len(self._conversations))
        row = self._conversations[place]
        output_tokens = row.output_tokens or draw(self.workload.output, point.output_tokens, rng)
        if lap == 0:
            return Prompt(row.text, row.tokens, output_tokens, "tiktoken", row.messages)
        head = self._words.head(index + self._salt)[1:] + "\n"
        messages = row.messages
        if messages:
            messages = _headed(messages, head)
        return Prompt(head + row.text, row.tokens + HEAD_WORDS + 1, output_tokens, "tiktoken", messages)

    def _from_trace(self, trace: Recorded, index: int, point: LoadPoint, rng: Random) -> Prompt:
        lap, place = divmod(index, len(trace))
        prompt_tokens, output_tokens = int(trace.prompt[place]), int(trace.output[place])
        if not prompt_tokens or not output_tokens:
            drawn = self.lengths(point, rng, index)
            prompt_tokens, output_tokens = self._fit(prompt_tokens or drawn[0], output_tokens or drawn[1])
        count = self.calibration.words(prompt_tokens)
        ids = trace.ids(place)
        if ids and trace.blocks is not None:
            text = self._blocks(ids, trace.blocks.tokens, f"{self._salt} {lap}", index, count, rng)
        elif trace.text is not None and trace.text[place] >= 0:
            text = self._words.block(f"talk {self._salt} {lap} {trace.text[place]}", count)[1:]
        else:
            text = self._synthesize(index, count, 0.0, rng)
        session = turn = None
        if trace.session is not None and trace.turn is not None and trace.session[place] >= 0:
            session, turn = int(trace.session[place]) + lap * trace.sessions, int(trace.turn[place])
        return Prompt(
            text,
            self.calibration.tokens(count),
            output_tokens,
            self.calibration.source,
            session=session,
            turn=turn,
        )

    def _blocks(self, ids: Sequence[int], tokens: int, scope: str, index: int, count: int, rng: Random) -> str:
        """`count` words: a text for each hash id, the same wherever it stands in a lap; the rest is its own."""
        size = max(1, round(tokens / self.calibration.ratio))
        texts = []
        for number in ids[: -(-count // size)]:
            texts.append(self._words.block(f"block {scope} {number}", min(size, count)))
            count -= size
        if count > 0:
            texts.append(" " + self._synthesize(index, count, 0.0, rng))
        return "".join(texts)[1:]


def _headed(messages: tuple[Message, ...], head: str) -> tuple[Message, ...]:
    """The same conversation, its first text begun with `head`."""
    place = next((place for place, message in enumerate(messages) if message.get("content")), 0)
    content = messages[place].get("content") or ""
    begun = head + content if isinstance(content, str) else [{"type": "text", "text": head}, *content]
    return (*messages[:place], {**messages[place], "content": begun}, *messages[place + 1 :])
