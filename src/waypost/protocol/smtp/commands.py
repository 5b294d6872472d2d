"""The commands of an SMTP or LMTP server as one table, and what each does (RFC 5321 4.1.1, RFC 2033).

To add a command, write its function and its line in `COMMANDS`; to add a parameter of MAIL or RCPT, see
`parameters.py`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from waypost.message.envelope import BodyType
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.protocol.smtp.content import ChunkReader, DotReader
from waypost.protocol.smtp.dialogue import Dialogue, State
from waypost.protocol.smtp.events import (
    AuthStarted,
    DataStarted,
    Hello,
    MailOffered,
    RecipientOffered,
    StartTls,
    TransactionReset,
)
from waypost.protocol.smtp.incoming import auth_answered, decode_base64
from waypost.protocol.smtp.parameters import ParameterRefused, decode_line, parse_mail, parse_rcpt

_HTTP = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH"})
_HELLOS = (b"LHLO", b"EHLO", b"HELO")


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its function, the states in which it is legal with the state that follows each on success, its RFC
    section, and whether it has an argument. `refused` is the state after the owner's refusal; None: the state stays.
    """

    run: Callable[[Dialogue, bytes], None]
    follows: Mapping[State, State]
    section: str
    argument: bool = True
    refused: State | None = None


def run_command(session: Dialogue, line: bytes) -> None:  # hot: bench/accept
    """Run one command line, given without its CRLF."""
    verb, _, argument = line.partition(b" ")
    verb = verb.upper()
    command = COMMANDS.get(verb)
    follows = None if command is None else command.follows.get(session.state)
    if command is None:
        if verb in _HTTP:  # an attack such as ALPACA sent a browser here: only HTTP will follow
            session.say(replies.NOT_HERE)
            session.close("HTTP on a mail port")
        else:
            session.error(replies.UNKNOWN_COMMAND)
    elif (verb == b"LHLO") != session.options.lmtp and verb in _HELLOS:
        session.error(replies.UNKNOWN_COMMAND)  # RFC 2033 4.1
    elif follows is None:
        if verb != b"BDAT" or _skip_chunk(session, argument):
            session.error(replies.SAY_HELLO if session.state is State.START else _out_of_order(session, verb))
    elif not command.argument and argument.strip():
        session.error(replies.NO_ARGUMENT)
    else:
        session.follows = follows
        try:
            command.run(session, argument.strip())
        except ParameterRefused as refused:
            session.error(refused.reply)


def _out_of_order(session: Dialogue, verb: bytes) -> Reply:
    if verb in (b"DATA", b"BDAT") and session.state is State.MAIL and not session.options.lmtp:
        return replies.NO_VALID_RECIPIENTS
    return replies.DATA_OR_BDAT if session.state is State.BDAT else replies.BAD_SEQUENCE


def _chunk(session: Dialogue, argument: bytes) -> tuple[int, bool] | None:
    """Return the octets of a chunk, and whether it is the last one.

    Without a size, the octets that follow can't be told from commands (RFC 3030 section 2): the session ends.
    """
    words = argument.upper().split()
    if words and words[0].isdigit() and len(words[0]) <= 18 and words[1:] in ([], [b"LAST"]):
        return int(words[0]), len(words) > 1
    session.say(replies.syntax("BDAT is BDAT octets, or BDAT octets LAST"))
    session.close("a BDAT without a size")
    return None


def _skip_chunk(session: Dialogue, argument: bytes) -> bool:
    """Skip a BDAT out of order: its octets still follow (RFC 3030 section 2). Return True when it must be answered."""
    chunk = _chunk(session, argument)
    if chunk is None:
        return False
    session.discarding, last = chunk
    # In LMTP the last chunk gets a reply for each accepted recipient, and here there are no recipients (RFC 2033 4.3).
    return not (session.options.lmtp and last and session.state in (State.READY, State.MAIL))


# Greeting, capabilities, TLS and login.


def _hello(session: Dialogue, argument: bytes, *, extended: bool) -> None:
    name = decode_line(argument)
    if not name or not name.isprintable():
        raise ParameterRefused(replies.syntax("Say who you are: EHLO your.name"))

    def answered(reply: Reply) -> None:
        if not reply.positive:
            session.error(reply)
            return
        said_before = session.state is not State.START
        given_up = _give_up(session)
        session.state = session.follows
        session.extended = extended
        lines = _capabilities(session) if extended else ()
        session.say(Reply(250, None, (session.options.hostname, *lines)))
        if said_before:
            session.count_junk(1 + given_up)

    session.ask(Hello(name, extended), answered)


def _ehlo(session: Dialogue, argument: bytes) -> None:
    _hello(session, argument, extended=True)


def _helo(session: Dialogue, argument: bytes) -> None:
    _hello(session, argument, extended=False)


def _capabilities(session: Dialogue) -> tuple[str, ...]:
    options = session.options
    lines = ["PIPELINING"]
    # STARTTLS and AUTH must not be the last line: GNU SASL's client does not see them there.
    if options.starttls and not session.tls:
        lines.append("STARTTLS")
    if options.mechanisms and session.tls and not session.auth_done:
        lines.append("AUTH " + " ".join(options.mechanisms))
    lines += [f"SIZE {options.max_message_size}", "8BITMIME", "ENHANCEDSTATUSCODES"]
    if options.dsn:
        lines.append("DSN")
    lines += ["SMTPUTF8", "CHUNKING", "BINARYMIME", "DELIVERBY 0"]
    lines.append(f"LIMITS MAILMAX={options.max_transactions} RCPTMAX={options.max_recipients}")  # RFC 9422
    if options.submission:
        until = (session.now() // 1_000_000) + options.max_hold
        lines += [f"FUTURERELEASE {options.max_hold} {_utc(until)}", "MT-PRIORITY MIXER"]
    return tuple(lines)


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _starttls(session: Dialogue, argument: bytes) -> None:
    if session.tls:
        raise ParameterRefused(replies.TLS_ACTIVE)
    if not session.options.starttls:
        raise ParameterRefused(replies.NOT_IMPLEMENTED)

    def answered(reply: Reply) -> None:
        if reply.positive:
            # Commands that were pipelined after STARTTLS came in plain text: they are never run (RFC 3207 section 6).
            session.drop_input()
            session.say(reply)
        else:
            session.error(reply)

    session.ask(StartTls(), answered)


def _auth(session: Dialogue, argument: bytes) -> None:
    options = session.options
    if not options.mechanisms:
        raise ParameterRefused(replies.NOT_IMPLEMENTED)
    if not session.tls:
        raise ParameterRefused(replies.AUTH_NEEDS_TLS)
    if session.auth_done:
        raise ParameterRefused(replies.AUTH_DONE)
    words = argument.split()
    if not 1 <= len(words) <= 2:
        raise ParameterRefused(replies.SYNTAX)
    mechanism = decode_line(words[0]).upper()
    if mechanism not in options.mechanisms:
        raise ParameterRefused(replies.AUTH_MECHANISM)
    initial: bytes | None = None
    if len(words) == 2:
        initial = b"" if words[1] == b"=" else decode_base64(words[1])
        if initial is None:
            raise ParameterRefused(replies.AUTH_BASE64)
    session.state = session.follows
    session.ask(AuthStarted(mechanism, initial), lambda reply: auth_answered(session, reply))


# The transaction.


def _mail(session: Dialogue, argument: bytes) -> None:  # hot: bench/accept
    options = session.options
    if options.auth_required and not session.auth_done:
        raise ParameterRefused(replies.AUTH_REQUIRED)
    if session.transactions >= options.max_transactions:
        session.say(replies.TOO_MANY_TRANSACTIONS)
        session.close("enough transactions")
        return
    envelope = parse_mail(
        _after(argument, b"FROM:"),
        smtputf8=session.extended,
        submission=options.submission,
        max_hold=options.max_hold,
        now=session.now(),
    )
    if envelope.size is not None and envelope.size > options.max_message_size:
        raise ParameterRefused(replies.too_large(options.max_message_size))

    def answered(reply: Reply) -> None:
        if reply.positive:
            session.transactions += 1
            session.envelope = envelope
            session.state = session.follows
            session.say(reply)
        else:
            session.error(reply)

    session.ask(MailOffered(envelope), answered)


def _rcpt(session: Dialogue, argument: bytes) -> None:  # hot: bench/accept
    envelope = session.envelope
    assert envelope is not None
    recipient = parse_rcpt(_after(argument, b"TO:"), smtputf8=envelope.smtputf8)
    if len(envelope.recipients) >= session.options.max_recipients:
        _one_too_many(session)
        return

    def answered(reply: Reply) -> None:
        if reply.positive:
            session.envelope = envelope.to((*envelope.recipients, recipient))
            session.state = session.follows
            session.say(reply)
        elif reply == replies.TOO_MANY_RECIPIENTS:
            _one_too_many(session)
        else:
            session.error(reply)

    session.ask(RecipientOffered(recipient), answered)


def _one_too_many(session: Dialogue) -> None:
    """Refuse a recipient past the limit. This is not an error: the client goes on with DATA (RFC 5321 4.5.3.1.10)."""
    session.say(replies.TOO_MANY_RECIPIENTS)
    session.overshoot += 1
    if session.overshoot > session.options.max_recipients:
        session.count_junk()


def _after(argument: bytes, prefix: bytes) -> str:
    if argument[: len(prefix)].upper() != prefix:
        raise ParameterRefused(replies.syntax(f"The argument begins with {prefix.decode()}<address>"))
    return decode_line(argument[len(prefix) :]).lstrip()


def _data(session: Dialogue, argument: bytes) -> None:
    options = session.options
    assert session.envelope is not None
    if session.envelope.body is BodyType.BINARY:
        raise ParameterRefused(replies.USE_BDAT)

    def answered(reply: Reply) -> None:
        if reply.positive:
            session.say(replies.GO_AHEAD)
            # The submitter is known, and no other server, which may see line ends differently, is in between.
            session.content = DotReader(mends=options.submission)
            session.state = session.follows
        else:
            session.error(reply)
            session.end_transaction()

    session.ask(DataStarted(chunked=False), answered)


def _bdat(session: Dialogue, argument: bytes) -> None:
    chunk = _chunk(session, argument)
    if chunk is None:
        return
    size, session.last_chunk = chunk
    assert session.envelope is not None
    if session.chunks is not None:
        session.chunks.left = size
        session.state = session.follows
        return
    session.chunks = ChunkReader(binary=session.envelope.body is BodyType.BINARY)
    session.chunks.left = size

    def answered(reply: Reply) -> None:
        if not reply.positive:
            session.refusal = reply
        session.state = session.follows

    session.ask(DataStarted(chunked=True), answered)


def _rset(session: Dialogue, argument: bytes) -> None:
    given_up = _give_up(session)
    session.state = session.follows
    session.say(replies.RESET)
    session.count_junk(1 + given_up)


def _give_up(session: Dialogue) -> int:
    """Forget a transaction that led to no message; return the number of useless commands that it counts as.

    Ten recipients count as one command, so that giving up one message to many recipients is not taken for a flood.
    """
    envelope = session.envelope
    session.forget_envelope()
    if envelope is None:
        return 0
    session.events.append(TransactionReset())
    return 1 + len(envelope.recipients) // 10


# The rest.


def _noop(session: Dialogue, argument: bytes) -> None:
    session.say(replies.OK)
    session.count_junk()


def _help(session: Dialogue, argument: bytes) -> None:
    session.say(replies.HELP)
    session.count_junk()


def _vrfy(session: Dialogue, argument: bytes) -> None:
    session.say(replies.CANNOT_VERIFY if argument else replies.SYNTAX)
    session.count_junk()


def _expn(session: Dialogue, argument: bytes) -> None:
    session.error(replies.NOT_IMPLEMENTED)


def _quit(session: Dialogue, argument: bytes) -> None:
    session.say(replies.BYE)
    session.close("quit")


_BEGUN = (State.READY, State.MAIL, State.RCPT, State.BDAT)
_ANY = (State.START, *_BEGUN)


def _to(state: State, *states: State) -> dict[State, State]:
    return dict.fromkeys(states, state)


_STAY = {state: state for state in _ANY}

COMMANDS = {
    b"EHLO": Command(_ehlo, _to(State.READY, *_ANY), "RFC 5321 4.1.1.1"),
    b"HELO": Command(_helo, _to(State.READY, *_ANY), "RFC 5321 4.1.1.1"),
    b"LHLO": Command(_ehlo, _to(State.READY, *_ANY), "RFC 2033 4.1"),
    b"MAIL": Command(_mail, _to(State.MAIL, State.READY), "RFC 5321 4.1.1.2"),
    b"RCPT": Command(_rcpt, _to(State.RCPT, State.MAIL, State.RCPT), "RFC 5321 4.1.1.3"),
    b"DATA": Command(_data, _to(State.CONTENT, State.RCPT), "RFC 5321 4.1.1.4", argument=False, refused=State.READY),
    b"BDAT": Command(_bdat, _to(State.CHUNK, State.RCPT, State.BDAT), "RFC 3030 2"),
    b"RSET": Command(
        _rset, _to(State.READY, *_BEGUN) | _to(State.START, State.START), "RFC 5321 4.1.1.5", argument=False
    ),
    b"VRFY": Command(_vrfy, _STAY, "RFC 5321 4.1.1.6"),
    b"EXPN": Command(_expn, _STAY, "RFC 5321 4.1.1.7"),
    b"HELP": Command(_help, _STAY, "RFC 5321 4.1.1.8"),
    b"NOOP": Command(_noop, _STAY, "RFC 5321 4.1.1.9"),
    b"QUIT": Command(_quit, _to(State.CLOSED, *_ANY), "RFC 5321 4.1.1.10", argument=False),
    b"STARTTLS": Command(_starttls, _to(State.START, State.START, State.READY), "RFC 3207 4", argument=False),
    b"AUTH": Command(_auth, _to(State.AUTH, State.READY), "RFC 4954 4"),
}
"""Every command. The states that follow are drawn in docs/smtp-states.md (`make docs`)."""

READS = {
    State.CONTENT: {State.READY: "the end of the content"},
    State.CHUNK: {State.BDAT: "the end of a chunk", State.READY: "the end of the last chunk, or of a refused one"},
    State.AUTH: {State.AUTH: "a response, and another challenge", State.READY: "the end of the login"},
}
"""For the states that read input other than commands: the states that follow, and the event that leads to each."""
