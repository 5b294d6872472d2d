"""One mail transaction of the client engine: MAIL, RCPT, then DATA or BDAT (RFC 5321 3.3, RFC 3030, RFC 2033).

Everything that may be pipelined goes out at once (RFC 2920 section 3.1). In the end each recipient has exactly one
outcome (a "fate" here), whatever the server says or leaves out.
"""

from collections.abc import Callable
from enum import Enum, auto

from waypost.message.envelope import Recipient
from waypost.protocol.reply import Reply
from waypost.protocol.smtp.client_events import ClientEvent, ContentWanted, RecipientOutcome, TransactionEnded
from waypost.protocol.smtp.outgoing import ContentError, DotStuffer, LineGuard, stuff_whole
from waypost.protocol.smtp.pipeline import Pipeline
from waypost.protocol.smtp.transaction import UNCLEAN_CONTENT, CommandPlan

PIPELINED_BDAT = 65536  # octets; a larger content waits until a recipient was accepted

Fail = Callable[[str, str, Reply | None], None]


class Stage(Enum):
    """How far a transaction is."""

    ENVELOPE = auto()
    STREAMING = auto()  # the owner sends the content
    WHOLE = auto()  # the whole content is written, or will be without the owner
    OVER = auto()


class MailTransaction:
    """A transaction under way. It reports its end by `emit`; `fail` ends the session.

    With `content` None, the owner sends the content when `ContentWanted` asks for it.
    """

    __slots__ = (
        "_accepted",
        "_asked",
        "_chunked",
        "_content",
        "_dsn",
        "_emit",
        "_fail",
        "_fates",
        "_guard",
        "_lmtp",
        "_local",
        "_mail",
        "_pipeline",
        "_plan",
        "_recipients",
        "_stage",
        "_stuffer",
        "_unanswered",
        "needs_reset",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        recipients: tuple[Recipient, ...],
        plan: CommandPlan,
        content: bytes | None,
        *,
        chunked: bool,
        lmtp: bool,
        dsn: bool,
        emit: Callable[[ClientEvent], None],
        fail: Fail,
    ) -> None:
        self._pipeline = pipeline
        self._recipients = recipients
        self._plan = plan
        self._content = content
        self._chunked = chunked
        self._lmtp = lmtp
        self._dsn = dsn
        self._emit = emit
        self._fail = fail
        self._fates: list[Reply | None] = list(plan.refused)
        self._local = [fate is not None for fate in plan.refused]
        self._mail: Reply | None = None
        self._unanswered = sum(line is not None for line in plan.rcpt)
        self._accepted = 0
        self._asked = False  # DATA or BDAT was queued after the recipients
        self._stage = Stage.ENVELOPE
        self._stuffer = DotStuffer()
        self._guard: LineGuard | None = None if plan.binary else LineGuard()
        self.needs_reset = False
        """True when RSET must come before the next MAIL."""

    def start(self, *, reset: bool) -> None:  # hot: bench/relay
        """Send all that may go out before the first reply."""
        pipeline = self._pipeline
        if reset:
            pipeline.later(b"RSET\r\n", ignored)
        pipeline.later(self._plan.mail, self._on_mail)
        on_rcpt = self._on_rcpt
        for index, line in enumerate(self._plan.rcpt):
            if line is not None:
                pipeline.later(line, on_rcpt, index)
        if pipeline.pipelining:
            content = self._content
            if not self._chunked:
                self._asked = True
                pipeline.later(b"DATA\r\n", self._on_data)
            elif content is not None and len(content) <= PIPELINED_BDAT and not self._lmtp:
                # In LMTP no reply follows BDAT LAST when all recipients were refused (RFC 2033 4.3).
                self._asked = True
                self._queue_chunk(content, last=True)
        pipeline.pump()

    @property
    def over(self) -> bool:
        """True after `TransactionEnded`."""
        return self._stage is Stage.OVER

    @property
    def awaits_final(self) -> bool:
        """True while the server owes nothing but the answer to the whole content."""
        return self._stage is Stage.WHOLE and self._unanswered == 0

    @property
    def streaming(self) -> bool:
        """True between `ContentWanted` and the end of the content."""
        return self._stage is Stage.STREAMING

    # -- content that the owner sends ---------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send the next octets. Octets that can't be sent end the session: SMTP has no way to break a content off."""
        try:
            if not self._chunked:
                self._pipeline.write(self._stuffer.stuff(data))
                return
            if self._guard is not None:
                data = self._guard.check(data)
        except ContentError:
            self._break_off()
            return
        if data:
            self._queue_chunk(data, last=False)
            self._pipeline.pump()

    def finish(self) -> None:
        """The content is whole."""
        try:
            if not self._chunked:
                self._content_written(self._stuffer.finish())
                return
            if self._guard is not None:
                self._guard.finish()
        except ContentError:
            self._break_off()
            return
        self._queue_chunk(b"", last=True)
        self._pipeline.pump()

    def _break_off(self) -> None:
        self._decide_rest(UNCLEAN_CONTENT, local=True)
        self._end()
        self._fail("the content can't be sent", "5.6.1", None)

    # -- replies to the envelope --------------------------------------------------------------------------

    def _on_mail(self, answer: Reply, _: int) -> None:
        self._mail = answer
        if answer.code // 100 == 2:
            return
        if answer.positive:
            self._fail("the reply to MAIL has a code that MAIL can't have", "4.5.0", None)
            return
        self._decide_rest(answer, local=False)
        if not self._pipeline.pipelining:
            self._pipeline.forget_waiting()
            self._end(reset=True)

    def _on_rcpt(self, answer: Reply, index: int) -> None:
        self._unanswered -= 1
        if self._fates[index] is None:  # MAIL was accepted
            if answer.code // 100 == 2:
                self._accepted += 1
            elif answer.positive:
                self._fail("the reply to RCPT has a code that RCPT can't have", "4.5.0", None)
                return
            else:
                self._fates[index] = answer
        if self._unanswered == 0 and not self._asked:
            self._after_recipients()

    def _after_recipients(self) -> None:
        """The server has answered all recipients, and neither DATA nor BDAT was queued after them yet."""
        if self._accepted == 0:
            self._end(reset=True)
        elif not self._chunked:
            self._pipeline.say(b"DATA\r\n", self._on_data)
        elif self._content is not None:
            self._queue_chunk(self._content, last=True)
            self._pipeline.pump()
        else:
            self._stage = Stage.STREAMING
            self._emit(ContentWanted())

    # -- replies to the content ---------------------------------------------------------------------------

    def _on_data(self, answer: Reply, _: int) -> None:  # hot: bench/relay
        if answer.code != 354:
            if answer.positive:
                self._fail("the reply to DATA has a code that DATA can't have", "4.5.0", None)
            else:
                self._decide_rest(answer, local=False)
                self._end(reset=True)
        elif self._accepted == 0:
            self._send_nothing()
        elif self._content is None:
            self._stage = Stage.STREAMING
            self._emit(ContentWanted())
        else:
            # The facts said that the content is clean; otherwise no transaction begins.
            self._content_written(stuff_whole(self._content))

    def _send_nothing(self) -> None:
        """The server asks for content though it accepted no recipient: send an empty one (RFC 2920 3.1)."""
        if self._lmtp:  # RFC 2033 4.2: no recipients, so no answer to the content either
            self._fail("the server asks for content and accepted no recipient", "4.5.0", None)
            return
        self._stage = Stage.WHOLE
        self._pipeline.say(b".\r\n", self._on_nothing)

    def _on_nothing(self, answer: Reply, _: int) -> None:
        self._end(reset=True)

    def _content_written(self, end: bytes) -> None:
        """Write the end of DATA; expect one answer, or in LMTP one a recipient (RFC 2033 section 4.2)."""
        self._stage = Stage.WHOLE
        if not self._lmtp:
            self._pipeline.say(end, self._on_final, -1)
            return
        self._pipeline.write(end)
        for index, fate in enumerate(self._fates):
            if fate is None:
                self._pipeline.expect(self._on_final, index)

    def _queue_chunk(self, data: bytes, *, last: bool) -> None:
        head = b"BDAT %d LAST\r\n" % len(data) if last else b"BDAT %d\r\n" % len(data)
        self._pipeline.later(head + data if data else head, self._on_chunk, 1 if last else 0)
        if last:
            self._stage = Stage.WHOLE

    def _on_chunk(self, answer: Reply, last: int) -> None:
        if answer.code // 100 == 3:
            self._fail("the reply to BDAT has a code that BDAT can't have", "4.5.0", None)
        elif not last:
            if not answer.positive:
                self.interrupted(answer)
        elif self._lmtp and self._accepted:
            # RFC 2033 section 4.3: the answers to BDAT LAST, this one and more, are one a recipient.
            waiting = [index for index, fate in enumerate(self._fates) if fate is None]
            for index in waiting[1:]:
                self._pipeline.expect(self._on_final, index)
            self._on_final(answer, waiting[0])
        else:
            self._on_final(answer, -1)

    def _on_final(self, answer: Reply, index: int) -> None:
        if answer.code // 100 == 3:
            self._fail("the reply to the content has a code that it can't have", "4.5.0", None)
            return
        if index < 0:
            self._decide_rest(answer, local=False)
        else:
            self._fates[index] = answer
        if None not in self._fates:
            self._end(reset=not answer.positive)

    # -- ends ---------------------------------------------------------------------------------------------

    def interrupted(self, answer: Reply) -> None:
        """The server replied in the middle of the content, which SMTP can't break off: the session ends.

        Chunks that were sent after a refused chunk have no defined replies either (RFC 3030 section 2).
        """
        self._decide_rest(answer, local=False)
        self._end()
        self._fail("the server broke off the content", answer.enhanced or "4.4.2", answer)

    def abandon(self, words: Reply, *, local: bool) -> None:
        """The session is over: recipients without an outcome may be tried again (RFC 5321 4.2.1)."""
        self._decide_rest(words, local=local)
        self._end()

    def _decide_rest(self, answer: Reply, *, local: bool) -> None:
        for index, fate in enumerate(self._fates):
            if fate is None:
                self._fates[index] = answer
                self._local[index] = local

    def _end(self, *, reset: bool = False) -> None:
        self._stage = Stage.OVER
        self.needs_reset = reset
        outcomes = tuple(
            RecipientOutcome(recipient, fate, local)
            for recipient, fate, local in zip(self._recipients, self._fates, self._local, strict=True)
            if fate is not None
        )
        self._emit(TransactionEnded(outcomes, self._dsn, self._mail is None))


def ignored(answer: Reply, _: int) -> None:
    """Handle the reply to RSET or to a cancelled AUTH: it changes nothing."""
