"""Reception: mail from other servers, for the domains that are hosted here (the MX of RFC 5598)."""

from waypost.reception.policy import ReceptionPolicy
from waypost.reception.reverse_names import ReverseNames

__all__ = ["ReceptionPolicy", "ReverseNames"]
