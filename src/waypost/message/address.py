"""Addresses of RFC 5321 section 4.1.2 and RFC 6531 section 3.3: the grammar of MAIL and RCPT.

Only what may stand in an envelope is accepted: no comments, no folding, no obsolete forms.
Domains are compared by `domain_key`: lower case A-labels without a trailing dot.
"""

from dataclasses import dataclass


class AddressError(ValueError):
    """The text is no address; the message says in plain words what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox of an envelope. `local` is the unquoted local part, `domain` as its owner wrote it.

    `domain` is a domain name (A-labels or U-labels) or an address literal with its brackets.
    """

    local: str
    domain: str
