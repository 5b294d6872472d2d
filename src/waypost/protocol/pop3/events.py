"""What the POP3 server engine tells its owner (RFC 1939).

The engine parses, checks the order of commands and knows which messages are marked; the owner has the accounts and the
messages. An event marked *asks* stops the engine until the owner answers; commands that the peer pipelined after it
wait meanwhile.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PasswordGiven:
    """USER and PASS arrived, over TLS. *Asks*: `enter`, or `answer` with a refusal."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class AuthStarted:
    """AUTH arrived with a mechanism that is offered. *Asks*: `challenge`, `enter`, or `answer` with a refusal.

    `initial` is the decoded initial response, b"" for "=", None when there was none.
    """

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The client's decoded answer to a challenge. *Asks*: `challenge`, `enter`, or `answer` with a refusal."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AuthCancelled:
    """The client sent `*`, or text that is not base64 (RFC 5034 4). The engine has already answered."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STLS arrived. *Asks*: after a positive `answer` the owner does the handshake and calls `tls_started`."""


@dataclass(frozen=True, slots=True)
class MessageWanted:
    """RETR or TOP arrived for a message that is there. *Asks*: `begin`, `write`..., `end`; or `answer`.

    `index` counts from 0 in the order of the maildrop; `lines` is TOP's number, None for RETR.
    """

    index: int
    lines: int | None


@dataclass(frozen=True, slots=True)
class Leaving:
    """QUIT arrived after the login: remove the marked messages and release the maildrop. *Asks*.

    `deleted` are indexes, in order; empty when nothing is marked.
    """

    deleted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class JunkSaid:
    """One more useless command, past the limit: the owner delays the answer."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over: write what `take_output` holds, then close. `reason` is for the log."""

    reason: str


Pop3Event = (
    PasswordGiven | AuthStarted | AuthResponse | AuthCancelled | StartTls | MessageWanted | Leaving | JunkSaid | Closed
)
