"""Protocols without sockets: bytes in, events and bytes out. SMTP, LMTP, POP3 and SASL, both sides of each.

An engine knows the grammar and the order of commands. It does not decide policy: it asks by an event, and its owner
answers (docs/decisions/0009). `session.py` is the interface to a connection, `reply.py` the form of every SMTP reply.
"""
