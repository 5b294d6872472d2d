"""Transport: the way to a destination, and the relay that walks it. Decides how; the queue decides when."""

from waypost.transport.relay import Relay
from waypost.transport.router import Router

__all__ = ["Relay", "Router"]
