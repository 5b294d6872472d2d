"""Protocols without sockets: bytes in, events and bytes out. SMTP, LMTP, POP3 and SASL, both sides of each.

An engine knows grammar and order; it decides no policy: it asks by an event, and its owner answers
(docs/decisions/0009). `session.py` is what a connection drives, `reply.py` the form of every SMTP reply.
"""
