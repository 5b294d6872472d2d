"""What can come of a login: one more challenge, a welcome, or a refusal with its kind."""

from dataclasses import dataclass
from enum import Enum, auto

from waypost.storage import Account


class LoginFault(Enum):
    """Why a login is refused. Who tries learns no more than the kind, and the same for a wrong name as for a wrong
    password; protocols choose their own words (RFC 4954 section 6, RFC 3206)."""

    WRONG = auto()  # unknown user, wrong password, disabled account: all alike
    THROTTLED = auto()  # too many failures; `seconds` says how long until they are fewer
    BINDING = auto()  # bound to the channel by a type that is not offered (RFC 5802 section 7)
    MALFORMED = auto()  # the mechanism's message can't be read
    UNAVAILABLE = auto()  # our storage or our hashing is in trouble: temporary


class LoginRefused(Exception):
    """A login failed. `reason` is for our log only."""

    def __init__(self, fault: LoginFault, reason: str, *, seconds: int = 0) -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Challenge:
    """The mechanism wants one more answer to `data`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The account is logged in."""

    account: Account
