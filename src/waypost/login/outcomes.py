"""The outcomes of a login step: one more challenge, a welcome, or a refusal with its kind."""

from dataclasses import dataclass
from enum import Enum, auto

from waypost.storage import Account


class LoginFault(Enum):
    """Why a login is refused. The client learns only the kind, which is the same for a wrong name and for a wrong
    password; each protocol chooses its own text (RFC 4954 section 6, RFC 3206)."""

    WRONG = auto()  # unknown user, wrong password, disabled account: the client sees no difference
    THROTTLED = auto()  # too many failures; `seconds` until another try makes sense
    BINDING = auto()  # the client asks for a type of channel binding that is not offered (RFC 5802 section 7)
    MALFORMED = auto()  # the mechanism's message can't be read
    UNAVAILABLE = auto()  # trouble of our storage or our hashing: temporary


class LoginRefused(Exception):
    """A login failed. `reason` is for our log only."""

    def __init__(self, fault: LoginFault, reason: str, *, seconds: int = 0) -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Challenge:
    """The mechanism sends the challenge `data` and waits for one more response."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The account is logged in."""

    account: Account
