"""The table of commands says which state follows: every line of it is walked, and nothing else ever happens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol.smtp import replies
from waypost.protocol.smtp.commands import COMMANDS, READS
from waypost.protocol.smtp.dialogue import State
from waypost.protocol.smtp.events import (
    AuthResponse,
    AuthStarted,
    DataStarted,
    Hello,
    MailOffered,
    MessageEnded,
    RecipientOffered,
    StartTls,
)
from waypost.protocol.smtp.server import ServerOptions, SmtpServer

NOW = 1_795_500_000_000_000
ASKS = (Hello, MailOffered, RecipientOffered, DataStarted, MessageEnded, AuthStarted, AuthResponse, StartTls)
ARGUMENTS = {
    b"EHLO": b"client.test",
    b"HELO": b"client.test",
    b"LHLO": b"client.test",
    b"MAIL": b"FROM:<alice@client.test>",
    b"RCPT": b"TO:<bob@server.test>",
    b"BDAT": b"5",
    b"VRFY": b"bob",
    b"EXPN": b"bob",
    b"AUTH": b"PLAIN",
}
LINES = {verb: (verb + b" " + ARGUMENTS[verb] if verb in ARGUMENTS else verb) + b"\r\n" for verb in COMMANDS}


class Session:
    """A server session whose owner says yes, or no."""

    def __init__(self, verb: bytes, *, lmtp: bool = False) -> None:
        options = ServerOptions(
            "mx.server.test",
            lmtp=lmtp or verb == b"LHLO",
            starttls=verb == b"STARTTLS",
            mechanisms=("PLAIN",),
            max_junk=10_000,
            max_errors=10_000,
        )
        self.engine = SmtpServer(options, now=lambda: NOW, tls=verb != b"STARTTLS")
        self.yes = True
        self.hello = LINES[b"LHLO" if options.lmtp else b"EHLO"]
        self.engine.greet()
        self.drive()

    @property
    def state(self) -> State:
        return self.engine._session.state

    def send(self, data: bytes) -> State:
        self.engine.receive(data)
        self.drive()
        return self.state

    def drive(self) -> None:
        while (event := self.engine.next_event()) is not None:
            if not isinstance(event, ASKS):
                continue
            if not self.yes:
                self.engine.answer(replies.SYNTAX)
            elif isinstance(event, AuthStarted) and event.initial is None:
                self.engine.challenge(b"")
            elif isinstance(event, StartTls):
                self.engine.answer(replies.START_TLS)
                self.engine.tls_started()
            elif isinstance(event, MessageEnded) and self.engine._session.options.lmtp:
                self.engine.answer_each([replies.OK])
            else:
                self.engine.answer(replies.OK)
        self.engine.take_output()

    def reach(self, state: State) -> None:
        """Go to a state in which commands are read."""
        steps = {
            State.START: [],
            State.READY: [self.hello],
            State.MAIL: [self.hello, LINES[b"MAIL"]],
            State.RCPT: [self.hello, LINES[b"MAIL"], LINES[b"RCPT"]],
            State.BDAT: [self.hello, LINES[b"MAIL"], LINES[b"RCPT"], b"BDAT 4\r\nhi\r\n"],
        }
        for step in steps[state]:
            self.send(step)
        assert self.state is state


LEGAL = [(verb, before, after) for verb, each in COMMANDS.items() for before, after in each.follows.items()]


@pytest.mark.parametrize(("verb", "before", "after"), LEGAL)
def test_a_command_that_succeeds_leads_where_the_table_says(verb: bytes, before: State, after: State) -> None:
    session = Session(verb)
    session.reach(before)
    assert session.send(LINES[verb]) is after


@pytest.mark.parametrize(("verb", "before"), [(verb, before) for verb, before, _ in LEGAL if verb != b"BDAT"])
def test_a_command_that_is_refused_leads_where_the_table_says(verb: bytes, before: State) -> None:
    session = Session(verb)
    session.reach(before)
    session.yes = False
    asks = verb in (b"EHLO", b"HELO", b"LHLO", b"MAIL", b"RCPT", b"DATA", b"STARTTLS")
    refused = COMMANDS[verb].refused or before
    if verb == b"AUTH":
        refused, asks = State.READY, True
    after = session.send(LINES[verb])
    assert after is (refused if asks else COMMANDS[verb].follows[before])


ILLEGAL = [
    (verb, state)
    for verb, each in COMMANDS.items()
    for state in (State.START, State.READY, State.MAIL, State.RCPT, State.BDAT)
    if state not in each.follows and verb != b"BDAT"
]


@pytest.mark.parametrize(("verb", "state"), ILLEGAL)
def test_a_command_without_a_line_for_a_state_is_out_of_order_there(verb: bytes, state: State) -> None:
    session = Session(verb)
    session.reach(state)
    session.engine.receive(LINES[verb])
    assert session.engine.next_event() is None
    assert session.engine.take_output()[:3] in (b"503", b"554"), "554 5.5.1: no valid recipients (RFC 5321 3.3)"
    assert session.state is state


def test_what_is_read_in_other_states_leads_where_the_table_says() -> None:
    seen = set()

    def step(session: Session, data: bytes) -> None:
        before = session.state
        seen.add((before, session.send(data)))

    for last, answer in ((b"", True), (b" LAST", True), (b"", False)):
        session = Session(b"BDAT")
        session.reach(State.RCPT)
        session.yes = answer
        session.send(b"BDAT 4" + last + b"\r\n")
        step(session, b"hi\r\n")
    for answer in (True, False):
        session = Session(b"DATA")
        session.reach(State.RCPT)
        session.send(LINES[b"DATA"])
        session.yes = answer
        step(session, b"Subject: x\r\n\r\nhi\r\n.\r\n")
    for response in (b"AGEAYg==\r\n", b"*\r\n"):
        session = Session(b"AUTH")
        session.reach(State.READY)
        session.send(LINES[b"AUTH"])
        step(session, response)
    session = Session(b"AUTH")
    session.reach(State.READY)
    session.send(LINES[b"AUTH"])
    session.engine.receive(b"AGEAYg==\r\n")
    assert isinstance(session.engine.next_event(), AuthResponse)
    session.engine.challenge(b"once more")
    seen.add((State.AUTH, session.state))
    assert seen == {(before, after) for before, ends in READS.items() for after in ends}


_WORDS = st.lists(
    st.tuples(st.sampled_from([*LINES.values(), b"BDAT 0 LAST\r\n", b"BDAT x\r\n", b"FOO\r\n"]), st.booleans()),
    max_size=30,
)


@given(_WORDS, st.booleans())
def test_whatever_a_client_says_no_other_step_is_taken(words: list[tuple[bytes, bool]], lmtp: bool) -> None:
    session = Session(b"", lmtp=lmtp)
    for line, yes in words:
        session.yes = yes
        before, reads = session.state, session.state in READS
        if reads:
            line = {State.CONTENT: b".\r\n", State.CHUNK: b"hi\r\n\n", State.AUTH: b"*\r\n"}[before]
        after = session.send(line)
        if after is State.CLOSED or after is before:
            continue
        if reads:
            assert after in READS[before]
            continue
        command = COMMANDS[line.split()[0]]
        ways = {command.follows[before], command.refused}
        through = {end for way in ways if way in READS for end in READS[way]}  # an empty chunk is read at once
        assert after in ways | through
