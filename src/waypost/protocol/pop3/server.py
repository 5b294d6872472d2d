"""The POP3 server engine: bytes in, events and octets out (RFC 1939, RFC 2449).

It knows the grammar, the states and the marks of a session. Accounts and messages belong to the owner, which the
engine asks by events. It has no socket and no clock.
"""

import base64

from waypost.protocol.pop3 import replies
from waypost.protocol.pop3.commands import MAX_AUTH_LINE, read_auth, run_command
from waypost.protocol.pop3.dialogue import Dialogue, Pop3Options, State
from waypost.protocol.pop3.events import Leaving, Pop3Event, StartTls
from waypost.protocol.pop3.maildrop import Maildrop
from waypost.protocol.pop3.replies import Pop3Reply

__all__ = ["Pop3Options", "Pop3Server"]

_MAX_BUFFER = 64 * 1024
_MAX_OUTPUT = 256 * 1024
_SILENT = frozenset({State.SENDING, State.HANDSHAKE, State.CLOSED})
_DEAF = frozenset({State.HANDSHAKE, State.CLOSED})


class Pop3Server:
    """Sans-IO POP3 server session (RFC 1939).

    The owner: `greet`; `receive` bytes, loop `next_event`, answer the events that ask, write `take_output()`. While
    `full`, `next_event` returns None until output was taken. `mechanisms` are offered over TLS only.
    """

    __slots__ = ("_eof", "_session")

    def __init__(self, options: Pop3Options, *, tls: bool = False, mechanisms: tuple[str, ...] = ()) -> None:
        self._session = Dialogue(options, tls=tls, mechanisms=mechanisms)
        self._eof = False

    def greet(self) -> None:
        """Queue the greeting."""
        self._session.say(replies.greeting(self._session.options.hostname))

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer. The owner asks `wants_input` first, which bounds the buffer."""
        if self._session.state not in _DEAF:
            self._session.receive(data)

    def receive_eof(self) -> None:
        """The peer closed its side: what it sent before is still handled."""
        self._eof = True

    @property
    def wants_input(self) -> bool:
        """False while enough input is buffered."""
        session = self._session
        return len(session.buffer) - session.position < _MAX_BUFFER and not self.closed

    @property
    def full(self) -> bool:
        """True while so much output, or so many answers, wait that the owner must take them first."""
        session = self._session
        return session.output_size >= _MAX_OUTPUT or len(session.output) >= session.options.max_answers

    @property
    def closed(self) -> bool:
        """True when the session is over."""
        return self._session.state is State.CLOSED

    @property
    def awaits_handshake(self) -> bool:
        """True between the answer to STLS and `tls_started`."""
        return self._session.state is State.HANDSHAKE

    @property
    def sending(self) -> bool:
        """True while a message goes out."""
        return self._session.state is State.SENDING

    @property
    def marked(self) -> bool:
        """True while messages are marked to be removed at QUIT."""
        maildrop = self._session.maildrop
        return maildrop is not None and maildrop.any_deleted

    @property
    def utf8(self) -> bool:
        """True after UTF8: messages with UTF-8 in their header may be sent as they are (RFC 6856 2.1)."""
        return self._session.utf8

    def next_event(self) -> Pop3Event | None:
        """Return the next event; None while an answer or more input is needed, or output must be taken."""
        session = self._session
        while not session.events:
            if session.question is not None or self.full or session.state in _SILENT:
                return None
            if session.listing is not None:
                self._list_on()
                continue
            before = session.maildrop is None
            line = session.line(MAX_AUTH_LINE if before else session.options.max_command_line)
            if line is not None:
                if session.state is State.AUTH:
                    read_auth(session, line)
                else:
                    run_command(session, line)
            elif not session.events:
                if not self._eof:
                    return None
                session.close("the client went away")
        return session.events.popleft()

    def _list_on(self) -> None:
        """Write the next piece of a listing."""
        session = self._session
        assert session.listing is not None
        piece = next(session.listing, None)
        if piece is None:
            session.listing = None
        else:
            session.write(piece)

    # Answers. `shut_down` may come before the owner has its answer; the answer then changes nothing.

    def answer(self, reply: Pop3Reply) -> None:
        """Answer the event that asks: refuse it, or let STLS and QUIT go on."""
        session = self._session
        question = self._answered()
        if question is None:
            return
        if isinstance(question, StartTls):
            session.state = State.HANDSHAKE if reply.positive else State.AUTHORIZATION
        elif session.state is State.AUTH:
            session.state = State.AUTHORIZATION
        elif session.state is State.SENDING:
            session.state = State.TRANSACTION
        if reply.positive:
            session.say(reply)
        else:
            session.error(reply)
        if isinstance(question, Leaving):
            session.close("quit")

    def challenge(self, data: bytes) -> None:
        """Send a SASL challenge (RFC 5034 4)."""
        if self._answered() is not None:
            self._session.write(b"+ " + base64.b64encode(data) + b"\r\n")

    def enter(self, maildrop: Maildrop) -> None:
        """The login succeeded: the session has this maildrop now."""
        if self._answered() is None:
            return
        session = self._session
        session.maildrop = maildrop
        session.state = State.TRANSACTION
        session.junk = 0
        session.say(replies.contents(maildrop.count, maildrop.octets))

    def begin(self, size: int) -> None:
        """Answer `MessageWanted`: octets follow by `write`. `size` is said in the status line."""
        if self._answered() is not None:
            self._session.say(replies.message(size))

    def write(self, data: bytes) -> bool:  # hot: bench/pop3
        """Send the next octets of the message; return False when the client needs no more (TOP has its lines)."""
        session = self._session
        if session.state is not State.SENDING:
            return False
        cutter = session.cutter
        if cutter is None:
            session.write(session.stuffer.stuff(data))
            return True
        session.write(session.stuffer.stuff(cutter.cut(data)))
        return not cutter.done

    def end(self) -> None:
        """End the message: all octets were given, or TOP has its lines."""
        session = self._session
        if session.state is State.SENDING:
            if session.cutter is not None:
                session.write(session.stuffer.stuff(session.cutter.finish()))
            session.write(session.stuffer.finish())
            session.state = State.TRANSACTION

    def _answered(self) -> Pop3Event | None:
        """Return the question that is answered now; None when the session is over."""
        question, self._session.question = self._session.question, None
        if question is None and not self.closed:
            raise RuntimeError("nothing asks for an answer")
        return question

    # The connection.

    def tls_started(self, mechanisms: tuple[str, ...]) -> None:
        """The handshake is done: everything from before it is forgotten (RFC 2595 4)."""
        errors, junk = self._session.errors, self._session.junk
        self._session = Dialogue(self._session.options, tls=True, mechanisms=mechanisms)
        self._session.errors, self._session.junk = errors, junk

    def shut_down(self, reply: Pop3Reply | None, reason: str) -> None:
        """End the session from our side at once; with `reply` None, silently (RFC 1939 3, at a time-out).

        Inside a message or a listing the session ends silently, too: the client would read a reply as a part of the
        message, which stays without its end.
        """
        session = self._session
        if session.state is not State.CLOSED:
            if reply is not None and session.state is not State.SENDING and session.listing is None:
                session.say(reply)
            session.close(reason)

    def take_output(self) -> bytes:
        """Return and forget the bytes to write."""
        session = self._session
        if not session.output:
            return b""
        output = session.output[0] if len(session.output) == 1 else b"".join(session.output)
        session.output.clear()
        session.output_size = 0
        return output
