"""Messages as values and octets: addresses, envelopes, header blocks, MIME structure, reports, trace ids (RFC 5322).

Works on bytes, and never re-encodes what it did not write. It knows no other room. Begin with `envelope.py` (what SMTP
says of a message), `headers.py` (what stands in it), `trace.py` (by what it is followed) and `dsn.py` (reports on it).
"""
