"""What a submission may not say of itself: results of checks that only a receiver makes (RFC 8601, RFC 7208).

Whoever reads them later believes them where they bear our name, so they end here (RFC 8601 section 5).
"""

from collections.abc import Collection, Iterator

from waypost.message.authentication_results import results_in_the_name_of
from waypost.message.headers import Field, HeaderBlock


def forged_results(headers: HeaderBlock, names: Collection[str]) -> Iterator[Field]:
    """Yield every Received-SPF, and the Authentication-Results of `names`, of hosts below them, or of nobody.

    Results of others stay: whoever resends a message has a use for them, and nobody believes them for our word.
    """
    yield from results_in_the_name_of(headers, names)
    yield from (field for field in headers.fields if field.name == b"received-spf")
