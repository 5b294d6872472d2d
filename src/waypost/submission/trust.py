"""Results of checks that only a receiver makes, and that a submitted message must not claim (RFC 8601, RFC 7208).

Mail programs and servers believe such fields if they bear our name, so they are removed here (RFC 8601 section 5).
"""

from collections.abc import Collection, Iterator

from waypost.message.authentication_results import results_in_the_name_of
from waypost.message.headers import Field, HeaderBlock


def forged_results(headers: HeaderBlock, names: Collection[str]) -> Iterator[Field]:
    """Yield every Received-SPF, and Authentication-Results that name one of `names`, a host below one, or no server.

    Results in the name of others stay: they are useful in a resent message, and are not taken for ours.
    """
    yield from results_in_the_name_of(headers, names)
    yield from (field for field in headers.fields if field.name == b"received-spf")
