"""The SMTP and LMTP server engine: bytes in, events and replies out (RFC 5321, RFC 2033).

It knows the grammar, the order of commands and the extensions. It does not decide policy: it asks by an event, and the
owner answers. It has no socket; the clock is an argument. The commands are in `commands.py`, content in `incoming.py`,
the state of a session in `dialogue.py`.
"""

import base64
from collections.abc import Callable
from dataclasses import replace

from waypost.message.envelope import Envelope
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.smtp.commands import COMMANDS, run_command
from waypost.protocol.smtp.dialogue import Dialogue, ServerOptions, State
from waypost.protocol.smtp.events import MuchSaid, ServerEvent
from waypost.protocol.smtp.incoming import discard, read_auth, read_chunk, read_content

__all__ = ["COMMANDS", "ServerOptions", "SmtpServer"]

_MAX_BUFFER = 64 * 1024
_MUCH_OUTPUT = 64  # replies
_MUCH_SAID = MuchSaid()
_CONTENT = frozenset({State.CONTENT, State.CHUNK, State.BDAT})


class SmtpServer:
    """Sans-IO SMTP/LMTP server session (RFC 5321 section 4.1).

    The owner: `receive` bytes, loop `next_event`, answer the events that ask, write `take_output()`.
    """

    __slots__ = ("_eof", "_session")

    def __init__(self, options: ServerOptions, *, now: Callable[[], Micros], tls: bool = False) -> None:
        self._session = Dialogue(options, now=now, tls=tls)
        self._eof = False

    def greet(self, reply: Reply | None = None) -> None:
        """Queue the 220 greeting, or the refusal `reply` (421, 521, 554), after which the session is over."""
        session = self._session
        if reply is None:
            options = session.options
            session.say(Reply(220, None, (f"{options.hostname} {options.greeting} Waypost",)))
        else:
            session.say(reply)
            session.close(f"refused: {reply}")

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. The owner asks `wants_input` first, which bounds the buffer."""
        if not self._session.closed:
            self._session.receive(data)

    def receive_eof(self) -> None:
        """The peer closed its side: what it sent before is still handled."""
        self._eof = True

    @property
    def wants_input(self) -> bool:
        """False while enough input is buffered."""
        session = self._session
        return len(session.buffer) - session.position < _MAX_BUFFER and not session.closed

    @property
    def has_input(self) -> bool:
        """True while input waits to be handled."""
        return len(self._session.buffer) > self._session.position

    @property
    def says_much(self) -> bool:
        """True when many replies wait to be written: a client that does not read could make them pile up."""
        return len(self._session.output) > _MUCH_OUTPUT

    @property
    def envelope(self) -> Envelope | None:
        """The envelope so far, with the accepted recipients only; None outside a transaction."""
        return self._session.envelope

    @property
    def extended(self) -> bool:
        """True after EHLO or LHLO."""
        return self._session.extended

    @property
    def asks(self) -> bool:
        """True while an event waits for its answer."""
        return self._session.question is not None

    @property
    def reads_content(self) -> bool:
        """True while the content of a message arrives."""
        return self._session.state in _CONTENT

    @property
    def closed(self) -> bool:
        """True when the session is over; the event `Closed` says why."""
        return self._session.closed

    def next_event(self) -> ServerEvent | None:  # hot: bench/accept
        """Return the next event; None while an answer or more input is needed."""
        session = self._session
        events = session.events
        while not events:
            if session.question is not None or session.closed:
                return None
            if not self._step() and not events:
                if not self._eof:
                    return None
                session.close("the client went away")
            elif len(session.output) > _MUCH_OUTPUT and not events:
                return _MUCH_SAID
        return events.popleft()

    def _step(self) -> bool:
        """Handle one unit of input; False when it is not complete yet."""
        session = self._session
        if session.discarding and not discard(session):
            return False
        if not session.buffer and session.state is not State.CHUNK:  # a chunk of no octets is whole at once
            return False
        match session.state:
            case State.CONTENT:
                return read_content(session)
            case State.CHUNK:
                return read_chunk(session)
            case State.AUTH:
                return read_auth(session)
        line = session.line(session.options.max_command_line)
        if line is None:
            return False
        run_command(session, line)
        return True

    def answer(self, reply: Reply) -> None:
        """Answer the event that asks; a positive reply lets the engine go on, a negative one refuses."""
        session = self._session
        answered, session.question = session.question, None
        if answered is None:
            raise RuntimeError("nothing asks for an answer")
        answered(reply)

    def answer_each(self, replies_: list[Reply]) -> None:
        """LMTP: answer `MessageEnded` with one reply for each accepted recipient, in order (RFC 2033 4.2)."""
        session = self._session
        if session.envelope is None or len(replies_) != len(session.envelope.recipients):
            raise RuntimeError("one reply for each recipient, please")
        session.question = None
        for reply in replies_:
            session.say(reply)
        session.end_transaction()

    def challenge(self, data: bytes) -> None:
        """Send a SASL challenge (334)."""
        session = self._session
        session.question = None
        session.output.append(b"334 " + base64.b64encode(data) + b"\r\n")
        session.state = State.AUTH

    def tls_started(self, mechanisms: tuple[str, ...] | None = None) -> None:
        """The handshake is done: everything from before it is forgotten (RFC 3207 4.2).

        `mechanisms` are what AUTH offers over this TLS connection; None leaves the options as they are.
        """
        session = self._session
        session.tls = True
        if mechanisms is not None:
            session.options = replace(session.options, mechanisms=mechanisms)
        session.drop_input()
        session.envelope = None
        session.extended = False
        session.auth_done = False
        session.state = State.START

    def shut_down(self, reply: Reply) -> None:
        """End the session from our side at once (421 at stop or time-out)."""
        session = self._session
        if not session.closed:
            session.question = None
            session.say(reply)
            session.close(str(reply))

    def take_output(self) -> bytes:
        """Return and forget the bytes to write."""
        output = self._session.output
        if not output:
            return b""
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return data
