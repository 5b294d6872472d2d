"""Sockets and connections: from a bound listener to the last octet of a session."""
