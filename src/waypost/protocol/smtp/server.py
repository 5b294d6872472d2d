"""The SMTP and LMTP server engine: bytes in, events and replies out (RFC 5321, RFC 2033).

It knows the grammar, the order of commands and the extensions; it decides no policy: it asks by an event, and the
owner answers. It has no socket and no clock but the one it is given.
"""

import base64
import binascii
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

from waypost.message.envelope import BodyType, Envelope
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.protocol.smtp.content import ChunkReader, DotReader
from waypost.protocol.smtp.events import (
    AuthCancelled,
    AuthResponse,
    AuthStarted,
    Closed,
    DataStarted,
    Hello,
    MailOffered,
    MessageChunk,
    MessageEnded,
    MessageRefused,
    RecipientOffered,
    ServerEvent,
    StartTls,
    TransactionReset,
)
from waypost.protocol.smtp.parameters import Refused, decode_line, parse_mail, parse_rcpt

_MAX_AUTH_LINE = 12288  # octets, RFC 4954 section 4
_MAX_BUFFER = 64 * 1024
_HTTP = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH"})


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What a server session offers and how much it bears. Times are seconds, sizes octets."""

    hostname: str
    lmtp: bool = False
    submission: bool = False  # FUTURERELEASE, DELIVERBY, MT-PRIORITY and AUTH are offered
    starttls: bool = False  # offered until TLS is on
    mechanisms: tuple[str, ...] = ()  # AUTH mechanisms, offered over TLS only
    auth_required: bool = False  # MAIL before AUTH is answered 530 5.7.0
    max_message_size: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    max_command_line: int = 4096
    max_transactions: int = 1000
    max_errors: int = 20
    max_hold: int = 30 * 86400  # FUTURERELEASE: seconds into the future
    greeting: str = "ESMTP"


class State(Enum):
    """Where a session stands. CONTENT, CHUNK and AUTH read something else than commands."""

    START = auto()  # no EHLO yet
    READY = auto()
    MAIL = auto()
    RCPT = auto()
    CONTENT = auto()
    CHUNK = auto()
    BDAT = auto()  # between two BDAT commands of one message
    AUTH = auto()
    CLOSED = auto()


_READY = frozenset({State.READY})
_MAIL = frozenset({State.MAIL, State.RCPT})
_ANY = frozenset({State.START, State.READY, State.MAIL, State.RCPT, State.BDAT})


@dataclass(frozen=True, slots=True)
class Command:
    """One command: who runs it, in which states it is legal, where it is defined, whether it has an argument."""

    run: Callable[["SmtpServer", bytes], None]
    states: frozenset[State]
    section: str
    argument: bool = True


class SmtpServer:
    """Sans-IO SMTP/LMTP server session (RFC 5321 section 4.1).

    The owner: `receive` bytes, loop `next_event`, answer the events that ask, write `take_output()`.
    """

    __slots__ = (
        "_answer",
        "_auth_done",
        "_buffer",
        "_chunks",
        "_content",
        "_discarding",
        "_envelope",
        "_eof",
        "_errors",
        "_events",
        "_extended",
        "_last_chunk",
        "_now",
        "_options",
        "_output",
        "_position",
        "_refusal",
        "_state",
        "_tls",
        "_transactions",
    )

    def __init__(self, options: ServerOptions, *, now: Callable[[], Micros], tls: bool = False) -> None:
        self._options = options
        self._now = now
        self._tls = tls
        self._buffer = b""
        self._position = 0
        self._output: list[bytes] = []
        self._events: deque[ServerEvent] = deque()
        self._answer: Callable[[Reply], None] | None = None
        self._state = State.START
        self._envelope: Envelope | None = None
        self._extended = False
        self._auth_done = False
        self._content: DotReader | None = None
        self._chunks: ChunkReader | None = None
        self._last_chunk = False
        self._discarding = 0  # octets of a refused BDAT that still come
        self._refusal: Reply | None = None  # what the content's end will be answered with
        self._errors = 0
        self._transactions = 0
        self._eof = False

    # What the owner calls.

    def greet(self, reply: Reply | None = None) -> None:
        """Queue the 220 greeting, or the refusal `reply` (421, 521, 554), after which the session is over."""
        if reply is None:
            self._say(Reply(220, None, (f"{self._options.hostname} {self._options.greeting} Waypost",)))
        else:
            self._say(reply)
            self._close(f"refused: {reply}")

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. The owner asks `wants_input` first, which bounds the buffer."""
        if self._state is not State.CLOSED:
            rest = self._buffer[self._position :]
            self._buffer = rest + data if rest else data
            self._position = 0

    def receive_eof(self) -> None:
        """The peer closed its side: what it sent before is still handled."""
        self._eof = True

    @property
    def wants_input(self) -> bool:
        """False while enough input is buffered."""
        return len(self._buffer) - self._position < _MAX_BUFFER and self._state is not State.CLOSED

    @property
    def envelope(self) -> Envelope | None:
        """The envelope so far, with the accepted recipients only; None outside a transaction."""
        return self._envelope

    @property
    def _closed(self) -> bool:
        return self._state is State.CLOSED

    @property
    def extended(self) -> bool:
        """True after EHLO or LHLO."""
        return self._extended

    def next_event(self) -> ServerEvent | None:
        """Return the next event; None while an answer or more input is needed."""
        while not self._events:
            if self._answer is not None or self._closed:
                return None
            if not self._step() and not self._events:
                if not self._eof:
                    return None
                self._close("the client went away")
        return self._events.popleft()

    def answer(self, reply: Reply) -> None:
        """Answer the event that asks; a positive reply lets the engine go on, a negative one refuses."""
        answer, self._answer = self._answer, None
        if answer is None:
            raise RuntimeError("nothing asks for an answer")
        answer(reply)

    def answer_each(self, replies_: list[Reply]) -> None:
        """LMTP: answer `MessageEnded` with one reply for each accepted recipient, in order (RFC 2033 4.2)."""
        if self._envelope is None or len(replies_) != len(self._envelope.recipients):
            raise RuntimeError("one reply for each recipient, please")
        self._answer = None
        for reply in replies_:
            self._say(reply)
        self._end_transaction()

    def challenge(self, data: bytes) -> None:
        """Send a SASL challenge (334)."""
        self._answer = None
        self._write(b"334 " + base64.b64encode(data) + b"\r\n")
        self._state = State.AUTH

    def tls_started(self) -> None:
        """The handshake is done: everything from before it is forgotten (RFC 3207 4.2)."""
        self._tls = True
        self._buffer, self._position = b"", 0
        self._envelope = None
        self._extended = False
        self._auth_done = False
        self._state = State.START

    def shut_down(self, reply: Reply) -> None:
        """End the session from our side at once (421 at stop or time-out)."""
        if self._state is not State.CLOSED:
            self._answer = None
            self._say(reply)
            self._close(str(reply))

    def take_output(self) -> bytes:
        """Return and forget the bytes to write."""
        if not self._output:
            return b""
        output = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        self._output.clear()
        return output

    # Input.

    def _step(self) -> bool:
        """Handle one unit of input; False when it is not complete yet."""
        if self._discarding and not self._discard():
            return False
        match self._state:
            case State.CONTENT:
                return self._read_content()
            case State.CHUNK:
                return self._read_chunk()
            case State.AUTH:
                return self._read_auth()
        line = self._line(self._options.max_command_line)
        if line is None:
            return False
        self._command(line)
        return True

    def _line(self, limit: int) -> bytes | None:
        """Return the next line without its CRLF; None when there is none (or the session was closed for it)."""
        buffer, position = self._buffer, self._position
        end = buffer.find(b"\r\n", position)
        if end < 0:
            if len(buffer) - position > limit:
                # What follows can't be told from commands: the session ends (RFC 5321 4.5.3.1.4).
                self._say(replies.LINE_TOO_LONG)
                self._close("a line without an end")
            elif buffer.find(b"\n", position) >= 0:
                self._say(replies.BARE_LINE_END)
                self._close("a bare LF in a command")
            return None
        line = buffer[position:end]
        self._position = end + 2
        if self._position == len(buffer):
            self._buffer, self._position = b"", 0
        if b"\n" in line or b"\r" in line or b"\0" in line:
            self._say(replies.BARE_LINE_END)
            self._close("a bare CR, bare LF or NUL in a command")
            return None
        if len(line) > limit - 2:
            self._error(replies.LINE_TOO_LONG)
            return self._line(limit) if self._state is not State.CLOSED else None
        return line

    def _command(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        command = COMMANDS.get(verb)
        if command is None:
            if verb in _HTTP:  # a browser was lured here (ALPACA and its kin): nothing else will come
                self._say(replies.NOT_HERE)
                self._close("HTTP on a mail port")
            else:
                self._error(replies.UNKNOWN_COMMAND)
        elif (verb == b"LHLO") != self._options.lmtp and verb in (b"LHLO", b"EHLO", b"HELO"):
            self._error(replies.UNKNOWN_COMMAND)  # RFC 2033 4.1
        elif self._state not in command.states:
            if verb == b"BDAT":
                self._skip_chunk(argument)
            self._error(replies.SAY_HELLO if self._state is State.START else self._out_of_order(verb))
        elif not command.argument and argument.strip():
            self._error(replies.NO_ARGUMENT)
        else:
            try:
                command.run(self, argument.strip())
            except Refused as refused:
                self._error(refused.reply)

    def _out_of_order(self, verb: bytes) -> Reply:
        if verb in (b"DATA", b"BDAT") and self._state is State.MAIL:
            return replies.NO_VALID_RECIPIENTS
        return replies.DATA_OR_BDAT if self._state is State.BDAT else replies.BAD_SEQUENCE

    # Commands.

    def _hello(self, argument: bytes, *, extended: bool) -> None:
        name = decode_line(argument)
        if not name or not name.isprintable():
            raise Refused(replies.syntax("Say who you are: EHLO your.name"))

        def answered(reply: Reply) -> None:
            if not reply.positive:
                self._error(reply)
                return
            if self._envelope is not None:
                self._events.append(TransactionReset())
            self._forget_envelope()
            self._state = State.READY
            self._extended = extended
            lines = self._capabilities() if extended else ()
            self._say(Reply(250, None, (self._options.hostname, *lines)))

        self._ask(Hello(name, extended), answered)

    def _ehlo(self, argument: bytes) -> None:
        self._hello(argument, extended=True)

    def _helo(self, argument: bytes) -> None:
        self._hello(argument, extended=False)

    def _capabilities(self) -> tuple[str, ...]:
        options = self._options
        lines = ["PIPELINING", f"SIZE {options.max_message_size}", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN"]
        lines += ["SMTPUTF8", "CHUNKING", "BINARYMIME"]
        lines.append(f"LIMITS MAILMAX={options.max_transactions} RCPTMAX={options.max_recipients}")  # RFC 9422
        if options.submission:
            until = (self._now() // 1_000_000) + options.max_hold
            lines += [f"FUTURERELEASE {options.max_hold} {_utc(until)}", "DELIVERBY 0", "MT-PRIORITY MIXER"]
        if options.starttls and not self._tls:
            lines.append("STARTTLS")
        if options.mechanisms and self._tls and not self._auth_done:
            lines.append("AUTH " + " ".join(options.mechanisms))
        return tuple(lines)

    def _mail(self, argument: bytes) -> None:
        options = self._options
        if options.auth_required and not self._auth_done:
            raise Refused(replies.AUTH_REQUIRED)
        if self._transactions >= options.max_transactions:
            self._say(replies.TOO_MANY_TRANSACTIONS)
            self._close("enough transactions")
            return
        envelope = parse_mail(
            _after(argument, b"FROM:"),
            smtputf8=self._extended,
            submission=options.submission,
            max_hold=options.max_hold,
            now=self._now(),
        )
        if envelope.size is not None and envelope.size > options.max_message_size:
            raise Refused(replies.too_large(options.max_message_size))

        def answered(reply: Reply) -> None:
            if reply.positive:
                self._transactions += 1
                self._envelope = envelope
                self._state = State.MAIL
                self._say(reply)
            else:
                self._error(reply)

        self._ask(MailOffered(envelope), answered)

    def _rcpt(self, argument: bytes) -> None:
        envelope = self._envelope
        assert envelope is not None
        recipient = parse_rcpt(_after(argument, b"TO:"), smtputf8=envelope.smtputf8)
        if len(envelope.recipients) >= self._options.max_recipients:
            raise Refused(replies.TOO_MANY_RECIPIENTS)

        def answered(reply: Reply) -> None:
            if reply.positive:
                self._envelope = replace(envelope, recipients=(*envelope.recipients, recipient))
                self._state = State.RCPT
                self._say(reply)
            else:
                self._error(reply)

        self._ask(RecipientOffered(recipient), answered)

    def _data(self, argument: bytes) -> None:
        assert self._envelope is not None
        if self._envelope.body is BodyType.BINARY:
            raise Refused(replies.USE_BDAT)

        def answered(reply: Reply) -> None:
            if reply.positive:
                self._say(replies.GO_AHEAD)
                self._content = DotReader()
                self._state = State.CONTENT
            else:
                self._error(reply)
                self._end_transaction()

        self._ask(DataStarted(chunked=False), answered)

    def _bdat(self, argument: bytes) -> None:
        words = argument.upper().split()
        if not words or not words[0].isdigit() or len(words[0]) > 18 or words[1:] not in ([], [b"LAST"]):
            # Without a size, what follows can't be told from commands (RFC 3030 section 2).
            self._say(replies.syntax("BDAT is BDAT octets, or BDAT octets LAST"))
            self._close("a BDAT without a size")
            return
        size, self._last_chunk = int(words[0]), len(words) > 1
        assert self._envelope is not None
        if self._chunks is None:
            self._chunks = ChunkReader(binary=self._envelope.body is BodyType.BINARY)
            self._chunks.left = size

            def answered(reply: Reply) -> None:
                if not reply.positive:
                    self._refusal = reply
                self._state = State.CHUNK

            self._ask(DataStarted(chunked=True), answered)
            return
        self._chunks.left = size
        self._state = State.CHUNK

    def _skip_chunk(self, argument: bytes) -> None:
        """A BDAT that is refused: its octets follow all the same (RFC 3030 section 2)."""
        words = argument.split()
        if words and words[0].isdigit() and len(words[0]) <= 18:
            self._discarding = int(words[0])

    def _discard(self) -> bool:
        """Drop octets of a refused chunk; False when more of them must come first."""
        taken = min(len(self._buffer) - self._position, self._discarding)
        self._position += taken
        self._discarding -= taken
        return self._discarding == 0

    def _rset(self, argument: bytes) -> None:
        if self._envelope is not None:
            self._events.append(TransactionReset())
        self._forget_envelope()
        if self._state is not State.START:
            self._state = State.READY
        self._say(replies.RESET)

    def _noop(self, argument: bytes) -> None:
        self._say(replies.OK)

    def _help(self, argument: bytes) -> None:
        self._say(replies.HELP)

    def _vrfy(self, argument: bytes) -> None:
        self._say(replies.CANNOT_VERIFY if argument else replies.SYNTAX)

    def _expn(self, argument: bytes) -> None:
        self._error(replies.NOT_IMPLEMENTED)

    def _quit(self, argument: bytes) -> None:
        self._say(replies.BYE)
        self._close("quit")

    def _starttls(self, argument: bytes) -> None:
        if self._tls:
            raise Refused(replies.TLS_ACTIVE)
        if not self._options.starttls:
            raise Refused(replies.NOT_IMPLEMENTED)

        def answered(reply: Reply) -> None:
            if reply.positive:
                # What was pipelined behind STARTTLS came in plain text: it is never run (RFC 3207 section 6).
                self._buffer, self._position = b"", 0
                self._say(reply)
            else:
                self._error(reply)

        self._ask(StartTls(), answered)

    def _auth(self, argument: bytes) -> None:
        options = self._options
        if not options.mechanisms:
            raise Refused(replies.NOT_IMPLEMENTED)
        if not self._tls:
            raise Refused(replies.AUTH_NEEDS_TLS)
        if self._auth_done:
            raise Refused(replies.AUTH_DONE)
        words = argument.split()
        if not 1 <= len(words) <= 2:
            raise Refused(replies.SYNTAX)
        mechanism = decode_line(words[0]).upper()
        if mechanism not in options.mechanisms:
            raise Refused(replies.AUTH_MECHANISM)
        initial: bytes | None = None
        if len(words) == 2:
            initial = b"" if words[1] == b"=" else _base64(words[1])
            if initial is None:
                raise Refused(replies.AUTH_BASE64)
        self._ask(AuthStarted(mechanism, initial), self._auth_answered)

    def _auth_answered(self, reply: Reply) -> None:
        self._state = State.READY
        if reply.positive:
            self._auth_done = True
            self._say(reply)
        else:
            self._error(reply)

    def _read_auth(self) -> bool:
        line = self._line(_MAX_AUTH_LINE)
        if line is None:
            return False
        if line == b"*":
            self._state = State.READY
            self._events.append(AuthCancelled())
            self._error(replies.AUTH_CANCELLED)
            return True
        data = _base64(line)
        if data is None:
            self._state = State.READY
            self._events.append(AuthCancelled())
            self._error(replies.AUTH_BASE64)
            return True
        self._ask(AuthResponse(data), self._auth_answered)
        return True

    # Content.

    def _read_content(self) -> bool:  # hot: bench/accept
        content = self._content
        assert content is not None
        if self._position == len(self._buffer):
            return False
        data = self._buffer[self._position :] if self._position else self._buffer
        self._buffer, self._position = b"", 0
        piece, rest = content.feed(data)
        if content.size > self._options.max_message_size and self._refusal is None:
            self._refuse(replies.too_large(self._options.max_message_size), "larger than the limit")
        if not content.clean and self._refusal is None:
            self._refuse(replies.CONTENT_BARE_LINE_END, "a bare CR, bare LF or NUL")
        if piece and self._refusal is None:
            self._events.append(MessageChunk(piece))
        if rest is not None:
            self._buffer = rest
            self._content_ended(content.size)
        return rest is not None or bool(piece)

    def _read_chunk(self) -> bool:
        chunks = self._chunks
        assert chunks is not None
        data = self._buffer[self._position : self._position + chunks.left]
        self._position += len(data)
        if self._position == len(self._buffer):
            self._buffer, self._position = b"", 0
        if not data and chunks.left:
            return False
        chunks.feed(data)
        if self._last_chunk and not chunks.left:
            chunks.end()
        if chunks.size > self._options.max_message_size and self._refusal is None:
            self._refuse(replies.too_large(self._options.max_message_size), "larger than the limit")
        if not chunks.clean and self._refusal is None:
            self._refuse(replies.CONTENT_BARE_LINE_END, "a bare CR, bare LF or NUL")
        if data and self._refusal is None:
            self._events.append(MessageChunk(data))
        if chunks.left:
            return True
        if self._last_chunk:
            self._content_ended(chunks.size)
        elif self._refusal is not None:
            # The client may stop here: the transaction is over (RFC 3030 section 2).
            self._error(self._refusal)
            self._end_transaction()
        else:
            self._say(Reply(250, "2.0.0", (f"{chunks.size} octets so far",)))
            self._state = State.BDAT
        return True

    def _refuse(self, reply: Reply, reason: str) -> None:
        self._refusal = reply
        self._events.append(MessageRefused(reason))

    def _content_ended(self, size: int) -> None:
        if self._refusal is not None:
            self._error(self._refusal)
            if self._options.lmtp and self._envelope is not None:
                for _ in self._envelope.recipients[1:]:
                    self._say(self._refusal)
            self._end_transaction()
            return

        def answered(reply: Reply) -> None:
            if reply.positive:
                self._say(reply)
            else:
                self._error(reply)
            self._end_transaction()

        self._ask(MessageEnded(size), answered)

    # Replies.

    def _ask(self, event: ServerEvent, answered: Callable[[Reply], None]) -> None:
        self._events.append(event)
        self._answer = answered

    def _end_transaction(self) -> None:
        self._forget_envelope()
        if self._state is not State.CLOSED:
            self._state = State.READY

    def _forget_envelope(self) -> None:
        self._envelope = None
        self._content = None
        self._chunks = None
        self._refusal = None

    def _error(self, reply: Reply) -> None:
        self._say(reply)
        self._errors += 1
        if reply.code == 421:
            self._close(str(reply))
        elif self._errors > self._options.max_errors:
            self._say(replies.TOO_MANY_ERRORS)
            self._close("too many errors")

    def _say(self, reply: Reply) -> None:
        code = b"%d" % reply.code
        status = f"{reply.enhanced} " if reply.enhanced else ""
        last = len(reply.lines) - 1
        for number, line in enumerate(reply.lines):
            text = (status + line).encode()
            self._output.append(code + (b" " if number == last else b"-") + text + b"\r\n")

    def _write(self, data: bytes) -> None:
        self._output.append(data)

    def _close(self, reason: str) -> None:
        if self._state is not State.CLOSED:
            self._state = State.CLOSED
            self._buffer, self._position = b"", 0
            self._events.append(Closed(reason))


COMMANDS = {
    b"EHLO": Command(SmtpServer._ehlo, _ANY, "RFC 5321 4.1.1.1"),
    b"HELO": Command(SmtpServer._helo, _ANY, "RFC 5321 4.1.1.1"),
    b"LHLO": Command(SmtpServer._ehlo, _ANY, "RFC 2033 4.1"),
    b"MAIL": Command(SmtpServer._mail, _READY, "RFC 5321 4.1.1.2"),
    b"RCPT": Command(SmtpServer._rcpt, _MAIL, "RFC 5321 4.1.1.3"),
    b"DATA": Command(SmtpServer._data, frozenset({State.RCPT}), "RFC 5321 4.1.1.4", argument=False),
    b"BDAT": Command(SmtpServer._bdat, frozenset({State.RCPT, State.BDAT}), "RFC 3030 2"),
    b"RSET": Command(SmtpServer._rset, _ANY, "RFC 5321 4.1.1.5", argument=False),
    b"VRFY": Command(SmtpServer._vrfy, _ANY, "RFC 5321 4.1.1.6"),
    b"EXPN": Command(SmtpServer._expn, _ANY, "RFC 5321 4.1.1.7"),
    b"HELP": Command(SmtpServer._help, _ANY, "RFC 5321 4.1.1.8"),
    b"NOOP": Command(SmtpServer._noop, _ANY, "RFC 5321 4.1.1.9"),
    b"QUIT": Command(SmtpServer._quit, _ANY, "RFC 5321 4.1.1.10", argument=False),
    b"STARTTLS": Command(SmtpServer._starttls, frozenset({State.START, State.READY}), "RFC 3207 4", argument=False),
    b"AUTH": Command(SmtpServer._auth, _READY, "RFC 4954 4"),
}


def _after(argument: bytes, prefix: bytes) -> str:
    if argument[: len(prefix)].upper() != prefix:
        raise Refused(replies.syntax(f"The argument begins with {prefix.decode()}<address>"))
    return decode_line(argument[len(prefix) :]).lstrip()


def _base64(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
