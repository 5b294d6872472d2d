"""The AUTH exchange of the client engine (RFC 4954): challenges in, response lines out.

The login is cancelled when the mechanism finds the server at fault. Where the mechanism asks the server for a proof,
a success without that proof is a lie, and ends the session.
"""

import base64
from dataclasses import dataclass
from typing import Protocol

from waypost.protocol.reply import Reply, reply
from waypost.protocol.smtp.client_events import Authenticated, AuthenticationFailed

MAX_AUTH_LINE = 12288  # octets, RFC 4954 section 4
MAX_CHALLENGES = 16  # no mechanism needs more; a server could ask for ever

TOO_LONG = reply(501, "5.5.6", "The answer is longer than a line of AUTH may be")
CANCEL = b"*"


class ClientMechanism(Protocol):
    """The client side of a SASL mechanism (RFC 4422): `protocol/sasl` has them."""

    @property
    def name(self) -> str:
        """The name that follows AUTH: `SCRAM-SHA-256`."""
        ...

    @property
    def done(self) -> bool:
        """True once the server has given the proof that the mechanism asks for; a success before that is a lie."""
        ...

    def start(self) -> bytes:
        """Return the initial response."""
        ...

    def step(self, challenge: bytes) -> bytes:
        """Answer a challenge. Raises `ValueError` when the server must not be trusted."""
        ...


@dataclass(frozen=True, slots=True)
class LoginStep:
    """What to do next: write `line` (without CRLF), tell `event`. `lied`: success without proof; end the session."""

    line: bytes | None = None
    event: Authenticated | AuthenticationFailed | None = None
    lied: bool = False


class ClientLogin:
    """One login under way."""

    __slots__ = ("_challenges", "_mechanism")

    def __init__(self, mechanism: ClientMechanism) -> None:
        self._mechanism = mechanism
        self._challenges = 0

    def begin(self) -> LoginStep:
        """Return the AUTH command, with the initial response."""
        initial = base64.b64encode(self._mechanism.start()) or b"="
        line = b"AUTH " + self._mechanism.name.encode("ascii") + b" " + initial
        if len(line) + 2 > MAX_AUTH_LINE:
            return LoginStep(event=AuthenticationFailed(TOO_LONG, True))
        return LoginStep(line=line)

    def answer(self, answer: Reply) -> LoginStep:
        """Take the reply to the last line."""
        if answer.code == 334:
            return self._respond(answer)
        if answer.code == 235 and self._mechanism.done:
            return LoginStep(event=Authenticated(answer))
        if answer.positive:
            return LoginStep(lied=True)
        return LoginStep(event=AuthenticationFailed(answer, False))

    def _respond(self, answer: Reply) -> LoginStep:
        self._challenges += 1
        try:
            if self._challenges > MAX_CHALLENGES:
                raise ValueError("the server sends challenges without end")
            challenge = base64.b64decode(answer.lines[0].encode(), validate=True)
            line = base64.b64encode(self._mechanism.step(challenge))
        except ValueError as error:
            words = reply(535, "5.7.8", f"The server's side of the login is wrong: {error}")
            return LoginStep(CANCEL, AuthenticationFailed(words, True))
        if len(line) + 2 > MAX_AUTH_LINE:
            return LoginStep(CANCEL, AuthenticationFailed(TOO_LONG, True))
        return LoginStep(line=line)
