"""The result of a check on a message or its client, in the terms of RFC 8601 section 2.7. Values only."""

import msgspec


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One result: the method (`iprev`), its result (`pass`, `fail`, `temperror`), and what it is about.

    `value` is a name or an address that the result is for; `reason` is for people.
    """

    method: str
    result: str
    value: str | None = None
    reason: str | None = None
