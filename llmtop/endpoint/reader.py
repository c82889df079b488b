"""One streamed answer: from body bytes to tokens, usage and an outcome.

An event is a token event when a delta in it has non-empty content, reasoning, refusal, text or tool call (name or
arguments), under whatever name. Role-only deltas, empty content, usage, comments and pings are none: a server that
answers its headers or its role at once does not get a better TTFT for it. Several token events in one read are one
arrival with n tokens: the gap between them is not known and is not invented.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time

import msgspec

from llmtop.domain.plain import plain
from llmtop.domain.request import Outcome, TokenSource
from llmtop.endpoint.clock import Stamper
from llmtop.endpoint.connection import Connection, Over
from llmtop.endpoint.counting import Count, Counting
from llmtop.endpoint.ending import (
    BY_ITSELF,
    NO_END,
    NO_TEXT,
    ONE_PIECE,
    USUAL,
    are_run_together,
    choice_error,
    excerpt,
    has_failed,
    has_message,
    is_done,
    is_failure,
    is_reason,
    is_silence,
    is_success,
    is_whole,
    what_it_is_instead,
    without_comments,
)
from llmtop.endpoint.event import Event, Timings, Usage, decode, lenient, usage_in, usage_of
from llmtop.endpoint.pieces import NO_WORDS, anything_in, calls_a_tool, words_of
from llmtop.endpoint.refusals import message_of, refusal_text
from llmtop.endpoint.said import Said
from llmtop.endpoint.sse import EVENT_LIMIT, EventSplitter, EventTooLong, is_bare
from llmtop.endpoint.trace import Sink, Trace
from llmtop.endpoint.waits import wait_s
from llmtop.endpoint.wire import ResponseParser, is_compressed

KEPT_BYTES = 64 * 1024
"""Of a body that is no stream: enough for any error message."""

TOKENS_BEYOND = 65_536
"""Above what was asked for, after which an answer is given up. Some servers and gateways do not heed `max_tokens`, but
no model has more to say than this by itself."""

SETTLED_S = 1.0
"""A stream that has told why it ended, and then nothing for this long, is whole, whatever becomes of its response."""
_UNPACKED = ("gzip", "x-gzip", "deflate")
"""Codings of an error that `refusal_text` reads."""


Events = list[tuple[bytes, bytes]]
"""Name and data of each."""
Translate = Callable[[Events], Events]


class StreamReader:
    """Reads the answer to one request and keeps its trace.

    A connection calls `sent`, `head` and `body` as things happen, and `close` ends it. Nothing that a server sends
    makes them raise. What cannot become an answer any more is given up at once: `over`, and the connection is told.

    Args:
        asked_tokens: what the answer was limited to.
        words: takes what is said; None: nobody wants to know.
        translate: tells the events of another API as a chat's; None: they are a chat's or completions'.
    """

    __slots__ = (
        "_began_ended",
        "_count",
        "_done",
        "_error",
        "_events",
        "_garbage",
        "_goes_on",
        "_is_stream",
        "_kept",
        "_kept_bytes",
        "_messages",
        "_missed",
        "_most_tokens",
        "_said",
        "_sink",
        "_splitter",
        "_stamper",
        "_translate",
        "_uncounted",
        "_usage_at",
        "_usage_comes_along",
        "_words",
        "connection",
        "done_ns",
        "over",
        "trace",
        "whole_ns",
    )

    def __init__(
        self,
        trace: Trace,
        sink: Sink,
        stamper: Stamper,
        asked_tokens: int = 0,
        words: Said | None = None,
        translate: Translate | None = None,
    ) -> None:
        self.trace = trace
        self.over = False
        """Nothing more is wanted of this answer."""
        self.done_ns: int | None = None
        """When [DONE] came, or usage after the reason of the end."""
        self.whole_ns: int | None = None
        """When the last of what makes the answer whole came, so far."""
        self.connection: Connection | None = None
        """That the request was written to."""
        self._sink = sink
        self._words = words
        self._stamper = stamper
        self._translate = translate
        self._splitter = EventSplitter()
        self._is_stream = True
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._events = 0
        self._done = False
        self._error: str | None = None
        self._garbage: str | None = None
        self._said: str | None = None
        """Words in an event that is neither a piece of the answer nor an error."""
        self._messages = 0
        """Events with a whole message in the place of a piece."""
        self._goes_on = False
        """Tokens came after a finish reason: the server sends one with every piece."""
        self._began_ended = False
        """A finish reason came before any token."""
        self._usage_at: int | None = None
        """Token events before the last usage that came by itself."""
        self._usage_comes_along = False
        """Tokens came after such a usage, and then another."""
        self._count = Counting()
        self._uncounted = 0
        self._missed = 0
        self._most_tokens = asked_tokens + TOKENS_BEYOND

    @property
    def saw_several_tokens_per_event(self) -> bool:
        """Whether usage tells of clearly more tokens than there were events, and events did not count along."""
        return not self._count.along and self._missed > max(self.trace.output_tokens // 5, 4)

    # What a connection tells

    def sent(self, now_ns: int, connect_ns: int, connection: Connection | None = None) -> None:
        """The request is about to be written."""
        self.connection = connection
        self.trace.sent_ns = now_ns
        self.trace.connect_ns = connect_ns

    def head(self, response: ResponseParser, stamp_ns: int) -> None:
        trace = self.trace
        trace.status = response.status
        trace.headers_ns = stamp_ns
        self._is_stream = is_success(response.status)
        if not self._is_stream:
            trace.retry_after_s = wait_s(response.status, response.headers, time())
            if 300 <= response.status < 400:
                self._error = f"redirected to {plain(response.header('location') or 'nowhere')}: point llmtop there"
        coding = response.header("content-encoding") or ""
        if is_compressed(coding):
            compressed = f"compressed ({plain(coding, 40)}) although it was asked not to be: a proxy does that"
            if self._is_stream or coding.strip().lower() not in _UNPACKED:
                self._error = f"the answer is {compressed}"
            self._is_stream = False

    def body(self, data: bytes, stamp_ns: int) -> None:
        """Body bytes of one read. What they are is seen by their first, whatever their label says."""
        if not self._events and not self._kept and data.lstrip()[:1] in (b"{", b"[", b"<"):
            self._is_stream = False
        if not self._is_stream:
            self._keep(data)
            return
        try:
            events = self._splitter.feed(data)
        except EventTooLong as long:
            events = long.events
            if self.done_ns is None:
                self._garbage = self._garbage or f"more than {EVENT_LIMIT // 1024} KiB without the end of an event"
            self._is_stream = False
            self._give_up()
        if events:
            self._take(events, stamp_ns)
        elif not self._events:
            self._keep(data)

    def close(self, end_ns: int, lost: str | None = None) -> None:
        """The answer is over. `lost`: why the connection ended before it; None: it ended by its framing."""
        trace = self.trace
        self.connection = None
        if self.whole_ns is not None:  # what came, or did not come, after that is no part of the answer
            end_ns = self.whole_ns
        trace.end_ns = end_ns
        if self._is_stream:
            self._take_unended_event(end_ns)
        self._settle_tokens(end_ns)
        trace.outcome, trace.error = self._judge(lost)

    def _give_up(self) -> None:
        self.over = True
        if self.connection is not None:
            self.connection.fail(Over())

    # Events

    def _take(self, events: Events, stamp_ns: int) -> None:
        """Account for the events of one read."""
        trace = self.trace
        if self._translate is not None:
            events = self._translate(events)
        self._events += len(events)
        count, kept = self._count, self._words
        before = seen = count.events
        answers = False
        for name, data in events:
            if data == b"[DONE]":
                self._end_stream(stamp_ns)
                continue
            if name and self._take_named(name, data):
                continue
            try:
                event = decode(data)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                odd = self._read_odd(data, stamp_ns)
                if odd is None:
                    continue
                event = odd
            payload = answer = finished = False
            if event.choices:
                for choice in event.choices:
                    delta = choice.delta
                    if delta is not None:
                        text = delta.content or delta.refusal
                        if text:
                            answer = True
                            if kept is not None:
                                kept.pieces.append(text)
                        else:
                            text = delta.reasoning or delta.reasoning_content
                            if not text and delta.tool_calls and calls_a_tool(delta.tool_calls):
                                payload = answer = count.textless = True
                            if kept is not None and text:
                                kept.thoughts.append(text)
                        if kept is not None and delta.tool_calls:
                            kept.take_calls(delta.tool_calls)
                    else:
                        text = choice.text
                        if text:
                            answer = True
                            if kept is not None:
                                kept.pieces.append(text)
                    if text:
                        payload = True
                        count.text += len(text) if text.isascii() else 4 * len(text)
                    if choice.finish_reason and is_reason(choice.finish_reason):
                        self._take_finish(choice.finish_reason, payload, data)
                        finished = True
            if answer:
                answers = True
                seen += 1
            elif payload:
                seen += 1
                count.thoughts += 1
            elif event.choices:
                words = words_of(data)
                if words is not NO_WORDS and any(words):
                    payload = True
                    seen += 1
                    answers = count.take_other_words(words) or answers
                    if kept is not None:
                        kept.pieces.append(words.text)
                        kept.thoughts.append(words.thought)
                elif b'"message"' in data:
                    self._messages += has_message(data)
            elif event.usage is None and not event.error and event.object != "error":
                self._take_no_piece(data)
            usage = event.usage
            if usage is None and (finished or not event.choices):
                usage = usage_of(event)
            if usage is not None:
                count.events = seen
                self._take_usage(usage, event, data, payload, finished, stamp_ns)
            elif event.timings is not None and finished:
                self._take_timings(event.timings)
            if event.error or event.object == "error":
                self._take_error(data)
        count.events = seen
        if trace.finish_reason is not None and self.done_ns is None:
            self._settle_down(seen > before, stamp_ns)
        if seen - before > 1:
            self._stamper.coalesced += 1
        new = (seen if seen > count.counted else count.counted) - trace.tokens_seen
        if new > 0 or seen > before:
            self._arrive(new, seen > before, answers, stamp_ns)

    def _arrive(self, n: int, visible: bool, answers: bool, stamp_ns: int) -> None:
        """`n` tokens came with the read of `stamp_ns`."""
        trace = self.trace
        if trace.tokens_seen + n > self._most_tokens:
            self._tell_flood(trace.tokens_seen + n)
            self._give_up()
            return
        trace.tokens_seen += n
        last = trace.last_token_ns
        if last is None:
            if not visible:  # counted by the server, but no text yet: bytes of an unfinished character
                self._uncounted += n
                return
            n += self._uncounted
            trace.first_token_ns = stamp_ns
            trace.first_chunk_tokens = n
            self._count.begin()
            gap = None
            self._sink.first_token(trace)
        else:
            gap = stamp_ns - last
            if trace.max_gap_ns is None or gap > trace.max_gap_ns:
                trace.max_gap_ns = gap
        if answers and trace.first_answer_ns is None:
            trace.first_answer_ns = stamp_ns
        trace.chunks += 1
        trace.last_token_ns = stamp_ns
        self._sink.tokens(trace, n, stamp_ns, gap)

    def _tell_flood(self, tokens: int) -> None:
        if self._error is None:
            asked = self._most_tokens - TOKENS_BEYOND
            self._error = f"{tokens} tokens where {asked} were asked for: the server does not heed max_tokens"

    def _take_finish(self, reason: str, payload: bool, data: bytes) -> None:
        if payload and self.trace.finish_reason is not None:
            self._goes_on = True
        self.trace.finish_reason = reason
        self._count.ended_apart = not payload and reason in BY_ITSELF
        if has_failed(reason):
            self._said = choice_error(data) or self._said

    def _settle_down(self, tokens: bool, stamp_ns: int) -> None:
        """A finish reason has been told: the answer is whole, unless tokens come after it, or none came yet."""
        if not self._count.events:
            self._began_ended = True
            return
        self._goes_on = self._goes_on or (tokens and (self._began_ended or self.whole_ns is not None))
        self.whole_ns = None if self._goes_on else stamp_ns
        if self.connection is not None:
            if self._goes_on:
                self.connection.hold()
            else:
                self.connection.release(SETTLED_S)

    def _take_no_piece(self, data: bytes) -> None:
        """An event without choices, usage or an error by that name."""
        answer = anything_in(data)
        if is_failure(answer):
            self._take_error(data)
        else:
            self._said = message_of(answer) or self._said

    def _end_stream(self, stamp_ns: int) -> None:
        """[DONE], or usage after the reason of the end: the answer is whole, whatever becomes of the connection."""
        self._done = True
        if self.done_ns is None:
            self.done_ns = self.whole_ns = stamp_ns
            if self.connection is not None:
                self.connection.release()

    def _take_usage(
        self, usage: Usage, event: Event, data: bytes, payload: bool, finished: bool, stamp_ns: int
    ) -> None:
        """Usage may be in any event."""
        trace = self.trace
        along = event.choices and not finished
        if not along or usage.completion_tokens is None:
            usage = usage_in(data) or usage
        if usage.prompt_tokens is not None:
            trace.prompt_tokens = usage.prompt_tokens
        if usage.prompt_tokens_details is not None and usage.prompt_tokens_details.cached_tokens is not None:
            trace.cached_tokens = usage.prompt_tokens_details.cached_tokens
        if along:
            self._count.take_along(usage, payload)
            return
        self._count.take_whole(usage, payload)
        if not event.choices and usage.completion_tokens is not None:
            events = self._count.events
            if usage.completion_tokens or events:
                self._usage_comes_along = self._usage_comes_along or self._usage_at not in (None, events)
                self._usage_at = events
            if usage.completion_tokens and trace.finish_reason is not None:
                self._end_stream(stamp_ns)

    def _take_timings(self, timings: Timings) -> None:
        if timings.predicted_n:
            prompt = timings.cache_n + timings.prompt_n
            self._count.take_whole(Usage(prompt, timings.predicted_n), payload=False)
            self.trace.prompt_tokens = prompt
            self.trace.cached_tokens = timings.cache_n

    def _take_named(self, name: bytes, data: bytes) -> bool:
        """An event with a name. Returns whether that is all there is to it."""
        if name == b"error":
            self._take_error(data)
            return True
        return name in (b"ping", b"heartbeat", b"keepalive", b"keep-alive")

    def _take_error(self, data: bytes) -> None:
        if self._error is None and self.done_ns is None:
            self._error = refusal_text(data) or "an error event without a message"

    def _read_odd(self, data: bytes, stamp_ns: int) -> Event | None:
        """An event that the typed decoder refuses: other types than usual, NaN, half characters, or no JSON at all."""
        bare = data.strip()
        if is_done(bare):
            self._end_stream(stamp_ns)
            return None
        if not bare:
            return None
        answer = anything_in(data)
        if isinstance(answer, dict):
            return lenient(answer)
        if self.done_ns is None:
            self._garbage = self._garbage or f"an event that is no JSON object: {excerpt(data)}"
        return None

    def _take_unended_event(self, end_ns: int) -> None:
        """The last event of a stream that ends without its blank line, if it is whole."""
        rest = bytes(self._splitter.rest.strip())
        if not rest:
            return
        if is_bare(rest):
            self._splitter.bare = self._splitter.bare or rest
        if self._garbage is None and self.done_ns is None and are_run_together(rest):
            self._garbage = "no blank line between its events"
        events = self._splitter.feed(b"\n\n")
        self._take([(name, data) for name, data in events if not data or is_whole(data)], end_ns)

    # The end

    def _keep(self, data: bytes) -> None:
        if self._kept_bytes < KEPT_BYTES:
            self._kept.append(data)
            self._kept_bytes += len(data)
        elif not self._is_stream:
            self._give_up()

    def _settle_tokens(self, end_ns: int) -> None:
        trace = self.trace
        count = self._count.settle(trace.tokens_seen)
        if count.output > self._most_tokens:
            self._tell_flood(count.output)
            count = Count(trace.tokens_seen, source=TokenSource.CHUNKS)
        trace.output_tokens, trace.token_source = count.output, count.source
        trace.hidden_tokens = count.hidden
        missed = count.output - trace.tokens_seen
        if trace.first_token_ns is not None:
            trace.timed_tokens = count.timed
            self._missed = missed - count.hidden
        trace.tokens_seen += max(missed, 0)
        untold = max(missed, 0) + (self._uncounted if trace.first_token_ns is None else 0)
        if untold:
            self._sink.tokens(trace, untold, end_ns, None)

    def _judge(self, lost: str | None) -> tuple[Outcome, str | None]:
        trace = self.trace
        if trace.finish_reason is not None:
            trace.finish_reason = plain(trace.finish_reason, 40)
        if trace.status is None:
            return Outcome.HTTP_ERROR, lost or "no answer"
        body = b"".join(self._kept)
        if not is_success(trace.status):
            return Outcome.HTTP_ERROR, self._error or refusal_text(body) or f"status {trace.status} without a message"
        if self._error is not None:
            return Outcome.STREAM_ERROR, self._error
        if trace.finish_reason is not None and has_failed(trace.finish_reason):
            return Outcome.STREAM_ERROR, self._said or f"the server gave up: finish_reason {trace.finish_reason!r}"
        if self._garbage is not None:
            return Outcome.STREAM_ERROR, self._garbage
        if not self._events and not is_silence(body := without_comments(body)):
            return Outcome.STREAM_ERROR, lost or what_it_is_instead(body)
        ended = self._has_ended(lost)
        if self._said is not None and (not ended or trace.first_token_ns is None):
            return Outcome.STREAM_ERROR, self._said
        if not ended:
            return Outcome.TRUNCATED, (lost or NO_END) + self._last_words()
        if trace.first_token_ns is None:
            if self._messages:
                return Outcome.STREAM_ERROR, ONE_PIECE
            if trace.output_tokens:
                what = "reasoning that it keeps" if trace.hidden_tokens else "special tokens"
                return Outcome.TEXTLESS, f"{trace.output_tokens} tokens, none with text: {what}"
            return Outcome.EMPTY, NO_TEXT + self._last_words()
        return Outcome.OK, None

    def _last_words(self) -> str:
        said = refusal_text(self._splitter.bare) if self._splitter.bare else ""
        return f"; it said: {said}" if said else ""

    def _has_ended(self, lost: str | None) -> bool:
        """Whether anything told that the answer is whole. What other tokens came after tells nothing by itself."""
        if self._done:
            return True
        reason = self.trace.finish_reason
        if reason is not None and (not self._goes_on or (lost is None and reason in USUAL)):
            return True
        return lost is None and self._usage_at == self._count.events and not self._usage_comes_along
