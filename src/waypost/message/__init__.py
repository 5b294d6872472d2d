"""Messages as values and octets: addresses, envelopes, header blocks, MIME structure, reports, trace ids (RFC 5322).

It works on bytes, and never re-encodes what Waypost did not write. It imports no other room. Begin with `envelope.py`
(what MAIL and RCPT say), `headers.py` (the header fields), `trace.py` (the id that people search by) and `dsn.py`
(reports).
"""
